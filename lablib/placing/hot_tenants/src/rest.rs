//! The same shards on an Elasticsearch or OpenSearch server, through its REST API.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use super::routing::Routing;
use super::shards::{Ask, Buckets, Change, Document, Found, Hit, SearchShards, ShardLoad, bucket_of};
use lab::{Doing, Error, Result};

/// How long an answer may take before the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that an answer may hold.
const MOST_BYTES: u64 = 1 << 30;
/// The most hits of one search: all of a tenant's.
const MOST_HITS: usize = 1_000_000;
/// Changes in one request.
const BULK: usize = 2_000;

/// An index on a search server, with as many primary shards as the routing says and no replicas; gone when this goes.
pub struct Rest {
    server: Server,
    index: String,
    routing: Routing,
    name: String,
}

/// Where it is, and how to talk to it.
struct Server {
    agent: Agent,
    /// Without user, password and trailing slash.
    url: String,
    /// The value of the `Authorization` header.
    login: Option<String>,
}

impl Rest {
    /// A new, empty index on the server at `url` (`http://user:password@host:9200`).
    pub fn create(url: &str, routing: Routing) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let server = Server::at(url)?;
        let about: About = server.get("").map_err(|error| {
            Error::new("reach the search server", error.cause())
                .at(&server.url)
                .remedy("start it, correct LAB_SEARCH_URL, or unset it: the lab then uses embedded indexes")
        })?;
        let name =
            format!("{} {}", about.version.distribution.as_deref().unwrap_or("elasticsearch"), about.version.number);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Not by the process alone: in a container its id comes again, and one that was killed has left its index.
        let index = format!("lab-hot-tenants-{:x}-{number}", rand::random::<u64>());
        let mut settings = json!({
            "number_of_shards": routing.primaries(),
            "number_of_replicas": 0,
            "refresh_interval": "-1",
            "max_result_window": MOST_HITS,
        });
        // What Elasticsearch does by itself is left to it: its default is not ours to set.
        if routing != Routing::new(routing.primaries())? {
            settings["number_of_routing_shards"] = routing.routing_shards().into();
            settings["routing_partition_size"] = routing.partition_size().into();
        }
        let mappings = json!({
            "dynamic": "strict",
            "_routing": { "required": true },
            "properties": {
                "id": { "type": "long" },
                "tenant": { "type": "keyword" },
                "bucket": { "type": "integer" },
                "version": { "type": "long" },
                "text": { "type": "text" },
            },
        });
        server.put(&index, &json!({ "settings": settings, "mappings": mappings }))?;
        let name = format!("an index of {} shards on {name}", routing.primaries());
        Ok(Self { server, index, routing, name })
    }

    /// The shards that the *server* says a search with this routing key asks.
    pub fn shards_of(&self, routing: &str) -> Result<Vec<usize>> {
        let path = format!("{}/_search_shards?routing={}", self.index, escaped(routing));
        let answer: ShardsOfSearch = self.server.get(&path)?;
        let mut shards: Vec<usize> = answer.shards.iter().flatten().map(|copy| copy.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        Ok(shards)
    }

    fn searches(&self, asks: &[Ask], answer: &[(&str, Value)]) -> Result<Vec<Response>> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let mut lines = String::new();
        for ask in asks {
            self.routing.shards_of(&ask.routing)?;
            let mut filter = vec![json!({ "term": { "tenant": ask.tenant } })];
            if ask.buckets != Buckets::ALL {
                filter.push(json!({ "terms": { "bucket": ask.buckets.iter().collect::<Vec<_>>() } }));
            }
            if let Some(word) = &ask.word {
                filter.push(json!({ "term": { "text": word } }));
            }
            let mut body = json!({
                "size": MOST_HITS,
                "query": { "bool": { "filter": filter } },
                "sort": ["_doc"],
                "track_total_hits": true,
            });
            for (field, value) in answer {
                body[*field] = value.clone();
            }
            lines += &format!("{}\n{body}\n", json!({ "index": self.index, "routing": ask.routing }));
        }
        let answer: Responses = self.server.send_lines("_msearch", lines)?;
        let whole = |response: Response| match (&response.error, response.shards.failed, response.timed_out) {
            (None, 0, false) => Ok(response),
            _ => Err(Error::new("search", "not every shard has answered").at(&self.index)),
        };
        answer.responses.into_iter().map(whole).collect()
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let _ = self.server.delete(&self.index); // nobody is left to be told
    }
}

impl SearchShards for Rest {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn routing(&self) -> &Routing {
        &self.routing
    }

