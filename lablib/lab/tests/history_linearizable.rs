//! The recorder and the linearizability checker: known-bad histories that must be caught, tricky good ones that must
//! pass, and agreement with a brute-force search over all orders.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::time::Duration;

use lab::history::linearizable::{Budget, Explanation, Verdict, check, check_within};
use lab::history::locks::{
    FencedLock, FencedLockOp, FencedLockRet, FencedResource, FencedWrite, FencedWriteRet, LockOp, LockRet, Mutex,
};
use lab::history::models::{
    CasRegister, Counter, CounterOp, CounterRet, KeyValue, KeyValueOp, KeyValueRet, Model, Register, RegisterOp,
    RegisterRet, Set, SetOp, SetRet,
};
use lab::history::queue::{Queue, QueueOp, QueueRet};
use lab::history::{History, Operation, Outcome};
use proptest::prelude::*;

fn ok<Op, Ret>(process: usize, op: Op, ret: Ret, invoked: u64, returned: u64) -> Operation<Op, Ret> {
    Operation::ok(process, op, ret, invoked, returned)
}

/// Checks, and checks the checker's evidence: a witness must be an order that the model executes, a prefix too.
fn judge<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>]) -> Verdict {
    let verdict = check(model, operations);
    match &verdict {
        Verdict::Linearizable { order } => {
            let complete: Vec<usize> =
                (0..operations.len()).filter(|&i| matches!(operations[i].outcome, Outcome::Ok(_))).collect();
            assert!(complete.iter().all(|index| order.contains(index)), "the witness misses an operation");
            assert_executes(model, operations, order);
        }
        Verdict::NotLinearizable { explanation } => {
            assert_executes(model, operations, &explanation.prefix);
            assert!(explanation.sentence.contains("cannot be placed"));
            let culprit = &operations[explanation.culprit];
            assert!(explanation.sentence.contains(&format!("process {}'s {}", culprit.process, culprit.label())));
        }
        Verdict::Undecided { .. } => {}
    }
    verdict
}

/// For an order of one part of an object, or of all of it.
fn assert_executes<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>], order: &[usize]) {
    // As soon as one operation spans several parts, the object is one.
    let live = operations.iter().filter(|operation| operation.outcome != Outcome::Failed);
    let whole = live.map(|operation| model.partition(&operation.op)).any(|part| part.is_none());
    let part_of = |index: usize| model.partition(&operations[index].op).filter(|_| !whole);
    let mut parts: BTreeSet<Option<String>> = BTreeSet::new();
    for (later, &b) in order.iter().enumerate() {
        parts.insert(part_of(b));
        for &a in &order[..later] {
            let b_ended = !matches!(operations[b].outcome, Outcome::Unknown)
                && operations[b].returned.unwrap() < operations[a].invoked;
            assert!(!b_ended, "the order puts {a} before {b}, which had ended before");
        }
    }
    for part in parts {
        let mut state = model.initial();
        for &index in order.iter().filter(|&&index| part_of(index) == part) {
            let ret = match &operations[index].outcome {
                Outcome::Ok(ret) => Some(ret),
                Outcome::Unknown => None,
                Outcome::Failed => panic!("a failed operation was placed"),
            };
            state = model.step(&state, &operations[index].op, ret).expect("the model cannot execute the order");
        }
    }
}

fn passes<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>]) {
    let verdict = judge(model, operations);
    assert!(verdict.is_linearizable(), "{verdict}");
}

/// Caught, and blamed on the operation at `culprit`.
fn caught<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>], culprit: usize) -> Explanation {
    match judge(model, operations) {
        Verdict::NotLinearizable { explanation } => {
            assert_eq!(explanation.culprit, culprit, "{}", explanation.sentence);
            explanation
        }
        other => panic!("not caught: {other}"),
    }
}

use RegisterOp::{Cas, Read, Write};
use RegisterRet::{Swapped, Value, Written};

mod known_bad {
    use super::*;

    #[test]
    fn stale_read_after_an_acknowledged_write() {
        let history = [ok(0, Write(1), Written, 0, 10), ok(1, Read, Value(0), 20, 30)];
        let explanation = caught(&Register::starting(0), &history, 1);
        assert_eq!(explanation.prefix, [0]);
        assert_eq!(
            explanation.sentence,
            "process 1's Read → Value(0) (20 ns to 30 ns) cannot be placed: the longest linearizable prefix has \
             1 operations, ends with process 0's Write(1) → Written (0 ns to 10 ns) and leaves 1, which does not allow it"
        );
    }

    #[test]
    fn two_readers_see_two_writes_in_opposite_orders() {
        let history = [
            ok(0, Write(1), Written, 0, 100),
            ok(1, Write(2), Written, 0, 100),
            ok(2, Read, Value(1), 10, 20),
            ok(3, Read, Value(2), 30, 40),
            ok(2, Read, Value(1), 50, 60),
        ];
        caught(&Register::starting(0), &history, 4);
    }

    #[test]
    fn new_value_seen_and_then_the_old_one_while_the_write_runs() {
        let history = [ok(0, Write(1), Written, 0, 100), ok(1, Read, Value(1), 10, 20), ok(2, Read, Value(0), 30, 40)];
        caught(&Register::starting(0), &history, 2);
    }

    #[test]
    fn read_of_a_value_from_the_future() {
        let history = [ok(1, Read, Value(1), 0, 10), ok(0, Write(1), Written, 20, 30)];
        caught(&Register::starting(0), &history, 0);
    }

    #[test]
    fn failed_write_took_effect() {
        let history = [Operation::failed(0, Write(1), 0, 10), ok(1, Read, Value(1), 20, 30)];
        caught(&Register::starting(0), &history, 1);
    }

    #[test]
    fn unknown_write_took_effect_and_was_undone() {
        let history =
            [Operation::unknown(0, Write(1), 0), ok(1, Read, Value(1), 20, 30), ok(1, Read, Value(0), 40, 50)];
        caught(&Register::starting(0), &history, 2);
    }

    #[test]
    fn one_unknown_write_shows_twice() {
        let history = [
            Operation::unknown(0, Write(1), 0),
            ok(1, Read, Value(1), 20, 30),
            ok(1, Write(2), Written, 40, 50),
            ok(2, Read, Value(1), 60, 70),
        ];
        caught(&Register::starting(0), &history, 3);
    }

    #[test]
    fn both_of_two_compare_and_sets_win() {
        let history = [
            ok(0, Cas { expected: 0, new: 1 }, Swapped(true), 0, 10),
            ok(1, Cas { expected: 0, new: 2 }, Swapped(true), 0, 11),
        ];
        caught(&CasRegister::starting(0), &history, 1);
    }

