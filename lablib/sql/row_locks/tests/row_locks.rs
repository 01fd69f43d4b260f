//! The guarantees of `row_locks`, on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::Duration;

use lab::Rng;
use lab::history::serializable::{AnomalyKind, check};
use lab::service::{self, MariaDb};
use mysql::prelude::Queryable;
use row_locks::experiment::*;
use row_locks::*;

const REPEATABLE: Setting = Setting { level: Level::RepeatableRead, snapshot_isolation: false, reads: Reads::Plain };

fn connections(server: &MariaDb) -> u64 {
    server
        .ask("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'lab' AND id <> CONNECTION_ID()")
        .unwrap()
        .parse()
        .unwrap()
}

fn open_transactions(server: &MariaDb) -> String {
    std::thread::sleep(Duration::from_millis(150));
    server.ask("SELECT COUNT(*) FROM information_schema.innodb_trx").unwrap()
}

#[test]
fn the_matrix_is_what_innodb_is_known_for() {
    let server = service::mysql();
    let matrix = matrix(&server, 2).unwrap();
    assert_eq!(matrix.height(), 13 * 6);
    for cell in matrix.rows() {
        let [code, setting, outcome, evidence] =
            ["code", "setting", "outcome", "evidence"].map(|column| cell.text(column));
        assert_eq!(cell.number("as expected"), 1.0, "{code} at {setting}: {outcome}\n{evidence}");
    }
    let strict = matrix.filter("setting", &Setting::of(Level::Serializable)).samples("through");
    assert_eq!((strict.len(), strict.max()), (13, 0.0));
    assert_eq!(open_transactions(&server), "0");
}

#[test]
fn a_step_waits_when_the_server_says_so_and_goes_on_when_it_is_free() {
    let server = service::mysql();
    let mut stage = Stage::open(&server, 2).unwrap();
    let play = stage.play(&deadlock(), REPEATABLE).unwrap();
    let codes: Vec<Option<u16>> = play.steps.iter().map(Played::refused).collect();
    assert_eq!(codes.iter().flatten().collect::<Vec<_>>(), [&1213], "{:#?}", play.steps);
    assert!(play.steps[2].has_waited());
    assert!(play.serializable(), "{}", play.report());
    // The steps of the one who was rolled back are not sent, and its transaction is not committed.
    let victim = play.steps.iter().find(|step| step.refused().is_some()).unwrap().session;
    let commit = play.steps.iter().find(|step| step.session == victim && step.step == Step::Commit).unwrap();
    assert_eq!(commit.answer, Answer::Skipped);

    // A step for a session that waits is sent when it is free again: here T2's second write, after T1's end.
    let schedule = Schedule::new("later", "later").write(1, 1, 11).write(2, 1, 12).write(2, 2, 22).commit(1).commit(2);
    let play = stage.play(&schedule, REPEATABLE).unwrap();
    assert_eq!(play.waited(), 1);
    assert!(play.steps[2].sent.unwrap() > play.steps[3].sent.unwrap(), "T2's second write before T1's commit");
    assert!(play.serializable());
}

#[test]
fn whoever_is_left_in_the_middle_is_rolled_back() {
    let server = service::mysql();
    let before = connections(&server);
    let mut stage = Stage::open(&server, 3).unwrap();
    let schedule = Schedule::new("left", "left open").write(1, 1, 11).write(2, 1, 12).write(3, 1, 13).commit(3);
    let play = stage.play(&schedule, REPEATABLE).unwrap();
    // T3 had to wait for the two others, who never said a word again; its write is the only one that stays.
    assert_eq!((play.waited(), play.steps[3].answer.clone()), (2, Answer::Changed(0)));
    let last = play.history.last().unwrap().label();
    assert!(last.contains("row 1 is [10, 13]"), "{last}");
    assert_eq!(open_transactions(&server), "0");
    drop(stage);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(connections(&server), before);
    assert_eq!(
        server.ask("SELECT COUNT(*) FROM information_schema.tables WHERE table_name LIKE 'hermitage%'").unwrap(),
        "0"
    );
}

