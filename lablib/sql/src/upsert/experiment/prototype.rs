//! The prototype's benchmark: as it was, with its two phases swapped, on a pool that keeps its permits, and on another table.

use std::sync::atomic::{AtomicU64, Ordering};

use mysql::prelude::Queryable;

use super::{Cost, contact, contacts};
use crate::upsert::prototype::{Pool, User, Users};
use crate::upsert::table::PATIENCE;
use crate::upsert::{Extras, Table, Way, Writer};
use lab::chart::{Bars, Chart};
use lab::service::MariaDb;
use lab::{self, Crowd, Doing, Error, Progress, Result, Rng, Samples};

/// The prototype's order of the two statements, and the other one.
const ORDERS: [[Way; 2]; 2] = [[Way::OnDuplicateKey, Way::Replace], [Way::Replace, Way::OnDuplicateKey]];

/// The prototype's benchmark.
#[derive(Debug, Clone, Copy)]
pub struct PoolSpec {
    /// Connections.
    pub size: usize,
    /// Rows of the table.
    pub rows: u64,
    /// Updates in each phase.
    pub updates: u64,
    /// Pairs of runs, one in each order of the phases.
    pub pairs: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// One phase of a run.
#[derive(Debug, Clone)]
pub struct Phase {
    /// What was measured.
    pub way: Way,
    /// Rows that were looked up and written.
    pub puts: u64,
    /// How long it took.
    pub seconds: f64,
    /// The most connections that were in use at once.
    pub most: usize,
    /// Permits that the pool had left when it was over.
    pub permits_left: usize,
    /// What the server did meanwhile.
    cost: Cost,
}

/// A run as published, `ON DUPLICATE KEY UPDATE` first, and one with the phases swapped.
#[derive(Debug, Clone)]
pub struct Pair([[Phase; 2]; 2]);

impl Pair {
    /// A way's phase in the run where it is first (0) or second (1).
    fn phase(&self, way: Way, place: usize) -> &Phase {
        let swapped = usize::from((way == Way::Replace) == (place == 0));
        &self.0[swapped][place]
    }

    /// How many times as long REPLACE took: as published, where it comes second, and with the phases swapped.
    fn published_and_swapped(&self) -> [f64; 2] {
        [1, 0].map(|place| self.phase(Way::Replace, place).seconds / self.phase(Way::OnDuplicateKey, 1 - place).seconds)
    }
}

/// Pairs of runs on one table and one kind of pool.
///
/// Each statement is measured in each place, so what the statement does to the time and what the place does to it come apart:
/// the published ratio is their product.
#[derive(Debug, Clone, Default)]
pub struct Pairs(Vec<Pair>);

impl Pairs {
    /// How many times as long REPLACE took where it came second, as published: one sample a pair.
    pub fn published(&self) -> Samples {
        self.0.iter().map(|pair| pair.published_and_swapped()[0]).collect()
    }

    /// The same where it came first.
    pub fn swapped(&self) -> Samples {
        self.0.iter().map(|pair| pair.published_and_swapped()[1]).collect()
    }

    /// How many times as long REPLACE took in the same place: what the statement does.
    pub fn statement(&self) -> Samples {
        let of = |[published, swapped]: [f64; 2]| (published * swapped).sqrt();
        self.0.iter().map(|pair| of(pair.published_and_swapped())).collect()
    }

    /// How many times as long the same statement took in the second place: what coming second does.
    pub fn place(&self) -> Samples {
        let of = |[published, swapped]: [f64; 2]| (published / swapped).sqrt();
        self.0.iter().map(|pair| of(pair.published_and_swapped())).collect()
    }

    /// The most connections in use in the first (0) or second (1) phases, one sample a run.
    pub fn connections(&self, place: usize) -> Samples {
        self.phases().filter(|(at, _)| *at == place).map(|(_, phase)| phase.most as f64).collect()
    }

    /// Commits that shared a way to the disk in the first (0) or second (1) phases, one sample a run.
    pub fn commits_together(&self, place: usize) -> Samples {
        let here = self.phases().filter(|(at, _)| *at == place);
        here.map(|(_, phase)| phase.cost.commits / phase.cost.groups).collect()
    }

