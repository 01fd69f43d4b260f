//! What the design costs: the fence on every operation, and the commits of a move by its size.

use std::time::Instant;

use mysql::Conn;

use super::{frame_of, instances, users};
use crate::{Client, Cluster, Mover, MoverSpec, Skip, Slot};
use lab::service::{Counters, MariaDb};
use lab::{Error, Frame, Latency, Progress, Result, Trial};

/// An even number, so that each arm is the first as often as the other: the second one finds the pages in memory.
const ROUNDS: usize = 10;

/// What reads and writes cost `fenced` and `without the fence`, as in the prototype: the same rows on the same instances, `count` reads
/// and half as many writes in all. Figures: `read` and `write` (latencies), and the `statements of a read` and `of a write`, as the
/// servers counted them. The first round makes connections and prepares statements.
pub fn fence_cost(cluster: &Cluster, users: u64, count: u64) -> Result<Trial<&'static str>> {
    if users == 0 {
        return Err(Error::new("measure the fence", "there are no users"));
    }
    let mut servers = cluster.names().into_iter().map(|name| cluster.connect(name)).collect::<Result<Vec<Conn>>>()?;
    // What all servers were asked, by their own counters, while something was done. Each of them counts the question for it, too.
    let mut counted = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let mut asked = || servers.iter_mut().map(|server| Counters::one(server, "Questions")).sum::<Result<f64>>();
        let before = asked()?;
        work()?;
        Ok(asked()? - before - cluster.names().len() as f64)
    };
    let each = count.div_ceil(ROUNDS as u64);
    // One client for both: where the scheduler has put the threads of its connections makes more difference than a fence.
    let mut client = Client::new(cluster)?;
    Trial::over(["without the fence", "fenced"], ROUNDS).open(|arm| Ok((*arm != "fenced").then_some(Skip::Fence))).run(
        |_, skip, figures| {
            client.skip = *skip;
            let first = figures.round() as u64 * each;
            let ids: Vec<u64> = (first..first + each).map(|n| n * 7_919 % users).collect();
            let (mut reads, mut writes) = (Latency::new(), Latency::new());
            let for_reads = counted(&mut || {
                ids.iter().try_for_each(|&id| {
                    let began = Instant::now();
                    client.get(id)?;
                    reads.record(began.elapsed());
                    Ok(())
                })
            })?;
            let for_writes = counted(&mut || {
                ids.iter().zip(0..).step_by(8).try_for_each(|(&id, n)| {
                    let began = Instant::now();
                    client.put(id, "priced", n)?;
                    writes.record(began.elapsed());
                    Ok(())
                })
            })?;
            figures.work("operations", reads.count() + writes.count());
            figures.push("statements of a read", "", for_reads / reads.count() as f64);
            figures.push("statements of a write", "", for_writes / writes.count() as f64);
            figures.latency("read", &reads);
            figures.latency("write", &writes);
            Ok(())
        },
    )
}

/// Grows from two instances to four and shrinks again, for each `batch` of slots in a move, without clients: a row for each move as
/// in [`live`](super::live()), with the `commits` of all instances for each slot moved by moves of this size.
pub fn batch_cost(servers: &[MariaDb], slots: Slot, rows: u64, batches: &[usize], seed: u64) -> Result<Frame> {
    let mut progress = Progress::new("moving slots to and fro", batches.len() as u64);
    let cluster = Cluster::create(servers, 2, slots)?;
    cluster.load(&users(rows, seed))?;
    // Commits that these servers wrote to their binary logs so far: each of them waited for the disk.
    let commits =
        || servers.iter().map(|server| Counters::of_server(server)?.get("Binlog_commits")).sum::<Result<f64>>();
    let mut cost = |&batch: &usize| -> Result<Frame> {
        let mut mover = Mover::new(&cluster, MoverSpec { batch, ..MoverSpec::default() })?;
        let before = commits()?;
        let mut moves = mover.reshard(&instances(servers.len()))?;
        moves.extend(mover.reshard(&instances(2))?);
        let moved: u64 = moves.iter().map(|moved| moved.slots).sum();
        let commits = (commits()? - before) / moved as f64;
        progress.step();
        Ok(frame_of(&moves).everywhere("batch", "", batch).everywhere("commits", "", commits))
    };
    batches.iter().map(&mut cost).collect()
}
