//! The checker for messages: known-bad deliveries that must be caught under their right name, tricky good ones that
//! must pass, and agreement with a check that compares every pair.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lab::history::Deliveries;
use lab::history::delivery::{Acknowledged, DeliveryReport, Overtaken, Received, Sent, check};
use proptest::prelude::*;

type Report = DeliveryReport<&'static str, u32>;

/// Sender, key, message, acknowledged.
fn sent(messages: &[(usize, &'static str, u32, Acknowledged)]) -> Vec<Sent<&'static str, u32>> {
    let one = |&(sender, key, message, acknowledged): &(_, _, _, _)| Sent { sender, key, message, acknowledged };
    messages.iter().map(one).collect()
}

fn received(messages: &[u32]) -> Vec<Received<u32>> {
    messages.iter().map(|&message| Received { consumer: 0, message }).collect()
}

/// Messages 1, 2, 3, ... of one sender and key, all acknowledged.
fn acknowledged(count: u32) -> Vec<Sent<&'static str, u32>> {
    sent(&(1..=count).map(|message| (0, "k", message, Yes)).collect::<Vec<_>>())
}

fn report(sent: &[Sent<&'static str, u32>], messages: &[u32]) -> Report {
    check(sent, &received(messages)).unwrap()
}

/// Exactly these faults and no other.
#[track_caller]
fn faults(report: &Report, lost: &[u32], duplicates: &[(u32, usize)], out_of_order: &[(u32, u32)], phantoms: &[u32]) {
    assert_eq!(report.lost, lost, "{report}");
    assert_eq!(report.duplicates, duplicates, "{report}");
    let overtaken: Vec<_> = report.out_of_order.iter().map(|o| (o.late, o.overtaken_by)).collect();
    assert_eq!(overtaken, out_of_order, "{report}");
    assert_eq!(report.phantoms, phantoms, "{report}");
    assert_eq!(report.at_least_once(), lost.is_empty() && phantoms.is_empty());
    assert_eq!(report.at_most_once(), duplicates.is_empty() && phantoms.is_empty());
    assert_eq!(report.exactly_once(), lost.is_empty() && duplicates.is_empty() && phantoms.is_empty());
    assert_eq!(report.in_order(), out_of_order.is_empty());
}

#[track_caller]
fn passes(report: &Report) {
    faults(report, &[], &[], &[], &[]);
    assert!(report.to_string().ends_with("each acknowledged one exactly once and in order"), "{report}");
}

use Acknowledged::{Refused, Unknown, Yes};

mod known_bad {
    use super::*;

    #[test]
    fn last_message_lost() {
        let report = report(&acknowledged(3), &[1, 2]);
        faults(&report, &[3], &[], &[], &[]);
        assert_eq!(
            report.to_string(),
            "3 messages sent, 2 received; 1 lost (for example 3 was acknowledged and never received)"
        );
    }

    #[test]
    fn message_in_the_middle_lost() {
        faults(&report(&acknowledged(3), &[1, 3]), &[2], &[], &[], &[]);
    }

    #[test]
    fn everything_lost() {
        faults(&report(&acknowledged(3), &[]), &[1, 2, 3], &[], &[], &[]);
    }

    #[test]
    fn redelivered_at_once() {
        let report = report(&acknowledged(2), &[1, 1, 2]);
        faults(&report, &[], &[(1, 2)], &[], &[]);
        assert!(report.to_string().contains("1 duplicated (for example 1 was received 2 times)"), "{report}");
    }

    #[test]
    fn batch_redelivered_after_a_rebalance() {
        faults(&report(&acknowledged(4), &[1, 2, 3, 2, 3, 4]), &[], &[(2, 2), (3, 2)], &[], &[]);
    }

    #[test]
    fn received_by_two_consumers_of_one_group() {
        let twice = [Received { consumer: 0, message: 1 }, Received { consumer: 1, message: 1 }];
        faults(&check(&acknowledged(1), &twice).unwrap(), &[], &[(1, 2)], &[], &[]);
    }

    #[test]
    fn neighbours_swapped() {
        let report = report(&acknowledged(3), &[1, 3, 2]);
        faults(&report, &[], &[], &[(2, 3)], &[]);
        assert!(report.to_string().contains("2 of key \"k\" was received after the later 3"), "{report}");
    }

    #[test]
    fn all_backwards() {
        faults(&report(&acknowledged(4), &[4, 3, 2, 1]), &[], &[], &[(3, 4), (2, 4), (1, 4)], &[]);
    }

    #[test]
    fn retry_overtaken_by_the_next_batch() {
        // The first send was never answered and arrived late all the same.
        let sent = sent(&[(0, "k", 1, Unknown), (0, "k", 2, Yes)]);
        faults(&report(&sent, &[2, 1]), &[], &[], &[(1, 2)], &[]);
    }

    #[test]
    fn never_sent() {
        faults(&report(&acknowledged(1), &[1, 99]), &[], &[], &[], &[99]);
    }

    #[test]
    fn never_sent_and_received_twice() {
        faults(&report(&acknowledged(1), &[99, 1, 99]), &[], &[(99, 2)], &[], &[99]);
    }

    #[test]
    fn refused_and_received() {
        let sent = sent(&[(0, "k", 1, Refused), (0, "k", 2, Yes)]);
        faults(&report(&sent, &[1, 2]), &[], &[], &[], &[1]);
    }

    #[test]
    fn unknown_and_received_twice() {
        faults(&report(&sent(&[(0, "k", 1, Unknown)]), &[1, 1]), &[], &[(1, 2)], &[], &[]);
    }

    #[test]
    fn everything_at_once() {
        let sent = sent(&[(0, "k", 1, Yes), (0, "k", 2, Yes), (0, "k", 3, Yes), (0, "k", 4, Refused)]);
        let report = report(&sent, &[2, 1, 1, 4, 9]);
        faults(&report, &[3], &[(1, 2)], &[(1, 2)], &[4, 9]);
        let text = report.to_string();
        for fault in ["1 lost", "1 duplicated", "1 out of order", "2 phantom"] {
            assert!(text.contains(fault), "{text}");
        }
    }
}

mod known_good {
    use super::*;

    #[test]
    fn nothing_sent() {
        passes(&report(&[], &[]));
    }

    #[test]
    fn in_order() {
        passes(&report(&acknowledged(5), &[1, 2, 3, 4, 5]));
    }

    #[test]
    fn keys_overtake_each_other() {
        let sent = sent(&[(0, "a", 1, Yes), (0, "b", 2, Yes), (0, "a", 3, Yes)]);
        passes(&report(&sent, &[2, 1, 3]));
        passes(&report(&sent, &[1, 3, 2]));
    }

    #[test]
    fn senders_of_one_key_overtake_each_other() {
        let sent = sent(&[(0, "a", 1, Yes), (1, "a", 2, Yes), (0, "a", 3, Yes)]);
        passes(&report(&sent, &[1, 3, 2]));
    }

    #[test]
    fn unknown_never_arrived() {
        let sent = sent(&[(0, "a", 1, Unknown), (0, "a", 2, Yes)]);
        passes(&report(&sent, &[2]));
    }

    #[test]
    fn unknown_arrived() {
        let sent = sent(&[(0, "a", 1, Unknown), (0, "a", 2, Yes)]);
        passes(&report(&sent, &[1, 2]));
    }

    #[test]
    fn refused_stayed_away() {
        let sent = sent(&[(0, "a", 1, Refused), (0, "a", 2, Yes)]);
        passes(&report(&sent, &[2]));
    }

    #[test]
    fn redelivery_is_no_disorder() {
        let report = report(&acknowledged(3), &[1, 2, 3, 1]);
        assert!(report.in_order() && report.at_least_once() && !report.at_most_once(), "{report}");
    }

    #[test]
    fn a_gap_is_no_disorder() {
        let report = report(&acknowledged(3), &[1, 3]);
        assert!(report.in_order() && report.at_most_once() && !report.at_least_once(), "{report}");
    }

    #[test]
    fn two_consumers_share_the_keys() {
        let sent = sent(&[(0, "a", 1, Yes), (0, "b", 2, Yes), (0, "a", 3, Yes), (0, "b", 4, Yes)]);
        let received = [(1, 2), (0, 1), (1, 4), (0, 3)].map(|(consumer, message)| Received { consumer, message });
        passes(&check(&sent, &received).unwrap());
    }

    #[test]
    fn numbers_need_not_grow() {
        let sent = sent(&[(0, "a", 7, Yes), (0, "a", 3, Yes), (0, "a", 5, Yes)]);
        passes(&report(&sent, &[7, 3, 5]));
    }
}

#[test]
fn a_message_sent_twice_is_bad_input() {
    let error = check(&sent(&[(0, "a", 1, Yes), (1, "b", 1, Yes)]), &[]).unwrap_err().to_string();
    assert!(error.contains("1 was sent twice; give each message a number of its own"), "{error}");
}

/// Compares every message with every other and every receipt.
fn brute_force(sent: &[Sent<u8, u32>], received: &[Received<u32>]) -> DeliveryReport<u8, u32> {
    let first = |message: u32| received.iter().position(|r| r.message == message);
    let times = |message: u32| received.iter().filter(|r| r.message == message).count();
    let mut unsent: Vec<u32> = Vec::new();
    for receipt in received {
        if sent.iter().all(|s| s.message != receipt.message) && !unsent.contains(&receipt.message) {
            unsent.push(receipt.message);
        }
    }
    let mut out_of_order = Vec::new();
    let mut by_receipt: Vec<usize> = (0..sent.len()).filter(|&i| first(sent[i].message).is_some()).collect();
    by_receipt.sort_by_key(|&index| first(sent[index].message));
    for (place, &late) in by_receipt.iter().enumerate() {
        let of_its_kind = |&&other: &&usize| {
            other > late && (sent[other].sender, sent[other].key) == (sent[late].sender, sent[late].key)
        };
        if let Some(&newest) = by_receipt[..place].iter().filter(of_its_kind).max() {
            out_of_order.push(Overtaken {
                key: sent[late].key,
                late: sent[late].message,
                overtaken_by: sent[newest].message,
            });
        }
    }
    let all = sent.iter().map(|s| s.message).chain(unsent.iter().copied());
    let refused = sent.iter().filter(|s| s.acknowledged == Refused && times(s.message) > 0).map(|s| s.message);
    DeliveryReport {
        sent: sent.len(),
        received: received.len(),
        lost: sent.iter().filter(|s| s.acknowledged == Yes && times(s.message) == 0).map(|s| s.message).collect(),
        duplicates: all.map(|m| (m, times(m))).filter(|(_, times)| *times > 1).collect(),
        out_of_order,
        phantoms: refused.chain(unsent.iter().copied()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_deliveries_as_brute_force(
        sends in proptest::collection::vec((0..2_usize, 0..2_u8, prop_oneof![4 => Just(Yes), 1 => Just(Refused), 1 => Just(Unknown)]), 0..12),
        receipts in proptest::collection::vec(0..14_u32, 0..20),
    ) {
        let sent: Vec<_> = sends
            .into_iter()
            .zip(0..)
            .map(|((sender, key, acknowledged), message)| Sent { sender, key, message, acknowledged })
            .collect();
        let received: Vec<_> = receipts.into_iter().map(|message| Received { consumer: 0, message }).collect();
        prop_assert_eq!(check(&sent, &received).unwrap(), brute_force(&sent, &received));
    }

    /// A queue that keeps its promise, and one that breaks exactly one.
    #[test]
    fn a_correct_broker_is_accepted_and_each_fault_is_named(
        count in 3..40_u32,
        keys in 1..4_u32,
        at in any::<prop::sample::Index>(),
        fault in 0..5,
    ) {
        let sent: Vec<_> = (0..count)
            .map(|message| Sent { sender: 0, key: message % keys, message, acknowledged: Yes })
            .collect();
        // Key by key, as the partitions of a broker are drained.
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_by_key(|message| (message % keys, *message));
        let at = at.index(order.len());
        let victim = order[at];
        let follows = order.get(at + 1).is_some_and(|next| next % keys == victim % keys);
        match fault {
            1 => drop(order.remove(at)),
            2 => order.push(victim),
            3 if follows => order.swap(at, at + 1),
            4 => order.insert(at, count + 1),
            _ => {}
        }
        let received: Vec<_> = order.into_iter().map(|message| Received { consumer: 0, message }).collect();
        let report = check(&sent, &received).unwrap();
        prop_assert_eq!(&report.lost, &if fault == 1 { vec![victim] } else { vec![] });
        prop_assert_eq!(&report.duplicates, &if fault == 2 { vec![(victim, 2)] } else { vec![] });
        prop_assert_eq!(report.out_of_order.iter().map(|o| o.late).collect::<Vec<_>>(), if fault == 3 && follows { vec![victim] } else { vec![] });
        prop_assert_eq!(&report.phantoms, &if fault == 4 { vec![count + 1] } else { vec![] });
    }
}

mod recorder {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn threads_through_a_real_queue() {
        let deliveries = Deliveries::new();
        let queue = Mutex::new(VecDeque::new());
        std::thread::scope(|scope| {
            for sender in 0..4_u32 {
                let (deliveries, queue) = (deliveries.clone(), &queue);
                scope.spawn(move || {
                    for step in 0..1_000 {
                        let message = sender * 1_000 + step;
                        let sending = deliveries.send(sender as usize, sender % 2, message);
                        match step % 10 {
                            0 => sending.refused(),
                            1 => drop(sending),
                            2 => {
                                queue.lock().unwrap().push_back(message);
                                sending.unknown();
                            }
                            _ => {
                                queue.lock().unwrap().push_back(message);
                                sending.acknowledged();
                            }
                        }
                    }
                });
            }
            let (deliveries, queue) = (deliveries.clone(), &queue);
            scope.spawn(move || {
                let mut left = 3_200;
                while left > 0 {
                    // Held while it is recorded: the history's order must be that of the queue.
                    let mut held = queue.lock().unwrap();
                    match held.pop_front() {
                        Some(message) => {
                            deliveries.received(0, message);
                            left -= 1;
                        }
                        None => {
                            drop(held);
                            std::thread::yield_now();
                        }
                    }
                }
            });
        });
        let report = deliveries.check().unwrap();
        assert_eq!((report.sent, report.received), (4_000, 3_200));
        assert!(report.exactly_once() && report.in_order(), "{report}");
    }

    #[test]
    fn json_lines_there_and_back() {
        let deliveries = Deliveries::new();
        deliveries.send(0, "a".to_string(), 1_u32).acknowledged();
        deliveries.send(1, "b".to_string(), 2).refused();
        drop(deliveries.send(1, "b".to_string(), 3));
        deliveries.received(7, 2);
        let text = deliveries.to_json_lines().unwrap();
        assert_eq!(text.lines().count(), 4);
        let back = Deliveries::<String, u32>::from_json_lines(&text).unwrap();
        assert_eq!(back.check().unwrap(), deliveries.check().unwrap());
        assert_eq!(back.check().unwrap().lost, [1]);
        assert_eq!(back.check().unwrap().phantoms, [2]);
        assert!(Deliveries::<String, u32>::from_json_lines("nonsense").is_err());
    }
}
