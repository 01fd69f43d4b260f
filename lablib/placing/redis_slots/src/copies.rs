//! What one node has of a key, to be compared with what another one has.

use std::collections::{BTreeMap, BTreeSet};

use redis::{RedisResult, Value};

use super::wire::{pack, read};

/// By how much the milliseconds that a copy has left to live may differ from its original's: carrying it over takes that long, and
/// the time that is left starts again at the other side.
const EXPIRY: i64 = 1_000;

/// A key's value and expiry, of one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The value as a node would save it; none where there is no key.
    dump: Option<Vec<u8>>,
    /// The milliseconds that it has left to live; -1 for ever.
    left: i64,
    /// The members of a set: their order in a dump is the node's own.
    members: Option<BTreeSet<Vec<u8>>>,
    /// The fields of a hash, the same.
    fields: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Snapshot {
    /// What to ask a node.
    pub(super) fn question(key: &[u8]) -> Vec<Vec<u8>> {
        let of_the_key = |verb: &str| pack(&[verb.as_bytes(), key]);
        let asked = ["DUMP", "PTTL", "SMEMBERS", "HGETALL"].map(of_the_key);
        [vec![pack(&["MULTI"])], asked.to_vec(), vec![pack(&["EXEC"])]].concat()
    }

    /// Reads the answers. Whoever refuses has no key; asked for what it is not, a key is an error, and no set or hash.
    pub(super) fn read(mut answers: Vec<Value>) -> Self {
        type Parts = (Option<Vec<u8>>, i64, RedisResult<BTreeSet<Vec<u8>>>, RedisResult<BTreeMap<Vec<u8>, Vec<u8>>>);
        match answers.pop().map(read::<Parts>) {
            Some(Ok((dump, left, set, hash))) => Self { dump, left, members: set.ok(), fields: hash.ok() },
            _ => Self::default(),
        }
    }

    /// Whether there is a key.
    pub(super) fn exists(&self) -> bool {
        self.dump.is_some()
    }

    /// Whether both are the same value, and live as long, but for the time that carrying over takes.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let (Some(dump), Some(dump_of_the_other)) = (&self.dump, &other.dump) else { return false };
        let value = dump == dump_of_the_other
            || (self.members.is_some() && self.members == other.members)
            || (self.fields.is_some() && self.fields == other.fields);
        let expiry = match (self.left, other.left) {
            (-1, -1) => true,
            (-1, _) | (_, -1) => false,
            (one, two) => (one - two).abs() <= EXPIRY,
        };
        value && expiry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    /// What a node answers where a key is something else.
    fn no_such() -> Value {
        let answer =
            redis::parse_redis_value(b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
        answer.unwrap_or(Value::Nil)
    }

    fn copy(dump: &str, left: i64, set: Value, hash: Value) -> Snapshot {
        Snapshot::read(vec![Value::Okay, Value::Array(vec![bulk(dump), Value::Int(left), set, hash])])
    }

    #[test]
    fn equal_is_the_same_value_in_any_order_with_the_same_expiry() {
        let string = |dump: &str, left| copy(dump, left, no_such(), no_such());
        assert!(string("a", -1).equals(&string("a", -1)));
        assert!(!string("a", -1).equals(&string("b", -1)));
        assert!(!string("a", -1).equals(&string("a", 5_000)) && !string("a", 5_000).equals(&string("a", -1)));
        assert!(string("a", 5_000).equals(&string("a", 5_900)) && !string("a", 5_000).equals(&string("a", 7_000)));

        let set = |dump: &str, members: &[&str]| {
            copy(dump, -1, Value::Set(members.iter().map(|member| bulk(member)).collect()), no_such())
        };
        assert!(set("1", &["a", "b"]).equals(&set("2", &["b", "a"])));
        assert!(!set("1", &["a", "b"]).equals(&set("2", &["a"])));
        let hash = |dump: &str, fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(field, value)| (bulk(field), bulk(value)));
            copy(dump, -1, no_such(), Value::Map(fields.collect()))
        };
        assert!(hash("1", &[("a", "1"), ("b", "2")]).equals(&hash("2", &[("b", "2"), ("a", "1")])));
        assert!(!hash("1", &[("a", "1"), ("b", "2")]).equals(&hash("2", &[("a", "2"), ("b", "1")])));
        assert!(!hash("1", &[("ab", "c")]).equals(&hash("2", &[("a", "bc")])));
    }

    #[test]
    fn what_is_not_there_equals_nothing() {
        let missing = || Snapshot::read(vec![Value::Okay, Value::Array(vec![Value::Nil, Value::Int(-2)])]);
        assert!(!missing().exists() && !missing().equals(&missing()));
        assert!(!Snapshot::read(Vec::new()).exists());
    }
}
