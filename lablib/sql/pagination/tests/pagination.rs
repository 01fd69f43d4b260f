//! The guarantees of `pagination`, on a real server: the order is total, the rows are the same, cursors are the pager's own.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::{Mutex, MutexGuard, OnceLock};

use ::lab::Rng;
use ::lab::service::{self, MariaDb};
use pagination::experiment as lab;
use pagination::experiment::Way;
use pagination::*;

/// One server for all tests of this file, one test at a time: some of them count its page requests or kill it.
fn server() -> MutexGuard<'static, MariaDb> {
    static SERVER: OnceLock<Mutex<MariaDb>> = OnceLock::new();
    let server = SERVER.get_or_init(|| Mutex::new(service::private_mysql()));
    server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn signer() -> Signer {
    Signer::new([1; 32]).unwrap()
}

fn open(server: &MariaDb, query: &Query) -> Pager {
    Pager::open(server, query, &signer()).unwrap()
}

fn refusal(server: &MariaDb, query: &Query) -> String {
    Pager::open(server, query, &signer()).unwrap_err().to_string()
}

fn ints(page: &Page) -> Vec<i64> {
    page.rows.iter().map(|row| mysql::from_value(row[0].clone())).collect()
}

/// All rows by key, forwards; each page's cursors checked on the way.
fn forwards(pager: &mut Pager, size: usize) -> Vec<Row> {
    let (mut rows, mut page) = (Vec::new(), pager.first().unwrap());
    assert!(page.previous.is_none());
    loop {
        assert!(page.rows.len() == size || page.next.is_none(), "only the last page may be short");
        rows.extend(page.rows.iter().cloned());
        let Some(next) = page.next else { return rows };
        let on = pager.after(&next).unwrap();
        let back = pager.before(on.previous.as_ref().unwrap()).unwrap();
        assert_eq!(back.rows, page.rows, "there and back again");
        page = on;
    }
}

fn backwards(pager: &mut Pager) -> Vec<Row> {
    let (mut pages, mut page) = (Vec::new(), pager.last().unwrap());
    assert!(page.next.is_none());
    loop {
        pages.push(page.rows.clone());
        let Some(previous) = page.previous else { break };
        page = pager.before(&previous).unwrap();
    }
    pages.into_iter().rev().flatten().collect()
}

const KINDS: &str = "CREATE TABLE kinds (region CHAR(2) NOT NULL, id INT NOT NULL, whole BIGINT UNSIGNED NOT NULL, \
    signed_ TINYINT NULL, price DECIMAL(30,10) NOT NULL, word VARCHAR(40) COLLATE utf8mb4_general_ci NULL, \
    latin VARCHAR(20) CHARACTER SET latin1 NOT NULL, raw VARBINARY(20) NOT NULL, fixed BINARY(4) NOT NULL, \
    at DATETIME(6) NULL, stamp TIMESTAMP(3) NOT NULL DEFAULT '2024-01-01', day DATE NOT NULL, span TIME(2) NULL, \
    year_ YEAR NOT NULL, dbl DOUBLE NULL, flt FLOAT NOT NULL, tag UUID NOT NULL, `we``ird ?:x` INT NOT NULL, \
    PRIMARY KEY (region, id), KEY (price), KEY (word), KEY (at), KEY (raw), KEY (whole, signed_))";