#[test]
fn bad_schedules_and_lost_servers_are_one_sentence() {
    let server = service::private_mysql();
    assert!(Stage::open(&server, 0).unwrap_err().to_string().contains("0 sessions"));
    let mut stage = Stage::open(&server, 1).unwrap();
    let error = stage.play(&deadlock(), REPEATABLE).unwrap_err().to_string();
    assert!(error.contains("case 3") && error.contains("session 2"), "{error}");
    // An error of the statement is an answer, and the transaction goes on.
    let schedule = Schedule::new("typo", "typo").run(1, "SELEC 1").write(1, 1, 11).commit(1);
    let play = stage.play(&schedule, REPEATABLE).unwrap();
    assert_eq!(play.steps[0].refused(), Some(1064));
    assert_eq!(play.steps[1].answer, Answer::Changed(1));
    server.kill();
    let error = stage.play(&schedule, REPEATABLE).unwrap_err().to_string();
    assert!(error.starts_with("could not "), "{error}");
    assert!(Stage::open(&server, 1).is_err());
}

#[test]
fn a_session_that_is_killed_in_the_middle_is_an_error_and_leaves_nothing() {
    let server = service::mysql();
    let mut stage = Stage::open(&server, 2).unwrap();
    let victim = stage.connections()[0];
    let schedule = Schedule::new("killed", "killed").write(1, 1, 11).write(2, 1, 12).run(1, &format!("KILL {victim}"));
    let error = stage.play(&schedule.read(1, 1).commit(2), REPEATABLE).unwrap_err().to_string();
    assert!(error.contains("killed at REPEATABLE READ"), "{error}");
    assert_eq!(open_transactions(&server), "0");
    assert!(stage.play(&no_wait(), REPEATABLE).is_err(), "its connections are gone");
}

/// The recorded history is what decides: with one detail of it changed, the checker must change its mind.
#[test]
fn a_tampered_history_is_not_forgiven() {
    let server = service::mysql();
    let mut stage = Stage::open(&server, 2).unwrap();
    let good = stage.play(&hermitage::lost_update(), Setting::of(Level::Serializable)).unwrap();
    assert!(good.serializable(), "{}", good.report());
    let bad = stage.play(&hermitage::lost_update(), REPEATABLE).unwrap();
    assert!(bad.shows(AnomalyKind::LostUpdate) && bad.evidence().contains("both read"), "{}", bad.evidence());

    use lab::history::Access;
    // The observer did not see the last version of row 1, of a play in which everything was well.
    let mut history = good.history.clone();
    let observer = history.last_mut().unwrap();
    for access in &mut observer.accesses {
        if let Access::ReadList { key, values } = access
            && key == "row 1"
        {
            values.insert(1, 99);
        }
    }
    assert!(!check(&history).unwrap().serializable, "a version that nobody wrote");
    // The victim's write was committed after all, and nobody can see it.
    use lab::history::TransactionOutcome::{Aborted, Committed};
    let mut history = good.history;
    let victim = history.iter_mut().find(|transaction| transaction.outcome == Aborted).unwrap();
    victim.outcome = Committed;
    victim.accesses.push(Access::Append { key: "row 1".into(), value: 77 });
    assert!(check(&history).unwrap().has(AnomalyKind::LostUpdate));
}

#[test]
fn locks_get_along_as_the_textbook_says() {
    let server = service::mysql();
    for level in [Level::ReadCommitted, Level::RepeatableRead, Level::Serializable] {
        let compatibility = compatibility(&server, level).unwrap();
        assert_eq!(surprises(&compatibility), 0, "{compatibility:?}");
    }
}

#[test]
fn gaps_are_locked_where_theory_says() {
    let server = service::mysql();
    for level in [Level::ReadCommitted, Level::RepeatableRead] {
        let gaps = gaps(&server, level).unwrap();
        assert_eq!(surprises(&gaps), 0, "{gaps:?}");
    }
    let waits = gap_waits(&server).unwrap();
    assert_eq!(waits.texts("waits"), ["T2", "T3", "T4"], "{waits:?}");
    assert_eq!(waits.texts("for the lock"), ["X,GAP", "X", "S"], "{waits:?}");
    assert_eq!(waits.distinct("held by"), ["T1"], "{waits:?}");
    assert_eq!(gap_deadlock(&server, Level::RepeatableRead).unwrap().refused(1213), 1);
    assert_eq!(gap_deadlock(&server, Level::ReadCommitted).unwrap().refused(1213), 0);
}

