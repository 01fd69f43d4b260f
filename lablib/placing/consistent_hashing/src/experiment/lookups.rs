//! What a lookup costs, beside the field's crates; what a placement keeps; what a change costs.

use std::time::Instant;

use super::{Scheme, keys, shards};
use crate::rivals::{AnyPlacement, Rival, each};
use lab::{Figures, Progress, Result, Samples, Trial};

/// Different keys in one turn, so that the caches hold a placement only as far as it fits.
const KEYS: usize = 4_000;

/// These placements over each number of nodes, a trial for each of these (`nodes` is a column of its own): in every turn all find the
/// same keys. Figures: the time of a `lookup` (ns).
pub fn lookups(schemes: &[Scheme], node_counts: &[usize], rounds: usize) -> Result<Vec<Trial<Scheme>>> {
    let keys = keys(KEYS);
    let mut progress = Progress::new("looking keys up", node_counts.len() as u64);
    let over = |&nodes: &usize| {
        let names = shards(nodes);
        let trial = Trial::over(schemes.iter().copied(), rounds)
            .column("nodes", move |_| nodes)
            .open(|scheme| scheme.place(&names))
            .run(|_, placement, figures| {
                timed(figures, &keys, |keys| each(keys, |key| placement.node_of(key)));
                Ok(())
            })?;
        progress.step();
        Ok(trial)
    };
    node_counts.iter().map(over).collect()
}

/// Ours beside crates of the field, at the same number of nodes and points. Figures: the time of a `lookup` (ns), and the `fullest ÷ mean`
/// of the nodes with 200 keys for each.
pub fn field(rivals: &[Rival], nodes: usize, rounds: usize) -> Result<Trial<Rival>> {
    let (keys, many) = (keys(KEYS), keys(nodes * 200));
    Trial::over(rivals.iter().copied(), rounds)
        .open(|rival| {
            let placement = AnyPlacement::new(*rival, nodes)?;
            let mut counts = vec![0.0; nodes];
            many.iter().for_each(|key| counts[placement.number_of(key)] += 1.0);
            Ok((placement, Samples::from(counts).max_over_mean()))
        })
        .run(|_, (placement, fullest), figures| {
            timed(figures, &keys, |keys| placement.find_all(keys));
            figures.push("fullest ÷ mean", "×", *fullest);
            Ok(())
        })
}

fn timed(figures: &mut Figures, keys: &[String], find_all: impl Fn(&[String])) {
    let clock = Instant::now();
    find_all(keys);
    figures.push("lookup", "ns", clock.elapsed().as_secs_f64() * 1e9 / keys.len() as f64);
    figures.work("keys", keys.len() as u64);
}

/// A node leaves and comes back, in placements of so many nodes that take turns. Figures: what is `kept` for lookups (bytes a node), and
/// the time of `a change` (µs).
pub fn changes(schemes: &[Scheme], nodes: usize, rounds: usize) -> Result<Trial<Scheme>> {
    let names = shards(nodes);
    Trial::over(schemes.iter().copied(), rounds).open(|scheme| scheme.place(&names)).run(|_, placement, figures| {
        figures.push("kept", "bytes a node", placement.bytes() as f64 / nodes as f64);
        let victim = &names[figures.round() * 7 % nodes];
        let clock = Instant::now();
        placement.remove(victim)?;
        placement.add(victim.into())?;
        figures.push("a change", "µs", clock.elapsed().as_secs_f64() * 1e6 / 2.0);
        Ok(())
    })
}
