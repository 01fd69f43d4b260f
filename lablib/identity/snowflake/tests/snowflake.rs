//! The guarantees of `identity::snowflake`: on virtual clocks, from many threads, and with leases from real Redis servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lab::clock::{Clock, SystemClock, VirtualClock};
use lab::link::{Direction, Link};
use lab::service::{self, Redis};
use lab::{Crowd, Experiment, Frame};
use proptest::prelude::*;
use snowflake::experiment::*;
use snowflake::rivals::Rival;
use snowflake::*;

const LAYOUT: Layout = Layout::WORKERS_1024;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn on(clock: &VirtualClock) -> Snowflake<VirtualClock> {
    Snowflake::on(clock.clone(), LAYOUT, 5).unwrap()
}

fn sum(frame: &Frame, column: &str) -> f64 {
    frame.samples(column).values().iter().sum()
}

fn waiting_clock() -> VirtualClock {
    let clock = VirtualClock::new();
    clock.auto_advance();
    clock
}

// --- layouts -------------------------------------------------------------------------------------------------------

fn any_layout() -> impl Strategy<Value = Layout> {
    (1_u32..=63, 0_u32..=62, 0_u32..=62, 0_u64..4_000_000_000_000)
        .prop_filter("63 bits", |(time, worker, sequence, _)| time + worker + sequence <= 63)
        .prop_filter_map("in time", |(time, worker, sequence, epoch)| Layout::new(epoch, time, worker, sequence).ok())
}

proptest! {
    #[test]
    fn parts_come_back_from_any_layout(layout in any_layout(), a: u64, b: u64, c: u64) {
        let parts = (a % layout.timestamps(), b % layout.workers(), c % layout.ids_per_ms());
        let id = layout.encode(parts.0, parts.1, parts.2).unwrap();
        prop_assert!(i64::try_from(id).is_ok());
        let back = layout.decode(id).unwrap();
        prop_assert_eq!((back.timestamp, back.worker, back.sequence), parts);
        prop_assert_eq!(back.time().0, layout.epoch_ms() + parts.0);
        let moment = back.time().0;
        prop_assert!((layout.first_id_of(moment).unwrap()..=layout.last_id_of(moment).unwrap()).contains(&id));
    }

    #[test]
    fn later_parts_are_larger_ids(layout in any_layout(), a: u64, b: u64, worker: u64, other: u64, s: u64, t: u64) {
        let at = |time: u64, worker: u64, sequence: u64| {
            layout.encode(time % layout.timestamps(), worker % layout.workers(), sequence % layout.ids_per_ms()).unwrap()
        };
        let (first, second) = (a % layout.timestamps(), b % layout.timestamps());
        prop_assume!(first != second);
        prop_assert_eq!(first < second, at(a, worker, s) < at(b, other, t));
    }

    #[test]
    fn a_generator_of_any_layout_makes_what_the_layout_says(
        bits in (20_u32..=50, 0_u32..=10, 0_u32..=13).prop_filter("63", |bits| bits.0 + bits.1 + bits.2 <= 63),
        worker: u64, start in 1_u64..900_000, count in 1_u64..300,
    ) {
        let layout = Layout::new(1_600_000_000_000, bits.0, bits.1, bits.2).unwrap();
        let worker = worker % layout.workers();
        let clock = VirtualClock::starting_at(ms(layout.epoch_ms() + start));
        clock.auto_advance();
        let ids = Snowflake::on(clock.clone(), layout, worker).unwrap();
        for n in 0..count {
            let parts = layout.decode(ids.next_id().unwrap()).unwrap();
            // Nothing is left out, and nothing made twice: the ids are all slots, one after the other.
            prop_assert_eq!((parts.timestamp - start) * layout.ids_per_ms() + parts.sequence, n);
            prop_assert_eq!(parts.worker, worker);
        }
    }

    #[test]
    fn whatever_the_clock_does_ids_rise_and_are_never_ahead_of_it(steps in proptest::collection::vec((any::<u8>(), 0_u64..3_000), 1..200)) {
        let clock = waiting_clock();
        let layout = Layout::new(1_600_000_000_000, 41, 4, 2).unwrap();
        let ids = Snowflake::on(clock.clone(), layout, 3).unwrap();
        let mut last = 0;
        for (step, size) in steps {
            match step % 8 {
                0 => { clock.step_back(Duration::from_micros(size * 100)); }
                1 => { clock.step_forward(Duration::from_micros(size * 100)); }
                2 => { clock.advance(Duration::from_micros(size)); }
                _ => if let Ok(id) = ids.next_id() {
                    prop_assert!(id > last);
                    prop_assert!(layout.decode(id).unwrap().time().0 <= clock.now_ms());
                    last = id;
                }
            }
        }
    }
}

#[test]
fn a_worker_that_the_layout_has_no_number_for_is_refused() {
    assert!(Snowflake::new(Layout::WORKERS_32, 31).is_ok());
    let error = Snowflake::new(Layout::WORKERS_32, 32).unwrap_err().to_string();
    assert!(error.contains("no worker 32") && error.contains("last one is 31"), "{error}");
    let one = Layout::new(0, 50, 0, 12).unwrap();
    assert!(Snowflake::new(one, 0).is_ok() && Snowflake::new(one, 1).is_err());
}

