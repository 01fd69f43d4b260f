//! What `placing::hot_tenants` says to a search server, word for word, and how it takes the answers. The server here is a
//! strict one: it knows the documented part of the API that the lab needs, and refuses everything else.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use hot_tenants::*;
use serde_json::{Value, json};

/// A server on a port of its own, until the process ends.
struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    indexes: HashMap<String, Index>,
    /// Every request: method, path, content type, login.
    requests: Vec<[String; 4]>,
    /// What to answer instead, once: a part of the path, a status and a body.
    instead: Option<(String, u16, Value)>,
}

struct Index {
    routing: Routing,
    /// By shard and id: the source, as written and as refreshed.
    written: BTreeMap<(usize, String), Value>,
    refreshed: BTreeMap<(usize, String), Value>,
}

type Answer = Result<Value, (u16, Value)>;

fn refuse(status: u16, reason: impl Into<String>) -> (u16, Value) {
    (status, json!({ "error": { "type": "illegal_argument_exception", "reason": reason.into() }, "status": status }))
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let served = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = served.clone();
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { url, state }
    }

    fn instead(&self, path: &str, status: u16, body: Value) {
        self.state.lock().unwrap().instead = Some((path.into(), status, body));
    }

    fn requests(&self) -> Vec<[String; 4]> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap().to_string(), words.next().unwrap().to_string());
        let (mut length, mut kind, mut login) = (0, String::new(), String::new());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "content-type" => kind = value.into(),
                "authorization" => login = value.into(),
                "transfer-encoding" => panic!("the lab knows how long its requests are"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut state = state.lock().unwrap();
        state.requests.push([method.clone(), path.clone(), kind.clone(), login]);
        let (status, answer) = match state.instead.take_if(|(part, ..)| path.contains(part.as_str())) {
            Some((_, status, body)) => (status, body),
            None => match state.answer(&method, path.trim_start_matches('/'), &kind, &String::from_utf8(body).unwrap())
            {
                Ok(answer) => (200, answer),
                Err(refused) => refused,
            },
        };
        drop(state);
        let text = answer.to_string();
        let head =
            format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        (&mut &*stream).write_all((head + &text).as_bytes()).unwrap();
    }
}

impl State {
    fn answer(&mut self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (index, verb) = path.split_once('/').unwrap_or((path, ""));
        match (method, index, verb) {
            ("GET", "", "") => Ok(json!({ "version": { "number": "8.0.0" }, "tagline": "You Know, for Search" })),
            ("POST", "_msearch", "") => self.searches(kind, body),
            ("PUT", name, "") => self.create(name, kind, body),
            ("DELETE", name, "") => match self.indexes.remove(name) {
                Some(_) => Ok(json!({ "acknowledged": true })),
                None => Err(refuse(404, format!("no such index [{name}]"))),
            },
            ("POST", name, "_bulk") => self.index(name)?.bulk(kind, body),
            ("POST", name, "_refresh") => {
                let index = self.index(name)?;
                index.refreshed = index.written.clone();
                Ok(json!({ "_shards": { "total": 10, "successful": 10, "failed": 0 } }))
            }
            ("GET", name, "_search_shards") => {
                let key = percent_decoded(query.strip_prefix("routing=").ok_or_else(|| refuse(400, "no routing"))?);
                let shards = self.index(name)?.routing.shards_of(&key).unwrap();
                Ok(
                    json!({ "shards": shards.iter().map(|shard| json!([{ "shard": shard, "primary": true }])).collect::<Value>() }),
                )
            }
            ("GET", name, "_stats/docs,indexing,search,refresh") if query == "level=shards" => {
                self.index(name)?.stats(name)
            }
            _ => Err(refuse(400, format!("no handler found for {method} {path}?{query}"))),
        }
    }

    fn index(&mut self, name: &str) -> Result<&mut Index, (u16, Value)> {
        self.indexes.get_mut(name).ok_or_else(|| refuse(404, format!("no such index [{name}]")))
    }

