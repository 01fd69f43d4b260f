//! A hot shard: what each instance serves when users are not equally popular, before and after the hot slots have moved.

use super::{instances, users};
use crate::{Client, Cluster, Mover, MoverSpec, Slot};
use lab::service::{Counters, MariaDb};
use lab::{Error, Frame, Progress, Result, Rng, Weighted};

/// A load of reads.
#[derive(Debug, Clone, Copy)]
pub struct HotSpec {
    pub users: u64,
    /// Reads of one measurement.
    pub reads: u64,
    pub slots: Slot,
    pub seed: u64,
}

/// How much each of so many users is wanted: one gets this share of all, in per cent, the others share the rest evenly.
pub fn one_hot(users: u64, share: f64) -> Result<Weighted> {
    let rest = (100.0 - share) / (users.max(2) - 1) as f64;
    Weighted::of((0..users).map(|rank| if rank == 0 { share } else { rest }))
}

/// Reads users on a new cluster as much as each is wanted, once for each of these heats (a number that it goes by, and who is wanted how
/// much) with the slots shared out evenly, and once more for each after the hottest slots have moved away from the busiest instance. No
/// two samples of reads are the same.
///
/// A row for each `instance`, `slots` (`slots shared out evenly`, `after levelling`) and `heat`: the instance's share of the
/// `statements` and of the `busy time`, as the servers count them, and how many `slots moved`.
pub fn hot(servers: &[MariaDb], spec: HotSpec, heats: &[(f64, Weighted)]) -> Result<Frame> {
    let mut progress = Progress::new("heating users", 2 * heats.len() as u64);
    let cluster = Cluster::create(servers, servers.len(), spec.slots)?;
    cluster.load(&users(spec.users, spec.seed))?;
    if let Some((heat, _)) = heats.iter().find(|(_, wanted)| wanted.shares().len() as u64 != spec.users) {
        let cause = format!("the heat {heat} says how much others than the {} users are wanted", spec.users);
        return Err(Error::new("heat users", cause));
    }
    let mut order: Vec<u64> = (0..spec.users).collect();
    Rng::seeded(spec.seed, "popularity").shuffle(&mut order);
    let mut rng = Rng::seeded(spec.seed, "hot reads");
    let mut read = |(heat, wanted): &(f64, Weighted), slots: &str, moved: usize| -> Result<(Frame, Vec<f64>)> {
        let (shares, loads) = served(&cluster, servers, spec, || order[wanted.draw(&mut rng)])?;
        progress.step();
        let shares = shares.everywhere("slots", "", slots).everywhere("heat", "", *heat);
        Ok((shares.everywhere("slots moved", "", moved), loads))
    };
    // First all of them with the slots as they were shared out; then the slots move, from one heat to the next.
    let even = heats.iter().map(|heat| read(heat, "slots shared out evenly", 0)).collect::<Result<Vec<_>>>()?;
    let mut frames = Vec::new();
    for (heat, (_, loads)) in heats.iter().zip(&even) {
        let transfers = cluster.map()?.plan_by_load(loads, &instances(servers.len()))?;
        Mover::new(&cluster, MoverSpec { batch: 64, ..MoverSpec::default() })?.carry_out(&transfers)?;
        frames.push(read(heat, "after levelling", transfers.len())?.0);
    }
    Ok(even.into_iter().map(|(shares, _)| shares).chain(frames).collect())
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