#[test]
fn a_layout_that_was_written_down_is_checked_when_it_is_read() {
    let text = serde_json::to_string(&LAYOUT).unwrap();
    assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), LAYOUT);
    assert!(serde_json::from_str::<Layout>(r#"{"epoch_ms":0,"bits":[41,12,12]}"#).is_err());
}

#[test]
fn moments_read_as_the_calendar_has_them() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_577_836_800_000, "2020-01-01T00:00:00.000Z"),
        (1_672_531_200_000, "2023-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
    ] {
        assert_eq!(Moment(ms).to_string(), text);
    }
}

#[test]
fn the_two_layouts_are_the_prototypes() {
    assert_eq!(Layout::WORKERS_32.encode(1, 1, 1).unwrap(), (1 << 17) | (1 << 12) | 1);
    assert_eq!(Layout::WORKERS_1024.encode(1, 1, 1).unwrap(), (1 << 22) | (1 << 12) | 1);
    assert_eq!(Layout::WORKERS_32.end().to_string(), "2092-09-06T15:47:35.552Z");
    assert_eq!(Layout::WORKERS_1024.end().to_string(), "2089-09-06T15:47:35.552Z");
}

#[test]
fn bad_layouts_and_parts_are_refused_in_a_sentence() {
    for (layout, says) in [
        (Layout::new(0, 42, 10, 12), "42 + 10 + 12 bits are 64"),
        (Layout::new(0, 0, 10, 12), "no bit for the time"),
        (Layout::new(0, u32::MAX, u32::MAX, 12), "bits are"),
        (Layout::new(u64::MAX, 41, 10, 12), "ends beyond"),
        (Layout::new(i64::MAX as u64, 1, 0, 0), "ends beyond"),
    ] {
        let error = layout.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let layout = Layout::WORKERS_32;
    for (parts, says) in [((1 << 41, 0, 0), "timestamp"), ((0, 32, 0), "worker 32"), ((0, 0, 4_096), "sequence 4096")] {
        let error = layout.encode(parts.0, parts.1, parts.2).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    assert!(layout.decode(1 << 58).unwrap_err().to_string().contains("more than the 58 bits"));
    assert!(layout.first_id_of(1_672_531_199_999).unwrap_err().to_string().contains("is before"));
    assert!(layout.first_id_of(layout.end().0).is_err());
    assert!(layout.last_id_of(layout.end().0 - 1).is_ok());
}

// --- the generator -------------------------------------------------------------------------------------------------

#[test]
fn a_virtual_millisecond_holds_exactly_4096_and_a_hundred_million_are_all_different() {
    let many = virtual_clock(2_000_000, 4).unwrap();
    let (whole, skipped) = (many.each.filter("kind", "whole"), many.each.filter("kind", "skipped"));
    assert_eq!((many.made, many.duplicates, many.falls, skipped.height()), (2_000_000, 0, 0, 0));
    assert_eq!(whole.height(), 2_000_000 / 4_096 - 1);
    assert!(whole.samples("ids").values().iter().all(|&ids| ids == 4_096.0));
}

#[test]
fn on_the_machines_clock_no_millisecond_holds_more_than_4096() {
    for threads in [1, 4] {
        let real = real_clock(Maker::Ours, threads, ms(300)).unwrap();
        assert_eq!((real.duplicates, real.falls), (0, 0));
        assert!(real.each.samples("ids").max() <= 4_096.0);
        assert!(real.made > 10_000, "{} ids in 300 ms", real.made);
        assert_eq!(sum(&real.each, "ids"), real.made as f64);
    }
}

#[test]
fn a_millisecond_that_holds_too_many_is_counted_as_it_is() {
    // The one that never looks at the millisecond fills it several times over, and each time with the same ids.
    let real = real_clock(Maker::Unbound, 1, ms(300)).unwrap();
    let most = real.each.samples("ids").max();
    assert!(most > 4_096.0 && real.duplicates > 0, "{most} in one, {} made twice", real.duplicates);
    assert_eq!(sum(&real.each, "ids"), real.made as f64);
    // The one that forgets puts one too many into the millisecond that it has waited for.
    let real = real_clock(Maker::Forgetful, 1, ms(300)).unwrap();
    assert!(real.duplicates > 0, "{real:?}");
}

#[test]
fn ids_rise_across_threads_that_hand_them_on() {
    let ids = Snowflake::new(LAYOUT, 1).unwrap();
    let last = Mutex::new(0);
    let handed_on = Crowd::of(4).times(5_000).run(|_, _| {
        let mut last = last.lock().unwrap();
        let id = ids.next_id()?;
        assert!(id > *last);
        *last = id;
        Ok(())
    });
    assert_eq!(handed_on.unwrap().frame.height(), 20_000);
}

#[test]
fn a_full_millisecond_makes_the_caller_wait_until_the_next_one_and_no_longer() {
    let clock = VirtualClock::new();
    clock.advance(Duration::from_micros(300));
    let ids = on(&clock);
    for sequence in 0..4_096 {
        assert_eq!(LAYOUT.decode(ids.next_id().unwrap()).unwrap().sequence, sequence);
    }
    assert_eq!(ids.try_next_id().unwrap(), None);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ids.next_id().unwrap());
        assert!(clock.wait_for_sleepers(1));
        clock.advance(Duration::from_nanos(699_999));
        assert!(!waiting.is_finished());
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_nanos(1));
        let parts = LAYOUT.decode(waiting.join().unwrap()).unwrap();
        assert_eq!((parts.time().0, parts.sequence), (clock.now_ms(), 0));
    });
}