    #[test]
    fn compare_and_set_refused_although_the_value_was_there() {
        let history = [ok(0, Cas { expected: 0, new: 1 }, Swapped(false), 0, 10)];
        let explanation = caught(&CasRegister::starting(0), &history, 0);
        assert!(explanation.sentence.contains("nothing can come before it"), "{}", explanation.sentence);
    }

    #[test]
    fn counter_loses_an_increment() {
        let history = [
            ok(0, CounterOp::Add(1), CounterRet::Added, 0, 10),
            ok(1, CounterOp::Add(1), CounterRet::Added, 0, 10),
            ok(0, CounterOp::Read, CounterRet::Value(1), 20, 30),
        ];
        caught(&Counter, &history, 2);
    }

    #[test]
    fn two_counter_calls_return_the_same_sum() {
        let history = [
            ok(0, CounterOp::AddAndGet(1), CounterRet::Value(1), 0, 10),
            ok(1, CounterOp::AddAndGet(1), CounterRet::Value(1), 5, 15),
        ];
        assert!(judge(&Counter, &history).is_violation());
    }

    #[test]
    fn unknown_increment_counts_twice() {
        let history =
            [Operation::unknown(0, CounterOp::Add(1), 0), ok(1, CounterOp::Read, CounterRet::Value(2), 20, 30)];
        caught(&Counter, &history, 1);
    }

    #[test]
    fn deleted_key_comes_back() {
        use KeyValueOp::*;
        let history = [
            ok(0, Put("a", 1), KeyValueRet::Done, 0, 10),
            ok(0, Put("b", 1), KeyValueRet::Done, 11, 12),
            ok(0, Delete("a"), KeyValueRet::Done, 20, 30),
            ok(1, Get("a"), KeyValueRet::Value(Some(1)), 40, 50),
        ];
        let explanation = caught(&KeyValue::new(), &history, 3);
        assert!(explanation.sentence.contains("(of \"a\", 3 operations)"), "{}", explanation.sentence);
    }

    #[test]
    fn delete_of_a_present_key_says_it_was_absent() {
        use KeyValueOp::*;
        let history =
            [ok(0, Put("a", 1), KeyValueRet::Done, 0, 10), ok(0, Delete("a"), KeyValueRet::Deleted(false), 20, 30)];
        caught(&KeyValue::new(), &history, 1);
    }

    #[test]
    fn create_if_absent_succeeds_twice() {
        let create = |value| KeyValueOp::Cas { key: "a", expected: None, new: value };
        let history =
            [ok(0, create(1), KeyValueRet::Swapped(true), 0, 10), ok(1, create(2), KeyValueRet::Swapped(true), 20, 30)];
        caught(&KeyValue::new(), &history, 1);
    }

    #[test]
    fn two_owners_hold_the_mutex() {
        let history =
            [ok(0, LockOp::Acquire(0), LockRet::Done, 0, 10), ok(1, LockOp::Acquire(1), LockRet::Done, 20, 30)];
        caught(&Mutex, &history, 1);
    }

    #[test]
    fn mutex_released_by_another_owner() {
        let history =
            [ok(0, LockOp::Acquire(0), LockRet::Done, 0, 10), ok(1, LockOp::Release(1), LockRet::Done, 20, 30)];
        caught(&Mutex, &history, 1);
    }

    #[test]
    fn free_mutex_refused() {
        let history = [
            ok(0, LockOp::Acquire(0), LockRet::Done, 0, 10),
            ok(0, LockOp::Release(0), LockRet::Done, 20, 30),
            ok(1, LockOp::Acquire(1), LockRet::Refused, 40, 50),
        ];
        caught(&Mutex, &history, 2);
    }

    #[test]
    fn fencing_token_given_twice() {
        let history = [
            ok(0, FencedLockOp::Acquire(0), FencedLockRet::Granted(7), 0, 10),
            ok(1, FencedLockOp::Acquire(1), FencedLockRet::Granted(7), 20, 30),
        ];
        caught(&FencedLock::with_leases(), &history, 1);
    }

    #[test]
    fn fencing_token_shrinks_after_a_restart() {
        let history = [
            ok(0, FencedLockOp::Acquire(0), FencedLockRet::Granted(7), 0, 10),
            ok(0, FencedLockOp::Release(7), FencedLockRet::Released, 12, 14),
            ok(1, FencedLockOp::Acquire(1), FencedLockRet::Granted(1), 20, 30),
        ];
        caught(&FencedLock::exclusive(), &history, 2);
    }

    #[test]
    fn unseen_grant_used_up_a_token() {
        let history = [
            ok(0, FencedLockOp::Acquire(0), FencedLockRet::Granted(1), 0, 10),
            ok(0, FencedLockOp::Release(1), FencedLockRet::Released, 12, 14),
            Operation::unknown(1, FencedLockOp::Acquire(1), 15),
            ok(2, FencedLockOp::Acquire(2), FencedLockRet::Refused, 16, 18),
            ok(2, FencedLockOp::Acquire(2), FencedLockRet::Granted(2), 20, 30),
        ];
        caught(&FencedLock::with_leases(), &history, 4);
    }

    #[test]
    fn lease_passes_on_where_exclusion_was_promised() {
        let history = [
            ok(0, FencedLockOp::Acquire(0), FencedLockRet::Granted(1), 0, 10),
            ok(1, FencedLockOp::Acquire(1), FencedLockRet::Granted(2), 20, 30),
        ];
        caught(&FencedLock::exclusive(), &history, 1);
        passes(&FencedLock::with_leases(), &history);
    }

    #[test]
    fn resource_accepts_a_stale_token() {
        let history = [
            ok(1, FencedWrite { token: 2 }, FencedWriteRet::Accepted, 0, 10),
            ok(0, FencedWrite { token: 1 }, FencedWriteRet::Accepted, 20, 30),
        ];
        caught(&FencedResource, &history, 1);
    }

    fn enqueued(process: usize, element: u32, invoked: u64, returned: u64) -> Operation<QueueOp<u32>, QueueRet<u32>> {
        ok(process, QueueOp::Enqueue(element), QueueRet::Enqueued, invoked, returned)
    }

    fn dequeued(
        process: usize,
        element: impl Into<Option<u32>>,
        invoked: u64,
        returned: u64,
    ) -> Operation<QueueOp<u32>, QueueRet<u32>> {
        ok(process, QueueOp::Dequeue, QueueRet::Dequeued(element.into()), invoked, returned)
    }

    #[test]
    fn queue_overtaking() {
        let history = [enqueued(0, 1, 0, 1), enqueued(0, 2, 2, 3), dequeued(1, 2, 4, 5), dequeued(1, 1, 6, 7)];
        let explanation = caught(&Queue::unbounded(), &history, 2);
        assert!(explanation.sentence.contains("1 went in before 2 and came out later"), "{}", explanation.sentence);
    }

