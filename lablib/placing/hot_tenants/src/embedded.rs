//! Ten tantivy indexes on this machine's disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tantivy::collector::{Collector, DocSetCollector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::directory::error::OpenReadError;
use tantivy::query::{BooleanQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TEXT, Value};
use tantivy::{
    DocAddress, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, SegmentReader, TantivyDocument, Term,
};

use super::meter::{Keep, Meter, MeteredDirectory};
use super::routing::Routing;
use super::shards::{Ask, Buckets, Change, Document, Found, Hit, SearchShards, ShardLoad, bucket_of};
use lab::{Crowd, Doing, Error, Result, service};

/// What a writer may hold in memory before it starts a new segment: the least that tantivy accepts.
const WRITER_MEMORY: usize = 15_000_000;

/// Shards that are indexes of this process: on its disk, searched by whoever asks.
pub struct Embedded {
    routing: Routing,
    shards: Vec<Shard>,
    keep: Keep,
    directory: PathBuf,
}

struct Shard {
    index: Index,
    writer: Mutex<Writer>,
    reader: IndexReader,
    fields: Fields,
    meter: Meter,
}

#[derive(Default)]
struct Writer {
    /// From the first write on: it brings threads along, which a shard that is only read can do without.
    index: Option<IndexWriter>,
    /// Something was written since the last commit.
    dirty: bool,
}

#[derive(Clone, Copy)]
struct Fields {
    id: Field,
    tenant: Field,
    bucket: Field,
    version: Field,
    text: Field,
}

impl Embedded {
    /// New, empty shards below the run's own directory; their files go when they go.
    pub fn create(routing: Routing) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = service::run_directory()?.join(format!("search-{number}"));
        Self::at(&directory, routing, Keep::WhileWeLive)
    }

    /// The shards below `directory`, with what was committed there.
    pub fn open(directory: &Path, routing: Routing) -> Result<Self> {
        Self::at(directory, routing, Keep::ForGood)
    }

    fn at(directory: &Path, routing: Routing, keep: Keep) -> Result<Self> {
        let shards = (0..routing.primaries())
            .map(|number| Shard::open(&directory.join(format!("shard-{number}")), keep))
            .collect::<Result<_>>()?;
        Ok(Self { routing, shards, keep, directory: directory.to_path_buf() })
    }

    fn asked(&self, ask: &Ask) -> Result<Vec<&Shard>> {
        Ok(self.routing.shards_of(&ask.routing)?.into_iter().filter_map(|shard| self.shards.get(shard)).collect())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if self.keep == Keep::WhileWeLive {
            self.shards.clear();
            let _ = std::fs::remove_dir_all(&self.directory); // the run's directory goes in any case
        }
    }
}

impl SearchShards for Embedded {
    fn name(&self) -> String {
        format!("{} embedded tantivy indexes", self.shards.len())
    }

    fn routing(&self) -> &Routing {
        &self.routing
    }

    fn write(&self, changes: &[Change]) -> Result<()> {
        let mut by_shard: Vec<Vec<&Change>> = vec![Vec::new(); self.shards.len()];
        for change in changes {
            let (routing, id) = match change {
                Change::Put { routing, document } => (routing, document.id),
                Change::Delete { routing, id } => (routing, *id),
            };
            by_shard[self.routing.shard_of(routing, id)?].push(change);
        }
        let mut busy = self.shards.iter().zip(by_shard).filter(|(_, changes)| !changes.is_empty());
        busy.try_for_each(|(shard, changes)| shard.write(&changes))
    }

    fn refresh(&self) -> Result<()> {
        let dirty: Vec<&Shard> = self.shards.iter().filter(|shard| shard.writer().dirty).collect();
        match dirty[..] {
            [] => Ok(()),
            [shard] => shard.refresh(),
            // A commit is in good part waiting: let the shards wait together.
            _ => Crowd::of(dirty.len()).map(dirty, Shard::refresh).map(drop),
        }
    }

    fn search(&self, asks: &[Ask]) -> Result<Found> {
        let mut found = Found::default();
        for ask in asks {
            for shard in self.asked(ask)? {
                found.hits.extend(shard.search(ask)?);
                found.shards += 1;
            }
        }
        Ok(found)
    }

    fn fetch(&self, ask: &Ask) -> Result<Vec<Document>> {
        let shards = self.asked(ask)?;
        let documents = shards.into_iter().map(|shard| shard.fetch(ask)).collect::<Result<Vec<_>>>()?;
        Ok(documents.into_iter().flatten().collect())
    }

    fn loads(&self) -> Result<Vec<ShardLoad>> {
        let load =
            |shard: &Shard| ShardLoad { documents: shard.reader.searcher().num_docs(), busy: shard.meter.total() };
        Ok(self.shards.iter().map(load).collect())
    }
}

