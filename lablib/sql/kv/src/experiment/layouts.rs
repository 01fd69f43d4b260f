//! The same entries in other layouts, and in Redis.

use std::fmt;
use std::process::Command;

use super::databases;
use crate::Store;
use crate::rivals::{Client, Layout};
use lab::service::{Counters, MariaDb, Redis};
use lab::{Crowd, Doing, Error, Frame, Progress, Result, Rng, Samples, Trial};

/// What every layout took for entries of every size.
#[derive(Debug, Clone)]
pub struct Measures {
    /// A row for each `layout` and `size` of a value (bytes): `pages` that InnoDB looks at for a get, where it does; bytes that the SQL
    /// server has `sent` for one, for who asks it for less is sooner done; and entries read back that were not what was put (`wrong`).
    pub counted: Frame,
    /// A row for each round of each `layout` and `size`, by `what`: seconds that a `get` or a `put` `took` while eight clients were at
    /// it, the turn's time by their number. Beside it the same `over ours`, which is this store's in the same round.
    pub turns: Frame,
}

/// What clients do to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Get,
    Put,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Get { "get" } else { "put" })
    }
}

/// A get is over so much sooner that it takes more of them to measure: so many of each client's for each put.
const GETS_FOR_A_PUT: u64 = 5;

/// Clients that get or put at once.
const CLIENTS: usize = 8;

/// Puts up to so many entries of each size into each layout, as many as have room in `bytes` altogether, and reads and
/// overwrites them in turns.
///
/// Eight clients are at it at once, so that both sides have something to do all the time. A single one waits for threads to wake up,
/// and where the scheduler has put them decides for the life of a connection whether that takes 40 µs or 200, as long as a
/// sync of a quick disk.
pub fn layouts(
    server: &MariaDb,
    stores: [&Redis; 2],
    sizes: &[usize],
    (entries, bytes): (u64, usize),
    operations: u64,
    rounds: usize,
    seed: u64,
) -> Result<Measures> {
    if sizes.is_empty() || entries == 0 || operations == 0 || rounds == 0 {
        return Err(Error::new("compare layouts", "it takes sizes, entries, operations and a round"));
    }
    let mut progress = Progress::new("values of each size in each layout", sizes.len() as u64);
    let one = |&size: &usize| {
        let entries = entries.min((bytes / size.max(1)) as u64).max(CLIENTS as u64);
        of_size(server, stores, size, entries, operations, rounds, seed).inspect(|_| progress.step())
    };
    let (counted, turns) = sizes.iter().map(one).collect::<Result<_>>()?;
    Ok(Measures { counted, turns })
}

/// Clients of one layout; the first of them makes its table.
fn clients(server: &MariaDb, stores: [&Redis; 2], layout: Layout) -> Result<Vec<Client>> {
    let urls = databases(server, 1)?;
    Store::create(&urls)?;
    (0..CLIENTS).map(|_| Client::open(server, &urls, stores, layout)).collect()
}