#[test]
fn a_caller_waits_for_full_milliseconds_and_no_longer() {
    let clock = waiting_clock();
    let ids = on(&clock);
    let all: HashSet<u64> = (0..10_000).map(|_| ids.next_id().unwrap()).collect();
    assert_eq!(all.len(), 10_000);
    assert_eq!(clock.monotonic(), ms(2));
}

#[test]
fn a_small_step_back_is_waited_for_and_a_large_one_is_an_error() {
    let clock = waiting_clock();
    let ids = on(&clock);
    let before = ids.next_id().unwrap();
    clock.step_back(ms(100));
    let after = ids.next_id().unwrap();
    assert!(after > before);
    assert_eq!(clock.monotonic(), ms(100), "it waited for exactly that");
    clock.step_back(ms(101));
    let error = ids.next_id().unwrap_err().to_string();
    assert!(error.contains("stepped back by 101ms") && error.contains("worker 5"), "{error}");
    assert!(ids.try_next_id().is_err());
    clock.advance(ms(1));
    assert!(ids.next_id().unwrap() > after, "and it recovers by itself");
    let strict = Snowflake::on(clock.clone(), LAYOUT, 6).unwrap().waiting_for_steps_up_to(Duration::ZERO);
    let full: Vec<u64> = (0..10_000).map(|_| strict.next_id().unwrap()).collect();
    assert!(full.is_sorted(), "a full millisecond is no step back");
    clock.step_back(ms(1));
    assert!(strict.next_id().is_err());
}

#[test]
fn a_clock_that_steps_back_during_the_wait_or_stands_still_does_not_hold_a_caller_for_ever() {
    let clock = VirtualClock::new();
    let ids = on(&clock);
    while ids.try_next_id().unwrap().is_some() {}
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ids.next_id());
        assert!(clock.wait_for_sleepers(1));
        clock.step_back(Duration::from_secs(3_600)).advance(ms(1));
        let error = waiting.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("stepped back by 3599.999s"), "{error}");
    });
    let clock = waiting_clock();
    let ids = on(&clock);
    clock.freeze_wall();
    let error = (0..=4_096).find_map(|_| ids.next_id().err()).unwrap().to_string();
    assert!(error.contains("has not moved on"), "{error}");
    clock.thaw_wall();
    assert!(ids.next_id().is_ok());
}

#[test]
fn times_that_no_timestamp_stands_for_are_errors_and_cost_nothing() {
    let clock = VirtualClock::starting_at(ms(LAYOUT.epoch_ms() - 1));
    clock.auto_advance();
    let ids = on(&clock);
    let error = ids.next_id().unwrap_err().to_string();
    assert!(error.contains("2019-12-31T23:59:59.999Z") && error.contains("before the epoch"), "{error}");
    clock.advance(ms(1));
    assert_eq!(LAYOUT.decode(ids.next_id().unwrap()).unwrap().timestamp, 0);
    clock.set(ms(LAYOUT.end().0 - 1));
    for sequence in 0..4_096 {
        let parts = LAYOUT.decode(ids.next_id().unwrap()).unwrap();
        assert_eq!((parts.timestamp, parts.sequence), (LAYOUT.timestamps() - 1, sequence), "the last millisecond");
    }
    for _ in 0..3 {
        let error = ids.next_id().unwrap_err().to_string();
        assert!(error.contains("used up") && error.contains("2089-09-06"), "{error}");
    }
    clock.set(Duration::from_secs(1 << 40));
    assert!(ids.next_id().unwrap_err().to_string().contains("used up"));
}

#[test]
fn where_no_id_can_be_had_none_is_made_and_the_caller_is_told_why() {
    let told = refusals().unwrap();
    // A clock that stands still lets its millisecond be filled: one id of it had been made before.
    assert_eq!(told.samples("made").values(), [0.0, 0.0, 0.0, 4_095.0], "{told:?}");
    assert_eq!(told.samples("says why").values(), [1.0; 4], "{told:?}");
}

#[test]
fn a_clock_that_steps_back_a_little_makes_nobody_wait_longer_than_the_step() {
    let stepped = small_step(ms(20)).unwrap();
    assert_eq!((sum(&stepped, "fell"), sum(&stepped, "ahead")), (0.0, 0.0));
    assert!(stepped.height() > 300 && (19.0..=21.0).contains(&stepped.samples("waited").max()), "{stepped:?}");
}

// --- the prototypes ------------------------------------------------------------------------------------------------

