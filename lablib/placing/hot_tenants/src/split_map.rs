//! Who lives where: the sub-keys of each split tenant, and which of them holds which bucket.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use super::routing::Routing;
use super::shards::{Ask, BUCKETS, Buckets, bucket_of};
use lab::disk::Disk;
use lab::{Doing, Error, Result};

/// A tenant's documents over several routing keys: the owner of each bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Routing keys, no two of which lead to the same shard.
    keys: Vec<String>,
    /// For each bucket, which of the keys it lives under.
    owners: Vec<usize>,
}

impl Split {
    /// A split that gives each bucket to a shard: `shard_of_bucket[b]` is bucket b's.
    pub fn over(routing: &Routing, tenant: &str, shard_of_bucket: &[usize]) -> Result<Self> {
        if shard_of_bucket.len() != BUCKETS as usize {
            let cause = format!("it names a shard for {} of {BUCKETS} buckets", shard_of_bucket.len());
            return Err(Error::new(format!("split {tenant:?}"), cause));
        }
        let mut shards = shard_of_bucket.to_vec();
        shards.sort_unstable();
        shards.dedup();
        let keys = shards.iter().map(|shard| routing.key_to(tenant, *shard)).collect::<Result<_>>()?;
        let owners = shard_of_bucket.iter().map(|shard| shards.partition_point(|known| known < shard)).collect();
        Ok(Self { keys, owners })
    }

    /// The routing key of a bucket.
    pub fn key_of(&self, bucket: u32) -> &str {
        self.owners.get(bucket as usize).and_then(|owner| self.keys.get(*owner)).map_or("", String::as_str)
    }

    /// Each routing key with the buckets that live under it.
    pub fn parts(&self) -> Vec<(&str, Buckets)> {
        let buckets = |key| (0..BUCKETS).filter(|bucket| self.owners.get(*bucket as usize) == Some(&key)).collect();
        self.keys.iter().enumerate().map(|(key, name)| (name.as_str(), buckets(key))).collect()
    }
}

/// Which tenants are split, and how. A tenant that is not lives whole under its own name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SplitMap {
    /// Grows with each change.
    pub version: u64,
    tenants: BTreeMap<String, Split>,
}

impl SplitMap {
    /// The routing key of a document.
    pub fn key_of(&self, tenant: &str, id: u64) -> String {
        self.key_of_bucket(tenant, bucket_of(id))
    }

    /// The routing key of a bucket.
    pub fn key_of_bucket(&self, tenant: &str, bucket: u32) -> String {
        self.tenants.get(tenant).map_or(tenant, |split| split.key_of(bucket)).to_string()
    }

    /// What to ask to find every document of a tenant once: this is the read fan-out.
    pub fn asks(&self, tenant: &str) -> Vec<Ask> {
        match self.tenants.get(tenant) {
            None => vec![Ask::all(tenant, tenant)],
            Some(split) => {
                split.parts().into_iter().map(|(key, buckets)| Ask { buckets, ..Ask::all(key, tenant) }).collect()
            }
        }
    }

    /// The split tenants, by name.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, &Split)> {
        self.tenants.iter().map(|(tenant, split)| (tenant.as_str(), split))
    }

    /// How a tenant is split.
    pub fn split_of(&self, tenant: &str) -> Option<&Split> {
        self.tenants.get(tenant)
    }

    /// That every bucket has a home, and no two of a tenant's keys lead to one shard, where their reads would overlap.
    fn check(&self, routing: &Routing) -> Result<()> {
        for (tenant, split) in &self.tenants {
            let fail = |cause: String| Err(Error::new(format!("read the split of {tenant:?}"), cause));
            if split.owners.len() != BUCKETS as usize || split.owners.iter().any(|owner| *owner >= split.keys.len()) {
                return fail(format!("not every one of the {BUCKETS} buckets has a key"));
            }
            let mut shards = split.keys.iter().map(|key| routing.shards_of(key)).collect::<Result<Vec<_>>>()?.concat();
            let count = shards.len();
            shards.sort_unstable();
            shards.dedup();
            if shards.len() < count {
                return fail("two of its keys lead to the same shard".into());
            }
        }
        Ok(())
    }

    /// The next version, in which the tenant is split like this, or not at all.
    pub fn with(&self, tenant: &str, split: Option<Split>) -> Self {
        let mut next = Self { version: self.version + 1, ..self.clone() };
        match split {
            Some(split) => next.tenants.insert(tenant.to_string(), split),
            None => next.tenants.remove(tenant),
        };
        next
    }
}

