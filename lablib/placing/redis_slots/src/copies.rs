//! What one node has of a key, to be compared with what another one has.

use redis::Value;

use super::wire::pack;

/// By how much the expiry of a copy may differ from that of its original: carrying it over takes that long, and the time that is
/// left starts again at the other side.
const EXPIRY: i64 = 1_000;

/// A key's value and expiry, of one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The value as a node would save it; none where there is no key.
    dump: Option<Vec<u8>>,
    /// The milliseconds that it has left to live; -1 for ever.
    left: i64,
    /// The members of a set, or the fields of a hash, sorted: their order in a dump is the node's own.
    members: Option<Vec<Vec<u8>>>,
}

impl Snapshot {
    /// What to ask a node.
    pub(super) fn question(key: &[u8]) -> Vec<Vec<u8>> {
        let of_the_key = |verb: &'static str| pack(&[verb.as_bytes(), key]);
        let asked = ["DUMP", "PTTL", "SMEMBERS", "HGETALL"].map(of_the_key);
        [vec![pack(&["MULTI"])], asked.to_vec(), vec![pack(&["EXEC"])]].concat()
    }

    /// Reads the answers. Whoever refuses has no key.
    pub(super) fn read(mut answers: Vec<Value>) -> Self {
        let nothing = Self { dump: None, left: -1, members: None };
        let Some(Value::Array(parts)) = answers.pop() else { return nothing };
        let Ok([Value::BulkString(dump), Value::Int(left), set, hash]) = <[Value; 4]>::try_from(parts) else {
            return nothing;
        };
        // Asked for what it is not, a key is an error, and no set or hash.
        let members = match (set, hash) {
            (Value::Set(members) | Value::Array(members), _) => Some(sorted(strings(members))),
            (_, Value::Map(fields)) => {
                let pair = |(field, value): (Value, Value)| {
                    let [field, value] = [field, value].map(|half| strings(vec![half]).concat());
                    [field.len().to_string().into_bytes(), b":".to_vec(), field, value].concat()
                };
                Some(sorted(fields.into_iter().map(pair).collect()))
            }
            _ => None,
        };
        Self { dump: Some(dump), left, members }
    }

    /// Whether there is a key.
    pub(super) fn exists(&self) -> bool {
        self.dump.is_some()
    }

    /// Whether both are the same value, and live as long, but for the time that carrying over takes.
    pub(super) fn equals(&self, other: &Self) -> bool {
        let (Some(dump), Some(dump_of_the_other)) = (&self.dump, &other.dump) else { return false };
        let value = dump == dump_of_the_other || (self.members.is_some() && self.members == other.members);
        let expiry = match (self.left, other.left) {
            (-1, -1) => true,
            (-1, _) | (_, -1) => false,
            (one, two) => (one - two).abs() <= EXPIRY,
        };
        value && expiry
    }
}

fn sorted(mut all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    all.sort_unstable();
    all
}

/// The strings among these values.
pub(super) fn strings(values: Vec<Value>) -> Vec<Vec<u8>> {
    let string = |value| match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    };
    values.into_iter().filter_map(string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn copy(dump: &str, left: i64, set: Value, hash: Value) -> Snapshot {
        Snapshot::read(vec![Value::Okay, Value::Array(vec![bulk(dump), Value::Int(left), set, hash])])
    }

    #[test]
    fn equal_is_the_same_value_in_any_order_with_the_same_expiry() {
        let string = |dump: &str, left| copy(dump, left, Value::Nil, Value::Nil);
        assert!(string("a", -1).equals(&string("a", -1)));
        assert!(!string("a", -1).equals(&string("b", -1)));
        assert!(!string("a", -1).equals(&string("a", 5_000)) && !string("a", 5_000).equals(&string("a", -1)));
        assert!(string("a", 5_000).equals(&string("a", 5_900)) && !string("a", 5_000).equals(&string("a", 7_000)));

        let set = |dump: &str, members: &[&str]| {
            copy(dump, -1, Value::Set(members.iter().map(|member| bulk(member)).collect()), Value::Nil)
        };
        assert!(set("1", &["a", "b"]).equals(&set("2", &["b", "a"])));
        assert!(!set("1", &["a", "b"]).equals(&set("2", &["a"])));
        let hash = |dump: &str, fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(field, value)| (bulk(field), bulk(value)));
            copy(dump, -1, Value::Nil, Value::Map(fields.collect()))
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