    /// Permits that the first (0) or second (1) phases left in the pool, one sample a run.
    pub fn permits_left(&self, place: usize) -> Samples {
        self.phases().filter(|(at, _)| *at == place).map(|(_, phase)| phase.permits_left as f64).collect()
    }

    /// Seconds of a way's phases in the first (0) or second (1) place.
    fn seconds(&self, way: Way, place: usize) -> Samples {
        self.0.iter().map(|pair| pair.phase(way, place).seconds).collect()
    }

    fn phases(&self) -> impl Iterator<Item = (usize, &Phase)> {
        self.0.iter().flat_map(|pair| pair.0.iter().flat_map(|run| run.iter().enumerate()))
    }

    /// How many times as much of something that the server counts REPLACE took, one sample a pair: two phases over two.
    fn ratios(&self, what: impl Fn(&Cost) -> f64) -> Samples {
        let of = |pair: &Pair, way: Way| what(&pair.phase(way, 0).cost) + what(&pair.phase(way, 1).cost);
        self.0.iter().map(|pair| of(pair, Way::Replace) / of(pair, Way::OnDuplicateKey)).collect()
    }

    /// How many times as many bytes of the storage engine's log REPLACE wrote.
    pub fn log(&self) -> Samples {
        self.ratios(|cost| cost.log)
    }

    /// How many times as often REPLACE changed a page.
    pub fn page_changes(&self) -> Samples {
        self.ratios(|cost| cost.page_changes)
    }
}

/// What the server did for each put, by table and statement.
pub fn work_table(tables: &[(&str, &Pairs)]) -> lab::Table {
    let rows: Vec<(&str, &Pairs, Way)> =
        tables.iter().flat_map(|(name, pairs)| ORDERS[0].map(|way| (*name, *pairs, way))).collect();
    let each = |what: fn(&Cost) -> f64| {
        rows.iter().map(move |(_, pairs, way)| {
            let phases = pairs.phases().map(|(_, phase)| phase).filter(|phase| phase.way == *way);
            let (sum, puts) =
                phases.fold((0.0, 0.0), |(sum, puts), phase| (sum + what(&phase.cost), puts + phase.puts as f64));
            sum / puts
        })
    };
    lab::Table::new("What the server did for each put of a known row")
        .text("table", rows.iter().map(|(name, ..)| *name))
        .text("", rows.iter().map(|(_, _, way)| way.to_string()))
        .numbers("commits", "", each(|cost| cost.commits))
        .numbers("rows updated", "", each(|cost| cost.rows[1]))
        .numbers("rows deleted", "", each(|cost| cost.rows[2]))
        .numbers("changes of pages", "", each(|cost| cost.page_changes))
        .numbers("engine's log", "bytes", each(|cost| cost.log))
        .numbers("binary log", "bytes", each(|cost| cost.binlog))
        .numbers("pages read", "", each(|cost| cost.pages_read))
}

/// The prototype's benchmark on its own table.
#[derive(Debug, Clone)]
pub struct Published {
    /// On a pool as the prototype's.
    pub leaky: Pairs,
    /// On one that keeps its permits.
    pub fair: Pairs,
}

impl Published {
    /// The time of each phase in both orders, on the pool that leaks.
    pub fn chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title)
            .subtitle("The same updates in two phases, on a pool that leaks its permits")
            .y("time", "s")
            .vertical();
        let orders = [("REPLACE second, as published", ORDERS[0]), ("REPLACE first", ORDERS[1])];
        orders.into_iter().fold(chart, |chart, (order, ways)| {
            let phases = ways.into_iter().enumerate();
            phases.fold(chart.group(order), |chart, (place, way)| {
                chart.bar_with_spread(way, self.leaky.seconds(way, place))
            })
        })
    }

    /// How many worked at once, by pool and phase: medians of all runs.
    pub fn table(&self) -> lab::Table {
        let pools = [("as the prototype's", &self.leaky), ("keeps its permits", &self.fair)];
        let rows: Vec<(&str, &Pairs, usize)> =
            pools.iter().flat_map(|(name, pairs)| [0, 1].map(|place| (*name, *pairs, place))).collect();
        let median =
            |of: fn(&Pairs, usize) -> Samples| rows.iter().map(move |(_, pairs, place)| of(pairs, *place).median());
        lab::Table::new("How many worked at once")
            .text("pool", rows.iter().map(|(name, ..)| *name))
            .text("phase", rows.iter().map(|(.., place)| ["first", "second"][*place]))
            .numbers("most connections in use", "", median(Pairs::connections))
            .numbers("permits left", "", median(Pairs::permits_left))
            .numbers("commits to a sync", "", median(Pairs::commits_together))
    }
}