#[test]
fn the_prototypes_make_the_published_number_of_duplicates_and_ours_none() {
    let counted = |maker, calls, rate| duplicates(&[maker], calls, &[rate]).unwrap();
    assert_eq!(counted(Maker::Forgetful, 100_000, 5_000).number("duplicates"), 24.0);
    assert_eq!(counted(Maker::Unbound, 80_000, 8_000).number("duplicates"), 39_040.0);
    for (calls, rate) in [(100_000, 5_000), (80_000, 8_000)] {
        let ours = counted(Maker::Ours, calls, rate);
        let counts = ["made", "duplicates", "falls"].map(|column| ours.number(column));
        assert_eq!(counts, [calls as f64, 0.0, 0.0]);
    }
    let seldom = counted(Maker::Forgetful, 20_000, 4_000);
    assert_eq!(seldom.number("duplicates"), 0.0, "it takes a full millisecond");
}

// --- the rivals ---------------------------------------------------------------------------------------------------

#[test]
fn everybody_in_the_race_makes_as_many_ids() {
    let costs = cost(5).unwrap();
    assert_eq!(costs.arms(), Rival::ALL);
    for rival in Rival::ALL {
        assert_eq!(costs.samples(&rival, "ids").values(), [2_000.0; 5]);
    }
    assert_eq!(ours_to_best(&costs).len(), 5);
}

// --- order ---------------------------------------------------------------------------------------------------------

#[test]
fn ids_of_skewed_workers_are_out_of_order_as_often_as_arithmetic_says_and_never_farther_than_the_skew() {
    let lab = Experiment::rehearsal("order");
    for (skew, per_ms) in [(0, 0.5), (3, 0.2), (25, 1.0)] {
        let spec = OrderSpec { ids: 4_000, per_ms, workers: 8, draws: 12 };
        let order = inversions(&lab, spec, &[skew]).unwrap();
        let (inverted, expected) = (order.samples("inverted"), predicted_inversions(per_ms, 8, skew));
        let allowed = 5.0 * inverted.standard_error();
        assert_eq!(inverted.len(), 12);
        assert!((inverted.mean() - expected).abs() < allowed, "{inverted} of {expected} ± {allowed}");
        let farthest = order.samples("farthest").max();
        assert!(farthest > 0.0 && farthest <= (2 * skew + 1) as f64, "{farthest}");
        assert_eq!(sum(&order, "of one worker"), 0.0);
    }
}

#[test]
fn the_prediction_of_inversions_has_the_limits_that_it_must_have() {
    // Clocks that agree, few ids: only those of one millisecond, half of them.
    let seldom = predicted_inversions(0.001, 1_000_000, 0);
    assert!((seldom - 100.0 * 0.001 / 4.0).abs() < 1e-4, "{seldom}");
    // Clocks that are hours apart: a coin.
    assert!((predicted_inversions(1.0, 1_000_000, 100_000) - 50.0).abs() < 0.1);
    assert_eq!(predicted_inversions(1.0, 1, 50), 0.0);
    let rising: Vec<f64> = [0, 1, 5, 20, 100].map(|skew| predicted_inversions(0.5, 8, skew)).to_vec();
    assert!(rising.is_sorted(), "{rising:?}");
}

// --- leases --------------------------------------------------------------------------------------------------------

const ONE: fn() -> Layout = || Layout::new(1_672_531_200_000, 41, 0, 12).unwrap();

/// A lease of so many milliseconds, on clocks that are as far off as they like.
fn terms(length: u64) -> Terms {
    Terms { length: ms(length), max_skew: Duration::from_secs(200 * 86_400), trust_disk: false }
}

fn registry_on(redis: &Redis, layout: Layout, terms: Terms) -> Registry {
    let name = format!("test-{:016x}", rand::random::<u64>());
    Registry::new(redis.url(), &name, layout, terms).unwrap()
}

/// One that has been founded long enough ago. A virtual clock cannot wait for that: it would leave its Redis's time behind.
fn old_registry(redis: &Redis, layout: Layout, terms: Terms) -> Registry {
    let registry = registry_on(redis, layout, terms);
    let error = registry.try_take().unwrap_err().to_string();
    assert!(error.contains("may have forgotten leases"), "{error}");
    redis.ask(&format!("HSET snowflake:{{{}}}:registry opens 0", registry.name())).unwrap();
    registry
}

/// A virtual clock that starts now, because a lease is refused to a clock that is far off.
fn clock_from_now() -> VirtualClock {
    let clock = VirtualClock::starting_at(SystemClock.now());
    clock.auto_advance();
    clock
}

