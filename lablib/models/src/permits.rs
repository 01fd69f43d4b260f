//! The permits of `sql::pool`, through every interleaving of up to three threads.
//!
//! Each property has a model that holds, and for each step that can be left out ([`Skip`]) a model that fails without it.

#[path = "../../sql/pool/src/permits.rs"]
#[allow(dead_code, missing_docs)]
mod core;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{Arc, Notify};

    use super::core::{Acquire, Permits, Skip};

    /// What a runtime does for a task: sleeps until somebody wakes it. loom reports a sleep that nobody ends as a deadlock.
    struct Sleeper(Notify);

    impl Wake for Sleeper {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.notify();
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let sleeper = std::sync::Arc::new(Sleeper(Notify::new()));
        let waker = Waker::from(sleeper.clone());
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => sleeper.0.wait(),
            }
        }
    }

    /// Polls once, as a task does that is cancelled afterwards.
    fn poll_once(future: &mut Acquire<usize>) -> bool {
        std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A few preemptions find every race that has been found in such code, and keep the run within seconds.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(body);
    }

    /// Borrows once; `users` counts who holds a connection at this moment.
    fn borrow(permits: &Permits<usize>, users: &AtomicUsize, size: usize) {
        let mut permit = block_on(permits.acquire()).unwrap();
        let connection = permit.take().unwrap_or(7);
        let others = users.fetch_add(1, Ordering::SeqCst);
        assert!(others < size, "too many: {} hold a permit of {size}", others + 1);
        users.fetch_sub(1, Ordering::SeqCst);
        assert!(permit.give_back(connection).is_ok());
    }

    /// All permits are back: so many can be had at once, and not one more.
    fn all_back(permits: &Permits<usize>, size: usize) {
        let gauge = permits.gauge();
        assert_eq!((gauge.in_use, gauge.waiting), (0, 0), "{gauge:?}");
        let held: Vec<_> = (0..size).map(|_| permits.try_acquire().expect("a permit leaked")).collect();
        assert!(permits.try_acquire().is_none(), "a permit too many");
        drop(held);
    }

    fn never_more_than_the_size(size: usize, skip: Option<Skip>) {
        model(move || {
            let permits = Permits::new(size, skip);
            let users = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (permits, users) = (permits.clone(), users.clone());
                    loom::thread::spawn(move || borrow(&permits, &users, size))
                })
                .collect();
            borrow(&permits, &users, size);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            all_back(&permits, size);
        });
    }

    #[test]
    fn never_more_than_one_of_one_and_everybody_gets_his_turn() {
        never_more_than_the_size(1, None);
    }

    #[test]
    fn never_more_than_two_of_two_and_everybody_gets_his_turn() {
        never_more_than_the_size(2, None);
    }

    #[test]
    #[should_panic = "too many"]
    fn without_the_bound_there_are_more() {
        never_more_than_the_size(1, Some(Skip::Bound));
    }

    /// Remembers that it was woken. The models that must fail end in an assertion and not in loom's deadlock, which cannot be
    /// unwound.
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// One waits while another gives back: afterwards the waiter has its permit, or was woken to fetch it.
    fn woken(skip: Option<Skip>) {
        model(move || {
            let permits = Permits::<usize>::new(1, skip);
            let held = permits.try_acquire().unwrap();
            let returning = loom::thread::spawn(move || drop(held.give_back(7)));
            let bell = std::sync::Arc::new(Bell(AtomicUsize::new(0)));
            let waker = Waker::from(bell.clone());
            let mut turn = permits.acquire();
            let at_once = std::pin::Pin::new(&mut turn).poll(&mut Context::from_waker(&waker)).is_ready();
            returning.join().unwrap();
            let rung = bell.0.load(Ordering::SeqCst) > 0;
            assert!(at_once || rung, "somebody sleeps for ever");
        });
    }

    #[test]
    fn who_waits_is_woken() {
        woken(None);
    }

    #[test]
    #[should_panic = "somebody sleeps for ever"]
    fn without_waking_somebody_sleeps_for_ever() {
        woken(Some(Skip::Wake));
    }

    /// A waiter is cancelled while its turn comes; another one waits behind it.
    fn cancelled(broken_connection: bool) {
        model(move || {
            let permits = Permits::new(1, None);
            let mut held = permits.try_acquire().unwrap();
            let mut first = permits.acquire();
            assert!(!poll_once(&mut first));
            let cancelling = loom::thread::spawn(move || drop(first));
            let waiting = {
                let permits = permits.clone();
                loom::thread::spawn(move || {
                    let mut permit = block_on(permits.acquire()).unwrap();
                    let connection = permit.take().unwrap_or(8);
                    assert!(permit.give_back(connection).is_ok());
                })
            };
            match broken_connection {
                true => drop(held),
                false => {
                    let connection = held.take().unwrap_or(7);
                    assert!(held.give_back(connection).is_ok());
                }
            }
            cancelling.join().unwrap();
            waiting.join().unwrap();
            all_back(&permits, 1);
        });
    }

    #[test]
    fn a_cancelled_waiter_hands_on_the_connection_that_it_was_given() {
        cancelled(false);
    }

    #[test]
    fn a_cancelled_waiter_hands_on_the_leave_to_dial_that_it_was_given() {
        cancelled(true);
    }

    /// A waiter that is polled once or twice and then dropped, wherever its turn comes in between.
    fn polled_and_dropped(skip: Option<Skip>) {
        model(move || {
            let permits = Permits::<usize>::new(1, skip);
            let held = permits.try_acquire().unwrap();
            let waiting = {
                let permits = permits.clone();
                loom::thread::spawn(move || {
                    let mut turn = permits.acquire();
                    let _ = poll_once(&mut turn) || poll_once(&mut turn);
                })
            };
            assert!(held.give_back(7).is_ok());
            waiting.join().unwrap();
            all_back(&permits, 1);
        });
    }

    #[test]
    fn a_waiter_that_is_polled_again_and_dropped_leaks_nothing() {
        polled_and_dropped(None);
    }

    #[test]
    #[should_panic = "in_use: 1"]
    fn without_passing_on_a_permit_leaks() {
        polled_and_dropped(Some(Skip::PassOn));
    }

    /// Two wait in a known order, and the one permit comes back: it goes to the first.
    fn in_order(skip: Option<Skip>) {
        model(move || {
            let permits = Permits::<usize>::new(1, skip);
            let held = permits.try_acquire().unwrap();
            let (mut first, mut second) = (permits.acquire(), permits.acquire());
            assert!(!poll_once(&mut first) && !poll_once(&mut second));
            let returning = loom::thread::spawn(move || drop(held.give_back(7)));
            // Somebody who comes along at this moment gets nothing before them.
            let passed = permits.try_acquire().is_some();
            returning.join().unwrap();
            let came_first = poll_once(&mut first);
            assert!(came_first && !passed, "somebody was passed over");
        });
    }

    #[test]
    fn who_came_first_is_served_first() {
        in_order(None);
    }

    #[test]
    #[should_panic = "somebody was passed over"]
    fn without_the_order_somebody_is_passed_over() {
        in_order(Some(Skip::Order));
    }

    /// Closing while one holds and one waits: the waiter is served or refused, and the close sees the last one leave.
    #[test]
    fn closing_refuses_or_serves_each_waiter_and_waits_for_the_last_permit() {
        model(|| {
            let permits = Permits::<usize>::new(1, None);
            let held = permits.try_acquire().unwrap();
            let waiting = {
                let permits = permits.clone();
                loom::thread::spawn(move || {
                    if let Ok(permit) = block_on(permits.acquire())
                        && let Err((permit, connection)) = permit.give_back(8)
                    {
                        drop((connection, permit));
                    }
                })
            };
            let closing = {
                let permits = permits.clone();
                loom::thread::spawn(move || {
                    permits.close();
                    block_on(permits.drained());
                    assert_eq!(permits.gauge().in_use, 0);
                })
            };
            drop(held.give_back(7));
            waiting.join().unwrap();
            closing.join().unwrap();
            assert!(permits.try_acquire().is_none(), "a closed pool lends nothing");
            assert_eq!(permits.gauge().idle, 0, "a closed pool keeps nothing");
        });
    }

    /// The sweeper takes an idle connection out to close it: meanwhile its place is taken.
    #[test]
    fn what_the_sweeper_closes_still_counts() {
        model(|| {
            let permits = Permits::<usize>::new(1, None);
            let users = Arc::new(AtomicUsize::new(0));
            borrow(&permits, &users, 1);
            let sweeping = {
                let (permits, users) = (permits.clone(), users.clone());
                loom::thread::spawn(move || {
                    let Some(permit) = permits.take_idle(|_| true) else { return };
                    assert_eq!(users.fetch_add(1, Ordering::SeqCst), 0);
                    users.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                })
            };
            borrow(&permits, &users, 1);
            sweeping.join().unwrap();
            all_back(&permits, 1);
        });
    }
}
