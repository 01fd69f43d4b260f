//! The checker for transactions: known-bad histories that must be caught under their right name, tricky good ones that
//! must pass, and agreement with brute force over all serial orders and all snapshots.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use lab::history::serializable::{AnomalyKind, Isolation, Report, check};
use lab::history::{Access, Transaction, TransactionOutcome, Transactions};
use proptest::prelude::*;

fn by(process: usize) -> Transaction {
    Transaction::by(process)
}

/// Caught as `kind` and as nothing else than `kind` and `also`; `satisfies` is the strongest level left.
#[track_caller]
fn caught(
    history: &[Transaction],
    kind: AnomalyKind,
    also: &[AnomalyKind],
    satisfies: impl Into<Option<Isolation>>,
) -> Report {
    let report = check(history).unwrap();
    assert!(report.has(kind), "{report}");
    for anomaly in &report.anomalies {
        assert!(anomaly.kind == kind || also.contains(&anomaly.kind), "{report}");
        for transaction in &anomaly.transactions {
            assert!(anomaly.sentence.contains(&format!("T{transaction}")), "{report}");
        }
    }
    assert_eq!(report.strongest(), satisfies.into(), "{report}");
    report
}

#[track_caller]
fn passes(history: &[Transaction]) {
    let report = check(history).unwrap();
    assert!(report.anomalies.is_empty(), "{report}");
    assert!(report.serializable && report.strict_serializable);
    assert!(report.satisfies(Isolation::StrictSerializable));
}

use AnomalyKind::*;
use Isolation::{ReadCommitted, ReadUncommitted, Serializable, SnapshotIsolation};

mod known_bad_lists {
    use super::*;

    #[test]
    fn dirty_writes_interleave() {
        let report = caught(
            &[
                by(0).append("x", 1).append("y", 1),
                by(1).append("x", 2).append("y", 2),
                by(2).read_list("x", [1, 2]).read_list("y", [2, 1]),
            ],
            DirtyWrite,
            &[],
            None,
        );
        assert_eq!(
            report.anomalies[0].to_string(),
            "G0 (dirty write): T1 appended 2 to x after T0; T0 appended 1 to y after T1; \
             so they would have to come in the circle T0 < T1 < T0"
        );
    }

    #[test]
    fn dirty_write_splits_the_appends_of_another() {
        caught(
            &[by(0).append("x", 1).append("x", 3), by(1).append("x", 2), by(2).read_list("x", [1, 2, 3])],
            DirtyWrite,
            &[],
            None,
        );
    }

    #[test]
    fn append_of_an_aborted_transaction_is_read() {
        caught(&[by(0).append("x", 1).aborted(), by(1).read_list("x", [1])], AbortedRead, &[], ReadUncommitted);
    }

    #[test]
    fn aborted_append_hides_in_the_middle_of_a_list() {
        caught(
            &[
                by(0).append("x", 1),
                by(1).append("x", 2).aborted(),
                by(2).append("x", 3),
                by(3).read_list("x", [1, 2, 3]),
            ],
            AbortedRead,
            &[],
            ReadUncommitted,
        );
    }

    #[test]
    fn half_of_a_transactions_appends_are_read() {
        // Also G-single: what came after the half was missed.
        caught(
            &[by(0).append("x", 1).append("x", 2), by(1).read_list("x", [1]), by(2).read_list("x", [1, 2])],
            IntermediateRead,
            &[ReadSkew],
            ReadUncommitted,
        );
    }

    #[test]
    fn two_transactions_read_each_other() {
        let report = caught(
            &[by(0).append("x", 1).read_list("y", [1]), by(1).append("y", 1).read_list("x", [1])],
            CircularInformation,
            &[],
            ReadUncommitted,
        );
        assert!(report.anomalies[0].sentence.contains("T1 read T0's 1 in x; T0 read T1's 1 in y"), "{report}");
    }

    #[test]
    fn write_and_read_in_a_circle_of_three() {
        caught(
            &[
                by(0).append("x", 1).read_list("z", [1]),
                by(1).append("x", 2).append("y", 1),
                by(2).read_list("y", [1]).append("z", 1),
                by(3).read_list("x", [1, 2]),
            ],
            CircularInformation,
            &[],
            ReadUncommitted,
        );
    }

    #[test]
    fn lost_update() {
        let report = caught(
            &[
                by(0).read_list("x", []).append("x", 1),
                by(1).read_list("x", []).append("x", 2),
                by(2).read_list("x", [1, 2]),
            ],
            LostUpdate,
            &[ReadSkew],
            ReadCommitted,
        );
        assert!(report.to_string().contains("T0 and T1 both read x as [] and both appended to it"), "{report}");
    }

    #[test]
    fn lost_update_that_nobody_looks_at() {
        caught(
            &[by(0).read_list("x", []).append("x", 1), by(1).read_list("x", []).append("x", 2)],
            LostUpdate,
            &[WriteSkew],
            ReadCommitted,
        );
    }

    #[test]
    fn read_skew_sees_half_of_a_transfer() {
        let report = caught(
            &[by(0).append("x", 1).append("y", 1), by(1).read_list("x", []).read_list("y", [1])],
            ReadSkew,
            &[],
            ReadCommitted,
        );
        assert!(report.anomalies[0].sentence.contains("T1 read x before T0's 1 was there"), "{report}");
    }

    #[test]
    fn read_skew_through_a_third_transaction() {
        caught(
            &[
                by(0).append("x", 1),
                by(1).read_list("x", [1]).append("y", 1),
                by(2).read_list("x", []).read_list("y", [1]),
            ],
            ReadSkew,
            &[],
            ReadCommitted,
        );
    }

