//! The guarantees of `upsert`, on a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use lab::service::{self, Counters, MariaDb};
use proptest::prelude::*;
use upsert::experiment::*;
use upsert::*;

const KEEPERS: [Way; 5] =
    [Way::OnDuplicateKey, Way::SelectForUpdate, Way::InsertIgnoreThenUpdate, Way::Batched, Way::Staged];

fn contact(email: &str, phone: &str) -> Contact {
    Contact::new(email, "Ada", phone).unwrap()
}

fn table(server: &MariaDb) -> Table {
    Table::create(server, "contacts", Extras { indexes: true, ..Extras::default() }).unwrap()
}

#[test]
fn a_put_inserts_what_is_new_and_changes_the_phone_of_what_is_known() {
    let server = service::mysql();
    for way in Way::ALL {
        let table = table(&server);
        table.load(&server, &[contact("ada@x", "1")]).unwrap();
        let id = table.rows(&server).unwrap()[0].id;
        let mut writer = Writer::new(&server, &table, way).unwrap();
        let renamed = Contact::new("ada@x", "somebody else", "2").unwrap();
        let done = writer.put(&[renamed, contact("bob@x", "3")]).unwrap();
        assert_eq!(done, Done { put: 2, refused: 0, deadlocks: 0 }, "{way}");
        let rows = table.rows(&server).unwrap();
        assert_eq!(rows.len(), 2, "{way}");
        assert_eq!((rows[0].contact.phone(), rows[1].contact.phone(), rows[1].changes), ("2", "3", 1), "{way}");
        if way == Way::Replace {
            // What it does instead: the row is another one.
            assert_ne!(rows[0].id, id);
            assert_eq!((rows[0].contact.name(), rows[0].note.as_str(), rows[0].changes), ("somebody else", "", 1));
        } else {
            assert_eq!((rows[0].id, rows[0].changes), (id, 2), "{way}");
            assert_eq!((rows[0].contact.name(), rows[0].note.as_str()), ("Ada", "kept"), "{way}");
        }
    }
}

#[test]
fn what_comes_twice_in_a_call_counts_twice_and_the_last_one_wins() {
    let server = service::mysql();
    for way in KEEPERS {
        let table = table(&server);
        let mut writer = Writer::new(&server, &table, way).unwrap();
        let puts = ["3", "1", "2"].map(|phone| contact("ada@x", phone));
        writer.put(&puts).unwrap();
        writer.put(&[]).unwrap();
        let rows = table.rows(&server).unwrap();
        assert_eq!((rows.len(), rows[0].contact.phone(), rows[0].changes), (1, "2", 3), "{way}");
    }
}

#[test]
fn addresses_are_compared_byte_for_byte() {
    let server = service::mysql();
    for way in Way::ALL {
        let table = table(&server);
        let puts = ["a", "A", "ä", "a ", "a\0", "a\u{308}"].map(|email| contact(email, "1"));
        Writer::new(&server, &table, way).unwrap().put(&puts).unwrap();
        assert_eq!(table.rows(&server).unwrap().len(), puts.len(), "{way}");
    }
}

#[test]
fn any_text_comes_back_as_it_was() {
    let server = service::mysql();
    let tables: Vec<(Way, Table)> = Way::ALL
        .into_iter()
        .enumerate()
        .map(|(n, way)| (way, Table::create(&server, &format!("text_{n}"), Extras::default()).unwrap()))
        .collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let text =
        || prop_oneof![any::<String>().prop_map(|text| text.chars().take(40).collect()), "[\\\\\t\n\r'\"%,N]{0,20}"];
    let strategy = proptest::collection::vec((text(), text(), text()), 1..8);
    runner
        .run(&strategy, |texts| {
            let contacts: Vec<Contact> = texts
                .iter()
                .enumerate()
                .map(|(n, (email, name, phone))| Contact::new(format!("{n}{email}"), name, phone).unwrap())
                .collect();
            for (way, table) in &tables {
                server.execute(&format!("DELETE FROM {}", table.name()));
                Writer::new(&server, table, *way).unwrap().put(&contacts).unwrap();
                let mut expected = contacts.clone();
                expected.sort();
                let there: Vec<Contact> = table.rows(&server).unwrap().into_iter().map(|row| row.contact).collect();
                prop_assert_eq!(&there, &expected, "{}", way);
            }
            Ok(())
        })
        .unwrap();
    // As much as a contact takes: 190 bytes, and 64 characters of four bytes.
    let longest = Contact::new("é".repeat(95), "🦀".repeat(64), "🦀".repeat(64)).unwrap();
    for (way, table) in &tables {
        Writer::new(&server, table, *way).unwrap().put(std::slice::from_ref(&longest)).unwrap();
        assert!(table.rows(&server).unwrap().iter().any(|row| row.contact == longest), "{way}");
    }
}

