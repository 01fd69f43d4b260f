//! A hot shard: what each instance serves when users are not equally popular, before and after the hot slots have moved.

use super::{instances, users};
use crate::{Client, Cluster, Mover, MoverSpec, Slot};
use lab::service::{Counters, MariaDb};
use lab::{Frame, Progress, Result, Rng, Weighted};

/// A load of reads.
#[derive(Debug, Clone, Copy)]
pub struct HotSpec {
    /// Users.
    pub users: u64,
    /// Reads of one measurement.
    pub reads: u64,
    /// Slots.
    pub slots: Slot,
    /// The seed.
    pub seed: u64,
}

/// Who is read how often.
#[derive(Debug, Clone, Copy)]
pub enum Popularity {
    /// The n-th most popular user in proportion to 1 / n to the power of this.
    Zipf(f64),
    /// One user gets this share of all reads, in per cent; the others share the rest evenly.
    OneHot(f64),
}

impl Popularity {
    fn weights(self, users: u64) -> Result<Weighted> {
        match self {
            Self::Zipf(exponent) => Weighted::zipf(users as usize, exponent),
            Self::OneHot(share) => {
                let rest = (100.0 - share) / (users.max(2) - 1) as f64;
                Weighted::of((0..users).map(|rank| if rank == 0 { share } else { rest }))
            }
        }
    }
}

/// Reads users on a new cluster, once for each of these popularities with the slots shared out evenly, and once more for each after the
/// hottest slots have moved away from the busiest instance. No two samples of reads are the same.
///
/// A row for each `instance`, `slots` (`slots shared out evenly`, `after levelling`) and `heat` (Zipf's exponent, or the hot user's
/// share in %): the instance's share of the `statements` and of the `busy time`, as the servers count them, and how many `slots moved`.
pub fn hot(servers: &[MariaDb], spec: HotSpec, popularities: &[Popularity]) -> Result<Frame> {
    let mut progress = Progress::new("heating users", 2 * popularities.len() as u64);
    let cluster = Cluster::create(servers, servers.len(), spec.slots)?;
    cluster.load(&users(spec.users, spec.seed))?;
    let mut order: Vec<u64> = (0..spec.users).collect();
    Rng::seeded(spec.seed, "popularity").shuffle(&mut order);
    let mut rng = Rng::seeded(spec.seed, "hot reads");
    let mut read = |popularity: Popularity, slots: &str, moved: usize| -> Result<(Frame, Vec<f64>)> {
        let weights = popularity.weights(spec.users)?;
        let (shares, loads) = served(&cluster, servers, spec, || order[weights.draw(&mut rng)])?;
        progress.step();
        let (Popularity::Zipf(number) | Popularity::OneHot(number)) = popularity;
        let shares = shares.everywhere("slots", "", slots).everywhere("heat", "", number);
        Ok((shares.everywhere("slots moved", "", moved), loads))
    };
    // First all of them with the slots as they were shared out; then the slots move, from one heat to the next.
    let mut frames = Vec::new();
    let mut heats = Vec::new();
    for &popularity in popularities {
        let (shares, loads) = read(popularity, "slots shared out evenly", 0)?;
        frames.push(shares);
        heats.push((popularity, loads));
    }
    for (popularity, loads) in heats {
        let transfers = cluster.map()?.plan_by_load(&loads, &instances(servers.len()))?;
        Mover::new(&cluster, MoverSpec { batch: 64, ..MoverSpec::default() })?.carry_out(&transfers)?;
        frames.push(read(popularity, "after levelling", transfers.len())?.0);
    }
    Ok(frames.into_iter().collect())
}

/// Reads the users that are drawn; what each instance did, by its own counters, and the reads of each slot.
fn served(
    cluster: &Cluster,
    servers: &[MariaDb],
    spec: HotSpec,
    mut draw: impl FnMut() -> u64,
) -> Result<(Frame, Vec<f64>)> {
    let counters = || -> Result<Vec<[f64; 2]>> {
        let of = |server: &MariaDb| -> Result<[f64; 2]> {
            server.try_execute("SET GLOBAL userstat = ON")?;
            let counted = Counters::of_server(server)?;
            Ok([counted.get("Com_stmt_execute")?, counted.get("Busy_time")?])
        };
        servers.iter().map(of).collect()
    };
    let mut client = Client::new(cluster)?;
    // Connections are made, statements prepared: what follows is reads and nothing else.
    for id in 0..spec.users.min(300) {
        client.get(id)?;
    }
    let before = counters()?;
    let mut loads = vec![0.0; spec.slots.into()];
    for _ in 0..spec.reads {
        let id = draw();
        loads[usize::from(cluster.slot_of(id))] += 1.0;
        client.get(id)?;
    }
    let after = counters()?;
    let shares = |which: usize| -> Vec<f64> {
        let grown: Vec<f64> = after.iter().zip(&before).map(|(after, before)| after[which] - before[which]).collect();
        grown.iter().map(|one| 100.0 * one / grown.iter().sum::<f64>()).collect()
    };
    let frame = Frame::new().text("instance", cluster.names());
    Ok((frame.numbers("statements", "%", shares(0)).numbers("busy time", "%", shares(1)), loads))
}