    fn write(&self, changes: &[Change]) -> Result<()> {
        for changes in changes.chunks(BULK) {
            let mut lines = String::new();
            for change in changes {
                match change {
                    Change::Put { routing, document } => {
                        self.routing.shard_of(routing, document.id)?;
                        let about = json!({ "index": { "_id": document.id.to_string(), "routing": routing } });
                        let source = json!({
                            "id": document.id,
                            "tenant": document.tenant,
                            "bucket": bucket_of(document.id),
                            "version": document.version,
                            "text": document.text,
                        });
                        lines += &format!("{about}\n{source}\n");
                    }
                    Change::Delete { routing, id } => {
                        self.routing.shard_of(routing, *id)?;
                        lines += &format!("{}\n", json!({ "delete": { "_id": id.to_string(), "routing": routing } }));
                    }
                }
            }
            let answer: Bulk = self.server.send_lines(&format!("{}/_bulk", self.index), lines)?;
            // An error of its own for each change; one that found nothing to delete has none.
            if let Some(error) = answer.items.iter().flat_map(|item| item.values()).find_map(|item| item.error.as_ref())
            {
                return Err(Error::new("write documents", error).at(&self.index));
            }
            if answer.errors || answer.items.len() != changes.len() {
                return Err(Error::new("write documents", "not every change was answered").at(&self.index));
            }
        }
        Ok(())
    }

    fn refresh(&self) -> Result<()> {
        let answer: Refreshed = self.server.post(&format!("{}/_refresh", self.index))?;
        match answer.shards.failed {
            0 => Ok(()),
            failed => Err(Error::new("refresh", format!("{failed} shards did not")).at(&self.index)),
        }
    }

    fn search(&self, asks: &[Ask]) -> Result<Found> {
        let columns = [("_source", json!(false)), ("docvalue_fields", json!(["id", "version"]))];
        let mut found = Found::default();
        for response in self.searches(asks, &columns)? {
            found.shards += response.shards.total;
            for hit in response.hits.hits {
                let value = |values: &[u64]| values.first().copied().unwrap_or_default();
                let fields = hit.fields.ok_or_else(|| Error::new("search", "a hit came without its fields"))?;
                found.hits.push(Hit { id: value(&fields.id), version: value(&fields.version) });
            }
        }
        Ok(found)
    }

    fn fetch(&self, ask: &Ask) -> Result<Vec<Document>> {
        let everything = [Ask { word: None, ..ask.clone() }];
        let hits = self.searches(&everything, &[])?.into_iter().flat_map(|response| response.hits.hits);
        let document = |hit: RestHit| {
            let source = hit.source.ok_or_else(|| Error::new("fetch documents", "a hit came without its source"))?;
            let Source { id, tenant, version, text } = source;
            Ok(Document { id, tenant, version, text })
        };
        hits.map(document).collect()
    }

    fn loads(&self) -> Result<Vec<ShardLoad>> {
        let path = format!("{}/_stats/docs,indexing,search,refresh?level=shards", self.index);
        let answer: Stats = self.server.get(&path)?;
        let shards = answer.indices.into_values().next().unwrap_or_default().shards;
        let load = |shard: u32| {
            let copy = shards.get(&shard.to_string()).and_then(|copies| copies.first()).ok_or_else(|| {
                Error::new("read what the shards have done", format!("the server says nothing of shard {shard}"))
            })?;
            let busy = copy.indexing.index_time_in_millis
                + copy.search.query_time_in_millis
                + copy.search.fetch_time_in_millis
                + copy.refresh.total_time_in_millis;
            Ok(ShardLoad { documents: copy.docs.count, busy: Duration::from_millis(busy) })
        };
        (0..self.routing.primaries()).map(load).collect()
    }
}

