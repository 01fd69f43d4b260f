//! One hot key, a counter say, as several keys on several nodes: a write goes to one of them, a read asks them all.

use redis::Value;

use super::client::Client;
use super::map::SlotMap;
use super::request::{Failure, Request};
use super::slot::slot_of;
use lab::{Error, Result, Rng};

/// How many names are tried for one part; each has a fair chance of landing on the wanted node.
const TRIES: u32 = 100_000;

/// The parts of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitKey {
    parts: Vec<String>,
}

impl SplitKey {
    /// `key:0` to `key:n-1`, wherever they land: how it is usually done.
    pub fn naive(key: &str, parts: usize) -> Result<Self> {
        check(key, parts, key.contains(['\n', '{']))?;
        Ok(Self { parts: (0..parts).map(|part| format!("{key}:{part}")).collect() })
    }

    /// Parts whose names are chosen so that the masters get them in turn: none gets two more than another.
    pub fn over(key: &str, parts: usize, map: &SlotMap) -> Result<Self> {
        check(key, parts, key.contains(['\n', '{']))?;
        let fail = |cause: String| Error::new("split a key", cause).at(key);
        let masters = map.masters();
        if masters.is_empty() {
            return Err(fail("there is no master to put a part on".into()));
        }
        let mut numbers = 0..;
        let mut chosen = Vec::with_capacity(parts);
        for part in 0..parts {
            let wanted = masters[part % masters.len()];
            let name = numbers
                .by_ref()
                .take(TRIES as usize)
                .map(|number: u32| format!("{key}:{number}"))
                .find(|name| map.owner(slot_of(name)) == Some(wanted));
            chosen.push(name.ok_or_else(|| fail(format!("no name was found that lands on {wanted}")))?);
        }
        Ok(Self { parts: chosen })
    }

    /// The parts that all clients use: those that the first of them wrote down in the cluster. What one client would choose
    /// by its own map, another might choose otherwise, and then not read what the first has written.
    pub fn agreed(key: &str, parts: usize, client: &mut Client) -> Result<Self> {
        let proposal = Self::over(key, parts, client.map())?;
        let place = format!("parts-of:{key}");
        client.call(&Request::repeatable_write(["SET", &place, &proposal.parts.join("\n"), "NX"]))?;
        let fail = |cause: String| Error::new("agree on the parts of a key", cause).at(key);
        let names = redis::from_redis_value::<String>(client.call(&Request::read(["GET", &place]))?);
        Self::of(names.map_err(|error| fail(error.to_string()))?.lines().map(str::to_owned))
    }

    /// Parts that somebody else has chosen.
    pub fn of(parts: impl IntoIterator<Item = String>) -> Result<Self> {
        let parts: Vec<String> = parts.into_iter().collect();
        check(parts.first().map_or("?", String::as_str), parts.len(), false)?;
        Ok(Self { parts })
    }

    /// The names of the parts.
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The increment of one part, to be sent.
    pub fn add(&self, amount: u64, rng: &mut Rng) -> Request {
        let part = &self.parts[rng.below(self.parts.len() as u64) as usize];
        Request::write(["INCRBY", part, &amount.to_string()])
    }

    /// Reads all parts of a counter and adds them up.
    pub fn read(&self, client: &mut Client) -> Result<u64, Failure> {
        let reads: Vec<Request> = self.parts.iter().map(|part| Request::read(["GET", part])).collect();
        Self::sum(client.call_many(&reads))
    }

    /// The total, if every part has answered. Parts are read one beside the other, so an increment that is under way may be
    /// in it or not; one that was acknowledged before the read is.
    pub fn sum(answers: impl IntoIterator<Item = Result<Value, Failure>>) -> Result<u64, Failure> {
        let fail = |cause: String| Failure::NotDone(Error::new("read a counter", cause));
        answers.into_iter().try_fold(0_u64, |sum, answer| {
            let part: Option<u64> = redis::from_redis_value(answer?).map_err(|error| fail(error.to_string()))?;
            let overflow = || fail("its parts sum up to more than 64 bits".into());
            sum.checked_add(part.unwrap_or(0)).ok_or_else(overflow)
        })
    }
}

fn check(key: &str, parts: usize, tagged: bool) -> Result<()> {
    let fail = |cause: &str| Err(Error::new("split a key", cause).at(format!("{key:?}")));
    match (key.is_empty(), parts, tagged) {
        (true, ..) => fail("it is empty"),
        (_, 0, _) => fail("it cannot have 0 parts"),
        // All parts of a key with a hash tag would land in the one slot of the tag.
        (_, _, true) => fail("its name must have neither a hash tag nor a line break"),
        _ => Ok(()),
    }
}
