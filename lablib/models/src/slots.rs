//! The word of `identity::snowflake`, through every interleaving and every value that a relaxed load may see.
//!
//! `lablib`'s own tests run each order of the operations one after the other; what they leave out is that a load may be old.

#[path = "../../identity/snowflake/src/slots.rs"]
#[allow(dead_code)]
mod core;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering};

    use super::core::{Cell64, Held, Slots, Word};

    fn model(body: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(body);
    }

    /// Two threads take two slots each, one of them a millisecond behind; `slots` makes the core.
    fn unique<W: Cell64 + Send + Sync + 'static>(slots: fn() -> Slots<W>) {
        model(move || {
            let slots = Arc::new(slots());
            let other = {
                let slots = slots.clone();
                loom::thread::spawn(move || [slots.take(|| Some(5)), slots.take(|| Some(6))])
            };
            let mine = [slots.take(|| Some(5)), slots.take(|| Some(5))];
            let theirs = other.join().unwrap();
            for pair in [&mine, &theirs] {
                if let [Ok(first), Ok(second)] = pair {
                    assert!(first < second, "not in order");
                }
            }
            let taken: Vec<u64> = mine.into_iter().chain(theirs).flatten().collect();
            let distinct: BTreeSet<u64> = taken.iter().copied().collect();
            assert_eq!(taken.len(), distinct.len(), "a slot was taken twice");
            assert!(taken.len() >= 2, "only a clock that is behind the word is refused");
        });
    }

    #[test]
    fn no_slot_is_taken_twice() {
        unique(|| Slots::<Word>::new(2, 0, 100));
    }

    /// A word that is read, compared and written in three steps.
    struct Torn(AtomicU64);

    impl Cell64 for Torn {
        fn load(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn exchange(&self, current: u64, new: u64) -> Result<u64, u64> {
            let found = self.0.load(Ordering::SeqCst);
            if found != current {
                return Err(found);
            }
            self.0.store(new, Ordering::SeqCst);
            Ok(current)
        }

        fn swap(&self, new: u64) -> u64 {
            self.0.swap(new, Ordering::SeqCst)
        }

        fn raise(&self, to: u64) {
            self.0.fetch_max(to, Ordering::SeqCst);
        }
    }

    #[test]
    #[should_panic = "a slot was taken twice"]
    fn an_exchange_in_steps_is_noticed() {
        unique(|| Slots::with(2, 0, Torn(AtomicU64::new(100)), Torn(AtomicU64::new(0))));
    }

    #[test]
    fn who_took_a_slot_before_the_close_is_before_its_end_and_nobody_takes_one_after() {
        model(|| {
            let slots = Arc::new(Slots::<Word>::new(1, 0, 100));
            let other = {
                let slots = slots.clone();
                loom::thread::spawn(move || slots.take(|| Some(7)))
            };
            let end = slots.close();
            assert_eq!(slots.take(|| Some(8)), Err(Held::Closed), "a slot after the close");
            match other.join().unwrap() {
                Ok(slot) => assert!(slot >> 1 < end, "a slot of {} after an end of {end}", slot >> 1),
                Err(refused) => assert_eq!(refused, Held::Closed),
            }
        });
    }

    #[test]
    fn no_slot_is_beyond_the_term_however_old_its_view_of_it() {
        model(|| {
            let slots = Arc::new(Slots::<Word>::new(1, 0, 5));
            let other = {
                let slots = slots.clone();
                loom::thread::spawn(move || slots.extend(6))
            };
            for now in [5, 6] {
                match slots.take(|| Some(now)) {
                    Ok(slot) => assert!(slot >> 1 < 6),
                    Err(Held::Beyond { now, until }) => assert!(now >= until),
                    Err(other) => panic!("{other:?}"),
                }
            }
            other.join().unwrap();
            assert!(slots.take(|| Some(5)).is_ok(), "what was allowed stays allowed");
        });
    }
}
