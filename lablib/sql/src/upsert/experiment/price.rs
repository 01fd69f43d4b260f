//! What each way costs when all do the same work with the same number of clients.

use std::collections::BTreeMap;

use super::{Arm, contacts, take_turns};
use crate::upsert::{Contact, Extras, Row, Table, Way};
use lab::chart::{Bars, Chart};
use lab::service::MariaDb;
use lab::{self, Error, OrFail, Progress, Result, Rng, Samples};

/// A race of all ways.
#[derive(Debug, Clone, Copy)]
pub struct PriceSpec {
    /// Rows of each table at first.
    pub rows: u64,
    /// Contacts that are put in each round, about half of them known.
    pub puts: u64,
    /// Rounds that count; one more warms up.
    pub rounds: usize,
    /// Clients, each with a connection.
    pub clients: usize,
    /// Contacts in a call of the ways that take many.
    pub batch: usize,
    /// Whether the tables have secondary indexes.
    pub indexes: bool,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// What one way cost.
#[derive(Debug, Clone)]
pub struct Price {
    /// Which way.
    pub way: Way,
    /// Seconds, one sample a round.
    pub seconds: Samples,
    /// Commits for each contact put.
    pub commits: f64,
    /// Bytes of the binary log for each contact put.
    pub binlog: f64,
    /// Rows written, updated and deleted in the storage engine for each contact put.
    pub rows: [f64; 3],
    /// Transactions that had to give way.
    pub deadlocks: u64,
    /// Puts that were refused.
    pub refused: u64,
    /// Rows that are not what they must be, beside what the way does by its nature.
    pub wrong: u64,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Prices {
    /// In the order of [`Way::ALL`].
    pub of: Vec<Price>,
    spec: PriceSpec,
}

/// Measures all ways in turns: in each round each way puts the same contacts into a table of its own.
pub fn prices(server: &MariaDb, spec: PriceSpec) -> Prices {
    let run = || -> Result<Prices> {
        if spec.rows == 0 || spec.puts == 0 || spec.rounds == 0 || spec.clients == 0 || spec.batch == 0 {
            return Err(Error::new("compare the ways", "each needs rows, puts, a round, a client and a batch"));
        }
        let mut progress = Progress::new("seven ways to put a contact", Way::ALL.len() as u64 + spec.rounds as u64 + 1);
        let loaded = contacts(spec.rows)?;
        let mut arms = Vec::new();
        for way in Way::ALL {
            let table = Table::create(server, way.slug(), Extras { indexes: spec.indexes, ..Extras::default() })?;
            table.load(server, &loaded)?;
            let batch = if way.takes_many() { spec.batch } else { 1 };
            arms.push(Arm::new(server, table, way, spec.clients, batch)?);
            progress.step();
        }
        let mut rng = Rng::seeded(spec.seed, "puts");
        let put = take_turns(server, &mut arms, spec.rows, spec.puts, spec.rounds, &mut rng, &mut progress)?;
        let model = model(&loaded, &put);
        let counted = (spec.rounds as u64 * spec.puts) as f64;
        let finish = |arm: Arm| -> Result<Price> {
            let wrong = faults(&model, &arm.table.rows(server)?, arm.way);
            arm.table.drop(server)?;
            Ok(Price {
                way: arm.way,
                seconds: arm.seconds,
                commits: arm.cost.commits / counted,
                binlog: arm.cost.binlog / counted,
                rows: arm.cost.rows.map(|rows| rows / counted),
                deadlocks: arm.done.deadlocks,
                refused: arm.done.refused,
                wrong,
            })
        };
        Ok(Prices { of: arms.into_iter().map(finish).collect::<Result<Vec<_>>>()?, spec })
    };
    run().or_fail()
}

/// Which contacts must be there, with the last phone that was put and the changes that they must have counted, by address.
pub(super) fn model(loaded: &[Contact], put: &[Contact]) -> BTreeMap<String, (Contact, u64)> {
    let mut model = BTreeMap::new();
    for contact in loaded.iter().chain(put) {
        let entry = model.entry(contact.email().to_string()).or_insert_with(|| (contact.clone(), 0));
        *entry = (contact.clone(), entry.1 + 1);
    }
    model
}

/// Rows that are missing, too many, or not as in the model. REPLACE knows no history, so its rows have counted one change.
pub(super) fn faults(model: &BTreeMap<String, (Contact, u64)>, rows: &[Row], way: Way) -> u64 {
    let right = |row: &&Row| {
        model.get(row.contact.email()).is_some_and(|(contact, changes)| {
            *contact == row.contact && (way == Way::Replace || *changes == row.changes)
        })
    };
    let right = rows.iter().filter(right).count();
    (model.len().max(rows.len()) - right) as u64
}

impl Prices {
    /// One way's.
    pub fn of(&self, way: Way) -> Price {
        let found = self.of.iter().find(|price| price.way == way).cloned();
        found.ok_or_else(|| Error::new("find a price", format!("{way} was not measured"))).or_fail()
    }

    /// How many times as long one way took as ON DUPLICATE KEY, round by round.
    pub fn ratios(&self, way: Way) -> Samples {
        let (one, base) = (self.of(way).seconds, self.of(Way::OnDuplicateKey).seconds);
        one.values().iter().zip(base.values()).map(|(one, base)| one / base).collect()
    }

    /// Puts that were lost, refused or wrong in the end, all ways together.
    pub fn wrong(&self) -> u64 {
        self.of.iter().map(|price| price.wrong + price.refused).sum()
    }

    /// What the server did for each contact, by way.
    pub fn table(&self) -> lab::Table {
        let numbers = |of: fn(&Price) -> f64| self.of.iter().map(of);
        lab::Table::new("What the server did for each contact")
            .text("", self.of.iter().map(|price| price.way.to_string()))
            .numbers("commits", "", numbers(|price| price.commits))
            .numbers("binary log", "bytes", numbers(|price| price.binlog))
            .numbers("written", "rows", numbers(|price| price.rows[0]))
            .numbers("updated", "rows", numbers(|price| price.rows[1]))
            .numbers("deleted", "rows", numbers(|price| price.rows[2]))
            .counts("deadlocks", "", self.of.iter().map(|price| price.deadlocks))
    }

    /// Time by way, with ON DUPLICATE KEY as the measure.
    pub fn chart(&self, title: &str) -> Bars {
        let with = if self.spec.indexes { "three secondary indexes" } else { "no secondary index" };
        let subtitle = format!("{} clients, {with}; {} rounds, all ways in turns", self.spec.clients, self.spec.rounds);
        let chart = Chart::bars(title).subtitle(subtitle).y("time for the same contacts", "×").horizontal();
        Way::ALL
            .into_iter()
            .fold(chart, |chart, way| chart.bar_with_spread(way, self.ratios(way)))
            .mark_y("as long", 1.0)
    }
}