    #[test]
    fn write_skew() {
        caught(
            &[by(0).read_list("x", []).append("y", 1), by(1).read_list("y", []).append("x", 1)],
            WriteSkew,
            &[],
            SnapshotIsolation,
        );
    }

    #[test]
    fn write_skew_of_three() {
        caught(
            &[
                by(0).read_list("x", []).append("y", 1),
                by(1).read_list("y", []).append("z", 1),
                by(2).read_list("z", []).append("x", 1),
            ],
            WriteSkew,
            &[],
            SnapshotIsolation,
        );
    }

    #[test]
    fn read_only_transaction_exposes_a_snapshot() {
        caught(
            &[
                by(0).read_list("x", []).read_list("y", []).append("x", 1),
                by(1).read_list("y", []).append("y", 1),
                by(2).read_list("x", []).read_list("y", [1]),
            ],
            WriteSkew,
            &[],
            SnapshotIsolation,
        );
    }

    #[test]
    fn long_fork() {
        // Two readers see two independent appends in opposite orders: each missed write is followed by a read.
        caught(
            &[
                by(0).append("x", 1),
                by(1).append("y", 1),
                by(2).read_list("x", [1]).read_list("y", []),
                by(3).read_list("x", []).read_list("y", [1]),
            ],
            NonAdjacent,
            &[],
            ReadCommitted,
        );
    }

    #[test]
    fn a_second_read_differs() {
        caught(
            &[by(0).append("x", 1), by(1).read_list("x", []).read_list("x", [1])],
            NonRepeatableRead,
            &[ReadSkew],
            ReadCommitted,
        );
    }

    #[test]
    fn own_append_is_missing() {
        caught(&[by(0).append("x", 1).read_list("x", [])], Internal, &[], None);
    }

    #[test]
    fn own_append_is_there_before_it_was_made() {
        caught(&[by(0).read_list("x", [1]).append("x", 1)], Internal, &[], None);
    }

    #[test]
    fn own_append_shows_but_the_list_before_it_changed() {
        caught(
            &[by(0).append("x", 7), by(1).read_list("x", []).append("x", 1).read_list("x", [7, 1])],
            NonRepeatableRead,
            &[ReadSkew],
            ReadCommitted,
        );
    }

    #[test]
    fn value_that_nobody_appended() {
        caught(&[by(0).append("x", 1), by(1).read_list("x", [1, 9])], PhantomValue, &[], None);
    }

    #[test]
    fn retried_append_shows_twice() {
        caught(&[by(0).append("x", 1), by(1).read_list("x", [1, 1])], DuplicateAppend, &[], None);
    }

    #[test]
    fn two_replicas_show_different_orders() {
        let report = caught(
            &[by(0).append("x", 1), by(1).append("x", 2), by(2).read_list("x", [1, 2]), by(3).read_list("x", [2, 1])],
            IncompatibleOrder,
            &[],
            ReadUncommitted,
        );
        assert!(report.to_string().contains("T2 read x as [1, 2] and T3 as [2, 1]"), "{report}");
    }

    #[test]
    fn replicas_that_disagree_prove_nothing_else() {
        caught(
            &[by(0).append("x", 1), by(1).append("x", 2), by(2).read_list("x", [1, 2]), by(3).read_list("x", [2])],
            IncompatibleOrder,
            &[],
            ReadUncommitted,
        );
    }

    #[test]
    fn own_appends_swapped() {
        caught(
            &[by(0).append("x", 1).append("x", 2), by(1).read_list("x", [2, 1])],
            IncompatibleOrder,
            &[IntermediateRead],
            ReadUncommitted,
        );
    }

    #[test]
    fn own_first_append_lost() {
        caught(
            &[by(0).append("x", 1).append("x", 2), by(1).read_list("x", [2])],
            IncompatibleOrder,
            &[ReadSkew],
            ReadUncommitted,
        );
    }

    #[test]
    fn acknowledged_append_is_missing_from_a_later_read() {
        let report = caught(
            &[by(0).append("x", 1).during(0, 10), by(1).read_list("x", []).during(20, 30)],
            RealTime,
            &[],
            Serializable,
        );
        assert!(report.serializable && !report.strict_serializable);
        assert!(report.anomalies[0].sentence.contains("T0 ended before T1 began"), "{report}");
    }

    #[test]
    fn acknowledged_append_is_missing_after_others_have_come_and_gone() {
        caught(
            &[
                by(0).append("x", 1).during(0, 10),
                by(2).append("y", 1).during(5, 12),
                by(3).append("z", 1).during(6, 14),
                by(1).read_list("x", []).during(20, 30),
            ],
            RealTime,
            &[],
            Serializable,
        );
    }

    #[test]
    fn seen_by_one_reader_and_missing_for_the_next() {
        caught(
            &[
                by(0).append("x", 1).during(0, 100),
                by(1).read_list("x", [1]).during(10, 20),
                by(2).read_list("x", []).during(30, 40),
            ],
            RealTime,
            &[],
            Serializable,
        );
    }

    #[test]
    fn unknown_transaction_was_seen_in_half() {
        caught(
            &[by(0).append("x", 1).append("y", 1).unknown(), by(1).read_list("x", [1]).read_list("y", [])],
            ReadSkew,
            &[],
            ReadCommitted,
        );
    }

