//! A live re-shard under reads and writes.

use super::traffic::{Ran, TrafficSpec};
use super::{frame_of, instances};
use crate::{Cluster, Mover, MoverSpec};
use lab::chart::{Chart, Timeline};
use lab::{Frame, Result};

/// Shares the slots out over all instances while clients read, write, delete and list: what they did, and a row for each move: its
/// `slots`, the `rows` copied, the changes `caught up` behind the copy and the `last` ones, for which writers were held; and in seconds
/// how long it took to `copy` and to `catch up`, how long there were `writers held` back and `nobody serves`, and to `clean`.
pub fn live(cluster: &Cluster, traffic: TrafficSpec, spec: MoverSpec) -> Result<(Ran, Frame)> {
    let (mut mover, mut moves) = (Mover::new(cluster, spec)?, Vec::new());
    let onto = instances(cluster.names().len());
    let ran = traffic.around(cluster, |crowd| {
        crowd.meanwhile(traffic.margin, "re-shard", || {
            moves = mover.reshard(&onto)?;
            Ok(())
        })
    })?;
    Ok((ran, frame_of(&moves)))
}

/// The steps of one of these moves, the one whose writers were held for the median time, as they were measured.
pub fn one_move(moves: &Frame, title: &str) -> Timeline {
    let moves = moves.sort("writers held");
    let Some(middle) = moves.rows().nth(moves.height() / 2) else { return Chart::timeline(title) };
    let [copied, catch_up, held, nobody, clean] =
        ["copy", "catch up", "writers held", "nobody serves", "clean"].map(|step| middle.number(step));
    let hold = copied + catch_up;
    let grant = hold + held;
    let (release, end) = (grant - nobody, grant + clean);
    Chart::timeline(title)
        .x("time since the move began", "s")
        .span("mover", 0.0, copied, "copies")
        .span("mover", copied, hold, "catches up")
        .span("mover", hold, grant, "hands over")
        .span("mover", grant, end, "cleans")
        .span("writes at the old owner", 0.0, hold, "served")
        .wait("writes at the old owner", hold, grant, "held back")
        .span("reads at the old owner", 0.0, release, "served")
        .wait("reads at the old owner", release, grant, "nobody serves")
        .wait("rows at the new owner", 0.0, grant, "hidden")
        .span("rows at the new owner", grant, end, "served")
}