#[test]
fn a_batch_that_the_server_refuses_leaves_nothing_behind() {
    let server = service::mysql();
    for way in [Way::Batched, Way::Staged] {
        let table = table(&server);
        // The server says no to one row in the middle.
        server.execute(
            "CREATE TRIGGER contacts_no BEFORE INSERT ON contacts FOR EACH ROW \
             IF NEW.phone = 'no' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF",
        );
        let mut writer = Writer::new(&server, &table, way).unwrap();
        let puts = ["1", "no", "2"].iter().zip(["a", "b", "c"]).map(|(phone, email)| contact(email, phone));
        let error = writer.put(&puts.collect::<Vec<_>>()).unwrap_err().to_string();
        assert!(error.contains("not this one") && error.contains("3 contacts"), "{error}");
        assert_eq!(table.rows(&server).unwrap(), [], "{way}");
        // And the writer can go on.
        writer.put(&[contact("d", "4")]).unwrap();
        assert_eq!(table.rows(&server).unwrap().len(), 1, "{way}");
    }
}

#[test]
fn a_statement_that_would_be_too_large_says_so_and_a_file_may_be_as_large() {
    let server = service::mysql();
    let many: Vec<Contact> = (0..20_001).map(|n| contact(&format!("{n}"), "1")).collect();
    let table = table(&server);
    let error = Writer::new(&server, &table, Way::Batched).unwrap().put(&many).unwrap_err().to_string();
    assert!(error.contains("at most 20000"), "{error}");
    assert_eq!(table.rows(&server).unwrap().len(), 0);
    Writer::new(&server, &table, Way::Staged).unwrap().put(&many).unwrap();
    assert_eq!(table.rows(&server).unwrap().len(), many.len());
}

#[test]
fn bad_names_and_a_table_that_is_gone_are_one_sentence() {
    let server = service::mysql();
    for name in ["", "users; DROP TABLE users", "Contacts", "a b", &"x".repeat(41)] {
        let error = Table::create(&server, name, Extras::default()).unwrap_err().to_string();
        assert!(error.starts_with("could not make a table of contacts"), "{error}");
    }
    for way in Way::ALL {
        let table = table(&server);
        let mut writer = Writer::new(&server, &table, way).unwrap();
        table.drop(&server).unwrap();
        let error = writer.put(&[contact("a", "1")]).unwrap_err().to_string();
        assert!(error.contains("contacts") && error.contains("1146"), "{error}");
    }
}

#[test]
fn a_server_that_is_gone_is_an_error_and_not_a_wait() {
    let server = service::private_mysql();
    let table = table(&server);
    let mut writers: Vec<Writer> = Way::ALL.map(|way| Writer::new(&server, &table, way).unwrap()).into();
    server.kill();
    for writer in &mut writers {
        let error = writer.put(&[contact("a", "1")]).unwrap_err().to_string();
        assert!(error.starts_with("could not put a contact by"), "{error}");
    }
}

#[test]
fn clients_that_meet_lose_nothing_by_the_ways_that_keep_the_row() {
    let server = service::mysql();
    let crowded = crowd(&server, 4, 3, 60, 7).unwrap();
    let kept = crowded.filter("keeps the row", 1);
    for way in kept.rows() {
        let counted = ["acknowledged", "lost", "doubled", "refused", "extra"].map(|column| way.number(column));
        assert_eq!(counted, [240.0, 0.0, 0.0, 0.0, 0.0], "{}", way.text("way"));
    }
    assert_eq!(kept.height(), 5);
    // REPLACE forgets all but the last change of each contact.
    assert_eq!(crowded.filter("way", &Way::Replace).number("lost"), 240.0 - 3.0);
    assert_eq!(meeting(&server).unwrap(), (1, 2));
}