/// A table of every kind of column that can be sorted by, with few values in each, so that most rows share theirs.
fn kinds(server: &MariaDb, rows: u64, seed: u64) {
    server.execute("DROP TABLE IF EXISTS kinds");
    server.execute(KINDS);
    let mut rng = Rng::seeded(seed, "kinds");
    let mut pick = |values: &[&str]| values[rng.below(values.len() as u64) as usize].to_string();
    let mut lines = Vec::new();
    for id in 0..rows {
        let values = [
            pick(&["'de'", "'fr'", "'DK'"]),
            id.to_string(),
            pick(&["0", "1", "18446744073709551615", "18446744073709551614", "9223372036854775808"]),
            pick(&["NULL", "-128", "-1", "0", "127"]),
            // As floating point numbers, the first three are one.
            pick(&[
                "12345678901234567890.0000000001",
                "12345678901234567890.0000000002",
                "12345678901234567890",
                "-0.5",
            ]),
            pick(&[
                "NULL",
                "''",
                "'a'",
                "'A'",
                "'ä'",
                "'a '",
                "'O\\'Hara'",
                "'\" OR 1=1 -- '",
                "'🐦'",
                "'%_\\\\'",
                "'z`?:x'",
            ]),
            pick(&["'a'", "'é'", "'É'", "'z'"]),
            pick(&["''", "0x00", "0x0000", "0xFF", "0xFE27", "'a'", "'a '", "0x27223B2D2D"]),
            pick(&["0x00000001", "0x00000000", "0xFFFFFFFF", "'ab'"]),
            pick(&["NULL", "'2024-02-29 12:00:00.000001'", "'2024-02-29 12:00:00'", "'1000-01-01'"]),
            pick(&["'2024-10-27 00:30:00.001'", "'2024-10-27 01:30:00'", "'1999-01-01'"]),
            pick(&["'2024-02-29'", "'2024-03-01'", "'9999-12-31'"]),
            pick(&["NULL", "'-838:59:59'", "'-00:00:00.5'", "'00:00:01.25'", "'838:59:59'"]),
            pick(&["1901", "2024", "2155"]),
            pick(&["NULL", "0.1", "-1e300", "1e-300", "0.30000000000000004", "0.3"]),
            pick(&["0.1", "-3.4e38", "16777216", "1e-30"]),
            pick(&[
                "'00000000-0000-0000-0000-000000000001'",
                "'ffffffff-0000-4000-8000-000000000001'",
                "'01890000-0000-7000-8000-000000000001'",
                "'01890000-0000-1000-8000-000000000001'",
            ]),
            pick(&["1", "2"]),
        ];
        lines.push(format!("({})", values.join(",")));
    }
    server.execute(&format!("INSERT INTO kinds VALUES {}", lines.join(",")));
}

const SORTABLE: [&str; 17] = [
    "region", "id", "whole", "signed_", "price", "word", "latin", "raw", "fixed", "at", "stamp", "day", "span",
    "year_", "dbl", "flt", "tag",
];

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// What the whole order looks like to a statement that knows nothing of pages.
fn truth(server: &MariaDb, order: &[(String, Direction)], filter: Option<(&str, &str)>) -> Vec<String> {
    let mut terms: Vec<String> = order
        .iter()
        .map(|(name, direction)| {
            format!("{} {}", quoted(name), if *direction == Direction::Asc { "ASC" } else { "DESC" })
        })
        .collect();
    let first = order.first().map_or("ASC", |(_, direction)| if *direction == Direction::Asc { "ASC" } else { "DESC" });
    for primary in ["region", "id"] {
        if !order.iter().any(|(name, _)| name == primary) {
            terms.push(format!("{primary} {first}"));
        }
    }
    let filter = filter.map_or(String::new(), |(name, value)| format!("WHERE {name} <=> {value}"));
    // Not GROUP_CONCAT's own ORDER BY: MariaDB takes NULL for 0 there.
    let all = server
        .ask(&format!(
            "SELECT GROUP_CONCAT(name ORDER BY place SEPARATOR ',') FROM (SELECT CONCAT(region, ':', id) AS name, \
         ROW_NUMBER() OVER (ORDER BY {}) AS place FROM kinds {filter}) AS ordered",
            terms.join(", ")
        ))
        .unwrap();
    if all == "NULL" { Vec::new() } else { all.split(',').map(str::to_string).collect() }
}

fn names(rows: &[Row]) -> Vec<String> {
    let name = |row: &Row| -> (String, i64) { (mysql::from_value(row[0].clone()), mysql::from_value(row[1].clone())) };
    rows.iter().map(name).map(|(region, id)| format!("{region}:{id}")).collect()
}

