//! Money moves between accounts: locked as they come, or in the order of their numbers.

use std::sync::Barrier;

use mysql::prelude::Queryable;

use crate::lab::chart::{Bars, Chart};
use crate::lab::service::{Counters, MariaDb};
use crate::lab::{Error, OrFail, Result, Rng, joined};
use crate::sql::row_locks::{Client, Retry, Tries};

const TABLE: &str = "accounts";
const EACH: i64 = 1_000;

/// What became of the transfers.
#[derive(Debug, Clone)]
pub struct Transfers {
    /// How many there were, in each arm.
    pub transfers: u64,
    /// What it took with the accounts locked as they come.
    pub as_they_come: Tries,
    /// What it took with the accounts locked in the order of their numbers.
    pub ordered: Tries,
    /// Deadlocks in both arms, as the server counted them.
    pub server_counted: u64,
    /// Money that appeared or vanished, both arms together.
    pub off: u64,
    /// Transfers that were acknowledged and are not in the books, or the other way round.
    pub miscounted: u64,
    /// Seconds of each arm.
    pub seconds: [f64; 2],
}

/// Lets `clients` make `each` transfers between random accounts, once in each order.
pub fn transfers(server: &MariaDb, clients: usize, accounts: u64, each: u64, seed: u64) -> Transfers {
    let run = || -> Result<Transfers> {
        if accounts < 2 || clients == 0 || each == 0 {
            return Err(Error::new("move money", "it takes two accounts, a client and a transfer"));
        }
        let deadlocks = || -> Result<f64> {
            let counters = Counters::of_server(server)?;
            counters.get("Innodb_deadlocks").or_else(|_| counters.get("lock_deadlocks"))
        };
        let before = deadlocks()?;
        let (as_they_come, first, lost) = arm(server, clients, accounts, each, seed, false)?;
        let (ordered, second, more) = arm(server, clients, accounts, each, seed, true)?;
        Ok(Transfers {
            transfers: clients as u64 * each,
            as_they_come,
            ordered,
            server_counted: (deadlocks()? - before) as u64,
            off: lost.0 + more.0,
            miscounted: lost.1 + more.1,
            seconds: [first, second],
        })
    };
    run().or_fail()
}

type Arm = (Tries, f64, (u64, u64));

fn arm(server: &MariaDb, clients: usize, accounts: u64, each: u64, seed: u64, ordered: bool) -> Result<Arm> {
    server.try_execute(&format!("DROP TABLE IF EXISTS {TABLE}"))?;
    server.try_execute(&format!(
        "CREATE TABLE {TABLE} (id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL, moves BIGINT NOT NULL) ENGINE = InnoDB"
    ))?;
    let rows: Vec<String> = (0..accounts).map(|id| format!("({id}, {EACH}, 0)")).collect();
    server.try_execute(&format!("INSERT INTO {TABLE} VALUES {}", rows.join(", ")))?;
    let start = Barrier::new(clients);
    let client =
        |number: usize| Client::connect(server, Retry::default(), Rng::seeded(seed, &format!("pauses {number}")));
    let clients = (0..clients).map(client).collect::<Result<Vec<_>>>()?;
    let began = std::time::Instant::now();
    let tries = std::thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                scope.spawn(move || -> Result<Tries> {
                    let mut rng = Rng::seeded(seed, &format!("transfers {number}"));
                    start.wait();
                    for _ in 0..each {
                        let from = rng.below(accounts);
                        let to = (from + 1 + rng.below(accounts - 1)) % accounts;
                        transfer(&mut client, from, to, 1 + rng.below(20) as i64, ordered)?;
                    }
                    Ok(client.tries())
                })
            })
            .collect();
        threads.into_iter().try_fold(Tries::default(), |mut all, thread| {
            all += joined("move money", thread.join())?;
            Ok::<Tries, Error>(all)
        })
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let number = |sql: &str| -> Result<i64> {
        server.try_ask(sql)?.parse().map_err(|error| Error::new("read the books", format!("{error}")))
    };
    let money = number(&format!("SELECT SUM(balance) FROM {TABLE}"))?;
    let moves = number(&format!("SELECT SUM(moves) FROM {TABLE}"))?;
    server.try_execute(&format!("DROP TABLE {TABLE}"))?;
    let off = money.abs_diff(EACH * accounts as i64);
    Ok((tries, seconds, (off, (moves as u64).abs_diff(2 * tries.done))))
}

fn transfer(client: &mut Client, from: u64, to: u64, amount: i64, ordered: bool) -> Result<()> {
    let in_order = if ordered { [from.min(to), from.max(to)] } else { [from, to] };
    client.transaction(|connection| {
        let mut balances = Vec::new();
        for account in in_order {
            let balance: Option<i64> =
                connection.query_first(format!("SELECT balance FROM {TABLE} WHERE id = {account} FOR UPDATE"))?;
            balances.push((account, balance.unwrap_or(0)));
        }
        for (account, balance) in balances {
            let balance = if account == from { balance - amount } else { balance + amount };
            connection.query_drop(format!(
                "UPDATE {TABLE} SET balance = {balance}, moves = moves + 1 WHERE id = {account}"
            ))?;
        }
        Ok(())
    })
}

impl Transfers {
    /// Deadlocks that only the server, or only the clients have counted.
    pub fn counted_apart(&self) -> u64 {
        self.server_counted.abs_diff(self.as_they_come.deadlocks + self.ordered.deadlocks)
    }

    /// Deadlocks in both arms.
    pub fn chart(&self, title: &str) -> Bars {
        Chart::bars(title)
            .subtitle(format!("{} transfers in each arm, each tried again until it is done", self.transfers))
            .y("deadlocks", "")
            .bar("as they come", self.as_they_come.deadlocks)
            .bar("lower number first", self.ordered.deadlocks)
            .predicted("lower number first", 0)
    }
}