impl Shard {
    fn open(directory: &Path, keep: Keep) -> Result<Self> {
        let mut schema = Schema::builder();
        let fields = Fields {
            id: schema.add_u64_field("id", INDEXED | FAST | STORED),
            tenant: schema.add_text_field("tenant", STRING | STORED),
            bucket: schema.add_u64_field("bucket", FAST),
            version: schema.add_u64_field("version", FAST | STORED),
            text: schema.add_text_field("text", TEXT | STORED),
        };
        let meter = Meter::default();
        let what = format!("open the index {}", directory.display());
        std::fs::create_dir_all(directory).doing(&what)?;
        let files = MeteredDirectory::open(directory, keep, meter.clone())
            .map_err(|error: OpenReadError| Error::new(&what, error))?;
        let index = match Index::exists(&files).doing(&what)? {
            true => Index::open(files),
            false => Index::create(files, schema.build(), IndexSettings::default()),
        };
        let index = index.doing(&what)?;
        let reader: IndexReader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().doing(&what)?;
        Ok(Self { index, writer: Mutex::default(), reader, fields, meter })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, changes: &[&Change]) -> Result<()> {
        // One at a time: an update is a deletion and an addition, and two of them must not interleave.
        let mut writer = self.writer();
        writer.dirty = true;
        self.meter.measure(|| {
            let index = match &mut writer.index {
                Some(index) => index,
                closed => closed.insert(self.index.writer_with_num_threads(1, WRITER_MEMORY).doing("open a shard")?),
            };
            for change in changes {
                let (Change::Put { document: Document { id, .. }, .. } | Change::Delete { id, .. }) = change;
                index.delete_term(Term::from_field_u64(self.fields.id, *id));
                if let Change::Put { document, .. } = change {
                    index.add_document(self.fields.document(document)).doing("write a document")?;
                }
            }
            Ok(())
        })
    }

    fn refresh(&self) -> Result<()> {
        let mut writer = self.writer();
        if !writer.dirty {
            return Ok(());
        }
        self.meter.measure(|| {
            if let Some(index) = &mut writer.index {
                index.commit().doing("commit a shard")?;
            }
            self.reader.reload().doing("open what was committed")
        })?;
        writer.dirty = false;
        Ok(())
    }

    fn search(&self, ask: &Ask) -> Result<Vec<Hit>> {
        self.meter.measure(|| {
            let hits = Hits { buckets: ask.buckets };
            self.reader.searcher().search(&self.fields.query(ask), &hits).doing("search a shard")
        })
    }

    fn fetch(&self, ask: &Ask) -> Result<Vec<Document>> {
        self.meter.measure(|| {
            let searcher = self.reader.searcher();
            let everything = Ask { word: None, ..ask.clone() };
            let found = searcher.search(&self.fields.query(&everything), &DocSetCollector).doing("search a shard")?;
            // In the order in which they are stored: neighbours are read together.
            let found: BTreeSet<DocAddress> = found.into_iter().collect();
            let read = |address| searcher.doc(address).map(|stored: TantivyDocument| self.fields.read(&stored));
            let all = found.into_iter().map(read).collect::<tantivy::Result<Vec<_>>>().doing("read documents")?;
            Ok(all.into_iter().filter(|document| ask.buckets.contains(bucket_of(document.id))).collect())
        })
    }
}

impl Fields {
    fn document(&self, document: &Document) -> TantivyDocument {
        let mut stored = TantivyDocument::default();
        stored.add_u64(self.id, document.id);
        stored.add_text(self.tenant, &document.tenant);
        stored.add_u64(self.bucket, u64::from(bucket_of(document.id)));
        stored.add_u64(self.version, document.version);
        stored.add_text(self.text, &document.text);
        stored
    }

    fn read(&self, stored: &TantivyDocument) -> Document {
        let number = |field| stored.get_first(field).and_then(|value| value.as_u64()).unwrap_or_default();
        let text = |field| stored.get_first(field).and_then(|value| value.as_str()).unwrap_or_default().to_string();
        Document {
            id: number(self.id),
            tenant: text(self.tenant),
            version: number(self.version),
            text: text(self.text),
        }
    }

    fn query(&self, ask: &Ask) -> Box<dyn Query> {
        let is = |field, text: &str| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, text), IndexRecordOption::Basic))
        };
        let tenant = is(self.tenant, &ask.tenant);
        match &ask.word {
            None => tenant,
            Some(word) => Box::new(BooleanQuery::new(vec![(Occur::Must, tenant), (Occur::Must, is(self.text, word))])),
        }
    }
}

/// Collects id and version of what is in some buckets, from columns alone.
struct Hits {
    buckets: Buckets,
}

struct SegmentHits {
    buckets: Buckets,
    id: Column<u64>,
    bucket: Column<u64>,
    version: Column<u64>,
    hits: Vec<Hit>,
}

impl Collector for Hits {
    type Fruit = Vec<Hit>;
    type Child = SegmentHits;

    fn for_segment(&self, _: u32, segment: &SegmentReader) -> tantivy::Result<SegmentHits> {
        let columns = segment.fast_fields();
        Ok(SegmentHits {
            buckets: self.buckets,
            id: columns.u64("id")?,
            bucket: columns.u64("bucket")?,
            version: columns.u64("version")?,
            hits: Vec::new(),
        })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<Vec<Hit>>) -> tantivy::Result<Vec<Hit>> {
        Ok(segments.concat())
    }
}

impl SegmentCollector for SegmentHits {
    type Fruit = Vec<Hit>;

    fn collect(&mut self, document: u32, _: f32) {
        let value = |column: &Column<u64>| column.first(document).unwrap_or_default();
        if self.buckets.contains(value(&self.bucket) as u32) {
            self.hits.push(Hit { id: value(&self.id), version: value(&self.version) });
        }
    }

    fn harvest(self) -> Vec<Hit> {
        self.hits
    }
}