/// Runs the benchmark on the prototype's table: random rows are looked up and written, by many at once, first by one statement
/// and then by the other.
pub fn prototype(server: &MariaDb, spec: PoolSpec) -> Result<Published> {
    spec.check()?;
    let mut progress = Progress::new("the prototype's benchmark", 2 + 4 * spec.pairs as u64);
    Users::create(server, spec.rows)?;
    progress.step();
    let connect = |_| Ok(Place::Prototype(User::connect(server)?));
    let mut bench = Bench::new(server, spec, Users::name(), connect)?;
    bench.warm_up()?;
    progress.step();
    let (mut leaky, mut fair) = (Pairs::default(), Pairs::default());
    for number in 0..spec.pairs {
        // Neither pool is always the one that comes after the other.
        let mut pools = [(&mut leaky, true), (&mut fair, false)];
        pools.rotate_left(number % 2);
        for (pairs, leaks) in pools {
            pairs.0.push(bench.pair(number, leaks, &mut progress)?);
        }
    }
    bench.end()?;
    Ok(Published { leaky, fair })
}

/// The same benchmark on an address book of as many rows, with three secondary indexes, on a pool that keeps its permits: here
/// the server chooses the numbers, the address is what is unique, and REPLACE gives a row another number.
pub fn address_book(server: &MariaDb, spec: PoolSpec) -> Result<Pairs> {
    spec.check()?;
    let mut progress = Progress::new("the same on an address book", 2 + 2 * spec.pairs as u64);
    let table = Table::create(server, "address_book", Extras { indexes: true, ..Extras::default() })?;
    // In the order of the unique index, which millions of rows in any other order would read and write all over.
    let mut loaded = contacts(spec.rows)?;
    loaded.sort_by(|one, other| one.email().cmp(other.email()));
    table.load(server, &loaded)?;
    drop(loaded);
    progress.step();
    let writer = |way| Writer::new(server, &table, way);
    let connect = |_| Ok(Place::AddressBook([writer(Way::OnDuplicateKey)?, writer(Way::Replace)?]));
    let mut bench = Bench::new(server, spec, table.name(), connect)?;
    bench.warm_up()?;
    progress.step();
    let pairs = (0..spec.pairs).map(|number| bench.pair(number, false, &mut progress)).collect::<Result<_>>()?;
    bench.end()?;
    Ok(Pairs(pairs))
}

impl PoolSpec {
    fn check(&self) -> Result<()> {
        if self.size < 2 || self.rows == 0 || self.updates == 0 || self.pairs == 0 {
            return Err(Error::new(
                "run the prototype's benchmark",
                "it needs connections, rows, updates and a pair of runs",
            ));
        }
        Ok(())
    }
}

/// A place in the pool.
enum Place {
    Prototype(User),
    /// A connection for each way, because a writer has its way for life.
    AddressBook([Writer; 2]),
}

impl Place {
    fn put(&mut self, way: Way, row: u64, version: u64) -> Result<()> {
        match self {
            // Not the digits of any phone that a user has at first.
            Self::Prototype(user) => user.look_up_and_put(way, 1 + row, &format!("+{version:011}")),
            Self::AddressBook(writers) => {
                let writer = &mut writers[usize::from(way == Way::Replace)];
                writer.look_up_and_put(&contact(row, version)?).map(drop)
            }
        }
    }
}

struct Bench<'a> {
    server: &'a MariaDb,
    spec: PoolSpec,
    table: &'a str,
    places: Vec<Place>,
    /// Phases so far.
    phases: u64,
}

impl<'a> Bench<'a> {
    fn new(
        server: &'a MariaDb,
        spec: PoolSpec,
        table: &'a str,
        connect: impl Fn(usize) -> Result<Place>,
    ) -> Result<Self> {
        let places = (0..spec.size).map(connect).collect::<Result<_>>()?;
        Ok(Self { server, spec, table, places, phases: 0 })
    }

