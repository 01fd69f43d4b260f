//! What a number costs, by how many are reserved at a time: in a file, and in a table.

use std::sync::Arc;
use std::time::Instant;

use super::folder;
use crate::seed::SeedCounter;
use crate::{CounterFile, Issuer, RangeTable};
use lab::chart::{Chart, Lines};
use lab::clock::SystemClock;
use lab::crash::RealDisk;
use lab::service::{Counters, MariaDb};
use lab::{Error, OrFail, Race, Raced, Result, Samples};

/// A race of the prototype's counter and ours, at each save size.
#[derive(Debug)]
pub struct SaveSizes {
    /// The race: the prototype and ours at each save size.
    pub raced: Raced,
    /// The save sizes.
    pub sizes: Vec<u64>,
    /// How many ids each arm handed out in a round.
    pub ids: u64,
    /// How often ours saved in a round, by size.
    pub saves: Vec<u64>,
    /// How long a save of ours took, in seconds, by the smallest size against the largest.
    pub save_seconds: Samples,
}

fn seed_arm(size: u64) -> String {
    format!("the prototype, every {size}")
}

fn our_arm(size: u64) -> String {
    format!("ours, every {size}")
}

/// Hands out `ids` ids at each size, on the real disk. `ids` is a multiple of every size.
pub fn save_sizes(sizes: &[u64], ids: u64, rounds: usize) -> SaveSizes {
    let run = || -> Result<SaveSizes> {
        if sizes.is_empty() || sizes.iter().any(|size| *size == 0 || !ids.is_multiple_of(*size)) {
            return Err(Error::new("compare save sizes", "the number of ids has to be a multiple of each"));
        }
        let folder = folder()?;
        let disk = Arc::new(RealDisk::open(&folder)?);
        let mut seeds = Vec::new();
        let mut ours = Vec::new();
        for size in sizes {
            seeds.push(SeedCounter::open(disk.clone(), &format!("seed-{size}"), *size, Arc::new(SystemClock), 1)?);
            ours.push(CounterFile::create(folder.join(format!("ours-{size}")), *size)?);
        }
        let mut race = Race::of(rounds);
        for ((size, seed), own) in sizes.iter().zip(&mut seeds).zip(&ours) {
            race = race.arm(&seed_arm(*size), move || rising(ids, || seed.next_whole().map(|id| id.counter)));
            race = race.arm(&our_arm(*size), move || rising(ids, || own.next_id()));
        }
        let raced = race.try_run()?;
        // Creating the counter is a save, too.
        let saves = ours.iter().map(|own| own.saves() / (rounds as u64 + 1)).collect::<Vec<_>>();
        let (small, large) = (sizes[0], sizes[sizes.len() - 1]);
        let more = (ids / small - ids / large) as f64;
        let (slow, fast) = (raced.seconds(&our_arm(small)), raced.seconds(&our_arm(large)));
        let save_seconds = slow.values().iter().zip(fast.values()).map(|(slow, fast)| (slow - fast) / more).collect();
        Ok(SaveSizes { raced, sizes: sizes.to_vec(), ids, saves, save_seconds })
    };
    run().or_fail()
}

/// Takes so many ids, and says how many were higher than the one before: equal work is as many ids, each of them a new one.
fn rising(ids: u64, mut next: impl FnMut() -> Result<u64>) -> u64 {
    let mut last = 0;
    (0..ids).filter(|_| next().is_ok_and(|id| id > std::mem::replace(&mut last, id))).count() as u64
}

impl SaveSizes {
    /// How many times as long ours took at one size as at another.
    pub fn ratio(&self, slower: u64, faster: u64) -> Samples {
        self.raced.ratio(&our_arm(slower), &our_arm(faster))
    }

    /// How many times as long ours took as the prototype, at one size.
    pub fn price(&self, size: u64) -> Samples {
        self.raced.ratio(&our_arm(size), &seed_arm(size))
    }

    /// Milliseconds for a million ids, measured, and by a line through two of the sizes: so much for an id, so much for a
    /// save.
    pub fn chart(&self, title: &str, published: &[(u64, f64)]) -> Lines {
        let points = |arm: fn(u64) -> String| -> Vec<(f64, Samples)> {
            self.sizes.iter().map(|size| (*size as f64, self.raced.nanoseconds_each(&arm(*size)))).collect()
        };
        let save = self.save_seconds.median() * 1e9;
        let last = self.sizes[self.sizes.len() - 1] as f64;
        let each = self.raced.nanoseconds_each(&our_arm(self.sizes[self.sizes.len() - 1])).median() - save / last;
        let chart = Chart::lines(title)
            .x("ids between two saves", "")
            .log_x()
            .y("time for a million ids", "ms")
            .log_y()
            .line_with_spread("ours, synced", points(our_arm))
            .line_with_spread("the prototype's way, not synced", points(seed_arm))
            .predicted("an id + a save / batch", move |size| each + save / size);
        published.iter().fold(chart, |chart, (size, milliseconds)| {
            chart.mark_point(if *size == published[0].0 { "published" } else { "" }, *size as f64, *milliseconds)
        })
    }