#[test]
fn every_kind_of_column_every_direction_and_every_way_show_the_same_rows() {
    let server = server();
    kinds(&server, 240, 1);
    server.execute("SET GLOBAL group_concat_max_len = 1000000");
    let mut rng = Rng::seeded(2, "orders");
    // Each column once by itself in both directions, then mixtures.
    let mut orders: Vec<Vec<(String, Direction)>> = SORTABLE
        .iter()
        .flat_map(|name| [Direction::Asc, Direction::Desc].map(|direction| vec![((*name).to_string(), direction)]))
        .collect();
    orders.push(Vec::new());
    orders.push(vec![("we`ird ?:x".into(), Direction::Desc), ("word".into(), Direction::Asc)]);
    for _ in 0..40 {
        let count = 2 + rng.below(3) as usize;
        let columns = rng.pick(&SORTABLE, count);
        let direction = |rng: &mut Rng| if rng.below(2) == 0 { Direction::Asc } else { Direction::Desc };
        orders.push(columns.into_iter().map(|name| (name.to_string(), direction(&mut rng))).collect());
    }
    for (number, order) in orders.iter().enumerate() {
        let size = [1, 7, 100, 239, 240, 241][number % 6];
        let filter = [None, Some(("word", "NULL")), Some(("signed_", "-1")), Some(("price", "'-0.5'"))][number % 4];
        let mut query = Query::on("kinds").select(["region", "id"]).page_size(size);
        for (name, direction) in order {
            query = query.order_by(name, *direction);
        }
        query = match filter {
            Some((name, "NULL")) => query.filter(name, Value::NULL),
            Some(("price", _)) => query.filter("price", "-0.5"),
            Some((name, value)) => query.filter(name, value.parse::<i64>().unwrap()),
            None => query,
        };
        let truth = truth(&server, order, filter);
        assert!(truth.len() > 5 && (filter.is_some() || truth.len() == 240), "{query}");
        let mut pager = open(&server, &query);
        assert_eq!(names(&forwards(&mut pager, size as usize)), truth, "forwards: {query}");
        assert_eq!(names(&backwards(&mut pager)), truth, "backwards: {query}");
        for deferred in [false, true] {
            let mut counted = Vec::new();
            for offset in (0..truth.len() as u64).step_by(size as usize) {
                let page = if deferred { pager.deferred(offset) } else { pager.offset(offset) }.unwrap();
                // From a page that was counted off, a reader goes on by key.
                if let Some(next) = &page.next {
                    let on = pager.after(next).unwrap();
                    assert_eq!(names(&on.rows)[0], truth[(offset + size) as usize], "{query}");
                }
                if let Some(previous) = &page.previous {
                    let back = pager.before(previous).unwrap();
                    assert_eq!(names(&back.rows).last(), Some(&truth[offset as usize - 1]), "{query}");
                }
                counted.extend(names(&page.rows));
            }
            assert_eq!(counted, truth, "deferred {deferred}: {query}");
        }
    }
}

#[test]
fn all_values_of_a_row_come_back_as_the_server_has_them() {
    let server = server();
    kinds(&server, 60, 3);
    let pager = open(&server, &Query::on("kinds"));
    assert_eq!(pager.columns().len(), 18);
    assert_eq!(pager.columns()[17], "we`ird ?:x");
    let mut pager = open(&server, &Query::on("kinds").select(["WHOLE", "signed_", "price", "span"]).page_size(60));
    assert_eq!(pager.columns()[0], "whole", "names are the table's");
    let rows = pager.first().unwrap().rows;
    assert!(rows.iter().all(|row| row.len() == 4), "what is read for its place alone is not shown");
    assert!(rows.iter().any(|row| row[0] == Value::UInt(u64::MAX)));
    assert!(rows.iter().any(|row| row[1] == Value::Int(-128)) && rows.iter().any(|row| row[1] == Value::NULL));
    assert!(rows.iter().any(|row| row[2] == Value::from("12345678901234567890.0000000001")));
}

fn posts(server: &MariaDb, rows: u64) -> Query {
    server.execute("DROP TABLE IF EXISTS posts");
    server.execute("CREATE TABLE posts (id INT PRIMARY KEY, score INT NOT NULL, author INT NOT NULL, KEY (score))");
    if rows > 0 {
        let lines: Vec<String> = (1..=rows).map(|id| format!("({id}, {}, {})", id % 3, id % 2)).collect();
        server.execute(&format!("INSERT INTO posts VALUES {}", lines.join(",")));
    }
    Query::on("posts").order_by("score", Direction::Desc).page_size(4)
}