    /// Reads every index into the server's memory, and runs once without counting: what is compared is not the disk's reading.
    fn warm_up(&mut self) -> Result<()> {
        let doing = "read the table into memory";
        let mut connection = self.server.connect_within(PATIENCE)?;
        let indexes: Vec<(String, String)> = connection
            .exec(
                "SELECT index_name, column_name FROM information_schema.statistics \
                 WHERE table_schema = DATABASE() AND table_name = ? AND seq_in_index = 1",
                (self.table,),
            )
            .doing(doing)?;
        for (index, column) in indexes {
            let sql = format!("SELECT COUNT({column}) FROM {} FORCE INDEX (`{index}`)", self.table);
            connection.query_drop(sql).doing(doing)?;
        }
        self.run(ORDERS[0], false).map(drop)
    }

    /// Waits until the server has cleaned up behind all that was done, and has written all of the table's pages.
    fn settle(&self) -> Result<()> {
        purged(self.server)?;
        let mut connection = self.server.connect_within(PATIENCE)?;
        connection.query_drop(format!("FLUSH TABLES {} FOR EXPORT", self.table)).doing("write a table's pages")?;
        connection.query_drop("UNLOCK TABLES").doing("write a table's pages")
    }

    fn end(self) -> Result<()> {
        drop(self.places);
        self.server.try_execute(&format!("DROP TABLE {}", self.table))
    }

    /// Both orders of the phases, the published one first in every other pair.
    fn pair(&mut self, number: usize, leaks: bool, progress: &mut Progress) -> Result<Pair> {
        let mut run = |order: usize| -> Result<[Phase; 2]> {
            let run = self.run(ORDERS[order], leaks)?;
            progress.step();
            Ok(run)
        };
        Ok(Pair(if number.is_multiple_of(2) {
            [run(0)?, run(1)?]
        } else {
            let swapped = run(1)?;
            [run(0)?, swapped]
        }))
    }

    /// A run on a new pool, after what earlier ones left to be done.
    fn run(&mut self, ways: [Way; 2], leaks: bool) -> Result<[Phase; 2]> {
        self.settle()?;
        let (server, spec, first) = (self.server, self.spec, self.phases);
        self.phases += 2;
        let pool = Pool::new(self.places.iter_mut().collect(), leaks);
        let phase = |place: usize| -> Result<Phase> {
            // Cleaning up behind a statement is work that it makes, and must not be counted as the next one's.
            let (seconds, cost) = Cost::of(server, || {
                let seconds = phase(&pool, spec, ways[place], 1 + first + place as u64)?;
                purged(server)?;
                Ok(seconds)
            })?;
            Ok(Phase {
                way: ways[place],
                puts: spec.updates,
                seconds,
                most: pool.most(),
                permits_left: pool.permits(),
                cost,
            })
        };
        Ok([phase(0)?, phase(1)?])
    }
}

/// Waits until the server has cleaned up behind all that was done.
fn purged(server: &MariaDb) -> Result<()> {
    if server.dialect().is_mariadb() {
        let mut connection = server.connect_within(PATIENCE)?;
        connection.query_drop("SET GLOBAL innodb_max_purge_lag_wait = 0").doing("wait for the purge")?;
    }
    Ok(())
}

/// Twice as many workers as connections stand for the prototype's goroutines: somebody always waits. Each phase draws rows of its
/// own, and each put writes a phone that was never there: a row that stays as it was costs a server less.
fn phase(pool: &Pool<&mut Place>, spec: PoolSpec, way: Way, number: u64) -> Result<f64> {
    let mut rng = Rng::seeded(spec.seed, &format!("updates of phase {number}"));
    let numbers: Vec<u64> = (0..spec.updates).map(|_| rng.below(spec.rows)).collect();
    let next = AtomicU64::new(0);
    let ran = Crowd::of(2 * spec.size).times(u64::MAX).within(super::PATIENCE).run(|_, call| {
        let put = next.fetch_add(1, Ordering::Relaxed);
        let Some(&row) = numbers.get(put as usize) else {
            call.last();
            return Ok(());
        };
        let none = || Error::new("take a connection", "the pool gave a permit and no connection");
        let place = pool.take().ok_or_else(none)?;
        let put = place.put(way, row, number * spec.updates + put);
        pool.give(place);
        put
    })?;
    Ok(ran.seconds)
}