    #[test]
    fn unknown_transaction_seen_only_through_another_unknown_one() {
        caught(
            &[
                by(0).append("x", 1).append("z", 1).unknown(),
                by(1).read_list("x", [1]).append("y", 1).unknown(),
                by(2).read_list("y", [1]).read_list("z", []),
            ],
            ReadSkew,
            &[],
            ReadCommitted,
        );
    }
}

mod known_bad_registers {
    use super::*;

    #[test]
    fn lost_update_on_a_value() {
        caught(
            &[by(0).write("x", 1), by(1).read("x", 1).write("x", 2), by(2).read("x", 1).write("x", 3)],
            LostUpdate,
            &[WriteSkew],
            ReadCommitted,
        );
    }

    #[test]
    fn lost_update_on_absence() {
        caught(
            &[by(0).read("x", None).write("x", 1), by(1).read("x", None).write("x", 2)],
            LostUpdate,
            &[WriteSkew],
            ReadCommitted,
        );
    }

    #[test]
    fn aborted_write_is_read() {
        caught(&[by(0).write("x", 1).aborted(), by(1).read("x", 1)], AbortedRead, &[], ReadUncommitted);
    }

    #[test]
    fn intermediate_write_is_read() {
        caught(&[by(0).write("x", 1).write("x", 2), by(1).read("x", 1)], IntermediateRead, &[], ReadUncommitted);
    }

    #[test]
    fn circular_reads() {
        caught(
            &[by(0).write("x", 1).read("y", 1), by(1).write("y", 1).read("x", 1)],
            CircularInformation,
            &[],
            ReadUncommitted,
        );
    }

    #[test]
    fn value_from_nowhere() {
        caught(&[by(0).read("x", 5)], PhantomValue, &[], None);
    }

    #[test]
    fn own_write_is_missing() {
        caught(&[by(0).write("x", 1).read("x", None)], Internal, &[], None);
    }

    #[test]
    fn own_write_is_there_before_it_was_made() {
        caught(&[by(0).read("x", 1).write("x", 1)], Internal, &[], None);
    }

    #[test]
    fn second_read_differs() {
        caught(
            &[by(0).write("x", 1), by(1).read("x", None).read("x", 1)],
            NonRepeatableRead,
            &[ReadSkew],
            ReadCommitted,
        );
    }

    #[test]
    fn read_skew_of_a_transfer() {
        caught(
            &[
                by(0).write("x", 1).write("y", 1),
                by(1).read("x", 1).read("y", 1).write("x", 2).write("y", 2),
                by(2).read("x", 1).read("y", 2),
            ],
            ReadSkew,
            &[],
            ReadCommitted,
        );
    }

    #[test]
    fn write_skew_of_two_doctors() {
        caught(
            &[
                by(0).write("alice", 1).write("bob", 1),
                by(1).read("alice", 1).read("bob", 1).write("alice", 2),
                by(2).read("alice", 1).read("bob", 1).write("bob", 2),
            ],
            WriteSkew,
            &[],
            SnapshotIsolation,
        );
    }

    #[test]
    fn replacements_in_a_circle() {
        caught(
            &[by(0).read("x", 2).write("x", 1), by(1).read("x", 1).write("x", 2)],
            DirtyWrite,
            &[CircularInformation],
            None,
        );
    }

    #[test]
    fn absence_read_after_a_write() {
        caught(&[by(0).write("x", 1).during(0, 10), by(1).read("x", None).during(20, 30)], RealTime, &[], Serializable);
    }

    #[test]
    fn stale_replica_returns_an_overwritten_value() {
        // The order of the two blind writes shows only in their times.
        caught(
            &[by(0).write("x", 1).during(0, 10), by(0).write("x", 2).during(20, 30), by(1).read("x", 1).during(40, 50)],
            RealTime,
            &[],
            Serializable,
        );
    }

    #[test]
    fn own_write_does_not_excuse_a_stale_read() {
        caught(
            &[
                by(0).write("x", 1).during(0, 10),
                by(1).read("x", 1).read("y", 5).write("x", 3).during(12, 25),
                by(2).write("x", 2).write("y", 5).during(20, 30),
            ],
            RealTime,
            &[],
            Serializable,
        );
    }

    #[test]
    fn write_skew_among_many_readers_of_absence() {
        let mut history: Vec<_> = (0..50).map(|p| by(p).read("x", None)).collect();
        history.extend((0..50).map(|p| by(p).write("x", p as i64)));
        history.push(by(60).read("x", None).write("y", 1));
        history.push(by(61).read("y", None).write("x", 100));
        caught(&history, WriteSkew, &[], SnapshotIsolation);
    }
}

mod known_good {
    use super::*;

    #[test]
    fn nothing_happened() {
        passes(&[]);
        passes(&[by(0), by(1).aborted(), by(2).unknown()]);
    }

    #[test]
    fn concurrent_appends_in_any_order() {
        passes(&[by(0).append("x", 1), by(1).append("x", 2), by(2).read_list("x", [2, 1])]);
    }

    #[test]
    fn transaction_sees_its_own_appends() {
        passes(&[
            by(0).append("x", 1),
            by(1).read_list("x", [1]).append("x", 2).read_list("x", [1, 2]).append("x", 3).read_list("x", [1, 2, 3]),
            by(2).read_list("x", [1, 2, 3]),
        ]);
    }

    #[test]
    fn own_intermediate_state_is_not_an_intermediate_read() {
        passes(&[by(0).append("x", 1).read_list("x", [1]).append("x", 2), by(1).read_list("x", [1, 2])]);
        passes(&[by(0).append("x", 1).read_list("x", [1]).append("x", 2)]);
    }