#[test]
fn what_cannot_be_paged_is_refused_with_one_sentence() {
    let server = server();
    let query = posts(&server, 10);
    server.execute("DROP TABLE IF EXISTS keyless");
    server.execute("CREATE TABLE keyless (id INT, KEY (id))");
    server.execute("DROP TABLE IF EXISTS odd");
    server.execute(
        "CREATE TABLE odd (id INT PRIMARY KEY, mood ENUM('z', 'a'), many SET('z', 'a'), words TEXT, doc JSON, bits BIT(5), \
         lump BLOB, wide VARCHAR(1000), spot POINT)",
    );
    let cases = [
        (query.clone().page_size(0), "a page of 0 rows"),
        (query.clone().page_size(u64::MAX), "too large"),
        (Query::on("nowhere"), "there is no table \"nowhere\""),
        (Query::on("posts; DROP TABLE posts"), "there is no table"),
        (Query::on("keyless"), "no primary key"),
        (query.clone().order_by("nothing", Direction::Asc), "has no column \"nothing\""),
        (query.clone().order_by("id DESC, score", Direction::Asc), "has no column"),
        (query.clone().select(["id", "COUNT(*)"]), "has no column \"COUNT(*)\""),
        (query.clone().filter("1=1 OR id", 3), "has no column"),
        (query.clone().order_by("Score", Direction::Asc), "stands twice"),
        (Query::on("odd").order_by("mood", Direction::Asc), "it is sorted by its number"),
        (Query::on("odd").order_by("many", Direction::Asc), "it is sorted by its number"),
        (Query::on("odd").order_by("words", Direction::Asc), "type TEXT"),
        (Query::on("odd").order_by("doc", Direction::Asc), "not compared by their whole value"),
        (Query::on("odd").order_by("bits", Direction::Asc), "type BIT"),
        (Query::on("odd").order_by("lump", Direction::Asc), "type BLOB"),
        (Query::on("odd").order_by("spot", Direction::Asc), "type POINT"),
        (Query::on("odd").order_by("wide", Direction::Asc), "no index holds more than 3072"),
    ];
    for (query, words) in cases {
        let said = refusal(&server, &query);
        assert!(said.contains(words) && !said.contains('\n'), "{query}: {said}");
    }
    assert_eq!(server.ask("SELECT COUNT(*) FROM posts").unwrap(), "10");
}

#[test]
fn an_empty_table_and_a_table_of_exactly_one_page_have_no_way_on() {
    let server = server();
    let query = posts(&server, 0);
    let mut pager = open(&server, &query);
    for page in [pager.first(), pager.last(), pager.offset(0), pager.offset(5), pager.deferred(0)] {
        assert_eq!(page.unwrap(), Page { rows: Vec::new(), next: None, previous: None });
    }
    assert_eq!(pager.pages().count(), 1);
    let query = posts(&server, 4);
    let mut pager = open(&server, &query);
    for page in [pager.first().unwrap(), pager.last().unwrap(), pager.offset(0).unwrap(), pager.deferred(0).unwrap()] {
        assert_eq!((ints(&page), page.next.is_some(), page.previous.is_some()), (vec![2, 4, 1, 3], false, false));
    }
    let beyond = pager.offset(100).unwrap();
    assert_eq!((beyond.rows.len(), beyond.next), (0, None));
    let query = posts(&server, 9);
    let pages: Vec<Page> = open(&server, &query).pages().collect::<Result<_, _>>().unwrap();
    assert_eq!(pages.iter().map(|page| page.rows.len()).collect::<Vec<_>>(), [4, 4, 1]);
    assert_eq!(pages.iter().flat_map(ints).collect::<Vec<_>>(), [8, 5, 2, 7, 4, 1, 9, 6, 3]);
}

#[test]
fn a_page_that_was_emptied_leads_back_to_where_its_reader_was() {
    let server = server();
    let query = posts(&server, 9);
    let mut pager = open(&server, &query);
    let first = pager.first().unwrap();
    let second = pager.after(first.next.as_ref().unwrap()).unwrap();
    assert_eq!((ints(&first), ints(&second)), (vec![8, 5, 2, 7], vec![4, 1, 9, 6]));
    server.execute("DELETE FROM posts WHERE id IN (4, 1, 9, 6, 3)");
    let empty = pager.after(first.next.as_ref().unwrap()).unwrap();
    assert_eq!((empty.rows.len(), &empty.next), (0, &None));
    let back = pager.before(empty.previous.as_ref().unwrap()).unwrap();
    assert_eq!(ints(&back), [8, 5, 2, 7], "the row of the cursor itself is one of them");
    server.execute("DELETE FROM posts WHERE id IN (8, 5, 2)");
    let empty = pager.before(second.previous.as_ref().unwrap()).unwrap();
    assert_eq!(ints(&empty), [7]);
    server.execute("DELETE FROM posts");
    let empty = pager.before(second.previous.as_ref().unwrap()).unwrap();
    server.execute("INSERT INTO posts VALUES (4, 1, 0), (5, 2, 0)");
    let on = pager.after(empty.next.as_ref().unwrap()).unwrap();
    assert_eq!(ints(&on), [4], "what the cursor before the page stands at is after it, and 5 is not");
}

