//! The same shards on an Elasticsearch or OpenSearch server, through its REST API.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use super::routing::Routing;
use super::shards::{Ask, Buckets, Change, Document, Found, Hit, SearchShards, ShardLoad, bucket_of};
use lab::{Doing, Error, Result};

/// How long an answer may take before the server counts as gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most that an answer may hold.
const MOST_BYTES: u64 = 1 << 30;
/// The most hits of one search: all of a tenant's.
const MOST_HITS: usize = 1_000_000;
/// What bodies are.
const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
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
        let name = server.name()?;
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
        server.ask("PUT", &index, Some((JSON, json!({ "settings": settings, "mappings": mappings }).to_string())))?;
        let name = format!("an index of {} shards on {name}", routing.primaries());
        Ok(Self { server, index, routing, name })
    }

    /// The shards that the *server* says a search with this routing key asks.
    pub fn shards_of(&self, routing: &str) -> Result<Vec<usize>> {
        let path = format!("{}/_search_shards?routing={}", self.index, escaped(routing));
        let answer = self.server.ask("GET", &path, None)?;
        let copies = list(&answer["shards"]).iter().flat_map(list);
        let mut shards: Vec<usize> = copies.map(|copy| Ok(number(&copy["shard"])? as usize)).collect::<Result<_>>()?;
        shards.sort_unstable();
        shards.dedup();
        Ok(shards)
    }

    fn searches(&self, asks: &[Ask], answer: &[(&str, Value)]) -> Result<Vec<Value>> {
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
        let answer = self.server.ask("POST", "_msearch", Some((LINES, lines)))?;
        let responses = list(&answer["responses"]);
        let whole = |response: &Value| {
            response["error"].is_null() && response["_shards"]["failed"] == 0 && response["timed_out"] != true
        };
        if responses.len() != asks.len() || !responses.iter().all(whole) {
            return Err(Error::new("search", "not every shard has answered").at(&self.index));
        }
        Ok(responses.to_vec())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let _ = self.server.ask("DELETE", &self.index, None); // nobody is left to be told
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
            let answer = self.server.ask("POST", &format!("{}/_bulk", self.index), Some((LINES, lines)))?;
            let items = list(&answer["items"]);
            // An error of its own for each change; one that found nothing to delete has none.
            let mut done = items.iter().filter_map(Value::as_object).flat_map(|item| item.values());
            if let Some(error) = done.find_map(|change| change.get("error")) {
                return Err(Error::new("write documents", error).at(&self.index));
            }
            if answer["errors"] != false || items.len() != changes.len() {
                return Err(Error::new("write documents", "not every change was answered").at(&self.index));
            }
        }
        Ok(())
    }

    fn refresh(&self) -> Result<()> {
        let answer = self.server.ask("POST", &format!("{}/_refresh", self.index), Some((JSON, String::new())))?;
        match number(&answer["_shards"]["failed"])? {
            0 => Ok(()),
            failed => Err(Error::new("refresh", format!("{failed} shards did not")).at(&self.index)),
        }
    }

    fn search(&self, asks: &[Ask]) -> Result<Found> {
        let columns = [("_source", json!(false)), ("docvalue_fields", json!(["id", "version"]))];
        let mut found = Found::default();
        for response in self.searches(asks, &columns)? {
            found.shards += number(&response["_shards"]["total"])? as usize;
            for hit in list(&response["hits"]["hits"]) {
                let field = |name: &str| number(&hit["fields"][name][0]);
                found.hits.push(Hit { id: field("id")?, version: field("version")? });
            }
        }
        Ok(found)
    }

    fn fetch(&self, ask: &Ask) -> Result<Vec<Document>> {
        let everything = [Ask { word: None, ..ask.clone() }];
        let responses = self.searches(&everything, &[])?;
        let hits = responses.iter().flat_map(|response| list(&response["hits"]["hits"]));
        hits.map(|hit| serde_json::from_value(hit["_source"].clone()).doing("fetch a document")).collect()
    }

    fn loads(&self) -> Result<Vec<ShardLoad>> {
        let path = format!("{}/_stats/docs,indexing,search,refresh?level=shards", self.index);
        let answer = self.server.ask("GET", &path, None)?;
        let index = answer["indices"].as_object().and_then(|indices| indices.values().next()).unwrap_or(&Value::Null);
        let load = |shard: u32| {
            let silent =
                || Error::new("read what the shards have done", format!("the server says nothing of shard {shard}"));
            let copy = &index["shards"][shard.to_string()][0];
            let of = |what: &str, figure: &str| copy[what][figure].as_u64().ok_or_else(silent);
            let busy = of("indexing", "index_time_in_millis")?
                + of("search", "query_time_in_millis")?
                + of("search", "fetch_time_in_millis")?
                + of("refresh", "total_time_in_millis")?;
            Ok(ShardLoad { documents: of("docs", "count")?, busy: Duration::from_millis(busy) })
        };
        (0..self.routing.primaries()).map(load).collect()
    }
}

/// The name of the server at `url`, which has then answered.
pub(super) fn name_at(url: &str) -> Result<String> {
    Server::at(url)?.name()
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
                Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", unescaped(user), unescaped(password)))))
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

    /// What it says that it is: "opensearch 2.19.1".
    fn name(&self) -> Result<String> {
        let about = self.ask("GET", "", None).map_err(|error| {
            Error::new("reach the search server", error.cause())
                .at(&self.url)
                .remedy("start it, correct LAB_SEARCH_URL, or unset it: the lab then uses embedded indexes")
        })?;
        // OpenSearch says what it is; Elasticsearch says nothing.
        let what = about["version"]["distribution"].as_str().unwrap_or("elasticsearch");
        Ok(format!("{what} {}", about["version"]["number"].as_str().unwrap_or("of no version")))
    }

    /// What it answered: an object, whatever it was asked.
    fn ask(&self, method: &str, path: &str, body: Option<(&str, String)>) -> Result<Value> {
        let what = match path {
            "" => "ask the search server who it is".to_string(),
            path => format!("ask the search server for {path}"),
        };
        let mut request = Request::builder().method(method).uri(format!("{}/{path}", self.url));
        if let Some(login) = &self.login {
            request = request.header("Authorization", login);
        }
        let sent = match body {
            Some((kind, body)) => self.agent.run(request.header("Content-Type", kind).body(body).doing(&what)?),
            None => self.agent.run(request.body(()).doing(&what)?),
        };
        let mut response = sent.doing(&what)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().doing(&what)?;
        if !status.is_success() {
            let reason: Option<Value> = serde_json::from_str(&text).ok();
            let reason = reason.as_ref().and_then(|reason| reason.pointer("/error/reason")).and_then(Value::as_str);
            return Err(Error::new(what, format!("it answered {status}: {}", reason.unwrap_or("no reason given"))));
        }
        match serde_json::from_str(&text).doing(&what)? {
            answer @ Value::Object(_) => Ok(answer),
            other => Err(Error::new(what, format!("{other} is no answer"))),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().ok_or_else(|| Error::new("read the search server's answer", format!("{value} is no number")))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_encoded_as_everybody_does() {
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