/// Copies of a tenant's buckets that no reader may see, and that a restart has to clear away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rubbish {
    pub tenant: String,
    /// Under each of these keys, in these buckets.
    pub copies: Vec<(String, Vec<u32>)>,
}

/// What is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub map: SplitMap,
    pub rubbish: Option<Rubbish>,
}

const NAME: &str = "split-map.json";
const PART: &str = "split-map.part";

impl Ledger {
    /// What is on the disk; an empty map where nothing is yet.
    pub fn read(disk: &dyn Disk, routing: &Routing) -> Result<Self> {
        let bytes = match disk.read(NAME) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            read => read.doing("read the split map")?,
        };
        let ledger: Self = serde_json::from_slice(&bytes).doing("read the split map")?;
        ledger.map.check(routing)?;
        Ok(ledger)
    }

    /// The old one or this one, never half of either; and this one for good when it returns.
    pub fn write(&self, disk: &dyn Disk) -> Result<()> {
        let save = || -> std::io::Result<()> {
            let file = disk.open_or_create(PART)?;
            file.truncate(0)?;
            file.append(&serde_json::to_vec(self)?)?;
            file.sync_data()?;
            disk.rename(PART, NAME)?;
            disk.sync_dir("")
        };
        save().doing("write the split map")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lab::crash::{Durable, PowerCutTest, SimulatedDisk, Tearing};

    fn split(shards: &[usize]) -> Split {
        let homes: Vec<usize> = (0..BUCKETS as usize).map(|bucket| shards[bucket % shards.len()]).collect();
        Split::over(&Routing::new(10).unwrap(), "t", &homes).unwrap()
    }

    /// A client that writes one map after the other.
    struct Maps;

    impl Durable for Maps {
        type Store = SimulatedDisk;
        type Step = u64;
        type State = u64;

        fn open(&self, disk: &SimulatedDisk) -> Result<SimulatedDisk> {
            Ledger::read(disk, &Routing::new(10)?).map(|_| disk.clone())
        }

        fn apply(&self, disk: &mut SimulatedDisk, step: &u64) -> Result<()> {
            let rubbish = Rubbish { tenant: "t".into(), copies: vec![("t".into(), (0..*step as u32).collect())] };
            let shards: Vec<usize> = (0..(step % 9 + 1) as usize).collect();
            let map = SplitMap { version: *step, ..SplitMap::default().with("t", Some(split(&shards))) };
            Ledger { map, rubbish: step.is_multiple_of(2).then_some(rubbish) }.write(disk)
        }

        fn state(&self, disk: &mut SimulatedDisk) -> Result<u64> {
            Ok(Ledger::read(disk, &Routing::new(10)?)?.map.version)
        }

        fn expected(&self, _: &u64, step: &u64) -> u64 {
            *step
        }
    }

    #[test]
    fn a_map_that_was_written_outlives_a_power_cut_whole() {
        let survived = PowerCutTest::new("split map")
            .tearing(Tearing::default())
            .failing_syncs()
            .short_writes()
            .run(&Maps, &[1, 2, 3, 4, 5])
            .unwrap();
        assert!(survived.cuts >= 1_000 && survived.operations >= 20, "{survived:?}");
    }

    #[test]
    fn a_map_that_leads_two_keys_to_one_shard_is_refused() {
        let disk = SimulatedDisk::seeded(1);
        let write = |split: Split| {
            let map = SplitMap::default().with("t", Some(split));
            Ledger { map, rubbish: None }.write(&disk).unwrap();
            Ledger::read(&disk, &Routing::new(10).unwrap()).map(|ledger| ledger.map.version).map_err(|e| e.to_string())
        };
        let good = split(&[1, 2]);
        assert_eq!(write(good.clone()), Ok(1));
        let twice = Split { keys: vec![good.keys[0].clone(), good.keys[0].clone()], ..good.clone() };
        assert!(write(twice).unwrap_err().contains("two of its keys lead to the same shard"));
        let homeless = Split { owners: vec![0; 63], ..good.clone() };
        assert!(write(homeless).unwrap_err().contains("not every one of the 64 buckets has a key"));
        let beyond = Split { owners: vec![2; 64], ..good };
        assert!(write(beyond).unwrap_err().contains("not every one"));
    }

    #[test]
    fn a_file_that_is_no_map_is_one_sentence() {
        let disk = SimulatedDisk::seeded(1);
        disk.create(NAME).unwrap().append(b"{\"map\": 1}").unwrap();
        let error = Ledger::read(&disk, &Routing::new(10).unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("could not read the split map: "), "{error}");
    }
}