/// What was counted, and the turns.
fn of_size(
    server: &MariaDb,
    stores: [&Redis; 2],
    size: usize,
    entries: u64,
    operations: u64,
    rounds: usize,
    seed: u64,
) -> Result<(Frame, Frame)> {
    let key = |number: u64| format!("session:{size}:{number:012}").into_bytes();
    // Another one for each turn: a put of what is there already changes nothing, and InnoDB would not even commit.
    let value = |number: u64, turn: u64| {
        let mut value = vec![b'.'; size];
        let text = format!("{number}:{turn}");
        value[..text.len().min(size)].copy_from_slice(&text.as_bytes()[..text.len().min(size)]);
        value
    };
    let (mut everybody, mut counted) = (Vec::new(), Frame::new());
    for layout in Layout::ALL {
        let mut clients = clients(server, stores, layout)?;
        clients[0].load((0..entries).map(|number| (key(number), value(number, 0))))?;
        everybody.push(clients);
    }
    let mut counters = server.connect()?;
    for (layout, clients) in Layout::ALL.into_iter().zip(&mut everybody) {
        let mut rng = Rng::seeded(seed, "gets that are counted");
        // Whoever connects and prepares when it is first asked has done so.
        clients.iter_mut().try_for_each(|client| client.get(&key(0)).map(drop))?;
        // All of it on one connection: the server counts what it has sent a moment after it was received, so the end of another
        // connection's long answer could still be counted here.
        let mut now = |name: &str| Counters::one(&mut counters, name);
        let mut wrong = 0;
        let mut get = |times: u64| -> Result<()> {
            (0..times).try_for_each(|_| {
                let number = rng.below(entries);
                wrong += u64::from(clients[0].get(&key(number))?.as_deref() != Some(&value(number, 0)[..]));
                Ok(())
            })
        };
        let (gets, before) = (operations * rounds as u64, now("Bytes_sent")?);
        get(gets)?;
        let sent = (now("Bytes_sent")? - before) / gets as f64;
        let pages = (0..rounds).map(|_| {
            let before = now("Innodb_buffer_pool_read_requests")?;
            get(operations)?;
            Ok((now("Innodb_buffer_pool_read_requests")? - before) / operations as f64)
        });
        // InnoDB renews its statistics in the background, by looking at pages: in a few rounds, which the median leaves out.
        let pages = Samples::from(pages.collect::<Result<Vec<f64>>>()?).median();
        let row = Frame::new()
            .text("layout", [layout])
            .counts("size", "bytes", [size as u64])
            .numbers_or_missing("pages", "", [layout.is_a_table().then_some(pages)])
            .numbers("sent", "bytes", [sent])
            .counts("wrong", "", [wrong]);
        counted = counted.stack(&row);
    }
    let before = Counters::of_server(server)?.get("Binlog_commits")?;
    let mut race = |what: Operation, times: u64| {
        Trial::over(Layout::ALL, rounds).run(|layout, _, figures| {
            let round = figures.round() as u64;
            let clients = everybody[*layout as usize].iter_mut().enumerate();
            let draws = |own: usize| Rng::seeded(seed, &format!("{what}s of client {own} in round {round}"));
            let clients = clients.map(|(own, client)| (client, draws(own)));
            let ran = Crowd::holding(clients).times(times).run(|(client, rng), call| {
                // Each client has entries of its own, so that nobody waits for another's lock.
                let entry = rng.below(entries / CLIENTS as u64) * CLIENTS as u64 + call.client() as u64;
                match what {
                    Operation::Put => client.put(&key(entry), &value(entry, 1 + round * times + call.number())),
                    Operation::Get => {
                        let found = client.get(&key(entry))?;
                        found.map(drop).ok_or_else(|| Error::new("get an entry", format!("{layout} does not have it")))
                    }
                }
            })?;
            figures.push("took", "s", ran.seconds / ran.frame.height() as f64);
            Ok(())
        })
    };
    let (gets, puts) = (race(Operation::Get, operations * GETS_FOR_A_PUT)?, race(Operation::Put, operations)?);
    let commits = Counters::of_server(server)?.get("Binlog_commits")? - before;
    let tables = Layout::ALL.into_iter().filter(|layout| layout.is_a_table()).count();
    let expected = (tables * (rounds + 1) * CLIENTS) as f64 * operations as f64;
    if commits != expected {
        let cause = format!("{expected} puts into {tables} tables were {commits} commits");
        return Err(Error::new("compare layouts that do the same work", cause));
    }
    let turns = |what: Operation, trial: &Trial<Layout>, layout: Layout| {
        Frame::new()
            .numbers("took", "s", trial.samples(&layout, "took").values().to_vec())
            .numbers("over ours", "×", trial.ratio("took", &layout, &Layout::Ours).values().to_vec())
            .everywhere("what", "", &what)
            .everywhere("layout", "", &layout)
            .everywhere("size", "bytes", size as u64)
    };
    let all = Layout::ALL
        .into_iter()
        .flat_map(|layout| [turns(Operation::Get, &gets, layout), turns(Operation::Put, &puts, layout)]);
    Ok((counted, all.collect()))
}

impl Measures {
    /// How many times as long an operation takes in a layout as in this store, with values of one size, round by round.
    pub fn over_ours(&self, what: Operation, layout: Layout, size: usize) -> Samples {
        self.turns.filter("what", &what).filter("layout", &layout).filter("size", size).samples("over ours")
    }
}

/// Redis by its own program, `redis-benchmark`: gets and puts of one entry of this size, by as many clients, all of them on one thread. A
/// row for each, as in [`Measures::turns`]; none where the program is not on this machine.
pub fn redis_benchmark(redis: &Redis, size: usize, requests: u64) -> Result<Option<Frame>> {
    /// What `timeout` answers for a program that is not there.
    const NOT_THERE: i32 = 127;
    let doing = "run redis-benchmark";
    let [clients, bytes, requests] = [CLIENTS as u64, size as u64, requests].map(|number| number.to_string());
    // It takes no URL without a user.
    let url = redis.url().replace("://:", "://default:");
    let arguments = ["-u", &url, "-c", &clients, "-d", &bytes, "-n", &requests, "-t", "set,get", "--csv"];
    let ran = Command::new("timeout").args(["60", "redis-benchmark"]).args(arguments).output().doing(doing)?;
    if ran.status.code() == Some(NOT_THERE) {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    let a_second = |test: &str| -> Result<f64> {
        let mut lines = said.lines().map(|line| line.split(',').map(|word| word.trim_matches('"')));
        let found = lines.find_map(|mut words| (words.next() == Some(test)).then(|| words.next()?.parse().ok())?);
        found.ok_or_else(|| Error::new(doing, format!("it says nothing of {test}: {said}")))
    };
    let rates = Frame::new()
        .numbers("took", "s", [1.0 / a_second("GET")?, 1.0 / a_second("SET")?])
        .text("what", [Operation::Get, Operation::Put])
        .everywhere("layout", "", "redis-benchmark")
        .everywhere("size", "bytes", size as u64);
    Ok(Some(rates))
}