    #[test]
    fn aborted_transaction_left_no_trace() {
        passes(&[by(0).append("x", 1).read_list("y", [7, 8]).aborted(), by(1).read_list("x", [])]);
    }

    #[test]
    fn aborted_transaction_may_have_read_anything() {
        passes(&[
            by(0).append("x", 1).append("y", 1),
            by(1).read_list("x", []).read_list("y", [1]).aborted(),
            by(2).read_list("x", [1]).read_list("y", [1]),
        ]);
    }

    #[test]
    fn retry_of_an_aborted_transaction_writes_the_same_value() {
        passes(&[by(0).append("x", 1).aborted(), by(0).append("x", 1), by(1).read_list("x", [1])]);
        passes(&[by(0).write("x", 1), by(0).write("x", 1).aborted(), by(1).read("x", 1)]);
    }

    #[test]
    fn unknown_transaction_took_effect_much_later() {
        passes(&[
            by(0).append("x", 1).during(0, 10).unknown(),
            by(1).read_list("x", []).during(20, 30),
            by(2).read_list("x", [1]).during(40, 50),
        ]);
    }

    #[test]
    fn unknown_transaction_never_took_effect() {
        passes(&[
            by(0).read_list("x", [9]).append("y", 1).append("x", 1).unknown(),
            by(1).read_list("x", []).during(20, 30),
            by(2).read_list("y", []).during(40, 50),
        ]);
    }

    #[test]
    fn serial_order_against_the_order_of_the_beginnings() {
        passes(&[
            by(0).read_list("x", [1]).append("y", 1).during(0, 100),
            by(1).append("x", 1).during(10, 20),
            by(2).read_list("y", []).during(30, 40),
        ]);
    }

    #[test]
    fn snapshot_reader_of_the_past_while_it_is_concurrent() {
        passes(&[
            by(0).append("x", 1).append("y", 1).during(10, 20),
            by(1).read_list("x", []).read_list("y", []).during(0, 30),
            by(2).read_list("x", [1]).during(40, 50),
        ]);
    }

    #[test]
    fn blind_register_writes_with_one_reader_each() {
        passes(&[
            by(0).write("x", 1),
            by(1).write("x", 2),
            by(2).read("x", 1),
            by(3).read("x", 2),
            by(4).read("x", None),
        ]);
    }

    #[test]
    fn first_write_of_a_register_that_was_read_absent() {
        passes(&[
            by(0).read("x", None).write("x", 1),
            by(1).read("x", None),
            by(2).write("x", 2),
            by(3).read("x", 1).write("x", 3),
        ]);
    }

    #[test]
    fn register_read_again_after_its_own_write() {
        passes(&[by(0).read("x", None).write("x", 1).read("x", 1).write("x", 2).read("x", 2), by(1).read("x", 2)]);
    }

    #[test]
    fn reader_of_the_old_value_began_before_the_new_one_was_written() {
        passes(&[
            by(0).write("x", 1).during(0, 10),
            by(1).read("x", 1).during(15, 50),
            by(0).write("x", 2).during(20, 30),
            by(2).read("x", 2).during(60, 70),
        ]);
    }

    #[test]
    fn unknown_register_write_took_effect_after_a_later_one() {
        passes(&[
            by(0).write("x", 1).during(0, 10).unknown(),
            by(1).write("x", 2).during(20, 30),
            by(2).read("x", 1).during(40, 50),
        ]);
    }

    #[test]
    fn writer_that_reads_what_it_then_hides() {
        passes(&[by(0).write("x", 1).during(0, 10), by(1).read("x", 1).write("x", 2).during(20, 30)]);
    }

    #[test]
    fn appends_that_nobody_read_have_some_order() {
        passes(&[
            by(0).read_list("x", []).append("x", 1).append("y", 1),
            by(1).append("x", 2).append("y", 2),
            by(2).append("z", 3).read_list("y", []),
        ]);
    }
}

mod bad_input {
    use super::*;

    #[test]
    fn is_one_clear_sentence() {
        let twice = check(&[by(0).append("x", 1), by(1).append("x", 1)]).unwrap_err().to_string();
        assert!(twice.contains("1 is written to x twice, by T0 and T1"), "{twice}");
        let own = check(&[by(0).write("x", 1).write("x", 1).aborted()]).unwrap_err().to_string();
        assert!(own.contains("twice, by T0 and T0"), "{own}");
        let mixed = check(&[by(0).append("x", 1), by(1).read("x", 1)]).unwrap_err().to_string();
        assert!(mixed.contains("(key x): it is used as a list and as a register"), "{mixed}");
        let backwards = check(&[by(0).during(10, 5)]).unwrap_err().to_string();
        assert!(backwards.contains("(T0): it ends before it begins"), "{backwards}");
    }
}

/// Executes the transactions in one order; whether each read fits.
fn fits_serially(history: &[Transaction], order: &[usize]) -> bool {
    let mut lists: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut registers: BTreeMap<&str, i64> = BTreeMap::new();
    order.iter().flat_map(|&index| &history[index].accesses).all(|access| match access {
        Access::Append { key, value } => {
            lists.entry(key).or_default().push(*value);
            true
        }
        Access::ReadList { key, values } => lists.get(key.as_str()).map_or(&[][..], Vec::as_slice) == values,
        Access::Write { key, value } => {
            registers.insert(key, *value);
            true
        }
        Access::Read { key, value } => registers.get(key.as_str()) == value.as_ref(),
    })
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (position, &first) in items.iter().enumerate() {
        let mut rest = items.to_vec();
        rest.remove(position);
        for mut order in permutations(&rest) {
            order.insert(0, first);
            all.push(order);
        }
    }
    all
}

