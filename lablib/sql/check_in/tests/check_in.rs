//! The guarantees of `check_in`, on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use check_in::experiment::*;
use check_in::*;
use lab::Rng;
use lab::link::{Direction, Link};
use lab::service::{self, MariaDb};

const CAREFUL: [Way; 5] = [Way::ForUpdate, Way::SkipLocked, Way::SkipThenWait, Way::Optimistic, Way::Atomic];

fn cabin(rows: u32, abreast: u32) -> Layout {
    Layout::new(rows, abreast).unwrap()
}

fn desk(server: &MariaDb, flight: &Flight, way: Way) -> Desk {
    Desk::open(server, flight, way, Rng::seeded(1, "desk")).unwrap()
}

#[test]
fn seats_are_handed_out_once_until_there_is_none() {
    let server = service::mysql();
    for way in Way::ALL {
        let flight = Flight::create(&server, "one", cabin(2, 3), Rules::OneSeatEach).unwrap();
        let mut desk = desk(&server, &flight, way);
        let mut seats: Vec<u32> = (1..=6).map(|t| desk.check_in(t).unwrap().seat().unwrap().number()).collect();
        assert_eq!(desk.check_in(7).unwrap(), Boarding::Full, "{way}");
        if way != Way::Atomic {
            assert_eq!(seats, [1, 2, 3, 4, 5, 6], "{way}: the first free seat");
        }
        seats.sort_unstable();
        assert_eq!(seats, [1, 2, 3, 4, 5, 6], "{way}");
    }
}

#[test]
fn who_has_a_seat_is_told_the_same_again_and_who_does_not_pay_has_none() {
    let server = service::mysql();
    for way in CAREFUL {
        let flight = Flight::create(&server, "again", cabin(1, 4), Rules::OneSeatEach).unwrap();
        let mut desk = desk(&server, &flight, way);
        let seat = desk.check_in(u64::MAX).unwrap().seat().unwrap();
        assert_eq!(desk.check_in(u64::MAX).unwrap(), Boarding::Already(seat), "{way}");
        assert_eq!(desk.check_in_paying(2, || false).unwrap(), Boarding::Unpaid, "{way}");
        assert_eq!(desk.check_in_paying(u64::MAX, || true).unwrap(), Boarding::Already(seat), "{way}");
        let taken =
            flight.seats(&server).unwrap().into_iter().filter_map(|(_, traveller)| traveller).collect::<Vec<_>>();
        assert_eq!(taken, [u64::MAX], "{way}");
    }
}

#[test]
fn who_has_a_seat_is_told_so_though_the_flight_is_full() {
    let server = service::mysql();
    for way in CAREFUL {
        let flight = Flight::create(&server, "full", cabin(1, 2), Rules::OneSeatEach).unwrap();
        let mut desk = desk(&server, &flight, way);
        let seats = [1, 2].map(|traveller| desk.check_in(traveller).unwrap().seat().unwrap());
        assert_eq!(desk.check_in(3).unwrap(), Boarding::Full, "{way}");
        for (traveller, seat) in (1..).zip(seats) {
            assert_eq!(desk.check_in(traveller).unwrap(), Boarding::Already(seat), "{way}");
            let paid = desk.check_in_paying(traveller, || panic!("nobody pays twice")).unwrap();
            assert_eq!(paid, Boarding::Already(seat), "{way}");
            assert_eq!(desk.seat_of(traveller).unwrap(), Some(seat), "{way}");
        }
        assert_eq!(desk.seat_of(3).unwrap(), None);
    }
}

#[test]
fn a_payment_that_panics_takes_no_seat_though_its_desk_goes_on() {
    let server = service::mysql();
    for way in CAREFUL {
        let flight = Flight::create(&server, "panic", cabin(1, 2), Rules::OneSeatEach).unwrap();
        let mut first = desk(&server, &flight, way);
        let mut paying = || first.check_in_paying(1, || std::panic::resume_unwind(Box::new("the card reader")));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut paying));
        assert!(panicked.is_err(), "{way}");
        // Nothing is locked, and the next transaction of the same desk commits nothing of it.
        let mut other = desk(&server, &flight, way);
        let mut taken: Vec<u64> = [(&mut other, 2), (&mut first, 3)]
            .map(|(desk, traveller)| desk.check_in(traveller).unwrap().seat().map(|_| traveller).unwrap())
            .into();
        let seats = flight.seats(&server).unwrap();
        let mut found: Vec<u64> = seats.into_iter().filter_map(|(_, traveller)| traveller).collect();
        taken.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, taken, "{way}");
    }
}

