//! Who holds which slot, as a client believes.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use redis::Value;

use crate::SLOTS;
use lab::{Error, Result};

/// A client's belief about the cluster: a master for every slot, and the replicas of each master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    /// For every slot the address of its master.
    owners: Vec<Option<Arc<str>>>,
    /// The addresses of each master's replicas.
    replicas: BTreeMap<Arc<str>, Vec<String>>,
}

impl SlotMap {
    /// Nobody holds anything.
    pub(super) fn nobody() -> Self {
        Self { owners: vec![None; usize::from(SLOTS)], replicas: BTreeMap::new() }
    }

    /// Reads the answer to CLUSTER SLOTS; `asked` is the host that gave it, which may leave its own name out.
    pub fn read(answer: &Value, asked: &str) -> Result<Self> {
        let mut map = Self::nobody();
        let wrong = || Error::new("read CLUSTER SLOTS", format!("{answer:?} is no list of slots"));
        let Value::Array(ranges) = answer else { return Err(wrong()) };
        for range in ranges {
            let (slots, master, replicas) = range_of(range, asked).ok_or_else(wrong)?;
            map.owners[slots].fill(Some(master.clone()));
            map.replicas.insert(master, replicas);
        }
        Ok(map)
    }

    /// The address of the slot's master; none where nobody is known to hold it.
    pub fn owner(&self, slot: u16) -> Option<&str> {
        self.owners.get(usize::from(slot))?.as_deref()
    }

    /// The addresses of all masters that hold slots, in the order of their first ones.
    pub fn masters(&self) -> Vec<&str> {
        self.owners.iter().flatten().fold(Vec::new(), |mut masters, master| {
            if !masters.contains(&&**master) {
                masters.push(master);
            }
            masters
        })
    }

    /// The addresses of a master's replicas.
    pub fn replicas(&self, master: &str) -> &[String] {
        self.replicas.get(master).map_or(&[], Vec::as_slice)
    }

    /// How many slots have a master.
    pub fn covered(&self) -> usize {
        self.owners.iter().flatten().count()
    }

    /// Every address that is known: masters and replicas.
    pub fn addresses(&self) -> Vec<String> {
        let masters = self.masters().into_iter().map(str::to_owned);
        masters.chain(self.replicas.values().flatten().cloned()).collect()
    }

    /// One slot has this master now; false where that is no news.
    pub fn set_owner(&mut self, slot: u16, address: &str) -> bool {
        let owner = self.owners.get_mut(usize::from(slot)).filter(|owner| owner.as_deref() != Some(address));
        owner.map(|owner| *owner = Some(address.into())).is_some()
    }
}

/// `[from, to, master, replica, …]`, each node as `[host, port, …]`.
fn range_of(range: &Value, asked: &str) -> Option<(RangeInclusive<usize>, Arc<str>, Vec<String>)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(from), Value::Int(to), master, replicas @ ..] = parts.as_slice() else { return None };
    let (from, to) = (usize::try_from(*from).ok()?, usize::try_from(*to).ok()?);
    let replicas = replicas.iter().map(|node| address_of(node, asked)).collect::<Option<Vec<_>>>()?;
    (from <= to && to < usize::from(SLOTS)).then_some((from..=to, address_of(master, asked)?.into(), replicas))
}

fn address_of(node: &Value, asked: &str) -> Option<String> {
    let Value::Array(parts) = node else { return None };
    let (host, Value::Int(port)) = (parts.first()?, parts.get(1)?) else { return None };
    let host = match host {
        Value::BulkString(bytes) if !bytes.is_empty() => String::from_utf8(bytes.clone()).ok()?,
        Value::BulkString(_) | Value::Nil => asked.to_owned(),
        _ => return None,
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString("id".into())])
    }

    fn range(from: i64, to: i64, nodes: &[(&str, i64)]) -> Value {
        let mut parts = vec![Value::Int(from), Value::Int(to)];
        parts.extend(nodes.iter().map(|(host, port)| node(host, *port)));
        Value::Array(parts)
    }

    #[test]
    fn every_slot_has_the_master_that_the_answer_gives_it() {
        let answer = Value::Array(vec![
            range(8_192, 16_383, &[("b", 2)]),
            range(0, 99, &[("a", 1), ("c", 3)]),
            range(100, 8_191, &[("", 9)]),
        ]);
        let mut map = SlotMap::read(&answer, "asked").unwrap();
        assert_eq!(map.masters(), ["a:1", "asked:9", "b:2"]);
        assert_eq!((map.owner(99), map.owner(100), map.owner(16_383)), (Some("a:1"), Some("asked:9"), Some("b:2")));
        let held_by_a = (0..SLOTS).filter(|slot| map.owner(*slot) == Some("a:1")).count();
        assert_eq!((held_by_a, map.covered()), (100, 16_384));
        assert_eq!(map.replicas("a:1"), ["c:3"]);
        assert_eq!(
            [map.set_owner(99, "new:4"), map.set_owner(99, "new:4"), map.set_owner(SLOTS, "new:4")],
            [true, false, false]
        );
        assert_eq!((map.owner(98), map.owner(99)), (Some("a:1"), Some("new:4")));
        assert_eq!(map.owner(SLOTS), None);
    }

    #[test]
    fn what_is_no_answer_to_cluster_slots_is_refused() {
        let backwards = range(9, 1, &[("a", 1)]);
        let too_far = range(0, 16_384, &[("a", 1)]);
        let nobody = range(0, 1, &[]);
        for answer in
            [Value::Nil, Value::Array(vec![Value::Int(1)]), backwards, too_far, nobody].map(|range| match range {
                Value::Array(ref parts) if matches!(parts.first(), Some(Value::Int(_))) && parts.len() > 1 => {
                    Value::Array(vec![range])
                }
                other => other,
            })
        {
            assert!(SlotMap::read(&answer, "asked").is_err(), "{answer:?}");
        }
        assert_eq!(SlotMap::read(&Value::Array(Vec::new()), "asked").unwrap().covered(), 0);
    }
}