    #[test]
    fn queue_loses_an_element() {
        let history = [enqueued(0, 1, 0, 1), enqueued(0, 2, 2, 3), dequeued(1, 2, 4, 5), dequeued(1, None, 6, 7)];
        let explanation = caught(&Queue::unbounded(), &history, 2);
        assert!(explanation.sentence.contains("1 went in before 2 and never came out"), "{}", explanation.sentence);
    }

    #[test]
    fn queue_delivers_twice() {
        let history = [enqueued(0, 1, 0, 1), dequeued(1, 1, 4, 5), dequeued(2, 1, 4, 7)];
        caught(&Queue::unbounded(), &history, 2);
    }

    #[test]
    fn queue_delivers_what_was_never_sent() {
        let history = [enqueued(0, 1, 0, 1), dequeued(1, 9, 4, 5)];
        caught(&Queue::unbounded(), &history, 1);
    }

    #[test]
    fn queue_delivers_what_was_refused() {
        let history = [Operation::failed(0, QueueOp::Enqueue(1), 0, 1), dequeued(1, 1, 4, 5)];
        caught(&Queue::unbounded(), &history, 1);
    }

    #[test]
    fn queue_says_empty_while_it_is_not() {
        let history = [enqueued(0, 1, 0, 1), dequeued(1, None, 4, 5), dequeued(1, 1, 6, 7)];
        caught(&Queue::unbounded(), &history, 1);
    }

    #[test]
    fn queue_holds_more_than_its_capacity() {
        let history = [enqueued(0, 1, 0, 1), enqueued(0, 2, 2, 3)];
        caught(&Queue::bounded(1), &history, 1);
        passes(&Queue::unbounded(), &history);
    }

    #[test]
    fn queue_with_equal_elements_delivers_one_too_many() {
        let history = [
            enqueued(0, 1, 0, 1),
            enqueued(0, 1, 2, 3),
            dequeued(1, 1, 4, 5),
            dequeued(1, 1, 6, 7),
            dequeued(1, 1, 8, 9),
        ];
        caught(&Queue::unbounded(), &history, 4);
    }

    #[test]
    fn set_forgets_an_added_element() {
        let history = [
            ok(0, SetOp::Add(1), SetRet::Done, 0, 10),
            ok(0, SetOp::Add(2), SetRet::Done, 11, 12),
            ok(1, SetOp::Members, SetRet::Elements(BTreeSet::from([2])), 20, 30),
        ];
        caught(&Set::new(), &history, 2);
    }

    #[test]
    fn set_adds_the_same_element_twice() {
        let history =
            [ok(0, SetOp::Add(1), SetRet::Changed(true), 0, 10), ok(1, SetOp::Add(1), SetRet::Changed(true), 5, 11)];
        assert!(judge(&Set::new(), &history).is_violation());
    }

    #[test]
    fn answer_of_the_wrong_kind() {
        let history = [ok(0, Read, Written, 0, 10)];
        caught(&Register::starting(0), &history, 0);
    }
}

mod known_good {
    use super::*;

    #[test]
    fn nothing_happened() {
        passes(&Register::starting(0), &[]);
        passes(&Register::starting(0), &[Operation::failed(0, Write(1), 0, 1), Operation::unknown(0, Write(2), 2)]);
    }

    #[test]
    fn concurrent_writes_in_either_order() {
        for last in [1, 2] {
            let history =
                [ok(0, Write(1), Written, 0, 10), ok(1, Write(2), Written, 5, 15), ok(2, Read, Value(last), 20, 30)];
            passes(&Register::starting(0), &history);
        }
    }