#[test]
fn no_id_lies_outside_of_its_lease_and_the_next_interval_begins_after_the_last_one() {
    let redis = service::redis();
    let registry = old_registry(&redis, ONE(), terms(100));
    let clock = clock_from_now();
    let first = registry.take_on(clock.clone()).unwrap();
    let interval = first.interval();
    assert_eq!(interval.until - interval.from, 100);
    let mut ids = Vec::new();
    let error = loop {
        match first.next_id() {
            Ok(id) => ids.push(id),
            Err(error) => break error.to_string(),
        }
        clock.advance(Duration::from_micros(900));
    };
    assert!(error.contains("the lease ended at") && error.contains("renew"), "{error}");
    assert!(ids.len() > 100 && ids.iter().all(|&id| interval.holds(registry.layout(), id).unwrap()));
    // Nobody had it since: the lease can be renewed, and goes on where it ended.
    clock.advance(ms(5_000));
    first.renew().unwrap();
    assert_eq!(first.interval().from, interval.from);
    assert_eq!(first.interval().until, clock.now_ms() + 100);
    ids.push(first.next_id().unwrap());
    clock.advance(ms(100));
    assert!(first.next_id().is_err());
    // Now somebody else takes it. The first one is out for good.
    let second = registry.take_on(clock.clone()).unwrap();
    assert!(second.interval().from >= first.interval().until);
    assert!(!second.interval().overlaps(&first.interval()));
    let error = first.renew().unwrap_err().to_string();
    assert!(error.contains("leased to somebody else"), "{error}");
    let error = first.next_id().unwrap_err().to_string();
    assert!(error.contains("lease ended") && error.contains("take another lease"), "{error}");
    assert!(second.next_id().unwrap() > *ids.iter().max().unwrap());
    assert!(first.release().is_err(), "it is not its own to give back");
    assert!(second.next_id().is_ok());
}

#[test]
fn a_pause_between_the_look_at_the_clock_and_the_id_changes_nothing() {
    // The generator compares the timestamp that it puts into the id; when it is handed over does not matter.
    let redis = service::redis();
    let registry = old_registry(&redis, ONE(), terms(50));
    let clock = clock_from_now();
    let first = registry.take_on(clock.clone()).unwrap();
    let held = first.next_id().unwrap();
    clock.advance(ms(500));
    let second = registry.take_on(clock.clone()).unwrap();
    assert!(first.interval().holds(ONE(), held).unwrap() && !second.interval().holds(ONE(), held).unwrap());
    assert!(second.next_id().unwrap() > held);
}

#[test]
fn every_worker_is_leased_once_and_then_there_is_an_error_that_says_until_when() {
    let redis = service::redis();
    let registry = old_registry(&redis, Layout::WORKERS_32, terms(1_000));
    let clock = clock_from_now();
    let leases: Vec<Lease<VirtualClock>> = (0..32).map(|_| registry.take_on(clock.clone()).unwrap()).collect();
    let workers: HashSet<u64> = leases.iter().map(Lease::worker).collect();
    assert_eq!(workers.len(), 32);
    let error = registry.take_on(clock.clone()).unwrap_err().to_string();
    assert!(error.contains("all worker ids are taken (32 of 32)") && error.contains("the first is free at"), "{error}");
    clock.advance(ms(999));
    assert!(registry.take_on(clock.clone()).is_err());
    leases[0].renew().unwrap();
    clock.advance(ms(1));
    let next = registry.take_on(clock.clone()).unwrap();
    assert_ne!(next.worker(), leases[0].worker(), "that one was renewed");
}

#[test]
fn what_is_given_back_is_free_at_once_and_its_last_millisecond_is_not_used_again() {
    let redis = service::redis();
    let registry = old_registry(&redis, ONE(), terms(60_000));
    let clock = clock_from_now();
    let mut intervals = Vec::new();
    let mut all = HashSet::new();
    for _ in 0..20 {
        let lease = registry.take_on(clock.clone()).unwrap();
        let ids = lease.generator();
        let from = lease.interval().from;
        for _ in 0..3 {
            assert!(all.insert(lease.next_id().unwrap()));
        }
        lease.release().unwrap();
        assert!(ids.next_id().unwrap_err().to_string().contains("given back"), "a generator that was kept");
        intervals.push(from);
        clock.advance(ms(1));
    }
    assert!(intervals.is_sorted_by(|a, b| a < b), "{intervals:?}");
}

/// The registry, by way of a link.
fn through(link: &Link, redis: &Redis, registry: &Registry) -> Registry {
    let url = redis.url().replace(redis.address(), link.address());
    Registry::new(&url, registry.name(), registry.layout(), registry.terms()).unwrap()
}

#[test]
fn a_release_whose_answer_was_lost_is_told_that_it_succeeded() {
    let redis = service::redis();
    let link = Link::to(redis.address()).unwrap();
    let registry = old_registry(&redis, ONE(), terms(60_000));
    let holder = format!("HEXISTS snowflake:{{{}}}:holder 0", registry.name());
    for (renewed, taken) in [(false, false), (true, false), (true, true)] {
        let lease = loop {
            // The last one's may end in this very millisecond.
            match through(&link, &redis, &registry).take_on(SystemClock) {
                Ok(lease) => break lease,
                Err(error) => assert!(error.to_string().contains("are taken"), "{error}"),
            }
        };
        lease.next_id().unwrap();
        if renewed {
            lease.renew().unwrap();
        }
        link.delay_toward(Direction::ToClient, ms(400));
        std::thread::scope(|scope| {
            let giving = scope.spawn(|| lease.release());
            while redis.ask(&holder).unwrap() == "1" {
                std::thread::sleep(ms(1));
            }
            // Redis has done it. The answer is on its way, and will never come.
            let next = taken.then(|| {
                SystemClock.sleep(ms(2));
                registry.take_on(SystemClock).unwrap()
            });
            let connections = link.stats().total;
            link.cut_connections().heal();
            giving.join().unwrap().unwrap();
            assert_eq!(link.stats().total, connections + 1, "it asked again");
            if let Some(next) = next {
                next.next_id().unwrap();
                next.renew().unwrap();
                next.release().unwrap();
            }
        });
    }
    // Whoever has really lost it is told so, once and twice.
    let clock = clock_from_now();
    clock.advance(ms(10));
    let lost = registry.take_on(clock.clone()).unwrap();
    clock.advance(ms(60_001));
    let next = registry.take_on(clock.clone()).unwrap();
    assert!(lost.release().unwrap_err().to_string().contains("leased to somebody else"));
    next.release().unwrap();
}