/// Every choice of which unknown transactions took effect, together with all committed ones.
fn effective_sets(history: &[Transaction]) -> Vec<Vec<usize>> {
    let unknown: Vec<usize> =
        (0..history.len()).filter(|&i| history[i].outcome == TransactionOutcome::Unknown).collect();
    (0..1_usize << unknown.len())
        .map(|choice| {
            (0..history.len())
                .filter(|i| match history[*i].outcome {
                    TransactionOutcome::Committed => true,
                    TransactionOutcome::Aborted => false,
                    TransactionOutcome::Unknown => {
                        let bit = unknown.iter().position(|other| other == i).unwrap();
                        choice >> bit & 1 == 1
                    }
                })
                .collect()
        })
        .collect()
}

/// Is there a serial order, and one that respects real time?
fn brute_force(history: &[Transaction]) -> (bool, bool) {
    let (mut serializable, mut strict) = (false, false);
    for effective in effective_sets(history) {
        for order in permutations(&effective) {
            if fits_serially(history, &order) {
                serializable = true;
                strict |= order.iter().enumerate().all(|(later, &b)| {
                    order[..later].iter().all(|&a| {
                        let ended = history[b].returned.filter(|_| history[b].outcome == TransactionOutcome::Committed);
                        ended.is_none_or(|ended| ended >= history[a].invoked)
                    })
                });
            }
        }
    }
    (serializable, strict)
}

/// Is there an order of commits and a snapshot for each transaction that explain every read, without two concurrent
/// transactions that wrote the same list? Lists only.
fn brute_force_snapshots(history: &[Transaction]) -> bool {
    effective_sets(history).iter().any(|effective| {
        permutations(effective).iter().any(|commits| {
            // The transaction at position p has a snapshot of the first s <= p commits; choices are independent.
            (0..commits.len()).all(|position| {
                (0..=position).any(|snapshot| {
                    let writes = |index: usize, key: &str| {
                        history[index].accesses.iter().any(|a| matches!(a, Access::Append { key: k, .. } if k == key))
                    };
                    let conflict = commits[snapshot..position].iter().any(|&other| {
                        history[commits[position]]
                            .accesses
                            .iter()
                            .any(|a| matches!(a, Access::Append { key, .. } if writes(other, key)))
                    });
                    let seen = |key: &str| -> Vec<i64> {
                        let appended = commits[..snapshot].iter().flat_map(|&i| &history[i].accesses);
                        let of_key = |a: &Access| match a {
                            Access::Append { key: k, value } if k == key => Some(*value),
                            _ => None,
                        };
                        appended.filter_map(of_key).collect()
                    };
                    let mut own: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
                    !conflict
                        && history[commits[position]].accesses.iter().all(|access| match access {
                            Access::Append { key, value } => {
                                own.entry(key).or_default().push(*value);
                                true
                            }
                            Access::ReadList { key, values } => {
                                let mine = own.get(key.as_str()).into_iter().flatten().copied();
                                seen(key).into_iter().chain(mine).eq(values.iter().copied())
                            }
                            _ => panic!("lists only"),
                        })
                })
            })
        })
    })
}

/// How a simulated server isolates a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Reads the newest, writes at once, takes back nothing.
    Dirty,
    /// Reads what is committed at that moment.
    Committed,
    /// Reads what was committed when it began.
    Snapshot,
    /// Reads a replica that lags one commit behind.
    Lagging,
}

#[derive(Debug, Clone)]
struct Plan {
    /// Key, and whether to write it.
    accesses: Vec<(u8, bool)>,
    mode: Mode,
    outcome: TransactionOutcome,
    /// For an unknown outcome.
    commits: bool,
    /// One of its reads misses the last element.
    stale: Option<usize>,
}

fn plan(keys: u8) -> impl Strategy<Value = Plan> {
    let outcome = prop_oneof![
        8 => Just(TransactionOutcome::Committed),
        1 => Just(TransactionOutcome::Aborted),
        2 => Just(TransactionOutcome::Unknown),
    ];
    let mode = prop_oneof![1 => Just(Mode::Dirty), 2 => Just(Mode::Committed), 3 => Just(Mode::Snapshot), 1 => Just(Mode::Lagging)];
    let stale = proptest::option::weighted(0.15, 0..4_usize);
    let accesses = proptest::collection::vec((0..keys, any::<bool>()), 2..=4);
    (accesses, mode, outcome, any::<bool>(), stale).prop_map(|(accesses, mode, outcome, commits, stale)| Plan {
        accesses,
        mode,
        outcome,
        commits,
        stale,
    })
}

/// Up to `most` transactions, and in which order they advance.
fn plans(most: usize, keys: u8) -> impl Strategy<Value = (Vec<Plan>, Vec<u8>)> {
    (proptest::collection::vec(plan(keys), 3..=most), proptest::collection::vec(any::<u8>(), 30))
}

