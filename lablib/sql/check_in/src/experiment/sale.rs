//! Twice as many travellers as seats, and payments that fail.

use super::{dealt, rush};
use crate::{Audit, Desk, Flight, Layout, Rules, SeatMap, Way};
use lab::service::MariaDb;
use lab::{Progress, Result, Rng, Table};

/// A sale.
#[derive(Debug, Clone, Copy)]
pub struct SaleSpec {
    pub layout: Layout,
    pub travellers: u64,
    /// Desks, each with a connection.
    pub desks: usize,
    /// Of a thousand payments, so many fail.
    pub failing: u64,
    /// Where the random numbers begin.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Sale {
    /// By which way.
    pub way: Way,
    /// What was told, against the table.
    pub audit: Audit,
    /// Travellers who were told that the flight is full.
    pub full: u64,
    pub unpaid: u64,
    /// Travellers who got no answer of these, or two.
    pub unanswered: u64,
    /// Seconds that it took.
    pub seconds: f64,
    pub map: SeatMap,
}

/// Sells a flight by each of the ways.
pub fn sale(server: &MariaDb, spec: SaleSpec, ways: &[Way]) -> Result<Vec<Sale>> {
    let mut progress = Progress::new("selling seats", ways.len() as u64);
    let mut run = |&way: &Way| -> Result<Sale> {
        let flight = Flight::create(server, "sale", spec.layout, Rules::OneSeatEach)?;
        let desk = |number: usize| {
            Desk::open(server, &flight, way, Rng::seeded(spec.seed, &format!("desk {number} of {way}")))
        };
        let mut desks = (0..spec.desks).map(desk).collect::<Result<Vec<_>>>()?;
        let hands = dealt(spec.travellers, spec.desks);
        let rush = rush(&mut desks, &hands, |desk, traveller| {
            // Whose payment fails is the traveller's fate, whichever desk and way.
            let pays = Rng::seeded(spec.seed, &format!("purse of {traveller}")).below(1_000) >= spec.failing;
            desk.check_in_paying(traveller, || pays)
        })?;
        let audit = Audit::of(&rush.told, &flight.seats(server)?);
        flight.drop(server)?;
        progress.step();
        let answered = rush.told.len() as u64 + rush.full + rush.unpaid;
        let caption = format!("{way}: {} of {} seats", audit.filled, spec.layout.seats());
        let (full, unpaid, seconds) = (rush.full, rush.unpaid, rush.seconds);
        let unanswered = answered.abs_diff(spec.travellers);
        Ok(Sale {
            way,
            audit,
            full,
            unpaid,
            unanswered,
            seconds,
            map: SeatMap { caption, layout: spec.layout, told: rush.told },
        })
    };
    ways.iter().map(&mut run).collect()
}

/// What came of the sales.
pub fn sales_table(sales: &[Sale]) -> Table {
    Table::new("After the sale")
        .text("way", sales.iter().map(|sale| sale.way.to_string()))
        .counts("seats filled", "", sales.iter().map(|sale| sale.audit.filled))
        .counts("empty", "", sales.iter().map(|sale| sale.audit.empty))
        .counts("told: full", "", sales.iter().map(|sale| sale.full))
        .counts("payment failed", "", sales.iter().map(|sale| sale.unpaid))
        .counts("double booked", "", sales.iter().map(|sale| sale.audit.double_booked))
        .numbers("time", "ms", sales.iter().map(|sale| sale.seconds * 1e3))
}