#[test]
fn a_cursor_goes_where_it_was_made_for_and_nowhere_else() {
    let server = server();
    let query = posts(&server, 40).filter("author", 1);
    let mut pager = open(&server, &query);
    let next = pager.first().unwrap().next.unwrap();
    let second = pager.after(&next).unwrap();
    let previous = second.previous.clone().unwrap();
    // What does not concern the place may change.
    for same in
        [query.clone().page_size(7), query.clone().select(["score"]), query.clone().order_by("id", Direction::Desc)]
    {
        assert!(open(&server, &same).after(&next).is_ok(), "{same}");
    }
    assert_eq!(open(&server, &query).page(Some(&previous)).unwrap().rows, pager.first().unwrap().rows);
    server.execute("DROP TABLE IF EXISTS posts2");
    server.execute("CREATE TABLE posts2 LIKE posts");
    let base = || Query::on("posts").filter("author", 1);
    let others = [
        Query::on("posts2").filter("author", 1).order_by("score", Direction::Desc),
        base(),
        base().order_by("score", Direction::Asc),
        base().order_by("id", Direction::Desc),
        base().order_by("score", Direction::Desc).order_by("id", Direction::Asc),
        base().order_by("score", Direction::Desc).order_by("author", Direction::Asc),
        Query::on("posts").order_by("score", Direction::Desc),
        Query::on("posts").order_by("score", Direction::Desc).filter("author", 0),
        Query::on("posts").order_by("score", Direction::Desc).filter("author", Value::NULL),
        Query::on("posts").order_by("score", Direction::Desc).filter("score", 1),
        base().order_by("score", Direction::Desc).filter("id", 1),
    ];
    for other in others {
        let error = open(&server, &other).after(&next).unwrap_err();
        assert!(error.cause().starts_with("it belongs to another query"), "{other}: {error}");
    }
    let said = pager.before(&next).unwrap_err().to_string();
    assert!(said.contains("it leads forwards, and the rows before it were asked for"), "{said}");
    let said = pager.after(&previous).unwrap_err().to_string();
    assert!(said.contains("it leads backwards, and the rows behind it were asked for"), "{said}");
    let mut stranger = Pager::open(&server, &query, &Signer::new([2; 32]).unwrap()).unwrap();
    assert_eq!(stranger.after(&next).unwrap_err().cause(), "it was changed, or signed with another key");
    // The order is another one when the column is.
    server.execute("ALTER TABLE posts MODIFY score VARCHAR(20) NOT NULL");
    assert!(open(&server, &query).after(&next).unwrap_err().cause().starts_with("it belongs to another query"));
}

#[test]
fn filters_may_be_named_in_any_order_and_their_values_are_never_sql() {
    let server = server();
    posts(&server, 40);
    let by =
        |names: [&str; 2]| names.into_iter().fold(Query::on("posts").page_size(2), |query, name| query.filter(name, 1));
    let next = open(&server, &by(["author", "score"])).first().unwrap().next.unwrap();
    assert!(open(&server, &by(["score", "author"])).after(&next).is_ok());
    server.execute("DROP TABLE IF EXISTS words");
    server.execute("CREATE TABLE words (word VARCHAR(50) COLLATE utf8mb4_bin PRIMARY KEY)");
    let evil =
        ["') OR ('1'='1", "\\' OR 1=1 -- ", "a`b", "?", ":x", "Robert'); DROP TABLE words;--", "\u{1f426}\u{0}\u{1a}"];
    for word in evil {
        let hex: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        server.execute(&format!("INSERT INTO words VALUES (CONVERT(0x{hex} USING utf8mb4))"));
    }
    let mut pager = open(&server, &Query::on("words").page_size(1));
    let rows = forwards(&mut pager, 1);
    let mut sorted = evil.to_vec();
    sorted.sort_unstable();
    assert_eq!(rows.iter().map(|row| mysql::from_value::<String>(row[0].clone())).collect::<Vec<_>>(), sorted);
    for word in evil {
        let mut found = open(&server, &Query::on("words").filter("word", word));
        assert_eq!(found.first().unwrap().rows, [[Value::from(word)]]);
        assert!(!found.statement(None).unwrap().contains(word) || word == "?");
    }
}