#[test]
fn a_clock_that_is_far_off_gets_no_lease_and_one_that_jumps_makes_no_id() {
    let redis = service::redis();
    let strict = Terms { length: ms(1_000), max_skew: ms(500), trust_disk: false };
    let registry = registry_on(&redis, ONE(), strict);
    for (offset, says) in [(-60_000, "-"), (60_000, "ahead of its Redis's")] {
        let clock = VirtualClock::starting_at(SystemClock.now()).skewed(offset);
        let error = registry.take_on(clock).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("allowed"), "{error}");
    }
    let founding = registry.take_on(clock_from_now()).unwrap_err().to_string();
    assert!(founding.contains("ahead of its Redis's"), "a virtual clock that jumped over the wait: {founding}");
    let lease = registry.take().unwrap();
    drop(lease);
    let registry = old_registry(&redis, ONE(), terms(1_000));
    let clock = clock_from_now();
    let lease = registry.take_on(clock.clone()).unwrap();
    lease.next_id().unwrap();
    clock.step_forward(Duration::from_secs(3_600));
    assert!(lease.next_id().unwrap_err().to_string().contains("lease ended"));
    clock.step_back(Duration::from_secs(3_600));
    assert!(lease.next_id().is_ok());
    clock.step_back(Duration::from_secs(3_600));
    assert!(lease.next_id().unwrap_err().to_string().contains("stepped back"));
}

#[test]
fn members_that_agree_on_something_else_are_refused() {
    let redis = Redis::durable().start().unwrap();
    let registry = old_registry(&redis, ONE(), terms(100));
    drop(registry.take_on(clock_from_now()).unwrap());
    for other in [
        Registry::new(redis.url(), registry.name(), ONE(), terms(200)).unwrap(),
        Registry::new(redis.url(), registry.name(), LAYOUT, terms(100)).unwrap(),
        // It would vouch for a restart to those who do not trust the disk.
        Registry::new(redis.url(), registry.name(), ONE(), Terms { trust_disk: true, ..terms(100) }).unwrap(),
    ] {
        let error = other.take_on(clock_from_now()).unwrap_err().to_string();
        assert!(error.contains("was founded for"), "{error}");
    }
    for bad in [Terms { length: Duration::ZERO, ..terms(1) }, Terms { length: Duration::MAX, ..terms(1) }] {
        assert!(Registry::new(redis.url(), "bad", ONE(), bad).is_err());
    }
    assert!(Registry::new(redis.url(), "", ONE(), terms(1)).is_err());
    assert!(Registry::new("not a url", "name", ONE(), terms(1)).is_err());
}

#[test]
fn a_lease_in_the_background_outlives_its_length_many_times() {
    let redis = service::redis();
    let short = Terms { length: ms(800), max_skew: ms(50), trust_disk: false };
    let registry = registry_on(&redis, ONE(), short);
    let lease = registry.take().unwrap();
    let began = Instant::now();
    while began.elapsed() < ms(2_500) {
        let id = lease.next_id().unwrap();
        assert!(lease.interval().holds(ONE(), id).unwrap());
        std::thread::sleep(ms(2));
    }
    assert!(lease.renewals() >= 3, "{}", lease.renewals());
    let from = lease.interval().from;
    lease.release().unwrap();
    assert!(registry.take().unwrap().interval().from > from);
}

#[test]
fn without_redis_a_holder_goes_on_to_the_end_of_its_lease_and_says_why_it_stops() {
    let redis = Redis::durable().start().unwrap();
    let short = Terms { length: ms(500), max_skew: ms(50), trust_disk: true };
    let registry = registry_on(&redis, ONE(), short);
    let lease = registry.take().unwrap();
    redis.kill();
    let mut made = 0;
    let error = loop {
        match lease.next_id() {
            Ok(id) => assert!(lease.interval().holds(ONE(), id).unwrap()),
            Err(error) => break error.to_string(),
        }
        made += 1;
        std::thread::sleep(ms(1));
    };
    assert!(made > 20, "{made}");
    assert!(error.contains("the lease ended") && error.contains("cannot be asked"), "{error}");
    let error = registry.take().unwrap_err().to_string();
    assert!(error.contains("its Redis cannot be asked"), "{error}");
    redis.restart();
    let began = Instant::now();
    while lease.next_id().is_err() {
        assert!(began.elapsed() < Duration::from_secs(10), "it is renewed once Redis is back");
        std::thread::sleep(ms(5));
    }
}

#[test]
fn a_disk_is_trusted_only_if_it_is_written_to() {
    for (setting, value) in [("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes"), ("appendonly", "no")] {
        let redis = Redis::durable().with(setting, value).start().unwrap();
        let registry = registry_on(&redis, ONE(), Terms { trust_disk: true, ..terms(100) });
        let error = registry.take_on(clock_from_now()).unwrap_err().to_string();
        assert!(error.contains(&format!("{setting} is \"{value}\"")), "{error}");
    }
}