    #[test]
    fn write_that_returned_last_took_effect_first() {
        let history = [
            ok(0, Write(1), Written, 0, 100),
            ok(1, Write(2), Written, 10, 20),
            ok(2, Read, Value(1), 12, 14),
            ok(2, Read, Value(2), 30, 40),
            ok(2, Read, Value(2), 110, 120),
        ];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn operations_that_touch_are_concurrent() {
        let history = [ok(0, Write(1), Written, 0, 10), ok(1, Read, Value(0), 10, 20)];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn write_that_changes_nothing_where_it_could_come_first_is_needed_later() {
        let history = [ok(0, Write(0), Written, 0, 10), ok(1, Write(1), Written, 5, 15), ok(2, Read, Value(0), 20, 30)];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn unknown_write_takes_effect_long_after_it_was_given_up() {
        let mut gave_up = Operation::unknown(0, Write(1), 0);
        gave_up.returned = Some(5);
        let history = [gave_up, ok(1, Read, Value(0), 20, 30), ok(1, Read, Value(1), 40, 50)];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn unknown_write_never_takes_effect() {
        let history = [Operation::unknown(0, Write(1), 0), ok(1, Read, Value(0), 20, 30)];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn unknown_write_between_two_known_ones() {
        let history = [
            Operation::unknown(0, Write(9), 0),
            ok(1, Write(1), Written, 10, 20),
            ok(1, Write(2), Written, 30, 40),
            ok(2, Read, Value(9), 50, 60),
        ];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn chain_of_unknown_compare_and_sets() {
        let history = [
            Operation::unknown(0, Cas { expected: 2, new: 3 }, 0),
            Operation::unknown(1, Cas { expected: 1, new: 2 }, 1),
            Operation::unknown(2, Cas { expected: 0, new: 1 }, 2),
            ok(3, Read, Value(3), 10, 20),
        ];
        passes(&CasRegister::starting(0), &history);
    }

    #[test]
    fn failed_write_between_reads_of_the_old_value() {
        let history =
            [ok(1, Read, Value(0), 0, 5), Operation::failed(0, Write(1), 6, 8), ok(1, Read, Value(0), 10, 20)];
        passes(&Register::starting(0), &history);
    }

    #[test]
    fn call_still_open_when_the_history_is_read() {
        let history = History::new();
        let hanging = history.invoke(0, Write(1));
        history.invoke(1, Read).ok(Value(1));
        assert!(history.check(&Register::starting(0)).is_linearizable());
        hanging.ok(Written);
        assert!(history.check(&Register::starting(0)).is_linearizable());
    }

    #[test]
    fn unknown_increments_explain_any_sum_in_between() {
        let mut history: Vec<_> = (0..40).map(|p| Operation::unknown(p, CounterOp::Add(1), p as u64)).collect();
        for (step, sum) in [3, 3, 17, 40].into_iter().enumerate() {
            let at = 100 + 10 * step as u64;
            history.push(ok(50, CounterOp::Read, CounterRet::Value(sum), at, at + 5));
        }
        passes(&Counter, &history);
        history.push(ok(50, CounterOp::Read, CounterRet::Value(41), 900, 905));
        caught(&Counter, &history, 44);
    }

    #[test]
    fn many_unknown_writes_cost_nothing_unless_they_are_read() {
        let mut history: Vec<_> = (0..60).map(|p| Operation::unknown(p, Write(100 + p), p as u64)).collect();
        for round in 0..50 {
            let at = 1_000 + 10 * round as u64;
            history.push(ok(90, Write(round), Written, at, at + 1));
            history.push(ok(90, Read, Value(if round == 25 { 130 } else { round }), at + 2, at + 3));
        }
        passes(&Register::starting(0), &history);
        history.push(ok(90, Read, Value(130), 9_000, 9_001));
        caught(&Register::starting(0), &history, 160);
    }

    #[test]
    fn mutex_given_back_by_a_call_of_unknown_end() {
        let history = [
            ok(0, LockOp::Acquire(0), LockRet::Done, 0, 10),
            Operation::unknown(0, LockOp::Release(0), 20),
            ok(1, LockOp::Acquire(1), LockRet::Refused, 30, 40),
            ok(1, LockOp::Acquire(1), LockRet::Done, 50, 60),
        ];
        passes(&Mutex, &history);
    }

    #[test]
    fn refusal_explained_by_an_acquire_of_unknown_end() {
        let history =
            [Operation::unknown(0, LockOp::Acquire(0), 0), ok(1, LockOp::Acquire(1), LockRet::Refused, 30, 40)];
        passes(&Mutex, &history);
    }

    #[test]
    fn expired_lease_refused_and_its_token_fenced() {
        let lock = [
            ok(0, FencedLockOp::Acquire(0), FencedLockRet::Granted(1), 0, 10),
            ok(1, FencedLockOp::Acquire(1), FencedLockRet::Granted(5), 20, 30),
            ok(0, FencedLockOp::Release(1), FencedLockRet::Refused, 40, 50),
            ok(1, FencedLockOp::Release(5), FencedLockRet::Released, 60, 70),
        ];
        passes(&FencedLock::with_leases(), &lock);
        let resource = [
            ok(0, FencedWrite { token: 1 }, FencedWriteRet::Accepted, 11, 12),
            ok(1, FencedWrite { token: 5 }, FencedWriteRet::Accepted, 31, 32),
            ok(0, FencedWrite { token: 1 }, FencedWriteRet::Stale, 33, 34),
            ok(1, FencedWrite { token: 5 }, FencedWriteRet::Accepted, 35, 36),
        ];
        passes(&FencedResource, &resource);
    }

    #[test]
    fn elements_enqueued_at_once_leave_in_any_order() {
        let enqueue = |p, e| ok(p, QueueOp::Enqueue(e), QueueRet::Enqueued, 0, 10);
        let dequeue = |e, at| ok(9, QueueOp::Dequeue, QueueRet::Dequeued(Some(e)), at, at + 1);
        let history = [enqueue(0, 1), enqueue(1, 2), enqueue(2, 3), dequeue(3, 20), dequeue(1, 30), dequeue(2, 40)];
        passes(&Queue::unbounded(), &history);
    }

    #[test]
    fn dequeue_of_unknown_end_took_the_missing_element() {
        let history = [
            ok(0, QueueOp::Enqueue(1), QueueRet::Enqueued, 0, 1),
            ok(0, QueueOp::Enqueue(2), QueueRet::Enqueued, 2, 3),
            Operation::unknown(1, QueueOp::Dequeue, 4),
            ok(2, QueueOp::Dequeue, QueueRet::Dequeued(Some(2)), 6, 7),
            ok(2, QueueOp::Dequeue, QueueRet::Dequeued(None), 8, 9),
        ];
        passes(&Queue::unbounded(), &history);
    }

    #[test]
    fn full_queue_refuses_and_empty_queue_says_so() {
        let history = [
            ok(0, QueueOp::Enqueue(1), QueueRet::Enqueued, 0, 1),
            ok(0, QueueOp::Enqueue(2), QueueRet::Full, 2, 3),
            ok(1, QueueOp::Dequeue, QueueRet::Dequeued(Some(1)), 4, 5),
            ok(1, QueueOp::Dequeue, QueueRet::Dequeued(None), 6, 7),
        ];
        passes(&Queue::bounded(1), &history);
    }

    #[test]
    fn keys_are_judged_apart_and_the_witness_spans_them() {
        use KeyValueOp::*;
        let history = [
            ok(0, Put("a", 1), KeyValueRet::Done, 0, 100),
            ok(1, Get("a"), KeyValueRet::Value(Some(1)), 5, 10),
            ok(1, Put("b", 2), KeyValueRet::Done, 11, 20),
            ok(2, Delete("b"), KeyValueRet::Deleted(true), 12, 19),
            ok(2, Get("b"), KeyValueRet::Value(None), 21, 30),
            ok(3, Cas { key: "a", expected: Some(1), new: 3 }, KeyValueRet::Swapped(true), 6, 40),
            ok(3, Cas { key: "a", expected: None, new: 4 }, KeyValueRet::Swapped(false), 50, 60),
        ];
        passes(&KeyValue::new(), &history);
    }

    #[test]
    fn set_read_during_two_adds_sees_one_of_them() {
        let history = [
            ok(0, SetOp::Add(1), SetRet::Done, 0, 100),
            ok(1, SetOp::Add(2), SetRet::Done, 0, 100),
            ok(2, SetOp::Members, SetRet::Elements(BTreeSet::from([2])), 10, 20),
            ok(2, SetOp::Contains(1), SetRet::Found(true), 30, 40),
            ok(2, SetOp::Remove(1), SetRet::Changed(true), 50, 60),
        ];
        passes(&Set::new(), &history);
    }
}

mod budget {
    use super::*;

    /// Every order of the adds leads to a different set of placed operations and none to the sum.
    fn hard() -> Vec<Operation<CounterOp, CounterRet>> {
        let mut history: Vec<_> = (0..24).map(|p| ok(p, CounterOp::Add(1 << p), CounterRet::Added, 0, 1_000)).collect();
        history.push(ok(30, CounterOp::Read, CounterRet::Value(-1), 10, 1_000));
        history
    }

    #[test]
    fn ends_undecided_and_claims_nothing() {
        for budget in [
            Budget { steps: 1_000, ..Budget::default() },
            Budget { time: Duration::from_millis(1), ..Budget::default() },
        ] {
            let verdict = check_within(&Counter, &hard(), &budget);
            assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict}");
            assert!(!verdict.is_linearizable() && !verdict.is_violation());
        }
    }

    #[test]
    fn a_history_that_contradicts_itself_is_undecided() {
        let backwards = [ok(0, Read, Value(0), 10, 5)];
        assert!(check(&Register::starting(0), &backwards).to_string().contains("returned before it was called"));
        let timeless = Operation { returned: None, ..ok(0, Read, Value(0), 10, 15) };
        assert!(matches!(check(&Register::starting(0), &[timeless]), Verdict::Undecided { .. }));
    }
}

/// All orders, one after the other: slow, and too simple to be wrong in the same way.
fn brute_force<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>]) -> bool {
    fn extend<M: Model>(
        model: &M,
        operations: &[Operation<M::Op, M::Ret>],
        placed: &mut Vec<usize>,
        state: &M::State,
    ) -> bool {
        let left: Vec<usize> = (0..operations.len())
            .filter(|i| !placed.contains(i) && operations[*i].outcome != Outcome::Failed)
            .collect();
        if left.iter().all(|&i| operations[i].outcome == Outcome::Unknown) {
            return true;
        }
        left.iter().any(|&next| {
            let overtakes = left.iter().any(|&other| {
                matches!(operations[other].outcome, Outcome::Ok(_))
                    && operations[other].returned.unwrap() < operations[next].invoked
            });
            if overtakes {
                return false;
            }
            let ret = match &operations[next].outcome {
                Outcome::Ok(ret) => Some(ret),
                _ => None,
            };
            let Some(state) = model.step(state, &operations[next].op, ret) else { return false };
            placed.push(next);
            let found = extend(model, operations, placed, &state);
            placed.pop();
            found
        })
    }
    extend(model, operations, &mut Vec::new(), &model.initial())
}

fn agrees<M: Model>(model: &M, operations: &[Operation<M::Op, M::Ret>]) -> Result<bool, TestCaseError> {
    let expected = brute_force(model, operations);
    let verdict = judge(model, operations);
    prop_assert_eq!(verdict.is_linearizable(), expected, "{}", verdict);
    prop_assert_eq!(verdict.is_violation(), !expected, "{}", verdict);
    Ok(expected)
}

/// An object that really executes operations, written without the models.
trait Real<Op, Ret>: Clone {
    fn apply(&mut self, op: &Op) -> Ret;
}

#[derive(Clone, Default)]
struct RealRegister(u8);

impl Real<RegisterOp<u8>, RegisterRet<u8>> for RealRegister {
    fn apply(&mut self, op: &RegisterOp<u8>) -> RegisterRet<u8> {
        match op {
            Read => Value(self.0),
            Write(value) => {
                self.0 = *value;
                Written
            }
            Cas { expected, new } => {
                let swaps = self.0 == *expected;
                if swaps {
                    self.0 = *new;
                }
                Swapped(swaps)
            }
        }
    }
}

#[derive(Clone, Default)]
struct RealMap(std::collections::HashMap<u8, u8>);

impl Real<KeyValueOp<u8, u8>, KeyValueRet<u8>> for RealMap {
    fn apply(&mut self, op: &KeyValueOp<u8, u8>) -> KeyValueRet<u8> {
        match op {
            KeyValueOp::Get(key) => KeyValueRet::Value(self.0.get(key).copied()),
            KeyValueOp::Put(key, value) => {
                self.0.insert(*key, *value);
                KeyValueRet::Done
            }
            KeyValueOp::Delete(key) => KeyValueRet::Deleted(self.0.remove(key).is_some()),
            KeyValueOp::Cas { key, expected, new } => {
                let swaps = self.0.get(key) == expected.as_ref();
                if swaps {
                    self.0.insert(*key, *new);
                }
                KeyValueRet::Swapped(swaps)
            }
        }
    }
}

#[derive(Clone, Default)]
struct RealQueue(VecDeque<u8>);

const CAPACITY: usize = 3;

impl Real<QueueOp<u8>, QueueRet<u8>> for RealQueue {
    fn apply(&mut self, op: &QueueOp<u8>) -> QueueRet<u8> {
        match op {
            QueueOp::Enqueue(_) if self.0.len() == CAPACITY => QueueRet::Full,
            QueueOp::Enqueue(element) => {
                self.0.push_back(*element);
                QueueRet::Enqueued
            }
            QueueOp::Dequeue => QueueRet::Dequeued(self.0.pop_front()),
        }
    }
}

#[derive(Clone, Default)]
struct RealCounter(i64);

impl Real<CounterOp, CounterRet> for RealCounter {
    fn apply(&mut self, op: &CounterOp) -> CounterRet {
        match op {
            CounterOp::Add(delta) => {
                self.0 += delta;
                CounterRet::Added
            }
            CounterOp::AddAndGet(delta) => {
                self.0 += delta;
                CounterRet::Value(self.0)
            }
            CounterOp::Read => CounterRet::Value(self.0),
        }
    }
}

#[derive(Clone, Default)]
struct RealSet(std::collections::HashSet<u8>);

impl Real<SetOp<u8>, SetRet<u8>> for RealSet {
    fn apply(&mut self, op: &SetOp<u8>) -> SetRet<u8> {
        match op {
            SetOp::Add(element) => SetRet::Changed(self.0.insert(*element)),
            SetOp::Remove(element) => SetRet::Changed(self.0.remove(element)),
            SetOp::Contains(element) => SetRet::Found(self.0.contains(element)),
            SetOp::Members => SetRet::Elements(self.0.iter().copied().collect()),
        }
    }
}

/// A lock with leases that never expire by themselves: tokens 0, 1, 2, ...
#[derive(Clone, Default)]
struct RealFencedLock {
    held: Option<u64>,
    next: u64,
}

impl Real<FencedLockOp, FencedLockRet> for RealFencedLock {
    fn apply(&mut self, op: &FencedLockOp) -> FencedLockRet {
        match op {
            FencedLockOp::Acquire(_) if self.held.is_some() => FencedLockRet::Refused,
            FencedLockOp::Acquire(_) => {
                self.held = Some(self.next);
                self.next += 1;
                FencedLockRet::Granted(self.next - 1)
            }
            FencedLockOp::Release(token) if self.held == Some(*token) => {
                self.held = None;
                FencedLockRet::Released
            }
            FencedLockOp::Release(_) => FencedLockRet::Refused,
        }
    }
}

#[derive(Clone, Default)]
struct RealMutex(Option<u64>);

impl Real<LockOp, LockRet> for RealMutex {
    fn apply(&mut self, op: &LockOp) -> LockRet {
        match (op, self.0) {
            (LockOp::Acquire(owner), None) => {
                self.0 = Some(*owner);
                LockRet::Done
            }
            (LockOp::Release(owner), Some(holder)) if *owner == holder => {
                self.0 = None;
                LockRet::Done
            }
            _ => LockRet::Refused,
        }
    }
}

/// What a faulty object does instead of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Answers, and forgets that it did anything.
    Lost,
    /// Answers from the state that was there some operations ago, and has no effect.
    Stale(usize),
    /// Takes effect twice.
    Twice,
    /// Takes effect although it was refused.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Ok,
    Failed,
    /// With an effect, at its instant.
    UnknownDone,
    /// Without.
    UnknownNever,
}

/// A call: when it begins, takes effect and ends relative to the others, and how.
#[derive(Debug, Clone)]
struct Planned<Op> {
    op: Op,
    begin: u64,
    wait: u64,
    tail: u64,
    end: End,
    fault: Fault,
}

/// Executes the calls at their instants on a real object, and records what their callers saw.
fn execute<Op: Clone, Ret, R: Real<Op, Ret>>(mut object: R, calls: &[Planned<Op>]) -> Vec<Operation<Op, Ret>> {
    let mut by_instant: Vec<(usize, &Planned<Op>)> = calls.iter().enumerate().collect();
    by_instant.sort_by_key(|(process, call)| (call.begin + call.wait, *process));
    let mut past = vec![object.clone()];
    let mut history = Vec::new();
    for (process, call) in by_instant {
        let (op, begin, end) = (call.op.clone(), call.begin, call.begin + call.wait + call.tail);
        let faulty_refusal = call.fault == Fault::Refused;
        let ret = match (call.end, call.fault) {
            (End::UnknownNever, _) => None,
            (End::Failed, _) if !faulty_refusal => None,
            (_, Fault::Lost) => Some(object.clone().apply(&op)),
            (_, Fault::Stale(age)) => Some(past[past.len().saturating_sub(1 + age)].clone().apply(&op)),
            (_, Fault::Twice) => {
                object.apply(&op);
                Some(object.apply(&op))
            }
            _ => Some(object.apply(&op)),
        };
        past.push(object.clone());
        history.push(match (call.end, ret) {
            (End::Ok, Some(ret)) if !faulty_refusal => Operation::ok(process, op, ret, begin, end),
            (End::UnknownDone | End::UnknownNever, _) => Operation::unknown(process, op, begin),
            _ => Operation::failed(process, op, begin, end),
        });
    }
    history
}

fn planned<Op: Clone + Debug + 'static>(
    op: impl Strategy<Value = Op>,
    faulty: bool,
    span: u64,
) -> impl Strategy<Value = Planned<Op>> {
    let end = prop_oneof![
        6 => Just(End::Ok),
        1 => Just(End::Failed),
        1 => Just(End::UnknownDone),
        1 => Just(End::UnknownNever),
    ];
    let fault = prop_oneof![
        2 => Just(Fault::None),
        u32::from(faulty) => Just(Fault::Lost),
        u32::from(faulty) => (1..4_usize).prop_map(Fault::Stale),
        u32::from(faulty) => Just(Fault::Twice),
        u32::from(faulty) => Just(Fault::Refused),
    ];
    (op, 0..span, 0..8_u64, 0..8_u64, end, fault).prop_map(|(op, begin, wait, tail, end, fault)| Planned {
        op,
        begin,
        wait,
        tail,
        end,
        fault,
    })
}

fn register_op() -> impl Strategy<Value = RegisterOp<u8>> {
    prop_oneof![
        3 => Just(Read),
        2 => (0..3_u8).prop_map(Write),
        1 => (0..3_u8, 0..3_u8).prop_map(|(expected, new)| Cas { expected, new }),
    ]
}

fn register_ret() -> impl Strategy<Value = RegisterRet<u8>> {
    prop_oneof![(0..3_u8).prop_map(Value), Just(Written), any::<bool>().prop_map(Swapped)]
}

fn key_value_op() -> impl Strategy<Value = KeyValueOp<u8, u8>> {
    let key = 0..2_u8;
    prop_oneof![
        3 => key.clone().prop_map(KeyValueOp::Get),
        2 => (key.clone(), 0..3_u8).prop_map(|(key, value)| KeyValueOp::Put(key, value)),
        1 => key.clone().prop_map(KeyValueOp::Delete),
        1 => (key, proptest::option::of(0..3_u8), 0..3_u8)
            .prop_map(|(key, expected, new)| KeyValueOp::Cas { key, expected, new }),
    ]
}

fn queue_op() -> impl Strategy<Value = QueueOp<u8>> {
    prop_oneof![(0..20_u8).prop_map(QueueOp::Enqueue), Just(QueueOp::Dequeue)]
}

fn counter_op() -> impl Strategy<Value = CounterOp> {
    prop_oneof![(1..3_i64).prop_map(CounterOp::Add), (1..3_i64).prop_map(CounterOp::AddAndGet), Just(CounterOp::Read)]
}

fn set_op() -> impl Strategy<Value = SetOp<u8>> {
    prop_oneof![
        2 => (0..3_u8).prop_map(SetOp::Add),
        1 => (0..3_u8).prop_map(SetOp::Remove),
        1 => (0..3_u8).prop_map(SetOp::Contains),
        1 => Just(SetOp::Members),
    ]
}

fn lock_op() -> impl Strategy<Value = LockOp> {
    prop_oneof![(0..3_u64).prop_map(LockOp::Acquire), (0..3_u64).prop_map(LockOp::Release)]
}

fn fenced_op() -> impl Strategy<Value = FencedLockOp> {
    prop_oneof![(0..3_u64).prop_map(FencedLockOp::Acquire), (0..3_u64).prop_map(FencedLockOp::Release)]
}

/// A failing case is printed in full; files beside the sources would only be litter.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn many<Op: Clone + Debug + 'static>(
    op: impl Strategy<Value = Op>,
    faulty: bool,
    most: usize,
) -> impl Strategy<Value = Vec<Planned<Op>>> {
    // Few calls are spread thin, so that many of them have an order; many overlap about six at a time.
    let span = if most > 7 { 200 } else { 60 };
    proptest::collection::vec(planned(op, faulty, span), most.min(5)..=most)
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn arbitrary_register_histories_as_brute_force(
        raw in proptest::collection::vec((register_op(), register_ret(), 0..12_u64, 0..8_u64, 0..10_u8), 1..=7),
    ) {
        let history: Vec<_> = raw
            .into_iter()
            .enumerate()
            .map(|(process, (op, ret, begin, long, end))| match end {
                0 => Operation::failed(process, op, begin, begin + long),
                1 | 2 => Operation::unknown(process, op, begin),
                _ => {
                    // Mostly of the right kind, or nearly everything would be refused for that.
                    let ret = match (&op, ret) {
                        (Write(_), _) => Written,
                        (Read, Value(value)) => Value(value),
                        (Read, _) => Value(0),
                        (_, Swapped(told)) => Swapped(told),
                        (_, other) => if end == 3 { other } else { Swapped(true) },
                    };
                    Operation::ok(process, op, ret, begin, begin + long)
                }
            })
            .collect();
        agrees(&Register::starting(0), &history)?;
    }

    #[test]
    fn register_with_faults_as_brute_force(calls in many(register_op(), true, 7)) {
        agrees(&Register::starting(0), &execute(RealRegister::default(), &calls))?;
    }

    #[test]
    fn key_value_with_faults_as_brute_force(calls in many(key_value_op(), true, 7)) {
        agrees(&KeyValue::new(), &execute(RealMap::default(), &calls))?;
    }

    #[test]
    fn queue_with_faults_as_brute_force(calls in many(queue_op(), true, 7)) {
        agrees(&Queue::bounded(CAPACITY), &execute(RealQueue::default(), &calls))?;
    }

    #[test]
    fn queue_with_distinct_elements_and_faults_as_brute_force(mut calls in many(queue_op(), true, 7)) {
        number(&mut calls);
        agrees(&Queue::bounded(CAPACITY), &execute(RealQueue::default(), &calls))?;
    }

    #[test]
    fn counter_with_faults_as_brute_force(calls in many(counter_op(), true, 7)) {
        agrees(&Counter, &execute(RealCounter::default(), &calls))?;
    }

    #[test]
    fn set_with_faults_as_brute_force(calls in many(set_op(), true, 7)) {
        agrees(&Set::new(), &execute(RealSet::default(), &calls))?;
    }

    #[test]
    fn mutex_with_faults_as_brute_force(calls in many(lock_op(), true, 7)) {
        agrees(&Mutex, &execute(RealMutex::default(), &calls))?;
    }

    #[test]
    fn fenced_lock_with_faults_as_brute_force(calls in many(fenced_op(), true, 7)) {
        let history = execute(RealFencedLock::default(), &calls);
        agrees(&FencedLock::exclusive(), &history)?;
        agrees(&FencedLock::with_leases(), &history)?;
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn correct_objects_are_accepted(
        register in many(register_op(), false, 150),
        map in many(key_value_op(), false, 150),
        mut queue in many(queue_op(), false, 60),
        counter in many(counter_op(), false, 150),
        set in many(set_op(), false, 150),
        mutex in many(lock_op(), false, 150),
        fenced in many(fenced_op(), false, 150),
    ) {
        passes(&Register::starting(0), &execute(RealRegister::default(), &register));
        passes(&KeyValue::new(), &execute(RealMap::default(), &map));
        passes(&Queue::bounded(CAPACITY), &execute(RealQueue::default(), &queue));
        number(&mut queue);
        passes(&Queue::bounded(CAPACITY), &execute(RealQueue::default(), &queue));
        passes(&Counter, &execute(RealCounter::default(), &counter));
        passes(&Set::new(), &execute(RealSet::default(), &set));
        passes(&Mutex, &execute(RealMutex::default(), &mutex));
        passes(&FencedLock::exclusive(), &execute(RealFencedLock::default(), &fenced));
    }
}

/// Makes all elements different.
fn number(calls: &mut [Planned<QueueOp<u8>>]) {
    for (number, call) in calls.iter_mut().enumerate() {
        if let QueueOp::Enqueue(element) = &mut call.op {
            *element = u8::try_from(number).unwrap();
        }
    }
}

/// The comparison above is worth something only if it sees both answers often.
#[test]
fn faults_make_both_answers_common() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut linearizable = 0;
    for _ in 0..1_000 {
        let calls = many(register_op(), true, 7).new_tree(&mut runner).unwrap().current();
        linearizable += u32::from(brute_force(&Register::starting(0), &execute(RealRegister::default(), &calls)));
    }
    assert!((300..=900).contains(&linearizable), "{linearizable} of 1000");
}