/// Runs the plans step by step, interleaved by `schedule`, on a server of the planned isolation.
fn simulate(plans: &[Plan], schedule: &[u8], lists: bool) -> Vec<Transaction> {
    struct Running {
        transaction: Transaction,
        next: usize,
        snapshot: BTreeMap<u8, Vec<i64>>,
        own: Vec<(u8, i64)>,
    }
    let mut store: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
    let mut running: Vec<Option<Running>> = plans.iter().map(|_| None).collect();
    let mut done: Vec<Option<Transaction>> = plans.iter().map(|_| None).collect();
    let mut value = 0;
    // Each choice names a transaction and how many steps it advances.
    let bursts = schedule.iter().flat_map(|&choice| std::iter::repeat_n(choice % 32, 1 + usize::from(choice / 32)));
    let mut choices = bursts.chain(std::iter::repeat(0));
    let mut time = 0;
    let mut lagging = store.clone();
    while done.iter().any(Option::is_none) {
        let open: Vec<usize> = (0..plans.len()).filter(|&i| done[i].is_none()).collect();
        let index = open[usize::from(choices.next().unwrap()) % open.len()];
        let plan = &plans[index];
        time += 1;
        let Some(state) = running[index].as_mut() else {
            let snapshot = if plan.mode == Mode::Lagging { lagging.clone() } else { store.clone() };
            let transaction = Transaction { invoked: time, outcome: plan.outcome, ..by(index) };
            running[index] = Some(Running { transaction, next: 0, snapshot, own: Vec::new() });
            continue;
        };
        let Some(&(key, write)) = plan.accesses.get(state.next) else {
            let commits = plan.outcome == TransactionOutcome::Committed
                || plan.outcome == TransactionOutcome::Unknown && plan.commits;
            if commits && !state.own.is_empty() {
                lagging = store.clone();
                for &(key, value) in &state.own {
                    store.entry(key).or_default().push(value);
                }
            }
            done[index] = Some(Transaction { returned: Some(time), ..state.transaction.clone() });
            continue;
        };
        let access = if write {
            value += 1;
            if plan.mode == Mode::Dirty {
                store.entry(key).or_default().push(value);
            } else {
                state.own.push((key, value));
            }
            if lists {
                Access::Append { key: key.to_string(), value }
            } else {
                Access::Write { key: key.to_string(), value }
            }
        } else {
            let of_its_beginning = matches!(plan.mode, Mode::Snapshot | Mode::Lagging);
            let base = if of_its_beginning { &state.snapshot } else { &store };
            let own = state.own.iter().filter(|(other, _)| *other == key).map(|(_, value)| *value);
            let mut values: Vec<i64> = base.get(&key).into_iter().flatten().copied().chain(own).collect();
            if plan.stale == Some(state.next) {
                values.pop();
            }
            if lists {
                Access::ReadList { key: key.to_string(), values }
            } else {
                Access::Read { key: key.to_string(), value: values.last().copied() }
            }
        };
        state.transaction.accesses.push(access);
        state.next += 1;
    }
    done.into_iter().flatten().collect()
}

/// Runs each plan at one instant of its time: what a perfect server does.
fn serve_perfectly(plans: &[Plan], times: &[(u64, u64, u64)], lists: bool) -> Vec<Transaction> {
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by_key(|&index| (times[index].0 + times[index].1, index));
    let mut store: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
    let mut value = 0;
    order
        .into_iter()
        .map(|index| {
            let (begin, wait, tail) = times[index];
            let plan = &plans[index];
            let mut transaction = by(index).during(begin, begin + wait + tail);
            let mut after = store.clone();
            for &(key, write) in &plan.accesses {
                let list = after.entry(key).or_default();
                if write {
                    value += 1;
                    list.push(value);
                }
                transaction = match (write, lists) {
                    (true, true) => transaction.append(key, value),
                    (true, false) => transaction.write(key, value),
                    (false, true) => transaction.read_list(key, list.clone()),
                    (false, false) => transaction.read(key, list.last().copied()),
                };
            }
            transaction.outcome = plan.outcome;
            let aborts = plan.outcome == TransactionOutcome::Aborted;
            if !aborts && (plan.outcome == TransactionOutcome::Committed || plan.commits) {
                store = after;
            }
            transaction
        })
        .collect()
}