#[test]
fn a_record_that_was_lost_in_part_is_no_record() {
    let redis = service::redis();
    for part in ["registry", "until", "holder"] {
        let short = Terms { length: ms(150), max_skew: ms(40), trust_disk: false };
        let registry = registry_on(&redis, ONE(), short);
        let lease = registry.take_on(SystemClock).unwrap();
        redis.ask(&format!("DEL snowflake:{{{}}}:{part}", registry.name())).unwrap();
        assert!(lease.renew().is_err(), "{part}");
        let next = loop {
            // Where nothing but the holder's name was lost, the worker is known to be taken.
            match registry.take_on(SystemClock) {
                Ok(next) => break next,
                Err(error) => assert!(part == "holder" && error.to_string().contains("taken"), "{part}: {error}"),
            }
        };
        assert!(next.interval().from >= lease.interval().until, "{part}");
    }
}

#[test]
fn a_snapshot_from_before_the_last_renewal_is_not_believed() {
    let redis = Redis::with("appendonly", "no").start().unwrap();
    let terms = Terms { length: ms(1_000), max_skew: ms(50), trust_disk: false };
    let registry = registry_on(&redis, ONE(), terms);
    let lease = registry.take_on(SystemClock).unwrap();
    let known = lease.interval().until;
    redis.ask("SAVE").unwrap();
    SystemClock.sleep_until(ms(known - 100));
    lease.renew().unwrap();
    redis.kill();
    redis.restart();
    assert_eq!(redis.ask(&format!("ZSCORE snowflake:{{{}}}:until 0", registry.name())).unwrap(), known.to_string());
    SystemClock.sleep_until(ms(known + 1));
    // Redis believes that the worker is free.
    assert!(lease.renew().is_err(), "somebody may have had it since, for all that this Redis knows");
    let next = registry.take_on(SystemClock).unwrap();
    assert!(next.interval().from >= lease.interval().until, "{} after {}", next.interval(), lease.interval());
}

#[test]
fn clocks_that_are_off_by_as_much_as_they_may_are_waited_for() {
    // Redis ahead of the true time, and a holder ahead of Redis; then Redis behind, by as much each time.
    let redis = service::redis();
    let (length, skew) = (300, 200);
    let terms = Terms { length: ms(length), max_skew: ms(skew), trust_disk: false };
    let behind = registry_on(&redis, ONE(), terms);
    let ahead = Registry::new(redis.url(), behind.name(), ONE(), terms).unwrap().with_redis_ahead(ms(2 * skew));
    let holders_clock = || clock_from_now().skewed(3 * skew as i64);
    let founding = ahead.take_on(holders_clock()).unwrap_err().to_string();
    assert!(founding.contains("ahead of its Redis's"), "a virtual clock that jumped over the wait: {founding}");
    redis.ask(&format!("HSET snowflake:{{{}}}:registry opens 0", behind.name())).unwrap();
    let old = ahead.take_on(holders_clock()).unwrap();
    old.next_id().unwrap();
    for part in ["registry", "until", "holder"] {
        redis.ask(&format!("DEL snowflake:{{{}}}:{part}", behind.name())).unwrap();
    }
    let new = behind.take().unwrap();
    assert!(new.interval().from >= old.interval().until, "{} after {}", new.interval(), old.interval());
}

#[test]
fn a_redis_that_took_over_what_another_one_knew_may_have_forgotten() {
    // The primary grants a lease that its replica never hears of, becomes the replica's replica, and then the primary again.
    let [one, two] = [1, 2].map(|_| Redis::with("appendonly", "no").start().unwrap());
    let follow = |who: &Redis, whom: &Redis| {
        let (host, port) = whom.address().rsplit_once(':').unwrap();
        let password = whom.url().split([':', '@']).nth(2).unwrap();
        who.ask(&format!("CONFIG SET masterauth {password}")).unwrap();
        who.ask(&format!("REPLICAOF {host} {port}")).unwrap();
        while !who.ask("INFO replication").unwrap().contains("master_link_status:up") {
            std::thread::sleep(ms(5));
        }
    };
    let registry = registry_on(&one, ONE(), Terms { length: ms(1_500), max_skew: ms(50), trust_disk: false });
    follow(&two, &one);
    registry.take().unwrap().release().unwrap();
    while two.ask(&format!("EXISTS snowflake:{{{}}}:given", registry.name())).unwrap() == "0" {
        std::thread::sleep(ms(5));
    }
    two.ask("REPLICAOF NO ONE").unwrap();
    let lease = registry.take_on(SystemClock).unwrap();
    lease.next_id().unwrap();
    follow(&one, &two);
    one.ask("REPLICAOF NO ONE").unwrap();
    assert!(lease.renew().is_err(), "nobody knows any more who has it");
    let next = registry.take_on(SystemClock).unwrap();
    assert!(next.interval().from >= lease.interval().until, "{} after {}", next.interval(), lease.interval());
}