mod at_size {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    /// 10 threads, 10,000 operations, 100 keys on a real map behind a lock; every eleventh answer gets lost. If `stale`,
    /// one thread does not find what it has just put.
    fn recorded(stale: bool) -> History<KeyValueOp<u32, u32>, KeyValueRet<u32>> {
        let history = History::new();
        let map = Arc::new(Mutex::new(std::collections::HashMap::<u32, u32>::new()));
        std::thread::scope(|scope| {
            for process in 0..10_u32 {
                let (history, map) = (history.clone(), Arc::clone(&map));
                scope.spawn(move || {
                    let mut random = u64::from(process) + 1;
                    let mut put = 0;
                    for step in 0..1_000_u32 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let key = (random >> 40) as u32 % 100;
                        let value = process * 10_000 + step;
                        if step % 2 == 0 {
                            put = key;
                            let call = history.invoke(process as usize, KeyValueOp::Put(key, value));
                            map.lock().unwrap().insert(key, value);
                            if step % 11 == 0 { call.unknown() } else { call.ok(KeyValueRet::Done) }
                        } else if stale && process == 3 && step == 501 {
                            history.invoke(3, KeyValueOp::Get(put)).ok(KeyValueRet::Value(None));
                        } else {
                            let call = history.invoke(process as usize, KeyValueOp::Get(key));
                            let seen = map.lock().unwrap().get(&key).copied();
                            call.ok(KeyValueRet::Value(seen));
                        }
                    }
                });
            }
        });
        history
    }

    #[test]
    fn ten_thousand_operations_of_ten_processes_over_a_hundred_keys() {
        let history = recorded(false);
        assert_eq!(history.len(), 10_000);
        let start = Instant::now();
        let verdict = history.check(&KeyValue::new());
        assert!(verdict.is_linearizable(), "{verdict}");
        eprintln!("10,000 operations checked in {:?}", start.elapsed());
    }

    #[test]
    fn one_stale_read_among_ten_thousand() {
        let history = recorded(true);
        let start = Instant::now();
        let verdict = history.check(&KeyValue::new());
        assert!(verdict.is_violation(), "{verdict}");
        assert!(verdict.to_string().contains("process 3's Get("), "{verdict}");
        eprintln!("found in {:?}: {verdict}", start.elapsed());
    }

    fn queue_history(lose: bool) -> Vec<Operation<QueueOp<u32>, QueueRet<u32>>> {
        let history = History::new();
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        std::thread::scope(|scope| {
            for process in 0..8_usize {
                let (history, queue) = (history.clone(), Arc::clone(&queue));
                scope.spawn(move || {
                    for step in 0..1_250_u32 {
                        if process % 2 == 0 {
                            let element = process as u32 * 10_000 + step;
                            let call = history.invoke(process, QueueOp::Enqueue(element));
                            if !(lose && process == 4 && step == 600) {
                                queue.lock().unwrap().push_back(element);
                            }
                            std::thread::yield_now();
                            call.ok(QueueRet::Enqueued);
                        } else {
                            let call = history.invoke(process, QueueOp::Dequeue);
                            let element = queue.lock().unwrap().pop_front();
                            std::thread::yield_now();
                            call.ok(QueueRet::Dequeued(element));
                        }
                    }
                });
            }
        });
        let drain = history.invoke(9, QueueOp::Dequeue);
        let mut element = queue.lock().unwrap().pop_front();
        drain.ok(QueueRet::Dequeued(element));
        while element.is_some() {
            let drain = history.invoke(9, QueueOp::Dequeue);
            element = queue.lock().unwrap().pop_front();
            drain.ok(QueueRet::Dequeued(element));
        }
        history.operations()
    }

    #[test]
    fn ten_thousand_queue_operations() {
        let history = queue_history(false);
        let start = Instant::now();
        let verdict = check(&Queue::unbounded(), &history);
        assert!(verdict.is_linearizable(), "{verdict}");
        eprintln!("{} queue operations checked in {:?}", history.len(), start.elapsed());
    }

    #[test]
    fn one_lost_element_among_ten_thousand_queue_operations() {
        let verdict = check(&Queue::unbounded(), &queue_history(true));
        assert!(verdict.is_violation(), "{verdict}");
        assert!(verdict.to_string().contains("40600 went in before"), "{verdict}");
    }
}