/// The commit reaches the server, and its answer is lost: whoever asks again, at another desk, has the seat and is told which.
#[test]
fn an_answer_that_is_lost_leaves_a_whole_seat_or_none() {
    let server = service::mysql();
    for way in CAREFUL {
        for cut_before in [true, false] {
            let flight = Flight::create(&server, "answer", cabin(1, 2), Rules::OneSeatEach).unwrap();
            let link = Link::to(server.address()).unwrap();
            let mut lost = Desk::open_at(&server, link.address(), &flight, way, Rng::seeded(1, "lost")).unwrap();
            let pay = || {
                match cut_before {
                    true => link.cut_connections(),
                    false => link.half_open_toward(Direction::ToClient),
                };
                true
            };
            let told = std::thread::scope(|scope| {
                let asking = scope.spawn(|| lost.check_in_paying(7, pay));
                if !cut_before {
                    let began = Instant::now();
                    while flight.seats(&server).unwrap().iter().all(|(_, traveller)| traveller.is_none()) {
                        assert!(began.elapsed() < Duration::from_secs(20), "{way}: the commit never came");
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    link.cut_connections();
                }
                asking.join().unwrap()
            });
            assert!(told.is_err(), "{way}: {told:?}");
            let had = flight.seats(&server).unwrap().into_iter().find(|(_, traveller)| *traveller == Some(7));
            let again = desk(&server, &flight, way).check_in(7).unwrap();
            match had {
                Some((seat, _)) => assert_eq!(again, Boarding::Already(seat), "{way}"),
                None => assert!(cut_before && matches!(again, Boarding::Seat(_)), "{way}: {again:?}"),
            }
            let taken = flight.seats(&server).unwrap().iter().filter(|(_, traveller)| traveller.is_some()).count();
            assert_eq!(taken, 1, "{way}");
        }
    }
}

#[test]
fn a_crowd_is_seated_one_to_one_by_every_way_but_one() {
    let server = service::mysql();
    let trial = check_in_race(&server, cabin(10, 6), 2, 7).unwrap().0;
    for arm in Arm::ALL.iter().filter(|arm| **arm != Arm::NO_LOCK) {
        let filled = trial.frame().filter("arm", arm).filter("figure", "filled");
        assert_eq!(filled.samples("value").values(), [60.0; 3], "{arm}");
        assert_eq!((trial.total(arm, "faults"), trial.total(arm, "told full")), (0.0, 0.0), "{arm}");
    }
    let no_lock = |figure: &str| trial.total(&Arm::NO_LOCK, figure);
    assert!(no_lock("double booked") > 0.0 && no_lock("filled") < 3.0 * 60.0);
    let waits = |arm: Arm| trial.samples(&arm, "lock waits").mean();
    assert!(waits(Arm::FOR_UPDATE) > waits(Arm::SKIP_LOCKED));
}

#[test]
fn full_means_full_unless_locked_seats_are_skipped_for_good() {
    let server = service::mysql();
    let came_of = |way: Way| {
        let last = last_seat(&server, way).unwrap();
        ["the second traveller", "is told", "seats empty in the end"].map(|column| last.texts(column)[0].clone())
    };
    assert_eq!(came_of(Way::SkipLocked), ["does not wait", "full", "1"]);
    for way in [Way::SkipThenWait, Way::ForUpdate, Way::Atomic, Way::Optimistic] {
        assert_eq!(came_of(way), ["waits", "a seat", "0"], "{way}");
    }
}

#[test]
fn a_sale_fills_the_cabin_whatever_becomes_of_the_payments() {
    let server = service::mysql();
    let spec = SaleSpec { layout: cabin(10, 6), travellers: 140, desks: 12, failing: 300, seed: 5 };
    let sales = sale(&server, spec, &[Way::SkipThenWait, Way::ForUpdate, Way::Atomic]).unwrap();
    assert_eq!(sales.height(), 3);
    for sale in sales.rows() {
        let counts = ["seats filled", "faults", "unanswered"].map(|count| sale.number(count));
        assert_eq!(counts, [60.0, 0.0, 0.0], "{sales:?}");
        assert!(sale.number("payment failed") > 0.0 && sale.number("told: full") > 0.0);
    }
}

#[test]
fn a_traveller_at_two_desks_has_one_seat_and_knows_it() {
    let server = service::mysql();
    let found = twice(&server, 40, 3).unwrap();
    let counts = ["with two seats", "filled", "told two things"];
    let [loose, looking, strict] = [Guard::Nothing, Guard::LookFirst, Guard::Key]
        .map(|guard| counts.map(|count| found.filter("guard", &guard).number(count)));
    // No lock on a seat helps: each request takes one.
    assert_eq!(loose[..2], [40.0, 80.0], "{found:?}");
    assert!(looking[0] >= 1.0 && looking[1] == 40.0 + looking[0], "{found:?}");
    assert_eq!(strict, [0.0, 40.0, 0.0], "{found:?}");
}

#[test]
fn groups_sit_together_or_not_at_all() {
    let server = service::mysql();
    let asked = groups(&server, cabin(20, 6), 6, 11).unwrap();
    let of = |asked_as: &str, count: &str| asked.filter("asked", asked_as).number(count);
    assert!(of("each member alone", "side by side") < of("each member alone", "seated"), "{asked:?}");
    assert_eq!(of("as a group", "seated"), of("as a group", "side by side"));
    assert_eq!(["torn", "sent away", "faults"].map(|count| of("as a group", count)), [0.0; 3], "{asked:?}");
    assert!(of("as a group", "seated") > 20.0);

    let flight = Flight::create(&server, "group", cabin(2, 4), Rules::OneSeatEach).unwrap();
    let mut desk = desk(&server, &flight, Way::SkipThenWait);
    for bad in [vec![], vec![1, 1], vec![1, 2, 3, 4, 5]] {
        assert!(desk.check_in_group(&bad).unwrap_err().to_string().contains("different travellers"));
    }
    assert_eq!(desk.check_in_group(&[1, 2, 3]).unwrap().unwrap().len(), 3);
    assert_eq!(desk.check_in_group(&[4, 5, 6]).unwrap().unwrap().len(), 3);
    assert_eq!(desk.check_in_group(&[7, 8]).unwrap(), None, "two seats are free, and not side by side");
    assert_eq!(flight.seats(&server).unwrap().iter().filter(|(_, traveller)| traveller.is_some()).count(), 6);
    assert_eq!(desk.check_in_group(&[6]).unwrap().unwrap(), [desk.seat_of(6).unwrap().unwrap()], "one who asks again");
    // Somebody of the group has a seat already: nobody else gets one.
    let flight = Flight::create(&server, "mixed", cabin(1, 8), Rules::OneSeatEach).unwrap();
    let mut desk = Desk::open(&server, &flight, Way::SkipThenWait, Rng::seeded(1, "mixed")).unwrap();
    assert!(desk.check_in_group(&[1, 2, 3]).unwrap().is_some());
    assert!(desk.check_in_group(&[9, 2]).unwrap_err().to_string().contains("1062"));
    // Both have one, and are no neighbours.
    assert!(desk.check_in_group(&[1, 3]).unwrap_err().to_string().contains("1062"));
    assert_eq!(flight.seats(&server).unwrap().iter().filter(|(_, traveller)| traveller.is_some()).count(), 3);
}

#[test]
fn a_group_that_asks_again_is_told_the_same_seats() {
    let server = service::mysql();
    let flight = Flight::create(&server, "regroup", cabin(2, 3), Rules::OneSeatEach).unwrap();
    let mut first = desk(&server, &flight, Way::SkipThenWait);
    let seats = first.check_in_group(&[1, 2, 3]).unwrap().unwrap();
    // There is a row with room for it, where it must not sit down a second time.
    assert_eq!(first.check_in_group(&[1, 2, 3]).unwrap().unwrap(), seats);
    assert_eq!(first.check_in_group(&[3, 1, 2]).unwrap().unwrap(), [seats[2], seats[0], seats[1]]);
    let others = first.check_in_group(&[4, 5, 6]).unwrap().unwrap();
    // And there is none any more.
    assert_eq!(first.check_in_group(&[1, 2, 3]).unwrap().unwrap(), seats);
    assert_eq!(first.check_in_group(&[4, 5, 6]).unwrap().unwrap(), others);
    assert_eq!(first.check_in_group(&[7, 8]).unwrap(), None);
    // From two desks at the same moment, in whatever order they name themselves.
    for round in 0..10 {
        let flight = Flight::create(&server, "regroup", cabin(4, 3), Rules::OneSeatEach).unwrap();
        let mut desks = [1, 2].map(|number| {
            Desk::open(&server, &flight, Way::SkipThenWait, Rng::seeded(round, &format!("desk {number}"))).unwrap()
        });
        let [one, other] = &mut desks;
        let (mut here, mut there) = std::thread::scope(|scope| {
            let here = scope.spawn(|| one.check_in_group(&[1, 2, 3]).unwrap().unwrap());
            let there = scope.spawn(|| other.check_in_group(&[3, 2, 1]).unwrap().unwrap());
            (here.join().unwrap(), there.join().unwrap())
        });
        here.sort_unstable();
        there.sort_unstable();
        assert_eq!(here, there);
        let taken = flight.seats(&server).unwrap().iter().filter(|(_, traveller)| traveller.is_some()).count();
        assert_eq!(taken, 3);
    }
}

#[test]
fn a_seat_comes_back_when_its_client_is_gone_if_the_server_can_know() {
    let server = service::mysql();
    let broken = broken_connections(&server).unwrap();
    assert!(["was locked", "untaken"].iter().all(|column| broken.samples(column).min() == 1.0), "{broken:?}");
    let free_after = broken.samples("free after");
    let [killed, vanished, limited] = free_after.values() else { panic!("{broken:?}") };
    assert!(*killed < 2_000.0, "{broken:?}");
    assert_eq!(*vanished, f64::INFINITY);
    assert!(limited.is_finite() && *limited > 500.0, "{broken:?}");
    let silent = keep_alive(&server).unwrap();
    assert_eq!(silent.number("probes"), 1.0, "{silent:?}");
    assert!(silent.number("kernel") > 0.0 && silent.number("server") == 8.0, "{silent:?}");
}

#[test]
fn a_lost_server_and_a_lost_table_are_one_sentence() {
    let server = service::private_mysql();
    for name in ["", "seats; DROP TABLE x", "Race", &"x".repeat(41)] {
        assert!(Flight::create(&server, name, cabin(1, 1), Rules::Any).is_err(), "{name}");
    }
    let flight = Flight::create(&server, "lost", cabin(2, 2), Rules::OneSeatEach).unwrap();
    let mut desks: Vec<Desk> = Way::ALL.map(|way| desk(&server, &flight, way)).into();
    flight.drop(&server).unwrap();
    for desk in &mut desks {
        let error = desk.check_in(1).unwrap_err().to_string();
        assert!(error.contains("seats_lost") && error.contains("1146"), "{error}");
    }
    server.kill();
    for desk in &mut desks {
        let error = desk.check_in(1).unwrap_err().to_string();
        assert!(error.starts_with("could not run a transaction (traveller 1"), "{error}");
        assert!(desk.check_in_group(&[1, 2]).is_err());
    }
    assert!(Desk::open(&server, &flight, Way::Atomic, Rng::seeded(1, "x")).is_err());
}

#[test]
fn no_connection_and_no_transaction_is_left_behind() {
    let server = service::mysql();
    let count = || {
        server
            .ask("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'lab' AND id <> CONNECTION_ID()")
            .unwrap()
    };
    let before = count();
    let spec = SaleSpec { layout: cabin(5, 6), travellers: 40, desks: 8, failing: 300, seed: 5 };
    sale(&server, spec, &[Way::SkipThenWait, Way::Optimistic]).unwrap();
    broken_connections(&server).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(count(), before);
    assert_eq!(server.ask("SELECT COUNT(*) FROM information_schema.innodb_trx").unwrap(), "0");
}