    fn create(&mut self, name: &str, kind: &str, body: &str) -> Answer {
        if kind != "application/json" {
            return Err(refuse(406, format!("Content-Type header [{kind}] is not supported")));
        }
        if name.is_empty() || name.starts_with(['_', '-', '+']) || name != name.to_lowercase() {
            return Err(refuse(400, format!("invalid index name [{name}]")));
        }
        let body: Value = serde_json::from_str(body).unwrap();
        let settings = &body["settings"];
        let number = |name: &str| settings[name].as_u64().map(|number| number as u32);
        assert_eq!(number("number_of_replicas"), Some(0), "a replica would double every shard");
        assert_eq!(settings["refresh_interval"], "-1", "only the lab refreshes");
        assert_eq!(body["mappings"]["_routing"]["required"], true, "a write without routing must fail");
        let known = [
            "number_of_shards",
            "number_of_replicas",
            "refresh_interval",
            "max_result_window",
            "number_of_routing_shards",
            "routing_partition_size",
        ];
        assert!(settings.as_object().unwrap().keys().all(|name| known.contains(&name.as_str())), "{settings}");
        let mut routing = Routing::new(number("number_of_shards").unwrap()).unwrap();
        if let Some(shards) = number("number_of_routing_shards") {
            routing = routing.with_routing_shards(shards).unwrap();
        }
        if let Some(size) = number("routing_partition_size") {
            routing = routing.with_partition_size(size).unwrap();
        }
        let index = Index { routing, written: BTreeMap::new(), refreshed: BTreeMap::new() };
        assert!(self.indexes.insert(name.into(), index).is_none(), "an index of its own for each run");
        Ok(json!({ "acknowledged": true, "shards_acknowledged": true, "index": name }))
    }

    fn searches(&mut self, kind: &str, body: &str) -> Answer {
        let lines = lines(kind, body)?;
        let mut responses = Vec::new();
        for pair in lines.chunks(2) {
            let index = self.index(pair[0]["index"].as_str().unwrap())?;
            responses.push(index.search(pair[0]["routing"].as_str().unwrap(), &pair[1]));
        }
        Ok(json!({ "took": 1, "responses": responses }))
    }
}