    /// The sizes between the smallest and the largest, as ratios to what the formula in the chart says of them.
    pub fn off(&self) -> Samples {
        let save = self.save_seconds.median() * 1e9;
        let last = self.sizes[self.sizes.len() - 1];
        let each = self.raced.nanoseconds_each(&our_arm(last)).median() - save / last as f64;
        let between = self.sizes.iter().skip(1).take(self.sizes.len().saturating_sub(2));
        between
            .map(|size| self.raced.nanoseconds_each(&our_arm(*size)).median() / (each + save / *size as f64))
            .collect()
    }
}

/// Ten million ids, or any number of them, once at each save size: milliseconds for a million.
pub fn once_at_each(sizes: &[u64], ids: u64) -> Vec<(u64, f64)> {
    let run = || -> Result<Vec<(u64, f64)>> {
        let folder = folder()?;
        let time = |size: &u64| -> Result<(u64, f64)> {
            let counter = CounterFile::create(folder.join(format!("once-{size}")), *size)?;
            let began = Instant::now();
            for _ in 0..ids {
                counter.next_id()?;
            }
            Ok((*size, began.elapsed().as_secs_f64() * 1e9 / ids as f64))
        };
        sizes.iter().map(time).collect()
    };
    run().or_fail()
}

/// A race of ranges from a table, by their size.
#[derive(Debug)]
pub struct RangeSizes {
    raced: Raced,
    sizes: Vec<u64>,
    /// Commits for each number, by size, from the server's own counter.
    pub commits_each: Vec<f64>,
}

fn range_arm(size: u64) -> String {
    format!("ranges of {size}")
}

/// Hands out `ids` ids in ranges of each size. `ids` is a multiple of every size.
pub fn range_sizes(server: &MariaDb, sizes: &[u64], ids: u64, rounds: usize) -> RangeSizes {
    let run = || -> Result<RangeSizes> {
        if sizes.is_empty() || sizes.iter().any(|size| *size == 0 || !ids.is_multiple_of(*size)) {
            return Err(Error::new("compare range sizes", "the number of ids has to be a multiple of each"));
        }
        let table = RangeTable::create(server)?;
        let mut commits_each = Vec::new();
        for size in sizes {
            let mut caller = table.issuer(&format!("counted {size}"), *size)?;
            caller.take()?; // connects, and makes the row
            let before = Counters::of_server(server)?;
            for _ in 0..(ids / size).min(200) * size {
                caller.next_id()?;
            }
            let done = Counters::of_server(server)?.since(&before);
            commits_each.push(done.get("Binlog_commits")? / ((ids / size).min(200) * size) as f64);
        }
        let mut callers = Vec::new();
        for size in sizes {
            callers.push(table.issuer(&format!("timed {size}"), *size)?);
        }
        let mut race = Race::of(rounds);
        for (size, caller) in sizes.iter().zip(&mut callers) {
            race = race.arm(&range_arm(*size), move || (0..ids).filter(|_| caller.next_id().is_ok()).count() as u64);
        }
        Ok(RangeSizes { raced: race.try_run()?, sizes: sizes.to_vec(), commits_each })
    };
    run().or_fail()
}

impl RangeSizes {
    /// How many times as long one size took as another.
    pub fn ratio(&self, slower: u64, faster: u64) -> Samples {
        self.raced.ratio(&range_arm(slower), &range_arm(faster))
    }

    /// Milliseconds for a million ids, by size; predicted: the smallest size's time, shared out.
    pub fn chart(&self, title: &str) -> Lines {
        let each = |size: u64| self.raced.nanoseconds_each(&range_arm(size));
        let smallest = self.sizes[0];
        let trip = each(smallest).median() * smallest as f64;
        Chart::lines(title)
            .x("numbers in a range", "")
            .log_x()
            .y("time for a million ids", "ms")
            .log_y()
            .line_with_spread("measured", self.sizes.iter().map(|size| (*size as f64, each(*size))))
            .predicted("a round trip and a commit / size", move |size| trip / size)
    }
}
