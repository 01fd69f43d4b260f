//! Who holds which slot, as a client believes.

use redis::Value;

use crate::SLOTS;
use lab::{Error, Result};

/// A client's belief about the cluster: a master for every slot, and the replicas of each master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    /// Masters, in the order of their first slots.
    masters: Vec<Master>,
    /// For every slot the place of its master in `masters`.
    owners: Vec<Option<u16>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Master {
    address: String,
    replicas: Vec<String>,
}

impl SlotMap {
    /// Nobody holds anything.
    pub(super) fn nobody() -> Self {
        Self { masters: Vec::new(), owners: vec![None; usize::from(SLOTS)] }
    }

    /// Reads the answer to CLUSTER SLOTS; `asked` is the host that gave it, which may leave its own name out.
    pub fn read(answer: &Value, asked: &str) -> Result<Self> {
        let mut map = Self::nobody();
        let wrong = || Error::new("read CLUSTER SLOTS", format!("{answer:?} is no list of slots"));
        let Value::Array(ranges) = answer else { return Err(wrong()) };
        let mut read: Vec<(u16, u16, Vec<String>)> = Vec::new();
        for range in ranges {
            read.push(range_of(range, asked).ok_or_else(wrong)?);
        }
        read.sort_by_key(|(from, ..)| *from);
        for (from, to, mut nodes) in read {
            let replicas = nodes.split_off(1);
            let Some(address) = nodes.pop() else { return Err(wrong()) };
            let place = map.place_of(&address);
            map.masters[usize::from(place)].replicas = replicas;
            map.owners[usize::from(from)..=usize::from(to)].fill(Some(place));
        }
        Ok(map)
    }

    /// The address of the slot's master; none where nobody is known to hold it.
    pub fn owner(&self, slot: u16) -> Option<&str> {
        let place = (*self.owners.get(usize::from(slot))?)?;
        self.masters.get(usize::from(place)).map(|master| master.address.as_str())
    }

    /// The addresses of all masters that hold slots, in the order of their first ones.
    pub fn masters(&self) -> Vec<&str> {
        let mut places: Vec<u16> = Vec::new();
        for place in self.owners.iter().flatten() {
            if !places.contains(place) {
                places.push(*place);
            }
        }
        places.iter().map(|place| self.masters[usize::from(*place)].address.as_str()).collect()
    }

    /// The addresses of a master's replicas.
    pub fn replicas(&self, master: &str) -> &[String] {
        self.masters.iter().find(|known| known.address == master).map_or(&[], |known| &known.replicas)
    }

    /// How many slots a master holds.
    pub fn held_by(&self, master: &str) -> usize {
        let place = self.masters.iter().position(|known| known.address == master);
        self.owners.iter().filter(|owner| owner.map(usize::from) == place && place.is_some()).count()
    }

    /// How many slots have a master.
    pub fn covered(&self) -> usize {
        self.owners.iter().flatten().count()
    }

    /// Every address that is known: masters and replicas.
    pub fn addresses(&self) -> Vec<String> {
        let both = |master: &Master| std::iter::once(master.address.clone()).chain(master.replicas.clone());
        self.masters.iter().flat_map(both).collect()
    }

    /// One slot has another master now.
    pub fn set_owner(&mut self, slot: u16, address: &str) {
        let place = self.place_of(address);
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = Some(place);
        }
    }

    fn place_of(&mut self, address: &str) -> u16 {
        let known = self.masters.iter().position(|master| master.address == address);
        known.unwrap_or_else(|| {
            self.masters.push(Master { address: address.to_owned(), replicas: Vec::new() });
            self.masters.len() - 1
        }) as u16
    }
}

/// `[from, to, master, replica, …]`, each node as `[host, port, …]`.
fn range_of(range: &Value, asked: &str) -> Option<(u16, u16, Vec<String>)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(from), Value::Int(to), nodes @ ..] = parts.as_slice() else { return None };
    let (from, to) = (u16::try_from(*from).ok()?, u16::try_from(*to).ok()?);
    let nodes = nodes.iter().map(|node| address_of(node, asked)).collect::<Option<Vec<_>>>()?;
    (from <= to && to < SLOTS && !nodes.is_empty()).then_some((from, to, nodes))
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
        assert_eq!((map.held_by("a:1"), map.held_by("nobody"), map.covered()), (100, 0, 16_384));
        assert_eq!(map.replicas("a:1"), ["c:3"]);
        map.set_owner(99, "new:4");
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