#[test]
fn the_victim_is_the_one_with_less_to_lose() {
    let server = service::mysql();
    let mut stage = Stage::open(&server, 2).unwrap();
    for schedule in victims() {
        let play = stage.play(&schedule, REPEATABLE).unwrap();
        let victims: Vec<usize> =
            play.steps.iter().filter(|step| step.refused() == Some(1213)).map(|step| step.session).collect();
        assert_eq!(victims, [2], "{}: {:#?}", schedule.name(), play.steps);
        assert!(play.serializable());
    }
}

#[test]
fn a_client_tries_again_and_leaves_nothing_half_done() {
    let server = service::mysql();
    let moved = transfers(&server, 4, 4, 60, 7).unwrap();
    assert_eq!(moved.samples("done").values(), [240.0, 240.0], "{moved:?}");
    for fault in ["off", "missing", "untold"] {
        assert_eq!(moved.samples(fault).values(), [0.0, 0.0], "{moved:?}");
    }
    let deadlocks = moved.samples("deadlocks");
    assert!(deadlocks.values()[0] > 0.0 && deadlocks.values()[1] == 0.0, "{moved:?}");
    assert_eq!(moved.samples("as the server counts").values(), deadlocks.values());

    let met = timeouts(&server).unwrap();
    assert_eq!(met.texts("error"), ["1205".to_string(), "1205".into(), server.dialect().nowait_error().to_string()]);
    assert_eq!(met.samples("left").values(), [1.0, 0.0, 1.0], "{met:?}");
    let [patient, gave_up, nowait]: [f64; 3] = met.samples("after").values().try_into().unwrap();
    assert!(patient >= 1.0 && nowait < 0.5, "{met:?}");
    // The client has met the lock itself: it was not willing to wait, as far as the server lets it.
    assert!(gave_up < 0.5 || !server.dialect().is_mariadb(), "{met:?}");
    assert!(met.texts("said")[1].contains("has asked for another try 1 times"), "{met:?}");
    let skipped = skip_locked(&server).unwrap();
    assert_eq!(skipped.texts("rows")[0], "2, 3, 4, 5");
    assert_eq!(skipped.samples("held").values(), [4.0, 0.0, 0.0]);

    let mut client = Client::connect(&server, Retry::default(), Rng::seeded(1, "x")).unwrap();
    let error = client.transaction(|connection| connection.query_drop("INSERT INTO nowhere VALUES (1)")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert_eq!(client.tries(), Tries::default());
    assert_eq!(open_transactions(&server), "0");
    assert!(Client::connect(&server, Retry { most: 0, ..Retry::default() }, Rng::seeded(1, "x")).is_err());
}

/// Each of the three errors that mean "begin again" is met once, and then it goes well.
#[test]
fn a_client_begins_again_after_each_error_that_asks_for_it() {
    let server = service::mysql();
    server.execute("CREATE TABLE again (id INT NOT NULL PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB");
    server.execute("INSERT INTO again VALUES (1, 0), (2, 0)");
    let mut other = Client::connect(&server, Retry::default(), Rng::seeded(1, "other")).unwrap();
    let mut client = Client::connect(&server, Retry::default(), Rng::seeded(1, "again")).unwrap();

    // 1205: somebody holds the row, until our first try has failed.
    client.set("SET SESSION innodb_lock_wait_timeout = 0").unwrap();
    other.set("START TRANSACTION").unwrap();
    other.set("UPDATE again SET n = n + 1 WHERE id = 1").unwrap();
    let mut tries = 0;
    client
        .transaction(|connection| {
            tries += 1;
            if tries == 2 {
                other.set("COMMIT").unwrap();
            }
            connection.query_drop("UPDATE again SET n = n + 10 WHERE id = 2")?;
            connection.query_drop("UPDATE again SET n = n + 10 WHERE id = 1")
        })
        .unwrap();
    assert_eq!((tries, client.tries()), (2, Tries { done: 1, timeouts: 1, ..Tries::default() }));

    // 1020: somebody changes the row after we have read it.
    client.set("SET SESSION innodb_snapshot_isolation = 1").unwrap();
    let mut tries = 0;
    client
        .transaction(|connection| {
            tries += 1;
            let n: Option<i64> = connection.query_first("SELECT n FROM again WHERE id = 1")?;
            if tries == 1 {
                other.set("UPDATE again SET n = n + 1 WHERE id = 1").unwrap();
            }
            connection.query_drop(format!("UPDATE again SET n = {} WHERE id = 1", n.unwrap() + 10))
        })
        .unwrap();
    assert_eq!((tries, client.tries()), (2, Tries { done: 2, timeouts: 1, stale: 1, ..Tries::default() }));
    // What failed was rolled back as a whole: row 2 has counted one change, and row 1 all of them.
    assert_eq!(server.ask("SELECT GROUP_CONCAT(n ORDER BY id) FROM again").unwrap(), "22,10");

    // Any other error is the caller's, and nothing of its transaction stays, neither a change nor a lock.
    let error = client.transaction(|connection| {
        connection.query_drop("UPDATE again SET n = n + 100 WHERE id = 2")?;
        connection.query_drop("INSERT INTO nowhere VALUES (1)")
    });
    assert!(error.unwrap_err().to_string().contains("nowhere"));
    assert_eq!(server.ask("SELECT n FROM again WHERE id = 2 FOR UPDATE NOWAIT").unwrap(), "10");
    assert_eq!(client.tries().done, 2);
    server.execute("DROP TABLE again");
}

/// A plain `SELECT` waits at SERIALIZABLE inside of a transaction only.
#[test]
fn a_select_outside_of_a_transaction_waits_for_nobody() {
    let server = service::mysql();
    let mut stage = Stage::open(&server, 2).unwrap();
    let strict = Setting::of(Level::Serializable);
    let (inside, outside) =
        (stage.play(&plain_select(), strict).unwrap(), stage.play(&autocommitted_select(), strict).unwrap());
    assert_eq!((inside.waited(), inside.value_read(3)), (1, 11.0));
    assert_eq!((outside.waited(), outside.value_read(4)), (0, 10.0), "{:#?}", outside.steps);
}

#[test]
fn random_histories_are_as_strong_as_their_setting() {
    let server = service::mysql();
    let all = random_histories(&server, 4, 80, 3).unwrap();
    for setting in Setting::all(server.dialect()) {
        let shuffled = all.filter("setting", &setting);
        let locks = setting.reads != Reads::Plain || setting.level == Level::Serializable;
        assert_eq!(shuffled.number("serial order"), f64::from(u8::from(locks)), "{setting}: {shuffled:?}");
        assert!(!setting.snapshot_isolation || shuffled.number("snapshots") == 1.0, "{setting}: {shuffled:?}");
        assert!(shuffled.number("committed") > 100.0, "{setting}: {shuffled:?}");
    }
}

#[test]
fn nobody_loses_an_increment_but_the_careless() {
    let server = service::mysql();
    let spec = ContentionSpec { rows: vec![1, 16], clients: 6, each: 30, rounds: 2, seed: 1 };
    let trial = contention(&server, &spec).unwrap();
    for rows in [1, 16] {
        for way in [Way::ForUpdate, Way::Optimistic, Way::Atomic] {
            let total = |figure: &str| trial.total(&way.on(rows), figure);
            assert_eq!((total("lost"), total("untold"), total("acknowledged")), (0.0, 0.0, 3.0 * 6.0 * 30.0), "{way}");
        }
    }
    let lost = trial.frame().filter("figure", "lost").filter("way", &Way::ReadThenWrite);
    assert!(lost.samples("value").max() > 0.0);
    let again = |rows: u64| trial.samples(&Way::Optimistic.on(rows), "again").mean();
    assert!(again(1) > again(16));
}