/// A failing case is printed in full; files beside the sources would only be litter.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Lists are decided exactly, in both directions, at three levels. Snapshot isolation needs every append to be seen for
/// that: whether two transactions that wrote the same list may overlap depends on their order.
fn agrees_on_lists(history: &[Transaction], all_seen: bool) -> Result<(), TestCaseError> {
    let report = check(history).unwrap();
    let (serializable, strict) = brute_force(history);
    prop_assert_eq!(report.serializable, serializable, "{} of {:#?}", report, history);
    prop_assert_eq!(report.strict_serializable, strict, "{} of {:#?}", report, history);
    prop_assert_eq!(report.satisfies(Isolation::Serializable), serializable);
    prop_assert_eq!(report.satisfies(Isolation::StrictSerializable), strict);
    let snapshots = brute_force_snapshots(history);
    if all_seen {
        prop_assert_eq!(report.satisfies(SnapshotIsolation), snapshots, "{} of {:#?}", report, history);
    } else {
        prop_assert!(report.satisfies(SnapshotIsolation) || !snapshots, "{} of {:#?}", report, history);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn simulated_list_histories_as_brute_force((plans, schedule) in plans(5, 3)) {
        agrees_on_lists(&simulate(&plans, &schedule, true), false)?;
    }

    #[test]
    fn simulated_list_histories_with_a_full_final_read_as_brute_force((plans, schedule) in plans(4, 2)) {
        let mut history = simulate(&plans, &schedule, true);
        let mut last: BTreeMap<String, Vec<i64>> = BTreeMap::from([("0".into(), vec![]), ("1".into(), vec![])]);
        for access in history.iter().flat_map(|transaction| &transaction.accesses) {
            if let Access::ReadList { key, values } = access
                && last[key].len() < values.len()
            {
                last.insert(key.clone(), values.clone());
            }
        }
        // What no read has shown yet is put behind.
        for transaction in history.iter().filter(|t| t.outcome == TransactionOutcome::Committed) {
            for access in &transaction.accesses {
                if let Access::Append { key, value } = access
                    && !last[key].contains(value)
                {
                    last.get_mut(key).unwrap().push(*value);
                }
            }
        }
        let mut reader = by(9).during(1_000, 1_001);
        for (key, values) in last {
            reader = reader.read_list(key, values);
        }
        history.push(reader);
        agrees_on_lists(&history, true)?;
    }

    #[test]
    fn arbitrary_list_reads_as_brute_force(
        (plans, schedule) in plans(4, 2),
        noise in proptest::collection::vec((any::<u8>(), any::<u8>(), 0..5_u8), 1..=3),
    ) {
        let mut history = simulate(&plans, &schedule, true);
        let mut reads: Vec<&mut Vec<i64>> = history
            .iter_mut()
            .flat_map(|transaction| &mut transaction.accesses)
            .filter_map(|access| match access {
                Access::ReadList { values, .. } => Some(values),
                _ => None,
            })
            .collect();
        for (which, place, change) in noise {
            if reads.is_empty() {
                break;
            }
            let which = usize::from(which) % reads.len();
            let values = &mut reads[which];
            let place = usize::from(place) % (values.len() + 1);
            match change {
                0 => values.insert(place, i64::from(which as u8) + 1),
                1 => values.truncate(place),
                2 if place < values.len() => drop(values.remove(place)),
                3 if place + 1 < values.len() => values.swap(place, place + 1),
                _ => values.reverse(),
            }
        }
        agrees_on_lists(&history, false)?;
    }

    #[test]
    fn register_anomalies_are_never_made_up((plans, schedule) in plans(5, 2)) {
        let history = simulate(&plans, &schedule, false);
        let report = check(&history).unwrap();
        let (serializable, strict) = brute_force(&history);
        prop_assert!(report.serializable || !serializable, "{} of {:#?}", report, history);
        prop_assert!(report.strict_serializable || !strict, "{} of {:#?}", report, history);
    }

    #[test]
    fn perfect_servers_are_accepted(
        plans in proptest::collection::vec(plan(4), 40),
        times in proptest::collection::vec((0..200_u64, 0..30_u64, 0..30_u64), 40),
    ) {
        for lists in [true, false] {
            let report = check(&serve_perfectly(&plans, &times, lists)).unwrap();
            prop_assert!(report.strict_serializable, "{}", report);
        }
    }
}

/// The comparisons above are worth something only if they see every answer often.
#[test]
fn simulations_make_every_answer_common() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut strict, mut only_serial, mut only_snapshot, mut neither) = (0, 0, 0, 0);
    let (mut bad_registers, mut found) = (0, 0);
    for _ in 0..2_000 {
        let (plans, schedule) = plans(5, 3).new_tree(&mut runner).unwrap().current();
        let history = simulate(&plans, &schedule, true);
        match (brute_force(&history), brute_force_snapshots(&history)) {
            ((_, true), _) => strict += 1,
            ((true, false), _) => only_serial += 1,
            ((false, false), true) => only_snapshot += 1,
            ((false, false), false) => neither += 1,
        }
        let registers = simulate(&plans, &schedule, false);
        if !brute_force(&registers).0 {
            bad_registers += 1;
            found += u32::from(!check(&registers).unwrap().serializable);
        }
    }
    eprintln!(
        "{strict} strict, {only_serial} serial, {only_snapshot} snapshot, {neither} worse; {found} of {bad_registers} register faults found"
    );
    assert!(strict > 300 && only_serial > 10 && only_snapshot > 50 && neither > 300);
    assert!(found * 10 > bad_registers * 8, "{found} of {bad_registers}");
}

mod at_size {
    use std::sync::Mutex;
    use std::time::Instant;

