//! The guarantees of `placing::hot_tenants`, and the prototype's published table.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hot_tenants::experiment::*;
use hot_tenants::*;
use lab::crash::{self, Child, Crash};
use lab::disk::RealDisk;
use lab::{Error, Result, Rng};
use proptest::prelude::*;

const TENANT: &str = "the-hot-one";

/// A folder of its own for a test, gone with it.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("hot-tenants-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn shards(&self) -> Arc<dyn SearchShards> {
        self.some_shards(10)
    }

    fn some_shards(&self, primaries: u32) -> Arc<dyn SearchShards> {
        Arc::new(Embedded::open(&self.0.join("shards"), Routing::new(primaries).unwrap()).unwrap())
    }

    fn index_on(&self, shards: Arc<dyn SearchShards>) -> TenantIndex {
        TenantIndex::open(shards, Arc::new(RealDisk::open(self.0.join("map")).unwrap())).unwrap()
    }

    fn index(&self) -> TenantIndex {
        self.index_on(self.shards())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn document(id: u64, tenant: &str, version: u64) -> Document {
    Document { id, tenant: tenant.into(), version, text: format!("some words of {id}") }
}

fn found(index: &TenantIndex, tenant: &str) -> Vec<Hit> {
    let mut hits = index.read(tenant).unwrap().hits;
    hits.sort_unstable();
    hits
}

/// Every bucket on one of these shards of ten, in turn.
fn over(shards: &[usize]) -> Split {
    over_some(10, shards)
}

fn over_some(primaries: u32, shards: &[usize]) -> Split {
    let homes: Vec<usize> = (0..BUCKETS as usize).map(|bucket| shards[bucket % shards.len()]).collect();
    Split::over(&Routing::new(primaries).unwrap(), TENANT, &homes).unwrap()
}

// --- Compatible ---------------------------------------------------------------------------------------------------

#[test]
fn the_published_table_comes_out() {
    let routing = Routing::new(10).unwrap();
    let shard = |key: &str| routing.shard_of(key, 1).unwrap();
    let whole: Vec<usize> = (1..=19).map(|tenant| shard(&format!("tenant{tenant}"))).collect();
    assert_eq!(whole, [5, 7, 9, 9, 1, 7, 6, 5, 0, 6, 2, 0, 5, 1, 1, 1, 9, 8, 2]);
    for (tenant, homes) in [("tenant1", vec![4, 7, 1, 6, 8]), ("tenant2", vec![9, 3, 9]), ("tenant3", vec![7, 6, 0])] {
        let split: Vec<usize> = (0..homes.len()).map(|part| shard(&format!("{tenant}_{part}"))).collect();
        assert_eq!(split, homes, "{tenant}");
    }
}

/// The drawing is committed: it must stay what the routing says.
#[test]
fn the_picture_is_the_routings() {
    use lab::Show;
    for (shard, key) in [(1, "tenant1#0"), (4, "tenant1#2"), (7, "tenant1#35")] {
        assert_eq!(Routing::new(10).unwrap().key_to("tenant1", shard).unwrap(), key);
        assert!(picture().to_html().contains(key) && picture().to_plain().contains(&format!("on shard {shard}")));
    }
}

#[test]
fn strange_keys_lead_where_a_real_server_says() {
    // Asked of OpenSearch 2.19.1, ten primaries.
    let keys = ["ü", "日本語のテナント", "😀", "a\u{10ffff}b", "tenant #1/?&=%+", " ", "\0"];
    let shards: Vec<usize> = keys.iter().map(|key| Routing::new(10).unwrap().shard_of(key, 1).unwrap()).collect();
    assert_eq!(shards, [1, 7, 4, 5, 4, 0, 8]);
}

#[test]
fn the_prototypes_run_comes_out_with_its_faults() {
    let run = prototype::published().unwrap();
    assert_eq!(run.documents, prototype::TOTALS);
    let unsplit = |shard: u64| run.homes_unsplit.filter("shard", shard).samples("documents").values().iter().sum();
    assert_eq!((unsplit(5), unsplit(9)), (300.0, 300.0));
    assert_eq!(run.homes.filter("tenant", "tenant2").height(), 2, "split in three, on two shards");
    // By the statistics query, by all sub-keys, and by those of a second run, which finds both copies.
    assert_eq!(run.found.samples("documents").values(), [0.0, 600.0, 969.0]);
    assert!(run.after_a_second_run > 1_400, "another k doubles documents");
    for (homes, figure) in [(&run.homes, prototype::TABLE), (&run.homes_unsplit, prototype::TABLE_UNSPLIT)] {
        assert!((shares_of_shards(homes).samples("documents ÷ mean").max() - figure).abs() < 0.005, "{figure}");
    }
}

#[test]
fn the_readmes_figures_come_out() {
    let published = sweep(100_000, 1, 1).unwrap().filter("names", "the prototype's");
    for (strategy, figure) in prototype::RAN {
        let ours = published.filter("strategy", strategy).number("fullest shard ÷ mean");
        assert!((ours - figure).abs() < 0.005, "{strategy}: {ours} and not {figure}");
    }
}

#[test]
fn what_the_prototype_never_published_is_not_marked_as_published() {
    use lab::{Chart, Figure};
    let placed = sweep(100_000, 1, 1).unwrap().filter("names", "random");
    let bars = Chart::bars("t").of(&placed, "strategy", "fullest shard ÷ mean");
    let chart = prototype::RAN
        .into_iter()
        .fold(bars, |bars, (strategy, figure)| bars.ran("prototype's names", strategy, figure))
        .to_svg();
    assert!(chart.contains("names, run by us"), "{chart}");
    assert!(chart.contains("Open square: published by nobody, we ran the prototype."), "{chart}");
    // And the notebook draws it like this; what it marks as published is the table's.
    let notebook = include_str!("../../../../notebooks/02-hot-tenants.ipynb");
    assert!(notebook.contains(".ran(\\\"prototype's names"));
    assert!(notebook.contains(".ran(\\\"prototype\\\", 5, prototype::TABLE_UNSPLIT)"));
    assert_eq!(notebook.matches(".mark(").count(), 1);
    assert!(notebook.contains(".mark(\\\"prototype's table\\\", 1, prototype::TABLE)"));
}

/// Consecutive remainders by ten are different as long as there are no more than ten of them: nothing that a run could refute.
#[test]
fn a_partition_without_routing_shards_to_spare_reaches_as_many_shards_as_it_is_large() {
    for size in [1, 4, 8] {
        let reach = partition_reach(&KeyRule::PartitionedUnsplittable(size), 100, 2, 7).unwrap();
        assert!(reach.values().iter().all(|shards| *shards == f64::from(size)), "{size}: {reach}");
    }
}

#[test]
fn an_index_gets_the_routing_shards_that_elasticsearch_gives_it() {
    for (primaries, routing_shards) in [
        (1, 1_024),
        (2, 1_024),
        (3, 768),
        (5, 640),
        (10, 640),
        (512, 1_024),
        (513, 1_026),
        (600, 1_200),
        (1_024, 2_048),
    ] {
        assert_eq!(default_routing_shards(primaries), routing_shards, "{primaries}");
    }
}

#[test]
fn a_layout_that_elasticsearch_refuses_is_refused() {
    let ten = Routing::new(10).unwrap();
    for (layout, cause) in [
        (Routing::new(0), "1 to 1024 primary shards, not 0"),
        (Routing::new(1_025), "not 1025"),
        (ten.with_routing_shards(0), "no multiple"),
        (ten.with_routing_shards(15), "15 routing shards are no multiple of 10"),
        (ten.with_partition_size(0), "a partition of 0 does not fit"),
        (ten.with_partition_size(640), "a partition of 640 does not fit below 640"),
        (ten.with_partition_size(20).unwrap().with_routing_shards(10), "a partition of 20 does not fit below 10"),
    ] {
        assert!(layout.unwrap_err().to_string().contains(cause), "{cause}");
    }
    assert!(ten.with_partition_size(639).is_ok() && Routing::new(1).unwrap().with_partition_size(1).is_ok());
}

#[test]
fn a_key_that_leads_nowhere_is_one_sentence() {
    let routing = Routing::new(10).unwrap();
    let empty = routing.shard_of("", 1).unwrap_err().to_string();
    assert_eq!(empty, "could not route a document: its routing key is empty; name its tenant");
    assert!(routing.shards_of("a,b").unwrap_err().to_string().contains("a comma"));
    assert!(routing.key_to("tenant", 10).unwrap_err().to_string().contains("no shard 10"));
}

proptest! {
    #[test]
    fn a_search_asks_the_shard_of_every_document(
        key in "[^,]{1,12}", id in any::<u32>(), primaries in 1_u32..40, doublings in 0_u32..5, size in 1_u32..40,
    ) {
        let plain = Routing::new(primaries).unwrap().with_routing_shards(primaries << doublings).unwrap();
        prop_assume!(size == 1 || size < plain.routing_shards());
        let routing = plain.with_partition_size(size).unwrap();
        let asked = routing.shards_of(&key).unwrap();
        prop_assert!(asked.contains(&routing.shard_of(&key, u64::from(id)).unwrap()));
        prop_assert!(asked.len() as u32 <= size.min(primaries) && asked.iter().all(|shard| *shard < primaries as usize));
        prop_assert!(asked.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_routing_key_can_be_found_for_every_shard(tenant in "[^,]{1,12}", primaries in 1_u32..100) {
        let routing = Routing::new(primaries).unwrap();
        for shard in 0..primaries as usize {
            let key = routing.key_to(&tenant, shard).unwrap();
            prop_assert_eq!(routing.shards_of(&key).unwrap(), vec![shard]);
        }
    }
}

#[test]
fn a_tenant_without_a_name_is_refused_and_nothing_is_written() {
    let room = Room::new();
    let index = room.index();
    let error = index.write(&[document(1, "a", 1), document(2, "", 1)]).unwrap_err().to_string();
    assert!(error.contains("its routing key is empty"), "{error}");
    index.refresh().unwrap();
    assert_eq!(found(&index, "a"), []);
    assert!(index.read("").is_err() && index.resplit("", Some(over(&[1]))).is_err());
    assert!(index.resplit("a,b", None).is_err());
    assert!(Split::over(index.routing(), "a", &[0; 63]).unwrap_err().to_string().contains("63 of 64 buckets"));
    assert!(Split::over(index.routing(), "a", &[10; 64]).unwrap_err().to_string().contains("no shard 10"));
}

// --- The shards ---------------------------------------------------------------------------------------------------

#[test]
fn shards_find_what_was_refreshed_and_nothing_else() {
    let room = Room::new();
    what_shards_promise(room.shards());
}

/// What the rest of the system relies on.
fn what_shards_promise(shards: Arc<dyn SearchShards>) {
    let put =
        |routing: &str, id, version| Change::Put { routing: routing.into(), document: document(id, "a", version) };
    let search = |ask: Ask| {
        let mut found = shards.search(&[ask]).unwrap();
        found.hits.sort_unstable();
        found
    };
    let all = || search(Ask::all("a", "a"));
    shards.write(&(0..100).map(|id| put("a", id, 1)).collect::<Vec<_>>()).unwrap();
    assert_eq!(all().hits.len(), 0, "not refreshed");
    shards.refresh().unwrap();
    assert_eq!((all().hits.len(), all().shards), (100, 1));

    // A document is replaced on its own shard, and deleted from it.
    shards.write(&[put("a", 7, 2), put("a", 7, 3), Change::Delete { routing: "a".into(), id: 8 }]).unwrap();
    shards.write(&[Change::Delete { routing: "a".into(), id: 1_000 }]).unwrap();
    assert_eq!(all().hits.len(), 100, "not refreshed");
    shards.refresh().unwrap();
    let hits = all().hits;
    assert_eq!(hits.len(), 99);
    assert_eq!(hits.iter().find(|hit| hit.id == 7), Some(&Hit { id: 7, version: 3 }));

    // On another shard it is another document.
    let elsewhere = shards.routing().key_to("a", 3).unwrap();
    assert_ne!(elsewhere, "a");
    shards.write(&[put(&elsewhere, 7, 4)]).unwrap();
    shards.refresh().unwrap();
    let both = shards.search(&[Ask::all("a", "a"), Ask::all(elsewhere.clone(), "a")]).unwrap();
    assert_eq!((both.hits.iter().filter(|hit| hit.id == 7).count(), both.shards), (2, 2));

    // By bucket, by word, by tenant.
    let buckets = Buckets::from_iter([3, 5]);
    let some = search(Ask { buckets, ..Ask::all("a", "a") }).hits;
    let expected: Vec<u64> = (0..100).filter(|id| *id != 8 && buckets.contains(bucket_of(*id))).collect();
    assert_eq!(some.iter().map(|hit| hit.id).collect::<Vec<_>>(), expected);
    assert_eq!(search(Ask { word: Some("42".into()), ..Ask::all("a", "a") }).hits.len(), 1);
    assert_eq!(search(Ask::all("a", "b")).hits.len(), 0);
    let mut fetched = shards.fetch(&Ask { buckets, word: Some("42".into()), ..Ask::all("a", "a") }).unwrap();
    fetched.sort_by_key(|document| document.id);
    assert_eq!(fetched, expected.iter().map(|id| document(*id, "a", 1)).collect::<Vec<_>>());

    let loads = shards.loads().unwrap();
    assert_eq!((loads.len(), loads.iter().map(|load| load.documents).sum::<u64>()), (10, 100));
    assert!(shards.write(&[put("", 1, 1)]).unwrap_err().to_string().contains("its routing key is empty"));
}

#[test]
fn embedded_shards_come_back_with_what_was_refreshed() {
    let room = Room::new();
    let shards = room.shards();
    let put = |id| Change::Put { routing: "a".into(), document: document(id, "a", 1) };
    shards.write(&[put(1)]).unwrap();
    shards.refresh().unwrap();
    shards.write(&[put(2)]).unwrap();
    drop(shards);
    let hits = room.shards().search(&[Ask::all("a", "a")]).unwrap().hits;
    assert_eq!(hits, [Hit { id: 1, version: 1 }]);
}

#[test]
fn a_shard_is_busy_in_proportion_to_what_it_does() {
    let room = Room::new();
    let shards = room.shards();
    let (few, many) = ("tenant4", "tenant5");
    let put = |routing: &str, id| Change::Put { routing: routing.into(), document: document(id, routing, 1) };
    for batch in 0..20 {
        shards.write(&(0..500).map(|n| put(many, batch * 1_000 + n)).collect::<Vec<_>>()).unwrap();
        shards.write(&(0..50).map(|n| put(few, 1_000_000 + batch * 1_000 + n)).collect::<Vec<_>>()).unwrap();
        shards.refresh().unwrap();
    }
    let loads = shards.loads().unwrap();
    let of = |tenant: &str| loads[shards.routing().shard_of(tenant, 1).unwrap()];
    assert_eq!((of(few).documents, of(many).documents), (1_000, 10_000));
    assert!(of(many).busy > of(few).busy, "{:?} {:?}", of(many).busy, of(few).busy);
    assert!(loads.iter().filter(|load| load.documents == 0).all(|load| load.busy < of(few).busy));
}

// --- Exactly once -------------------------------------------------------------------------------------------------

#[test]
fn every_read_beside_a_resplit_finds_every_document_once() {
    let (checked, _) = check_online(3_000, 5, None, 1).unwrap();
    let of = |what: &str| checked.number(what);
    assert_eq!(of("wrong"), 0.0, "{checked:?}");
    assert!(of("beside a re-split") > 0.0 && of("moved") > 3_000.0 && of("changes") > 0.0, "{checked:?}");
}

#[test]
fn a_step_left_out_is_noticed() {
    let run = |skip| check_online(1_000, 3, Some(skip), 1).unwrap().0;
    assert!(run(Skip::BucketFilter).number("found twice") > 0.0);
    for skip in [Skip::WaitForSwitch, Skip::WaitForReaders, Skip::SaveMap] {
        assert!(run(skip).number("missing") > 0.0, "{skip}");
    }
    let late = run(Skip::CatchUp);
    let faults = ["missing", "in an old version", "back from the dead"].map(|fault| late.number(fault));
    assert!(faults.iter().sum::<f64>() > 0.0, "{late:?}");
}

#[derive(Debug, Clone)]
enum Deed {
    Write(u64),
    Delete(u64),
    Refresh,
    Resplit(Vec<usize>),
    Home,
    Reopen,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (0_u64..60).prop_map(Deed::Write),
        2 => (0_u64..60).prop_map(Deed::Delete),
        2 => Just(Deed::Refresh),
        2 => proptest::collection::vec(0_usize..10, 1..6).prop_map(Deed::Resplit),
        1 => Just(Deed::Home),
        1 => Just(Deed::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn an_index_is_a_map_of_its_documents(deeds in proptest::collection::vec(deed(), 1..40)) {
        let room = Room::new();
        let mut index = room.index();
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        let mut version = 0;
        for deed in deeds {
            version += 1;
            match deed {
                Deed::Write(id) => {
                    index.write(&[document(id, TENANT, version)]).unwrap();
                    model.insert(id, version);
                }
                Deed::Delete(id) => {
                    index.delete_documents(TENANT, &[id]).unwrap();
                    model.remove(&id);
                }
                Deed::Refresh => index.refresh().unwrap(),
                Deed::Resplit(shards) => drop(index.resplit(TENANT, Some(over(&shards))).unwrap()),
                Deed::Home => drop(index.resplit(TENANT, None).unwrap()),
                Deed::Reopen => {
                    index.refresh().unwrap();
                    drop(index);
                    index = room.index();
                }
            }
        }
        index.refresh().unwrap();
        let expected: Vec<Hit> = model.iter().map(|(&id, &version)| Hit { id, version }).collect();
        prop_assert_eq!(found(&index, TENANT), expected);
        let held: u64 = index.shards().loads().unwrap().iter().map(|load| load.documents).sum();
        prop_assert_eq!(held, model.len() as u64);
    }
}

// --- Remembered ---------------------------------------------------------------------------------------------------

const ROOM: &str = "LAB_TEST_ROOM";

#[test]
#[ignore = "a role: the next test starts it in a process of its own"]
fn splitting() {
    if !crash::in_role("splitting") {
        return;
    }
    // The folder is the parent's: it must stay when this process goes.
    let room = std::mem::ManuallyDrop::new(Room(PathBuf::from(std::env::var(ROOM).unwrap())));
    let index = room.index_on(room.some_shards(4));
    index.write(&(0..700).map(|id| document(id, TENANT, 1)).collect::<Vec<_>>()).unwrap();
    index.refresh().unwrap();
    crash::acknowledge("written");
    index.resplit(TENANT, Some(over_some(4, &[0, 1, 2]))).unwrap();
    index.resplit(TENANT, Some(over_some(4, &[2, 3]))).unwrap();
    index.resplit(TENANT, None).unwrap();
}

#[test]
fn a_crash_at_any_point_of_a_resplit_loses_and_doubles_nothing() {
    let rooms = std::cell::RefCell::new(Vec::new());
    let crashes = Crash::everywhere(
        || {
            rooms.borrow_mut().push(Room::new());
            Child::of_this_test("splitting").env(ROOM, &rooms.borrow().last().unwrap().0)
        },
        |_, ended| {
            assert_eq!(ended.acknowledged(), ["written"]);
            let index = {
                let rooms = rooms.borrow();
                let room = rooms.last().unwrap();
                room.index_on(room.some_shards(4))
            };
            let whole: Vec<Hit> = (0..700).map(|id| Hit { id, version: 1 }).collect();
            assert_eq!(found(&index, TENANT), whole, "after the restart");
            let held: u64 = index.shards().loads()?.iter().map(|load| load.documents).sum();
            assert_eq!(held, 700, "copies were left over");
            // And it can go on: also to where half a copy may have been.
            index.resplit(TENANT, Some(over_some(4, &[0, 1, 2, 3])))?;
            assert_eq!(found(&index, TENANT), whole, "after another re-split");
            Ok(())
        },
    );
    assert!(crashes.unwrap() >= 3 * 6);
}

/// Shards whose n-th write fails, and all after it until it is mended.
struct Failing {
    shards: Arc<dyn SearchShards>,
    writes_left: AtomicU64,
}

impl SearchShards for Failing {
    fn name(&self) -> String {
        "failing shards".into()
    }
    fn routing(&self) -> &Routing {
        self.shards.routing()
    }
    fn write(&self, changes: &[Change]) -> Result<()> {
        let left =
            self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1)));
        match left {
            Ok(0) | Err(_) => Err(Error::new("write a document", "the shard is unreachable")),
            Ok(_) => self.shards.write(changes),
        }
    }
    fn refresh(&self) -> Result<()> {
        self.shards.refresh()
    }
    fn search(&self, asks: &[Ask]) -> Result<Found> {
        self.shards.search(asks)
    }
    fn fetch(&self, ask: &Ask) -> Result<Vec<Document>> {
        self.shards.fetch(ask)
    }
    fn loads(&self) -> Result<Vec<ShardLoad>> {
        self.shards.loads()
    }
}

#[test]
fn a_resplit_that_fails_is_undone_by_the_next() {
    for writes in 0..8 {
        let room = Room::new();
        let shards = Arc::new(Failing { shards: room.shards(), writes_left: AtomicU64::new(u64::MAX) });
        let index = room.index_on(shards.clone());
        index.write(&(0..400).map(|id| document(id, TENANT, 1)).collect::<Vec<_>>()).unwrap();
        index.refresh().unwrap();
        shards.writes_left.store(writes, Ordering::SeqCst);
        let failed = index.resplit(TENANT, Some(over(&[1, 2, 3])));
        assert!(failed.is_err() || writes >= 6, "{writes}");
        shards.writes_left.store(u64::MAX, Ordering::SeqCst);
        // Writes between the failure and the next try.
        index.write(&(0..50).map(|id| document(id, TENANT, 2)).collect::<Vec<_>>()).unwrap();
        index.delete_documents(TENANT, &[399]).unwrap();
        index.refresh().unwrap();
        let whole: Vec<Hit> = (0..399).map(|id| Hit { id, version: if id < 50 { 2 } else { 1 } }).collect();
        assert_eq!(found(&index, TENANT), whole, "{writes}");
        index.resplit(TENANT, Some(over(&[2, 3, 4]))).unwrap();
        assert_eq!(found(&index, TENANT), whole, "{writes}");
        let held: u64 = shards.loads().unwrap().iter().map(|load| load.documents).sum();
        assert_eq!(held, 399, "{writes}");
    }
}

// --- No collisions, measured, few moves ---------------------------------------------------------------------------

/// A watch that has seen these loads, and the plan applied until nothing changes.
fn level(loads: &[(String, u64)], planner: &Planner, rounds: u64) -> (SplitMap, Watch, Routing, Vec<usize>) {
    let routing = Routing::new(10).unwrap();
    let mut watch = Watch::new(10, 64, 5_000.0).unwrap();
    let mut map = SplitMap::default();
    let mut all: Vec<&str> = loads.iter().flat_map(|(tenant, n)| vec![tenant.as_str(); *n as usize]).collect();
    let mut rng = Rng::seeded(3, "loads");
    let mut changes = Vec::new();
    for _ in 0..rounds {
        rng.shuffle(&mut all);
        all.iter().for_each(|tenant| watch.observe(tenant, &map, &routing).unwrap());
        let plan = planner.plan(&map, &watch, &routing).unwrap();
        changes.push(plan.len());
        for (tenant, split) in plan {
            let (was, is) = (map.split_of(&tenant).is_some(), split.is_some());
            map = map.with(&tenant, split);
            watch.moved(&tenant, was, is, &routing).unwrap();
        }
    }
    (map, watch, routing, changes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn hot_tenants_are_levelled_and_then_left_alone(
        hot in proptest::collection::vec(300_u64..6_000, 1..8), names in any::<u64>(),
    ) {
        let mut rng = Rng::seeded(names, "names");
        let mut loads: Vec<(String, u64)> = hot.iter().map(|load| (rng.word(8), *load)).collect();
        loads.extend((0..200).map(|_| (rng.word(8), 10)));
        let planner = Planner::default();
        let (map, watch, routing, changes) = level(&loads, &planner, 8);
        let worst = planner.imbalance(&map, &watch, &routing).unwrap();
        // Who is not hot does not move: with them alone, a shard may be fuller than the bound.
        let mut base = [0.0; 10];
        let total: u64 = loads.iter().map(|(_, load)| load).sum();
        for (tenant, load) in &loads {
            let is_cold = *load as f64 <= planner.hot_above * total as f64 / 10.0 * 1.2;
            if is_cold && map.split_of(tenant).is_none() {
                base[routing.shard_of(tenant, 1).unwrap()] += *load as f64 * 10.0 / total as f64;
            }
        }
        let unavoidable = base.iter().copied().fold(0.0, f64::max);
        prop_assert!(worst <= planner.start_above.max(unavoidable * 1.1) + 0.05, "{worst} {unavoidable} {changes:?}");
        prop_assert_eq!(&changes[5..], &[0, 0, 0], "a steady load is left alone");
        for (tenant, split) in map.tenants() {
            let shards: Vec<usize> =
                split.parts().iter().flat_map(|(key, _)| routing.shards_of(key).unwrap()).collect();
            let distinct: BTreeSet<usize> = shards.iter().copied().collect();
            prop_assert_eq!(distinct.len(), shards.len(), "{}'s sub-keys collide", tenant);
            let buckets: u32 = split.parts().iter().map(|(_, buckets)| buckets.len()).sum();
            prop_assert_eq!(buckets, BUCKETS);
        }
    }

    #[test]
    fn a_tenant_with_more_than_a_counter_is_never_overlooked(
        loads in proptest::collection::vec((0_u64..300, 1_u64..200), 1..60), seed in any::<u64>(),
    ) {
        let mut operations: Vec<u64> = loads.iter().flat_map(|(tenant, n)| vec![*tenant; *n as usize]).collect();
        Rng::seeded(seed, "operations").shuffle(&mut operations);
        let half_life = 400.0;
        let mut rates = Rates::new(8, half_life).unwrap();
        let mut exact: BTreeMap<u64, f64> = BTreeMap::new();
        for tenant in operations {
            rates.observe(&tenant.to_string());
            exact.values_mut().for_each(|load| *load *= 0.5_f64.powf(1.0 / half_life));
            *exact.entry(tenant).or_default() += 1.0;
        }
        let total: f64 = exact.values().sum();
        for (tenant, load) in exact {
            let (share, seen) = (load / total, rates.share(&tenant.to_string()));
            prop_assert!(seen <= share + 1e-9 && seen >= share - 1.0 / 8.0 - 1e-9, "{} {}", share, seen);
        }
    }
}

#[test]
fn a_tenant_that_cools_down_goes_home() {
    let routing = Routing::new(10).unwrap();
    let planner = Planner::default();
    let (mut watch, mut map) = (Watch::new(10, 64, 1_000.0).unwrap(), SplitMap::default());
    let mut rng = Rng::seeded(1, "cooling");
    let mut splits = Vec::new();
    for operation in 0..30_000 {
        let hot = operation < 10_000 && rng.below(2) == 0;
        let tenant = if hot { TENANT.into() } else { format!("tenant{}", rng.below(1_000)) };
        watch.observe(&tenant, &map, &routing).unwrap();
        if operation % 500 == 499 {
            for (tenant, split) in planner.plan(&map, &watch, &routing).unwrap() {
                let (was, is) = (map.split_of(&tenant).is_some(), split.is_some());
                map = map.with(&tenant, split);
                watch.moved(&tenant, was, is, &routing).unwrap();
            }
        }
        splits.push(map.asks(TENANT).len());
    }
    assert!(splits[9_999] >= 5, "half of the load needs half of the shards: {}", splits[9_999]);
    assert_eq!(splits[29_999], 1);
}

#[test]
fn only_buckets_of_shards_that_have_too_much_move() {
    let loads: Vec<(String, u64)> =
        [("a", 900), ("b", 900), ("c", 900)].map(|(tenant, load)| (tenant.to_string(), load)).to_vec();
    let (map, watch, routing, _) = level(&loads, &Planner::default(), 6);
    // Ten shards, three tenants of a third: each needs three and a bit.
    assert!(loads.iter().all(|(tenant, _)| (3..=5).contains(&map.asks(tenant).len())));
    let next = Planner::default().plan(&map, &watch, &routing).unwrap();
    assert!(next.is_empty());
    let strict = Planner { level_to: 2.0, ..Planner::default() };
    assert!(strict.plan(&map, &watch, &routing).unwrap_err().to_string().contains("above where it levels to"));
}

// --- The notebook's runs ------------------------------------------------------------------------------------------

#[test]
fn the_arms_do_equal_work_and_ours_is_level() {
    let (strategies, homes) = compare(8_000, 1).unwrap();
    let of = |strategy: &str, figure: &str| strategies.filter("strategy", strategy).number(figure);
    assert!(of("split by rate", "fullest ÷ mean") < 1.3, "{strategies:?}");
    assert!(of("by tenant", "fullest ÷ mean") > 1.9);
    assert!(of("split by rate", "shards asked") < of("random k", "shards asked"));
    let level = of("by document", "fullest ÷ mean") < 1.1;
    assert!(of("by document", "shards asked") == 10.0 && level, "{strategies:?}");
    let shards = shares_of_shards(&homes.filter("strategy", "by tenant")).samples("documents ÷ mean");
    assert_eq!((shards.len(), shards.max()), (10, of("by tenant", "fullest ÷ mean")));
    assert_eq!(shards.min(), 0.0, "a shard that is empty is one, too");
}

#[test]
fn shards_get_level_after_a_tenant_turned_hot() {
    let spec = TurnsHot { tenants: 1_000, before: 2_000, after: 6_000, share: 0.6, half_life: 500.0, window: 1_000 };
    let [with, without] = [true, false].map(|levelling| turns_hot(&spec, levelling, 1).unwrap());
    assert!(settled(&without) > 5.0 && level_after(&without, 1.5).is_infinite());
    assert!(settled(&with) < 1.5 && level_after(&with, 1.5).is_finite(), "{with:?}");
}

// --- A real server ------------------------------------------------------------------------------------------------

/// The shards that `LAB_SEARCH_URL` names, if it is set: elsewhere `hot_tenants_rest.rs` stands in for a server.
fn server() -> Option<Rest> {
    let url = std::env::var("LAB_SEARCH_URL").ok().filter(|url| !url.is_empty())?;
    Some(Rest::create(&url, Routing::new(10).unwrap()).unwrap())
}

#[test]
fn a_named_server_keeps_the_same_promises() {
    if let Some(server) = server() {
        what_shards_promise(Arc::new(server));
    }
}

#[test]
fn a_named_server_routes_as_we_do() {
    let Ok(url) = std::env::var("LAB_SEARCH_URL") else { return };
    let mut rng = Rng::seeded(1, "keys");
    let mut keys: Vec<String> = (0..200)
        .map(|_| {
            let length = rng.below(12) as usize + 1;
            rng.word(length)
        })
        .collect();
    keys.extend(["ü", "日本語のテナント", "😀", "a\u{10ffff}b", "tenant #1/?&=%+", "\u{0}", " "].map(String::from));
    let ten = Routing::new(10).unwrap();
    for routing in [
        ten,
        ten.with_partition_size(8).unwrap(),
        ten.with_partition_size(639).unwrap(),
        ten.with_routing_shards(10).unwrap().with_partition_size(4).unwrap(),
        ten.with_routing_shards(30).unwrap().with_partition_size(7).unwrap(),
        Routing::new(7).unwrap(),
        Routing::new(1).unwrap(),
    ] {
        let server = Rest::create(&url, routing).unwrap();
        for key in &keys {
            assert_eq!(server.shards_of(key).unwrap(), routing.shards_of(key).unwrap(), "{key:?} {routing:?}");
        }
        // And each document, by what its shards hold.
        let put =
            |id: u64| Change::Put { routing: keys[id as usize % keys.len()].clone(), document: document(id, "a", 1) };
        server.write(&(0..500).map(put).collect::<Vec<_>>()).unwrap();
        server.refresh().unwrap();
        let mut expected = vec![0; routing.primaries() as usize];
        (0..500).for_each(|id| expected[routing.shard_of(&keys[id as usize % keys.len()], id).unwrap()] += 1);
        let held: Vec<u64> = server.loads().unwrap().iter().map(|load| load.documents).collect();
        assert_eq!(held, expected, "{routing:?}");
    }
}
