//! The prototype's benchmark: as it was, with its two phases swapped, on a pool that keeps its permits, and on another table.

use std::sync::atomic::{AtomicU64, Ordering};

use mysql::prelude::Queryable;

use super::{COUNTS, contact, contacts, counted};
use crate::prototype::{Pool, USERS, User, create_users};
use crate::table::PATIENCE;
use crate::{Extras, Table, Way, Writer};
use lab::service::MariaDb;
use lab::{Crowd, Doing, Error, Frame, Progress, Result, Rng, Samples};

const PLACES: [&str; 2] = ["first", "second"];

/// The prototype's order of the two statements, and the other one.
const ORDERS: [[Way; 2]; 2] = [[Way::OnDuplicateKey, Way::Replace], [Way::Replace, Way::OnDuplicateKey]];

/// The prototype's benchmark.
#[derive(Debug, Clone, Copy)]
pub struct PoolSpec {
    pub size: usize,
    pub rows: u64,
    pub updates: u64,
    /// Pairs of runs, one in each order of the phases.
    pub pairs: usize,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// Pairs of runs on one table and one kind of pool: one as published, `ON DUPLICATE KEY UPDATE` first, and one with the phases swapped.
///
/// Each statement is measured in each place, so what the statement does to the time and what the place does to it come apart:
/// the published ratio is their product.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// A row for each phase of each run, by `pair`: the `order` of the run (`as published` or `swapped`), its `place` (`first` or `second`)
    /// and its `way`; `seconds`; the most connections that
    /// were in use at once (`most`), and the `permits left` in the pool when it was over; the `commits to a sync`; and for each put, what
    /// the server counted.
    pub phases: Frame,
}

impl Pairs {
    /// One figure of a way's phases in one place, one sample a pair.
    fn of(&self, way: Way, place: &str, figure: &str) -> Samples {
        self.phases.filter("way", &way).filter("place", place).samples(figure)
    }

    /// How many times as long REPLACE took where it came second, as published: one sample a pair.
    pub fn published(&self) -> Samples {
        self.of(Way::Replace, "second", "seconds").over(&self.of(Way::OnDuplicateKey, "first", "seconds"))
    }

    /// The same where it came first.
    pub fn swapped(&self) -> Samples {
        self.of(Way::Replace, "first", "seconds").over(&self.of(Way::OnDuplicateKey, "second", "seconds"))
    }

    fn both(&self, of: fn(f64, f64) -> f64) -> Samples {
        let (published, swapped) = (self.published(), self.swapped());
        published.values().iter().zip(swapped.values()).map(|(published, swapped)| of(*published, *swapped)).collect()
    }

    /// How many times as long REPLACE took in the same place: what the statement does.
    pub fn statement(&self) -> Samples {
        self.both(|published, swapped| (published * swapped).sqrt())
    }

    /// How many times as long the same statement took in the second place: what coming second does.
    pub fn place(&self) -> Samples {
        self.both(|published, swapped| (published / swapped).sqrt())
    }

    /// How many times as much of something that the server counts REPLACE took, one sample a pair: two phases over two.
    pub fn ratio(&self, count: &str) -> Samples {
        let of = |way: Way| self.phases.filter("way", &way).group(["pair"]).sum(count).samples(count);
        of(Way::Replace).over(&of(Way::OnDuplicateKey))
    }
}

/// Runs the benchmark on the prototype's table: random rows are looked up and written, by many at once, first by one statement
/// and then by the other. Once on a pool that leaks its permits, as the prototype's, and once on one that keeps them.
pub fn prototype(server: &MariaDb, spec: PoolSpec) -> Result<[Pairs; 2]> {
    spec.check()?;
    let mut progress = Progress::new("the prototype's benchmark", 2 + 4 * spec.pairs as u64);
    create_users(server, spec.rows)?;
    progress.step();
    let connect = |_| Ok(Place::Prototype(User::connect(server)?));
    let mut bench = Bench::new(server, spec, USERS, connect)?;
    bench.warm_up()?;
    progress.step();
    let (mut leaky, mut fair) = (Pairs::default(), Pairs::default());
    for number in 0..spec.pairs {
        // Neither pool is always the one that comes after the other.
        let mut pools = [(&mut leaky, true), (&mut fair, false)];
        pools.rotate_left(number % 2);
        for (pairs, leaks) in pools {
            pairs.phases = pairs.phases.stack(&bench.pair(number, leaks, &mut progress)?);
        }
    }
    bench.end()?;
    Ok([leaky, fair])
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
    let phases = (0..spec.pairs).map(|number| bench.pair(number, false, &mut progress)).collect::<Result<_>>()?;
    bench.end()?;
    Ok(Pairs { phases })
}

impl PoolSpec {
    fn check(&self) -> Result<()> {
        // A single pair has no spread, and one of its orders has always come first.
        if self.size < 2 || self.rows == 0 || self.updates == 0 || self.pairs < 2 {
            return Err(Error::new(
                "run the prototype's benchmark",
                "it needs connections, rows, updates and two pairs of runs",
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
    fn pair(&mut self, number: usize, leaks: bool, progress: &mut Progress) -> Result<Frame> {
        let mut orders = ORDERS;
        orders.rotate_left(number % 2);
        let run = |ways| self.run(ways, leaks).inspect(|_| progress.step());
        let phases: Frame = orders.into_iter().map(run).collect::<Result<_>>()?;
        Ok(phases.everywhere("pair", "", number))
    }

    /// A run on a new pool, after what earlier ones left to be done: a row for each of its phases.
    fn run(&mut self, ways: [Way; 2], leaks: bool) -> Result<Frame> {
        self.settle()?;
        let (server, spec) = (self.server, self.spec);
        let pool = Pool::new(self.places.iter_mut().collect(), leaks);
        let phase_of = |(place, way)| {
            self.phases += 1;
            // Cleaning up behind a statement is work that it makes, and must not be counted as the next one's.
            let (seconds, counters) = counted(server, || {
                let seconds = phase(&pool, spec, way, self.phases)?;
                purged(server)?;
                Ok(seconds)
            })?;
            let row = Frame::new()
                .text("place", [place])
                .text("way", [way])
                .numbers("seconds", "s", [seconds])
                .counts("most", "", [pool.most() as u64])
                .counts("permits left", "", [pool.permits() as u64])
                .numbers(
                    "commits to a sync",
                    "",
                    [counters.get("Binlog_commits")? / counters.get("Binlog_group_commits")?],
                );
            COUNTS.into_iter().try_fold(row, |row, (count, unit, counter)| -> Result<Frame> {
                Ok(row.numbers(count, unit, [counters.get(counter)? / spec.updates as f64]))
            })
        };
        let phases: Frame = PLACES.into_iter().zip(ways).map(phase_of).collect::<Result<_>>()?;
        Ok(phases.everywhere("order", "", if ways == ORDERS[0] { "as published" } else { "swapped" }))
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