/// Newline-delimited JSON, as it is documented: the last line ends with a newline, too.
fn lines(kind: &str, body: &str) -> Result<Vec<Value>, (u16, Value)> {
    if kind != "application/x-ndjson" {
        return Err(refuse(406, format!("Content-Type header [{kind}] is not supported")));
    }
    if !body.ends_with('\n') {
        return Err(refuse(400, "The bulk request must be terminated by a newline [\\n]"));
    }
    Ok(body.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

impl Index {
    fn bulk(&mut self, kind: &str, body: &str) -> Answer {
        let mut lines = lines(kind, body)?.into_iter();
        let mut items = Vec::new();
        while let Some(action) = lines.next() {
            let (verb, about) = action.as_object().unwrap().iter().next().unwrap();
            let (id, routing) = (about["_id"].as_str().unwrap(), about["routing"].as_str().unwrap());
            let shard = self.routing.shard_of(routing, id.parse().unwrap()).unwrap();
            let place = (shard, id.to_string());
            match verb.as_str() {
                "index" => {
                    let source = lines.next().unwrap();
                    let mut fields: Vec<&str> = source.as_object().unwrap().keys().map(String::as_str).collect();
                    fields.sort_unstable();
                    assert_eq!(fields, ["bucket", "id", "tenant", "text", "version"], "the mapping is strict");
                    let status = if self.written.insert(place, source).is_some() { 200 } else { 201 };
                    items.push(json!({ "index": { "_id": id, "status": status } }));
                }
                "delete" => {
                    let found = self.written.remove(&place).is_some();
                    let (result, status) = if found { ("deleted", 200) } else { ("not_found", 404) };
                    items.push(json!({ "delete": { "_id": id, "result": result, "status": status } }));
                }
                other => panic!("{other} is no verb of the lab's"),
            }
        }
        // A deletion that finds nothing is no error.
        Ok(json!({ "took": 1, "errors": false, "items": items }))
    }

    fn search(&self, routing: &str, body: &Value) -> Value {
        let shards = self.routing.shards_of(routing).unwrap();
        assert!(body["size"].as_u64().unwrap() >= 100_000, "a read wants everything");
        let filters = body["query"]["bool"]["filter"].as_array().unwrap();
        let matches = |source: &Value| {
            filters.iter().all(|filter| {
                let (kind, about) = filter.as_object().unwrap().iter().next().unwrap();
                let (field, wanted) = about.as_object().unwrap().iter().next().unwrap();
                match (kind.as_str(), field.as_str()) {
                    ("term", "tenant") => source["tenant"] == *wanted,
                    ("term", "text") => source["text"].as_str().unwrap().split(' ').any(|word| wanted == word),
                    ("terms", "bucket") => wanted.as_array().unwrap().contains(&source["bucket"]),
                    other => panic!("{other:?} is no filter of the lab's"),
                }
            })
        };
        let hits = self.refreshed.iter().filter(|((shard, _), source)| shards.contains(shard) && matches(source));
        let hit = |((_, id), source): (&(usize, String), &Value)| match body.get("docvalue_fields") {
            Some(fields) => {
                assert_eq!((fields, &body["_source"]), (&json!(["id", "version"]), &json!(false)));
                json!({ "_id": id, "fields": { "id": [source["id"]], "version": [source["version"]] } })
            }
            None => json!({ "_id": id, "_source": source }),
        };
        let hits: Vec<Value> = hits.map(hit).collect();
        json!({
            "timed_out": false,
            "_shards": { "total": shards.len(), "successful": shards.len(), "failed": 0 },
            "hits": { "total": { "value": hits.len(), "relation": "eq" }, "hits": hits },
        })
    }

    fn stats(&self, name: &str) -> Answer {
        let shard = |shard: usize| {
            let count = self.refreshed.keys().filter(|(home, _)| *home == shard).count();
            let stats = json!({
                "docs": { "count": count }, "indexing": { "index_time_in_millis": count },
                "search": { "query_time_in_millis": 1, "fetch_time_in_millis": 2 },
                "refresh": { "total_time_in_millis": 3 },
            });
            (shard.to_string(), json!([stats]))
        };
        let shards: serde_json::Map<String, Value> = (0..self.routing.primaries() as usize).map(shard).collect();
        Ok(json!({ "indices": { name: { "shards": shards } } }))
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        match byte {
            b'%' => {
                let digits = [left.next().unwrap(), left.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            plain => bytes.push(plain),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn document(id: u64, version: u64) -> Document {
    Document { id, tenant: "a".into(), version, text: format!("some words of {id}") }
}

fn put(routing: &str, id: u64, version: u64) -> Change {
    Change::Put { routing: routing.into(), document: document(id, version) }
}

fn ten() -> Routing {
    Routing::new(10).unwrap()
}

#[test]
fn documents_are_written_refreshed_found_and_deleted() {
    let server = Server::start();
    let shards = Rest::create(&server.url.replace("http://", "http://lab:secret@"), ten()).unwrap();
    assert_eq!(shards.name(), "an index of 10 shards on elasticsearch 8.0.0");
    shards.write(&(0..5_000).map(|id| put("a", id, 1)).collect::<Vec<_>>()).unwrap();
    assert_eq!(shards.search(&[Ask::all("a", "a")]).unwrap().hits.len(), 0);
    shards.refresh().unwrap();
    shards.write(&[put("a", 7, 2), Change::Delete { routing: "a".into(), id: 8 }]).unwrap();
    shards.write(&[Change::Delete { routing: "a".into(), id: 99_999 }]).unwrap();
    shards.refresh().unwrap();
    let found = shards.search(&[Ask::all("a", "a"), Ask::all("b", "a")]).unwrap();
    assert_eq!((found.hits.len(), found.shards), (4_999, 2));
    assert!(found.hits.contains(&Hit { id: 7, version: 2 }));

    let buckets = Buckets::from_iter([3, 5]);
    let some = Ask { buckets, word: Some("42".into()), ..Ask::all("a", "a") };
    let of_the_word = u64::from(buckets.contains(bucket_of(42)));
    assert_eq!(shards.search(std::slice::from_ref(&some)).unwrap().hits.len() as u64, of_the_word);
    let fetched = shards.fetch(&some).unwrap();
    assert!(fetched.iter().all(|found| *found == document(found.id, 1) && buckets.contains(bucket_of(found.id))));
    assert_eq!(fetched.len(), (0..5_000).filter(|id| buckets.contains(bucket_of(*id)) && *id != 8).count());
    let loads = shards.loads().unwrap();
    assert_eq!((loads.len(), loads.iter().map(|load| load.documents).sum::<u64>()), (10, 4_999));
    assert_eq!(loads.iter().map(|load| load.busy.as_millis() as u64).max(), Some(4_999 + 1 + 2 + 3));
    assert_eq!(shards.shards_of("tenant #1/?&=ü").unwrap(), ten().shards_of("tenant #1/?&=ü").unwrap());
    drop(shards);
    assert!(server.state.lock().unwrap().indexes.is_empty(), "the index goes with its owner");
    assert!(server.requests().iter().all(|[.., login]| login == "Basic bGFiOnNlY3JldA=="));
}

#[test]
fn a_tenant_is_split_anew_on_a_server_too() {
    let server = Server::start();
    let shards: Arc<dyn SearchShards> = Arc::new(Rest::create(&server.url, ten()).unwrap());
    let disk = Arc::new(lab::crash::SimulatedDisk::seeded(1));
    let index = TenantIndex::open(shards.clone(), disk).unwrap();
    index.write(&(0..2_000).map(|id| document(id, 1)).collect::<Vec<_>>()).unwrap();
    index.refresh().unwrap();
    let homes: Vec<usize> = (0..BUCKETS as usize).map(|bucket| bucket % 7).collect();
    let done = index.resplit("a", Some(Split::over(&ten(), "a", &homes).unwrap())).unwrap();
    assert!(done.copied > 1_000 && done.copied == done.deleted);
    let found = index.read("a").unwrap();
    assert_eq!((found.hits.len(), found.shards), (2_000, 7));
    assert_eq!(shards.loads().unwrap().iter().map(|load| load.documents).sum::<u64>(), 2_000);
}

#[test]
fn an_index_is_laid_out_as_the_routing_says() {
    let server = Server::start();
    for routing in [
        ten(),
        ten().with_partition_size(4).unwrap(),
        ten().with_routing_shards(10).unwrap().with_partition_size(4).unwrap(),
    ] {
        let shards = Rest::create(&server.url, routing).unwrap();
        let laid_out = server.state.lock().unwrap().indexes.values().next().unwrap().routing;
        assert_eq!(laid_out, routing);
        shards.write(&(0..100).map(|id| put("a", id, 1)).collect::<Vec<_>>()).unwrap();
        shards.refresh().unwrap();
        let found = shards.search(&[Ask::all("a", "a")]).unwrap();
        assert_eq!((found.hits.len(), found.shards), (100, routing.shards_of("a").unwrap().len()));
    }
}

#[test]
fn a_server_that_is_not_there_is_one_sentence() {
    let error = Rest::create("http://127.0.0.1:1", ten()).err().unwrap().to_string();
    assert!(error.starts_with("could not reach the search server (http://127.0.0.1:1): "), "{error}");
    assert!(error.ends_with("or unset it: the lab then uses embedded indexes"), "{error}");
}

#[test]
fn what_a_server_refuses_or_does_by_halves_is_an_error() {
    let server = Server::start();
    let shards = Rest::create(&server.url, ten()).unwrap();
    let search = || shards.search(&[Ask::all("a", "a")]).map(drop);
    let write = || shards.write(&[put("a", 1, 1), put("a", 2, 1)]);
    let refused = json!({ "error": { "reason": "no permissions" }, "status": 403 });
    let item = |error: Value| json!({ "errors": true, "items": [{ "index": { "status": 201 } }, { "index": { "error": error } }] });
    let response = |response: Value| json!({ "responses": [response] });
    type Try<'a> = &'a dyn Fn() -> lab::Result<()>;
    let cases: [(&str, u16, Value, Try<'_>, &str); 9] = [
        ("_bulk", 403, refused.clone(), &write, "it answered 403 Forbidden: no permissions"),
        ("_bulk", 200, item(json!({ "type": "mapper_parsing_exception" })), &write, "mapper_parsing_exception"),
        ("_bulk", 200, json!({ "errors": false, "items": [] }), &write, "not every change was answered"),
        ("_bulk", 200, json!("nonsense"), &write, "could not ask the search server for lab-hot-tenants"),
        ("_refresh", 200, json!({ "_shards": { "total": 10, "failed": 2 } }), &|| shards.refresh(), "2 shards did not"),
        (
            "_msearch",
            200,
            response(json!({ "error": { "type": "x" }, "status": 500 })),
            &search,
            "not every shard has answered",
        ),
        (
            "_msearch",
            200,
            response(json!({ "_shards": { "total": 3, "failed": 1 }, "hits": { "hits": [] } })),
            &search,
            "not every shard has answered",
        ),
        (
            "_msearch",
            200,
            response(json!({ "timed_out": true, "_shards": { "total": 3, "failed": 0 } })),
            &search,
            "not every shard has answered",
        ),
        (
            "_stats",
            200,
            json!({ "indices": { "x": { "shards": {} } } }),
            &|| shards.loads().map(drop),
            "says nothing of shard 0",
        ),
    ];
    for (path, status, body, call, cause) in cases {
        server.instead(path, status, body);
        let error = call().unwrap_err().to_string();
        assert!(error.contains(cause), "{path}: {error}");
    }
    // And afterwards it works.
    write().unwrap();
    search().unwrap();
}
