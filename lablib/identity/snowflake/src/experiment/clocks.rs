//! Clocks that step back, stand still, or read what no id can say. All on a virtual clock.

use std::time::Duration;

use crate::{Layout, Snowflake};
use lab::clock::{Clock, VirtualClock};
use lab::{Frame, Result};

const LAYOUT: Layout = Layout::WORKERS_32;

/// Somebody asks for an id four times a millisecond of true time; after 40 ms the clock steps back. A row for each id, all in ms: when it
/// was `asked` for, what the clock `read` then, how long the caller `waited`, when the id was `given`, and the time that it `says`; and
/// whether it `fell` (1), not being larger than the one before, or is `ahead` (1) of the clock.
pub fn small_step(step: Duration) -> Result<Frame> {
    let clock = VirtualClock::new();
    clock.auto_advance();
    let ids = Snowflake::on(clock.clone(), LAYOUT, 1)?;
    let start = clock.now();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (mut rows, mut last): (Vec<[f64; 7]>, u64) = (Vec::new(), 0);
    while clock.monotonic() < Duration::from_millis(100) {
        if rows.len() == 160 {
            clock.step_back(step);
        }
        let (asked, read) = (clock.monotonic(), clock.now());
        let id = ids.next_id()?;
        let (given, says) = (clock.monotonic(), LAYOUT.decode(id)?.time().0);
        let [fell, ahead] = [id <= last, says > clock.now_ms()].map(|so| f64::from(u8::from(so)));
        let (read, says) = (ms(read) - ms(start), says as f64 - ms(start));
        rows.push([ms(asked), read, ms(given - asked), ms(given), says, fell, ahead]);
        last = id;
        clock.advance(Duration::from_micros(250));
    }
    let columns = ["asked", "read", "waited", "given", "says", "fell", "ahead"];
    let numbers = |frame: Frame, (at, name): (usize, &str)| {
        frame.numbers(name, if at < 5 { "ms" } else { "" }, rows.iter().map(|row| row[at]))
    };
    Ok(columns.into_iter().enumerate().fold(Frame::new(), numbers))
}

/// Clocks to which something happens after the first id: three that read what no id can say, and one that stands still. Somebody asks
/// for many more ids than a millisecond holds. A row for each: what `happens`, ids `made` all the same, what the caller is `told` in the
/// end, and whether that `says why` (1).
pub fn refusals() -> Result<Frame> {
    type Happens = fn(&VirtualClock);
    let situations: [(&str, &str, Happens); 4] = [
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
    let refused = |(happens, why, act): (&str, &str, Happens)| {
        let clock = VirtualClock::new();
        clock.auto_advance();
        let ids = Snowflake::on(clock.clone(), LAYOUT, 1)?;
        ids.next_id()?;
        act(&clock);
        let (mut made, mut told) = (0, String::new());
        for _ in 0..3 * LAYOUT.ids_per_ms() {
            match ids.next_id() {
                Ok(_) => made += 1,
                Err(error) => told = error.to_string(),
            }
        }
        let says_why = u64::from(told.contains(why));
        Ok(Frame::new().text("happens", [happens]).counts("made", "", [made]).text("told", [told]).counts(
            "says why",
            "",
            [says_why],
        ))
    };
    situations.into_iter().map(refused).collect()
}