mod recorder {
    use super::*;

    type Registers = History<RegisterOp<i64>, RegisterRet<i64>>;

    fn sample() -> Registers {
        let history = History::new();
        history.invoke(0, Write(1)).ok(Written);
        history.invoke(1, Write(2)).fail();
        history.invoke(2, Write(3)).unknown();
        history.invoke(0, Read).ok(Value(1));
        drop(history.invoke(65, Read));
        history
    }

    #[test]
    fn keeps_how_each_call_ended() {
        let operations = sample().operations();
        let outcomes: Vec<_> = operations.iter().map(|operation| operation.outcome.clone()).collect();
        assert_eq!(
            outcomes,
            [Outcome::Ok(Written), Outcome::Failed, Outcome::Unknown, Outcome::Ok(Value(1)), Outcome::Unknown]
        );
        assert!(operations.iter().all(|operation| operation.returned.unwrap() > operation.invoked));
    }

    #[test]
    fn events_are_totally_ordered_across_threads() {
        let history: History<u32, u32> = History::new();
        std::thread::scope(|scope| {
            for process in 0..8 {
                let history = history.clone();
                scope.spawn(move || (0..2_000).for_each(|step| history.invoke(process, step).ok(step)));
            }
        });
        let operations = history.operations();
        assert_eq!(operations.len(), 16_000);
        let mut times: Vec<u64> = operations.iter().flat_map(|o| [o.invoked, o.returned.unwrap()]).collect();
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "two events share a time");
        for process in 0..8 {
            let own: Vec<_> = operations.iter().filter(|operation| operation.process == process).collect();
            assert!(own.windows(2).all(|pair| pair[0].returned.unwrap() < pair[1].invoked));
            assert!(own.iter().zip(0..).all(|(operation, step)| operation.op == step));
        }
    }

    #[test]
    fn a_panic_or_a_cancelled_task_leaves_an_unknown_call() {
        let history: Registers = History::new();
        let in_thread = history.clone();
        let _ = std::thread::spawn(move || {
            let _call = in_thread.invoke(0, Write(1));
            std::panic::resume_unwind(Box::new("the client died"));
        })
        .join();
        let in_task = history.clone();
        tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
            let (started, began) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move {
                let call = in_task.invoke(1, Write(2));
                started.send(()).unwrap();
                std::future::pending::<()>().await;
                call.ok(Written);
            });
            began.await.unwrap();
            task.abort();
            let _ = task.await;
        });
        history.invoke(2, Read).ok(Value(2));
        let operations = history.operations();
        assert_eq!(operations[0].outcome, Outcome::Unknown);
        assert_eq!(operations[1].outcome, Outcome::Unknown);
        assert!(history.check(&Register::starting(0)).is_linearizable());
    }

    #[test]
    fn rows_for_a_timeline() {
        let rows = sample().rows();
        assert_eq!(rows[0].label, "Write(1) → Written");
        assert!(rows[0].end.unwrap() > rows[0].start);
        assert_eq!((rows[1].label.as_str(), rows[1].end.is_some()), ("Write(2) → failed", true));
        assert_eq!((rows[2].label.as_str(), rows[2].end), ("Write(3) → ?", None));
        assert_eq!(rows[4].process, 65);
    }

    #[test]
    fn json_lines_there_and_back_and_recording_goes_on() {
        let history = sample();
        let text = history.to_json_lines().unwrap();
        assert_eq!(text.lines().count(), 5);
        let back = Registers::from_json_lines(&text).unwrap();
        assert_eq!(back.operations(), history.operations());
        back.invoke(0, Read).ok(Value(1));
        let operations = back.operations();
        assert!(operations[5].invoked > operations[4].returned.unwrap());

        let file = std::env::temp_dir().join(format!("lab-history-{}.jsonl", std::process::id()));
        history.save(&file).unwrap();
        assert_eq!(Registers::load(&file).unwrap().operations(), history.operations());
        std::fs::remove_file(&file).unwrap();
        assert!(Registers::load(&file).unwrap_err().to_string().starts_with("could not load the history"));
    }

    #[test]
    fn times_grow_after_an_import_from_the_future() {
        let late =
            r#"{"process":0,"op":"Read","invoked":9,"returned":1000000000000000000,"outcome":{"Ok":{"Value":1}}}"#;
        let history = Registers::from_json_lines(late).unwrap();
        history.invoke(0, Read).ok(Value(1));
        history.invoke(0, Read).ok(Value(1));
        let mut times: Vec<u64> = history
            .operations()
            .iter()
            .flat_map(|operation| [operation.invoked, operation.returned.unwrap()])
            .collect();
        assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
        times.sort_unstable();
        assert!(times.last().unwrap() - times[1] < 1_000, "the clock jumped: {times:?}");
    }

    #[test]
    fn bad_lines_are_one_clear_sentence() {
        let text = sample().to_json_lines().unwrap();
        let broken = text.replacen("\"process\"", "\"proces\"", 1);
        let error = Registers::from_json_lines(&broken).unwrap_err().to_string();
        assert!(error.starts_with("could not read the history (line 1): missing field"), "{error}");
        let backwards = r#"{"process":0,"op":"Read","invoked":9,"returned":3,"outcome":{"Ok":{"Value":1}}}"#;
        let error = Registers::from_json_lines(backwards).unwrap_err().to_string();
        assert!(error.contains("ends before it begins"), "{error}");
        let endless = r#"{"process":0,"op":"Read","invoked":9,"returned":null,"outcome":{"Ok":{"Value":1}}}"#;
        assert!(Registers::from_json_lines(endless).is_err());
    }
}