/// Where gaps are not locked, two may find nothing and insert the same contact; that is no reason to refuse a put.
#[test]
fn the_ways_that_keep_the_row_do_so_at_read_committed_too() {
    let server = MariaDb::with("transaction_isolation", "READ-COMMITTED").start().unwrap();
    for round in 0..4 {
        for way in crowd(&server, 4, 20, 15, round).unwrap().filter("keeps the row", 1).rows() {
            let counted = ["acknowledged", "lost", "extra", "doubled", "refused"].map(|column| way.number(column));
            assert_eq!(counted, [60.0, 0.0, 0.0, 0.0, 0.0], "{}", way.text("way"));
        }
    }
}

#[test]
fn batches_in_order_have_no_deadlocks_and_the_others_are_put_all_the_same() {
    let server = service::mysql();
    let circles = deadlocks(&server, 4, 100, 30, 40, 3).unwrap();
    assert!(circles.filter("order", "as they come").number("deadlocks") > 0.0, "{circles:?}");
    assert_eq!(circles.filter("order", "sorted").number("deadlocks"), 0.0, "{circles:?}");
    assert_eq!(circles.samples("miscounted").values(), [0.0, 0.0], "{circles:?}");
}

#[test]
fn replace_takes_along_what_refers_to_a_row_and_the_others_do_not() {
    let server = service::mysql();
    let meant = meaning(&server, 10).unwrap();
    assert_eq!(meant.height(), 7);
    for meaning in meant.rows() {
        let fired = ["on INSERT", "on UPDATE", "on DELETE"].map(|event| meaning.number(event));
        if meaning.text("way") == Way::Replace.to_string() {
            let harm = ["renumbered", "note lost", "orders lost", "wrong"].map(|fault| meaning.number(fault));
            assert_eq!((harm, fired), ([10.0, 10.0, 20.0, 0.0], [20.0, 0.0, 10.0]));
            assert_eq!(meaning.number("numbers"), 2.0);
        } else {
            assert_eq!((meaning.number("harm"), fired), (0.0, [10.0, 10.0, 0.0]), "{}", meaning.text("way"));
        }
    }
    let held = restricted(&server).unwrap();
    assert_eq!(held.samples("kept").values(), [1.0; 7], "{held:?}");
    let refused = held.filter("refused", 1);
    assert_eq!(refused.texts("way"), [Way::Replace.to_string()], "{held:?}");
    assert!(refused.texts("said")[0].contains("1451"), "{held:?}");
    let cut = too_long(&server).unwrap();
    assert_eq!(cut.samples("characters stored").values(), [0.0, 64.0]);
    assert!(cut.texts("the server answers")[0].contains("1406"), "{cut:?}");
}

#[test]
fn a_killed_server_keeps_every_acknowledged_batch_whole() {
    let survived = survives(&service::private_mysql(), 3, 20, 10).unwrap();
    assert_eq!(survived.height(), Way::ALL.len());
    for (way, survived) in Way::ALL.into_iter().zip(survived.rows()) {
        assert!(survived.number("acknowledged") >= 10.0, "{survived:?}");
        assert_eq!((survived.number("lost"), survived.number("half")), (0.0, 0.0), "{survived:?}");
        let many = if way.takes_many() { "20 contacts" } else { "a contact" };
        assert!(survived.text("told").starts_with(&format!("could not put {many}")), "{}", survived.text("told"));
    }
}