#[test]
fn all_forms_show_the_same_rows_and_only_ranges_looks_at_the_page_alone() {
    let server = server();
    let people = lab::people(&server, 30_000, 1).unwrap();
    let costs = lab::form_costs(&server, &people, &[lab::Order::Newest, lab::Order::Age], 10).unwrap();
    for alike in ["rows", "alike"] {
        assert_eq!(costs.samples(alike).values(), [10.0; 6], "{costs:?}");
    }
    let looked_at = |order: lab::Order, form: Form| {
        let cost = costs.filter("order", order.name()).filter("form", format!("{form:?}"));
        cost.number("looked at")
    };
    for order in [lab::Order::Newest, lab::Order::Age] {
        assert!(looked_at(order, Form::Ranges) <= 14.0, "{costs:?}");
        assert!(looked_at(order, Form::RowComparison) > 14_000.0, "{costs:?}");
    }
    assert!(looked_at(lab::Order::Age, Form::Guarded) > 100.0, "{costs:?}");
    let mut pager = open(&server, &people.query(lab::Order::AgeNewest)).comparing(Form::RowComparison);
    let next = pager.first().unwrap().next.unwrap();
    assert!(pager.after(&next).unwrap_err().to_string().contains("different ways"));
}

#[test]
fn a_page_by_key_costs_the_same_everywhere_and_by_offset_what_lies_before_it() {
    let server = server();
    let people = lab::people(&server, 30_000, 1).unwrap();
    for order in [lab::Order::Id, lab::Order::Newest, lab::Order::Age, lab::Order::AgeNewest] {
        let spec = lab::DepthSpec {
            order,
            page_size: 10,
            ways: Way::ALL.to_vec(),
            depths: vec![0, 10_000, 20_000, 29_990],
            rounds: 1,
        };
        let found = lab::depths(&server, &people, &spec).unwrap();
        let sum = |figure| found.figure(figure).samples("value").values().iter().sum::<f64>();
        assert_eq!((sum("alike"), sum("compared")), (240.0, 240.0), "{order:?}");
        let looked_at = |way: Way| found.figure("looked at").filter("way", &way);
        assert!(looked_at(Way::Keyset).samples("value").max() <= 15.0, "{order:?}: {found:?}");
        assert!(looked_at(Way::Offset).rows().all(|page| page.number("value") >= page.number("depth") + 10.0));
        // The whole order lies in an index, the rows do not.
        if order != lab::Order::Id {
            let requests = |way| found.samples(&lab::PageAt { way, depth: 29_990 }, "requests").median();
            assert!(requests(Way::Offset) > 1.5 * requests(Way::Deferred), "{order:?}: {found:?}");
        }
    }
}

#[test]
fn every_row_comes_exactly_once_in_every_way_and_is_lost_without_the_tie_breaker() {
    let server = server();
    let people = lab::people(&server, 5_000, 1).unwrap();
    let orders = [lab::Order::Id, lab::Order::Newest, lab::Order::Age, lab::Order::AgeNewest, lab::Order::LastSeen];
    let walks = lab::walk_all(&server, &people, &orders, 300).unwrap();
    assert_eq!(walks.height(), 30);
    for walk in walks.rows() {
        let found = ["rows", "wrong", "twice", "missing"].map(|count| walk.number(count));
        assert_eq!(found, [5_000.0, 0.0, 0.0, 0.0], "{walks:?}");
    }
    let broken = lab::without_tie_breaker(&server, &people, lab::Order::Age, 10).unwrap();
    assert!(broken.number("missing") > 3_000.0 && broken.number("wrong") > 3_000.0, "{broken:?}");
}

