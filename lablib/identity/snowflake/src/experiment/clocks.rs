//! Clocks that step back, stand still, or read what no id can say. All on a virtual clock.

use std::time::Duration;

use crate::{Layout, Snowflake};
use lab::chart::{Chart, Lines};
use lab::clock::{Clock, VirtualClock};
use lab::{OrFail, Result, Table};

const LAYOUT: Layout = Layout::WORKERS_32;

/// A clock that stepped back a little, and the ids that were made around it.
#[derive(Debug, Clone)]
pub struct Stepped {
    /// The wall clock over true time, in milliseconds.
    pub wall: Vec<(f64, f64)>,
    /// The timestamp of each id, over the true time at which it was asked for.
    pub ids: Vec<(f64, f64)>,
    /// The longest that a caller had to wait, in milliseconds.
    pub longest_ms: f64,
    /// Ids that were not larger than the one before.
    pub falls: u64,
    /// Ids whose timestamp was ahead of the clock.
    pub ahead: u64,
}

/// Somebody asks for an id four times a millisecond; after 40 ms the clock steps back.
pub fn small_step(step: Duration) -> Stepped {
    step_back(step).or_fail()
}

fn step_back(step: Duration) -> Result<Stepped> {
    let clock = VirtualClock::new();
    clock.auto_advance();
    let ids = Snowflake::on(clock.clone(), LAYOUT, 1)?;
    let start = clock.now();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mut stepped = Stepped { wall: Vec::new(), ids: Vec::new(), longest_ms: 0.0, falls: 0, ahead: 0 };
    let (mut last, mut called) = (0, 0);
    while clock.monotonic() < Duration::from_millis(100) {
        if called == 160 {
            stepped.wall.push((ms(clock.monotonic()), ms(clock.now() - start)));
            clock.step_back(step);
        }
        called += 1;
        let asked = clock.monotonic();
        stepped.wall.push((ms(asked), ms(clock.now()) - ms(start)));
        let id = ids.next_id()?;
        let parts = LAYOUT.decode(id)?;
        stepped.longest_ms = stepped.longest_ms.max(ms(clock.monotonic() - asked));
        stepped.falls += u64::from(id <= last);
        stepped.ahead += u64::from(parts.time().0 > clock.now_ms());
        stepped.ids.push((ms(clock.monotonic()), parts.time().0 as f64 - ms(start)));
        last = id;
        clock.advance(Duration::from_micros(250));
    }
    Ok(stepped)
}

impl Stepped {
    /// The clock, and the ids' timestamps.
    pub fn chart(&self, title: &str) -> Lines {
        Chart::lines(title)
            .x("true time", "ms")
            .y("what the clock reads, what the id says", "ms")
            .line("the clock", self.wall.iter().copied())
            .points("ids", self.ids.iter().copied())
    }
}

/// What happens to a clock.
type Act = fn(&VirtualClock);

/// A situation in which there is no id to be had, or only so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What happened to the clock.
    pub what: &'static str,
    /// The ids that were made all the same.
    pub made: u64,
    /// What the caller was told in the end.
    pub said: String,
    /// Whether that names what happened.
    pub says_why: bool,
}

/// Clocks to which something happened after the first id: three that read what no id can say, and one that stands
/// still. Somebody asks for many more ids than a millisecond holds.
pub fn refusals() -> Vec<Refused> {
    let situations: [(&str, &str, Act); 4] = [
        ("the clock steps back by an hour", "stepped back by 3600s", |clock| {
            clock.step_back(Duration::from_secs(3_600));
        }),
        ("the clock reads the year 2019", "2019-12-10T17:46:40.000Z, which is before the epoch", |clock| {
            clock.set(Duration::from_secs(1_576_000_000));
        }),
        ("the clock reads the first millisecond after the last", "the timestamps are used up", |clock| {
            clock.set(LAYOUT.end().since_1970());
        }),
        ("the clock stands still", "has not moved on", |clock| {
            clock.freeze_wall();
        }),
    ];
    situations.iter().map(|(what, why, act)| refused(what, why, act).or_fail()).collect()
}

fn refused(what: &'static str, why: &str, act: &Act) -> Result<Refused> {
    let clock = VirtualClock::new();
    clock.auto_advance();
    let ids = Snowflake::on(clock.clone(), LAYOUT, 1)?;
    ids.next_id()?;
    act(&clock);
    let (mut made, mut said) = (0, String::new());
    for _ in 0..3 * LAYOUT.ids_per_ms() {
        match ids.next_id() {
            Ok(_) => made += 1,
            Err(error) => said = error.to_string(),
        }
    }
    let says_why = said.contains(why);
    Ok(Refused { what, made, said, says_why })
}

/// The situations, the ids that they let through, and the sentences.
pub fn refusals_table(refused: &[Refused]) -> Table {
    Table::new("No id, but a sentence")
        .text("what happens", refused.iter().map(|refused| refused.what))
        .counts("ids made all the same", "", refused.iter().map(|refused| refused.made))
        .text("what the caller is told", refused.iter().map(|refused| refused.said.as_str()))
}
