//! What a node of a Redis cluster believes about the others.

use std::time::Duration;

use super::redis::Redis;
use crate::{Error, Result};

pub(super) const SLOTS: usize = 16_384;
/// How long one node gets to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// A node's view of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View(pub(super) Vec<Member>);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) address: String,
    pub(super) master: bool,
    pub(super) failed: bool,
    pub(super) handshake: bool,
    pub(super) connected: bool,
    pub(super) slots: Vec<(u16, u16)>,
}

impl View {
    pub(super) fn of(node: &Redis) -> Result<Self> {
        Self::read(&node.command(&["CLUSTER", "NODES"], ANSWER)?).map_err(|error| error.at(node.name()))
    }

    /// Lines like `id 127.0.0.1:7001@17001,host myself,master - 0 0 1 connected 0-5460 [5461->-id]`.
    pub(super) fn read(text: &str) -> Result<Self> {
        text.lines()
            .map(Member::read)
            .collect::<Option<Vec<_>>>()
            .map(Self)
            .ok_or_else(|| Error::new("read CLUSTER NODES", text))
    }
}

impl Member {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, address, flags, _, _, _, _, link, slots @ ..] = words.as_slice() else { return None };
        let has = |flag: &str| flags.split(',').any(|one| one == flag);
        // Slots on their way to another node are shown in brackets, besides those that are held.
        let slots = slots.iter().filter(|slot| !slot.starts_with('[')).map(|slot| {
            let (from, to) = slot.split_once('-').unwrap_or((slot, slot));
            Some((from.parse().ok()?, to.parse().ok()?))
        });
        Some(Self {
            address: address.split('@').next()?.to_owned(),
            master: has("master"),
            failed: has("fail") || has("fail?") || has("noaddr"),
            handshake: has("handshake"),
            connected: *link == "connected",
            slots: slots.collect::<Option<Vec<_>>>()?,
        })
    }

    pub(super) fn is_well(&self) -> bool {
        self.connected && !self.failed && !self.handshake
    }

    pub(super) fn is_serving_master(&self) -> bool {
        self.master && !self.failed && !self.slots.is_empty()
    }

    pub(super) fn holds(&self, slot: u16) -> bool {
        self.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.iter().map(|(from, to)| usize::from(to - from) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VIEW: &str = "\
aa 127.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460 5500
bb 127.0.0.1:7002@17002,host master,fail - 0 0 2 disconnected 5461-5499 [5461->-aa]
cc 127.0.0.1:7003@17003 slave,fail? aa 0 0 1 connected
dd :0@0 handshake,noaddr - 0 0 0 disconnected
";

    #[test]
    fn a_view_tells_roles_health_and_slots() {
        let View(members) = View::read(VIEW).unwrap();
        assert_eq!(members.iter().map(|member| member.master).collect::<Vec<_>>(), [true, true, false, false]);
        assert_eq!(members.iter().map(|member| member.failed).collect::<Vec<_>>(), [false, true, true, true]);
        assert_eq!(members[0].slot_count(), 5462);
        assert!(members[0].holds(5460) && members[0].holds(5500) && !members[0].holds(5461));
        assert_eq!(members[1].slots, [(5461, 5499)]);
        assert!(members[0].is_serving_master() && !members[1].is_serving_master() && !members[2].is_serving_master());
        assert!(members[3].handshake && !members[3].connected);
    }

    #[test]
    fn what_is_no_view_is_refused() {
        for text in ["ERR This instance has cluster support disabled", "aa 127.0.0.1:1@2 master - 0 0 1 connected x-y"]
        {
            assert!(View::read(text).is_err(), "{text}");
        }
    }
}