#[test]
fn clocks_that_were_wrong_together_repeat_ids_only_where_redis_forgets_and_only_beyond_the_skew() {
    let seen = corrected(ms(300), &[(ms(50), false), (ms(1_500), false), (ms(1_500), true)]).unwrap();
    let (twice, gap) = (seen.samples("made by both"), seen.samples("gap"));
    let ([within, beyond, remembered], [near, far, kept]) = (twice.values(), gap.values()) else { panic!("{seen:?}") };
    assert_eq!((*within, *remembered), (0.0, 0.0), "{seen:?}");
    assert!(*near >= 0.0 && *kept >= 0.0, "{seen:?}");
    assert!(*beyond > 0.0 && *far < 0.0, "what the terms assume: {seen:?}");
}

#[test]
fn a_restart_never_lets_two_intervals_overlap() {
    for durable in [true, false] {
        let seen = restarted(ms(300), &[(durable, None)]).unwrap();
        assert_eq!((seen.number("overlap"), seen.number("made by both")), (0.0, 0.0), "durable {durable}: {seen:?}");
        assert!(seen.number("gap") >= 0.0, "{seen:?}");
        assert_eq!(seen.texts("renewed"), [if durable { "yes" } else { "no" }], "{seen:?}");
    }
    let broken = restarted(ms(300), &[(false, Some(Skip::Memory))]).unwrap();
    assert!(broken.number("overlap") > 0.0 && broken.number("made by both") > 0.0, "{broken:?}");
}

#[test]
fn a_holder_that_sleeps_through_its_lease_makes_no_id_afterwards() {
    let redis = service::redis();
    let seen = paused(&redis, ms(300), None).unwrap();
    assert_eq!((seen.number("outside"), seen.number("made by both")), (0.0, 0.0), "{seen:?}");
    assert!(seen.number("gap") >= 0.0, "{seen:?}");
    assert!(seen.number("first") >= 200.0 && seen.number("second") > 50.0, "{seen:?}");
    assert!(seen.texts("refused")[0].contains("lease ended"), "{seen:?}");
    assert!(seen.texts("taken")[0].contains("all worker ids are taken (1 of 1)"), "{seen:?}");
    let broken = paused(&redis, ms(300), Some(Skip::Interval)).unwrap();
    assert!(broken.number("outside") > 0.0 && broken.number("made by both") > 0.0, "{broken:?}");
}

#[test]
fn a_killed_holders_successor_begins_after_its_lease() {
    let redis = service::redis();
    let seen = killed(&redis, ms(250), 2).unwrap();
    assert_eq!((sum(&seen, "made before"), sum(&seen, "not above")), (0.0, 0.0), "{seen:?}");
    assert_eq!(sum(&seen.filter("ended", "killed"), "ids"), 201.0, "every acknowledged id counts");
    let gaps = seen.samples("gap");
    assert!(gaps.len() == 2 && gaps.min() > 0.0, "{seen:?}");
}

// --- the blog ------------------------------------------------------------------------------------------------------

#[test]
fn a_blog_on_four_servers_needs_no_column_for_the_time() {
    let (servers, redis) = (service::mysql_instances(4), service::redis());
    let mut blog = Blog::write(&servers, &redis, 3_000, 1).unwrap();
    assert_eq!(blog.shards_of(&[12_345, 12_349]), [1, 1]);
    let newest = blog.newest(20).unwrap();
    assert_eq!((newest.rows, newest.right), (80, true));
    assert!(newest.read <= 84.0, "{newest:?}");
    let scanned = blog.newest_by_created_at(20).unwrap();
    assert!(scanned.right && scanned.read >= 3_000.0, "{scanned:?}");
    blog.index_by_time().unwrap();
    let indexed = blog.newest_by_created_at(20).unwrap();
    assert!(indexed.right && indexed.read <= 84.0, "{indexed:?}");
    let mine = blog.newest_of(12_345, 10).unwrap();
    assert!(mine.right && mine.rows == 10 && mine.read <= 11.0, "{mine:?}");
    let between = blog.in_between(0.25, 0.5).unwrap();
    assert!(between.right && between.rows > 0 && between.read <= between.rows as f64 + 8.0, "{between:?}");
    assert_eq!(blog.wrong_times(), 0);
    let shared = |blog: &mut Blog| blog.tables().unwrap().samples("shared").values().to_vec();
    let [snowflakes, random, numbered] = shared(&mut blog)[..] else { panic!("three tables") };
    assert_eq!((snowflakes, random), (0.0, 0.0));
    assert!(numbered > 500.0, "{numbered}");
    // And where posts on two servers have the same id, of either kind, it is noticed.
    let newest = "SELECT table_schema FROM information_schema.tables WHERE table_name = 'posts_uuid' \
                  ORDER BY create_time DESC LIMIT 1";
    let name = servers[0].ask(newest).unwrap();
    for table in ["posts", "posts_uuid"] {
        let id = servers[0].ask(&format!("SELECT HEX(MIN(id)) FROM {name}.{table}")).unwrap();
        servers[1].execute(&format!("UPDATE {name}.{table} SET id = 0x{id} LIMIT 1"));
    }
    assert_eq!(shared(&mut blog)[..2], [1.0, 1.0]);
}