    use rand::{RngExt, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// Transactions of four accesses over a moving window of keys, each executed at one instant.
    fn serial(count: usize, lists: bool) -> Vec<Transaction> {
        let mut random = Pcg64::seed_from_u64(7);
        let mut store: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        let mut history = Vec::with_capacity(count);
        for index in 0..count {
            let time = 10 * index as u64;
            let mut transaction = by(index % 10).during(time, time + random.random_range(1..100));
            for access in 0..4 {
                let key = index / 500 + random.random_range(0..10);
                let value = (index * 4 + access) as i64;
                let list = store.entry(key).or_default();
                transaction = match (random.random_bool(0.5), lists) {
                    (true, true) => transaction.append(key, value),
                    (true, false) => transaction.write(key, value),
                    (false, true) => transaction.read_list(key, list.clone()),
                    (false, false) => transaction.read(key, list.last().copied()),
                };
                if let Some(Access::Append { .. } | Access::Write { .. }) = transaction.accesses.last() {
                    list.push(value);
                }
            }
            history.push(transaction);
        }
        history
    }

    #[test]
    fn a_hundred_thousand_serial_transactions() {
        for lists in [true, false] {
            let history = serial(100_000, lists);
            let start = Instant::now();
            let report = check(&history).unwrap();
            eprintln!("100,000 transactions (lists: {lists}) checked in {:?}", start.elapsed());
            assert!(report.strict_serializable, "{report}");
        }
    }

    #[test]
    fn one_lost_append_among_a_hundred_thousand_transactions() {
        let mut history = serial(100_000, true);
        // One transaction's first read misses the newest element, which stays in all other reads.
        let victim = history[50_000..]
            .iter_mut()
            .find_map(|transaction| match transaction.accesses.first_mut() {
                Some(Access::ReadList { values, .. }) if values.len() > 3 => Some(values),
                _ => None,
            })
            .unwrap();
        victim.pop();
        let start = Instant::now();
        let report = check(&history).unwrap();
        eprintln!("found in {:?}: {}", start.elapsed(), report.anomalies[0]);
        assert!(!report.strict_serializable);
        assert!(report.anomalies.iter().all(|anomaly| anomaly.transactions.len() < 10), "{report}");
    }

    #[test]
    fn one_knot_of_thirty_thousand_transactions() {
        // Every read misses the newest element: nearly all transactions are in one component.
        let mut history = serial(30_000, true);
        for access in history.iter_mut().flat_map(|transaction| &mut transaction.accesses) {
            if let Access::ReadList { values, .. } = access {
                values.pop();
            }
        }
        let start = Instant::now();
        let report = check(&history).unwrap();
        eprintln!("{} anomalies in {:?}", report.anomalies.len(), start.elapsed());
        assert!(!report.serializable);
        assert!(report.has(ReadSkew) || report.has(LostUpdate), "{report}");
    }

    /// Threads on a real store behind one lock, once correctly and once reading before they take the lock.
    fn recorded(careful: bool) -> Transactions {
        let history = Transactions::new();
        let store = Mutex::new(BTreeMap::<usize, Vec<i64>>::new());
        std::thread::scope(|scope| {
            for process in 0..8 {
                let (history, store) = (history.clone(), &store);
                scope.spawn(move || {
                    for step in 0..250 {
                        let (key, other) = (step % 5, (step + process) % 5);
                        let value = (process * 1_000 + step) as i64;
                        let mut transaction = history.begin(process);
                        let early = store.lock().unwrap().get(&key).cloned().unwrap_or_default();
                        std::thread::yield_now();
                        let mut held = store.lock().unwrap();
                        let current = held.get(&key).cloned().unwrap_or_default();
                        transaction.read_list(key, if careful { current } else { early });
                        transaction.append(key, value).append(other, value + 100_000);
                        if step % 17 == 0 {
                            transaction.abort();
                            continue;
                        }
                        held.entry(key).or_default().push(value);
                        held.entry(other).or_default().push(value + 100_000);
                        drop(held);
                        if step % 13 == 0 { transaction.unknown() } else { transaction.commit() }
                    }
                });
            }
        });
        history
    }

    #[test]
    fn threads_on_a_real_store() {
        let report = recorded(true).check().unwrap();
        assert!(report.strict_serializable, "{report}");
        assert_eq!(report.transactions.0, 2_000);
    }

    #[test]
    fn threads_that_read_before_they_lock_lose_updates() {
        // The race is real, so it is given several chances.
        let caught = (0..20).find_map(|_| Some(recorded(false).check().unwrap()).filter(|r| r.has(LostUpdate)));
        let report = caught.expect("twenty racy runs without a lost update");
        assert!(!report.serializable && report.has(LostUpdate));
        assert!(report.satisfies(ReadCommitted), "{report}");
    }
}

mod recorder {
    use super::*;

    #[test]
    fn keeps_accesses_and_ends_and_survives_json() {
        let history = Transactions::new();
        let mut first = history.begin(0);
        first.append("x", 1).read_list("x", [1]);
        first.commit();
        let mut second = history.begin(1);
        second.write("r", 5);
        second.abort();
        let mut third = history.begin(65);
        third.read("r", None);
        drop(third);
        let hanging = history.begin(3);

        let transactions = history.transactions();
        let outcomes: Vec<_> = transactions.iter().map(|transaction| transaction.outcome).collect();
        use TransactionOutcome::*;
        assert_eq!(outcomes, [Committed, Aborted, Unknown, Unknown]);
        let rows = history.rows();
        assert_eq!(rows[0].label, "x += 1, x is [1]");
        assert_eq!(rows[1].label, "r = 5 → aborted");
        assert_eq!((rows[2].label.as_str(), rows[2].end), ("r is absent → ?", None));

        let text = history.to_json_lines().unwrap();
        let back = Transactions::from_json_lines(&text).unwrap();
        assert_eq!(back.transactions(), transactions);
        back.begin(0).commit();
        assert!(back.transactions()[4].invoked > transactions[2].returned.unwrap());
        let error = Transactions::from_json_lines("{}").unwrap_err().to_string();
        assert!(error.starts_with("could not read the history (line 1)"), "{error}");

        let file = std::env::temp_dir().join(format!("lab-transactions-{}.jsonl", std::process::id()));
        history.save(&file).unwrap();
        assert_eq!(Transactions::load(&file).unwrap().transactions(), transactions);
        std::fs::remove_file(&file).unwrap();
        hanging.commit();
        assert_eq!(history.transactions()[3].outcome, Committed);
    }

    #[test]
    fn effects_of_a_transaction_still_open_are_not_phantoms() {
        let history = Transactions::new();
        let mut open = history.begin(0);
        open.append("x", 1);
        let mut reader = history.begin(1);
        reader.read_list("x", [1]);
        reader.commit();
        assert!(history.check().unwrap().strict_serializable);
    }
}