impl Server {
    fn at(url: &str) -> Result<Self> {
        let bad = |cause: &str| {
            Error::new("read LAB_SEARCH_URL", cause).remedy("write it as http://user:password@127.0.0.1:9200")
        };
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(bad("the lab reaches servers over plain HTTP only")),
            _ => return Err(bad("it is no http URL")),
        };
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, rest),
        };
        let host = host.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
            return Err(bad("it must end with a host and a port"));
        }
        let login = match login {
            None => None,
            Some(login) => {
                let (user, password) = login.split_once(':').ok_or_else(|| bad("a user needs a password"))?;
                Some(format!("Basic {}", base64(format!("{}:{}", unescaped(user), unescaped(password)).as_bytes())))
            }
        };
        let agent = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .timeout_connect(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .build()
            .into();
        Ok(Self { agent, url: format!("http://{host}"), login })
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T> {
        let request = self.agent.get(format!("{}/{path}", self.url));
        self.answer(path, self.with_login(request).call())
    }

    fn post<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T> {
        let request = self.agent.post(format!("{}/{path}", self.url));
        self.answer(path, self.with_login(request).send_empty())
    }

    fn put(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.agent.put(format!("{}/{path}", self.url)).header("Content-Type", "application/json");
        self.answer(path, self.with_login(request).send(body.to_string()))
    }

    fn delete(&self, path: &str) -> Result<Value> {
        let request = self.agent.delete(format!("{}/{path}", self.url));
        self.answer(path, self.with_login(request).call())
    }

    fn send_lines<T: for<'a> Deserialize<'a>>(&self, path: &str, lines: String) -> Result<T> {
        let request = self.agent.post(format!("{}/{path}", self.url)).header("Content-Type", "application/x-ndjson");
        self.answer(path, self.with_login(request).send(lines))
    }

    fn with_login<T>(&self, request: ureq::RequestBuilder<T>) -> ureq::RequestBuilder<T> {
        match &self.login {
            Some(login) => request.header("Authorization", login),
            None => request,
        }
    }

    fn answer<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T> {
        let what = match path {
            "" => "ask the search server who it is".to_string(),
            path => format!("ask the search server for {path}"),
        };
        let mut response = sent.doing(&what)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().doing(&what)?;
        if !status.is_success() {
            let reason: Option<Value> = serde_json::from_str(&text).ok();
            let reason = reason.as_ref().and_then(|reason| reason.pointer("/error/reason")).and_then(Value::as_str);
            return Err(Error::new(what, format!("it answered {status}: {}", reason.unwrap_or("no reason given"))));
        }
        serde_json::from_str(&text).doing(what)
    }
}

/// For a URL's query: everything but letters and digits as `%XX`.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        let letter = |at: usize| match at <= chunk.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]),
            false => '=',
        };
        [letter(0), letter(1), letter(2), letter(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[derive(Deserialize)]
struct About {
    version: AboutVersion,
}

#[derive(Deserialize)]
struct AboutVersion {
    number: String,
    /// OpenSearch says so; Elasticsearch says nothing.
    distribution: Option<String>,
}

#[derive(Deserialize)]
struct Bulk {
    errors: bool,
    items: Vec<std::collections::HashMap<String, BulkItem>>,
}

#[derive(Deserialize)]
struct BulkItem {
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Refreshed {
    #[serde(rename = "_shards")]
    shards: ShardCounts,
}

#[derive(Deserialize, Default)]
struct ShardCounts {
    total: usize,
    failed: usize,
}

#[derive(Deserialize)]
struct Responses {
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    error: Option<Value>,
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards", default)]
    shards: ShardCounts,
    #[serde(default)]
    hits: Hits,
}

#[derive(Deserialize, Default)]
struct Hits {
    hits: Vec<RestHit>,
}

#[derive(Deserialize)]
struct RestHit {
    #[serde(rename = "_source")]
    source: Option<Source>,
    fields: Option<HitFields>,
}

#[derive(Deserialize)]
struct Source {
    id: u64,
    tenant: String,
    version: u64,
    text: String,
}

#[derive(Deserialize)]
struct HitFields {
    id: Vec<u64>,
    version: Vec<u64>,
}

#[derive(Deserialize)]
struct ShardsOfSearch {
    shards: Vec<Vec<ShardCopy>>,
}

#[derive(Deserialize)]
struct ShardCopy {
    shard: usize,
}

#[derive(Deserialize)]
struct Stats {
    indices: std::collections::HashMap<String, IndexStats>,
}

#[derive(Deserialize, Default)]
struct IndexStats {
    shards: std::collections::HashMap<String, Vec<ShardStats>>,
}

#[derive(Deserialize)]
struct ShardStats {
    docs: DocsStats,
    indexing: IndexingStats,
    search: SearchStats,
    refresh: RefreshStats,
}

#[derive(Deserialize)]
struct DocsStats {
    count: u64,
}

#[derive(Deserialize)]
struct IndexingStats {
    index_time_in_millis: u64,
}

#[derive(Deserialize)]
struct SearchStats {
    query_time_in_millis: u64,
    fetch_time_in_millis: u64,
}

#[derive(Deserialize)]
struct RefreshStats {
    total_time_in_millis: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_encoded_as_everybody_does() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        let server = Server::at("http://lab:p%40ss@127.0.0.1:9200/").unwrap();
        assert_eq!(server.login.as_deref(), Some("Basic bGFiOnBAc3M="));
        assert_eq!(server.url, "http://127.0.0.1:9200");
        assert_eq!(escaped("tenant#1 ü"), "tenant%231%20%C3%BC");
    }

    #[test]
    fn a_url_that_leads_nowhere_is_one_sentence() {
        for (url, cause) in [
            ("127.0.0.1:9200", "it is no http URL"),
            ("https://127.0.0.1:9200", "plain HTTP only"),
            ("http://", "a host and a port"),
            ("http://lab@127.0.0.1:9200", "a user needs a password"),
        ] {
            let error = Server::at(url).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(cause), "{url}: {error}");
        }
    }
}
