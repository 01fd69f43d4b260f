//! The same questions to the first prototype and to the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::databases;
use crate::{FirstPrototype, Store};
use lab::service::MariaDb;
use lab::{Doing, Frame, Result};

/// What is done before somebody gets a key.
enum Step {
    /// A key, its value, and how long it lives.
    Put(&'static str, &'static str, Duration),
    Delete(&'static str),
}

const HOUR: Duration = Duration::from_secs(3_600);
const MOMENT: Duration = Duration::from_millis(1);
const TWENTY_YEARS: Duration = Duration::from_secs(20 * 365 * 86_400);

/// What is done, what must come out, the steps, and the key that is read at last.
const QUESTIONS: [(&str, &str, &[Step], &str); 5] = [
    ("put 1, put 2, get", "2", &[Step::Put("a", "1", HOUR), Step::Put("a", "2", HOUR)], "a"),
    ("put 1, delete, put 3, get", "3", &[Step::Put("b", "1", HOUR), Step::Delete("b"), Step::Put("b", "3", HOUR)], "b"),
    (
        "put 1 for a moment, put 2 for an hour, get later",
        "2",
        &[Step::Put("c", "1", MOMENT), Step::Put("c", "2", HOUR)],
        "c",
    ),
    (
        "put 1 under Key, put 2 under key, get key",
        "2",
        &[Step::Put("Key", "1", HOUR), Step::Put("key", "2", HOUR)],
        "key",
    ),
    ("put 1 for twenty years, get", "1", &[Step::Put("e", "1", TWENTY_YEARS)], "e"),
];

/// Asks both. A row for each question: `what is done`, what must come out (`right`), what `the prototype` says, and what `this store` does.
pub fn faults(server: &MariaDb) -> Result<Frame> {
    let mut old = FirstPrototype::on(server)?;
    let mut new = Store::create(&databases(server, 1)?)?;
    let said = |answer: Result<String>| answer.unwrap_or_else(|error| format!("refused: {}", short(&error)));
    let mut asked = Frame::new();
    for (what, right, steps, key) in QUESTIONS {
        let (prototype, ours) =
            (said(of_the_prototype(&mut old, steps, key)), said(of_the_store(&mut new, steps, key)));
        let question = Frame::new().text("what is done", [what]).text("right", [right]);
        asked = asked.stack(&question.text("the prototype", [prototype]).text("this store", [ours]));
    }
    Ok(asked)
}

/// Its clock counts seconds; it is asked when a moment is over.
fn of_the_prototype(store: &mut FirstPrototype, steps: &[Step], key: &str) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).doing("read the clock")?.as_secs();
    for step in steps {
        match step {
            Step::Put(key, value, lives) => store.set(key, value, now + lives.as_secs().max(1))?,
            Step::Delete(key) => store.delete(key)?,
        }
    }
    store.get(key, now + 2)
}

fn of_the_store(store: &mut Store, steps: &[Step], key: &str) -> Result<String> {
    for step in steps {
        match step {
            Step::Put(key, value, lives) => store.put(key.as_bytes(), value.as_bytes(), Some(*lives)).map(drop)?,
            Step::Delete(key) => store.delete(key.as_bytes()).map(drop)?,
        }
    }
    let entry = store.get(key.as_bytes())?;
    Ok(entry.map_or_else(|| "nothing".into(), |entry| String::from_utf8_lossy(&entry.value).into_owned()))
}

/// The server's own words, without the driver's.
fn short(error: &lab::Error) -> &str {
    let cause = error.cause();
    cause.rsplit_once("): ").map_or(cause, |(_, words)| words).trim_end_matches(" }")
}