/// A killed process leaves to the disk what it had written; that it was synced, too, the server's counter says.
#[test]
fn an_acknowledged_put_has_been_synced() {
    let server = service::private_mysql();
    assert_eq!(server.ask("SELECT @@sync_binlog = 1 AND @@log_bin = 1").unwrap(), "1");
    for way in Way::ALL {
        let table = table(&server);
        let mut writer = Writer::new(&server, &table, way).unwrap();
        let syncs = || Counters::of_server(&server).unwrap().get("Innodb_data_fsyncs").unwrap();
        let before = syncs();
        for number in 0..25 {
            writer.put(&[contact(&format!("{number}"), "1")]).unwrap();
        }
        assert!(syncs() - before >= 25.0, "{way}: {} for 25 puts", syncs() - before);
    }
}

#[test]
fn all_ways_end_with_the_same_table() {
    // What is asked is the whole server's count.
    let server = service::private_mysql();
    let spec = PriceSpec { rows: 200, puts: 120, rounds: 2, clients: 4, indexes: true, seed: 5 };
    let prices = prices(&server, &Batch::all(10), spec).unwrap();
    assert!(prices.figure("wrong").samples("value").values().iter().all(|wrong| *wrong == 0.0), "{prices:?}");
    let commits = |way| prices.samples(&Batch::of(way, 10), "commits").mean();
    assert!((commits(Way::OnDuplicateKey) - 1.0).abs() < 0.02);
    assert!(commits(Way::Batched) < 0.3);
}

#[test]
fn batches_of_all_sizes_end_with_the_same_table() {
    let many = [Way::Batched, Way::Staged].into_iter().flat_map(|way| [1, 7, 60].map(|size| Batch { way, size }));
    let spec = PriceSpec { rows: 200, puts: 60, rounds: 2, clients: 1, indexes: false, seed: 5 };
    let batches = prices(&service::mysql(), &many.collect::<Vec<_>>(), spec).unwrap();
    assert!(batches.figure("wrong").samples("value").values().iter().all(|wrong| *wrong == 0.0), "{batches:?}");
}

#[test]
fn the_prototypes_second_phase_runs_on_one_connection() {
    let server = service::private_mysql();
    let spec = PoolSpec { size: 6, rows: 100, updates: 60, pairs: 2, seed: 1 };
    let [leaky, fair] = prototype(&server, spec).unwrap();
    let [first, second] = ["first", "second"].map(|place| leaky.phases.filter("place", place));
    let fair = fair.phases.filter("place", "second");
    assert_eq!(second.samples("most").values(), [1.0; 4]);
    assert_eq!(first.samples("permits left").values(), [1.0; 4]);
    assert_eq!(second.samples("permits left").values(), [1.0; 4]);
    assert_eq!(fair.samples("permits left").values(), [6.0; 4]);
    assert!(first.samples("most").min() > 1.0 && fair.samples("most").min() > 1.0, "{leaky:?} {fair:?}");
    // Alone, each commit goes to the disk by itself.
    assert_eq!(second.samples("commits to a sync").values(), [1.0; 4]);
    assert_eq!(leaky.published().len(), 2);
    let one_sample = prototype(&server, PoolSpec { pairs: 1, ..spec }).unwrap_err().to_string();
    assert!(one_sample.contains("two pairs of runs"), "{one_sample}");
}

/// On the prototype's table both statements give the engine the same work; where the server chooses the numbers, REPLACE gives
/// every index of the table an entry with the new one.
#[test]
fn replace_costs_an_index_entry_for_each_index_and_nothing_where_there_is_none() {
    // What the server does by itself is counted too: so it has nothing else to do, not even statistics.
    let server = MariaDb::with("innodb_stats_auto_recalc", "0").start().unwrap();
    let spec = PoolSpec { size: 4, rows: 3_000, updates: 400, pairs: 4, seed: 1 };
    let [_, plain] = prototype(&server, spec).unwrap();
    let book = address_book(&server, spec).unwrap();
    for (what, ratio, low, high) in [
        ("log", plain.ratio("engine's log"), 0.85, 1.15),
        ("pages", plain.ratio("changes of pages"), 0.85, 1.15),
        ("log with indexes", book.ratio("engine's log"), 1.4, 3.0),
        ("pages with indexes", book.ratio("changes of pages"), 1.3, 1.8),
    ] {
        assert!((low..high).contains(&ratio.median()), "{what}: {ratio}, not {low} to {high}");
    }
}