#[test]
fn whatever_comes_and_goes_a_walk_by_key_shows_what_stays_exactly_once() {
    let server = server();
    let spec = lab::DriftSpec { rows: 2_000, page_size: 50, changes: 6, seed: 1 };
    let found = lab::drift(&server, spec).unwrap();
    assert_eq!(found.height(), 8);
    for drifted in found.rows() {
        assert!(drifted.number("stayed") > 500.0 && drifted.number("changes") >= 30.0, "{found:?}");
        let harm = drifted.number("twice") + drifted.number("missed");
        assert_eq!(harm == 0.0, drifted.text("way") == Way::Keyset.to_string(), "{found:?}");
    }
    let (moved, each_way) = lab::moved(&server, spec).unwrap();
    let seen = ["twice", "missed", "moved twice", "moved missed"].map(|figure| moved.number(figure));
    assert_eq!((seen, each_way), ([0.0, 0.0, 6.0, 6.0], 6), "{moved:?}");
}

#[test]
fn no_forged_cursor_is_taken_unless_its_check_is_left_out() {
    let server = server();
    let people = lab::people(&server, 1_000, 1).unwrap();
    let found = lab::forgeries(&server, &people, None).unwrap();
    assert_eq!(found.height(), 8);
    let all_refused = |kind: ::lab::Row<'_>| kind.number("refused") == kind.number("tried");
    assert!(found.rows().all(|kind| kind.number("tried") > 0.0 && all_refused(kind)), "{found:?}");
    assert!(found.head(1).number("tried") > 500.0, "{found:?}");
    let taken = |skip| -> Vec<String> {
        let found = lab::forgeries(&server, &people, Some(skip)).unwrap();
        found.filter_by(|kind| !all_refused(kind)).texts("cursor")
    };
    let unsigned = taken(Skip::Signature);
    assert!(
        unsigned.contains(&"signed with another key".to_string()) && unsigned[0].starts_with("one bit"),
        "{unsigned:?}"
    );
    assert!(taken(Skip::Fingerprint).contains(&"of another filter".to_string()));
}

#[test]
fn a_server_that_was_killed_costs_an_error_and_no_place() {
    let server = service::private_mysql();
    let seen = lab::outage(&server, 3_000, 100, 1).unwrap();
    let counts = |columns: [&str; 2]| columns.map(|column| seen.number(column));
    let [before, after] = counts(["before", "after"]);
    assert_eq!((counts(["twice", "missed"]), before + after), ([0.0, 0.0], 3_000.0), "{seen:?}");
    assert_eq!(counts(["asked", "refused"]), [3.0, 3.0]);
    assert!(before >= 1_500.0 && after > 0.0);
    let because = &seen.texts("because")[0];
    assert!(because.contains("a cursor stays good") && !because.contains('\n'), "{because}");
}

#[test]
fn a_connection_that_was_ended_between_two_pages_is_made_anew() {
    let server = server();
    let query = posts(&server, 40);
    let mut pager = open(&server, &query);
    let first = pager.first().unwrap();
    let before = server
        .ask("SELECT GROUP_CONCAT(id) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'lab'")
        .unwrap();
    before.split(',').for_each(|id| server.execute(&format!("KILL {id}")));
    assert_eq!(pager.after(first.next.as_ref().unwrap()).unwrap().rows.len(), 4);
}

#[test]
fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = server();
    let query = posts(&server, 40);
    let mut pager = open(&server, &query).patience(std::time::Duration::from_millis(300));
    let first = pager.first().unwrap();
    server.pause();
    let began = std::time::Instant::now();
    let error = pager.after(first.next.as_ref().unwrap()).unwrap_err();
    let took = began.elapsed();
    server.resume();
    assert!(took < std::time::Duration::from_secs(20) && error.to_string().contains("a cursor stays good"), "{error}");
    assert_eq!(pager.after(first.next.as_ref().unwrap()).unwrap().rows.len(), 4);
}

#[test]
fn the_prototypes_compare_work_that_is_not_the_same() {
    let server = server();
    let people = lab::people(&server, 30_000, 1).unwrap();
    let first = lab::first_prototype(&server, &people, 1_000, 2).unwrap();
    let rows = |trial: &::lab::Trial<Way>| [Way::Offset, Way::Keyset].map(|way| trial.samples(&way, "rows").median());
    assert_eq!((rows(&first.published), rows(&first.fair)), ([1_000.0, 1.0], [1_000.0; 2]));
    let second = lab::second_prototype(&server, &people, 2).unwrap();
    assert_eq!((rows(&second.published), rows(&second.fair)), ([5_000.0, 100.0], [100.0; 2]));
}
