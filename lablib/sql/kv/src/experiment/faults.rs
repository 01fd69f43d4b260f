//! The same questions to the first prototype and to the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::databases;
use crate::prototype::Got;
use crate::{FirstPrototype, Store};
use lab::service::MariaDb;
use lab::{Doing, Frame, Result};

/// Asks both. A row for each question: `what is done`, what must come out (`right`), what `the prototype` says, and what `this store` does.
pub fn faults(server: &MariaDb) -> Result<Frame> {
    let mut old = FirstPrototype::on(server)?;
    let mut new = Store::create(&databases(server, 1)?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).doing("read the clock")?.as_secs();
    let hour = Some(Duration::from_secs(3_600));
    let mut asked: [Vec<String>; 4] = Default::default();
    let mut ask = |question: &str, right: &str, prototype: Result<String>, ours: Result<String>| {
        let said = |answer: Result<String>| answer.unwrap_or_else(|error| format!("refused: {}", short(&error)));
        let row = [question.to_string(), right.to_string(), said(prototype), said(ours)];
        asked.iter_mut().zip(row).for_each(|(column, words)| column.push(words));
    };

    let mut prototype = || -> Result<String> {
        old.set("a", "1", now + 3_600)?;
        old.set("a", "2", now + 3_600)?;
        told(old.get("a", now)?)
    };
    let mut ours = || -> Result<String> {
        new.put(b"a", b"1", hour)?;
        new.put(b"a", b"2", hour)?;
        text(&mut new, "a")
    };
    ask("put 1, put 2, get", "2", prototype(), ours());

    let mut prototype = || -> Result<String> {
        old.set("b", "1", now + 3_600)?;
        old.delete("b")?;
        old.set("b", "3", now + 3_600)?;
        told(old.get("b", now)?)
    };
    let mut ours = || -> Result<String> {
        new.put(b"b", b"1", hour)?;
        new.delete(b"b")?;
        new.put(b"b", b"3", hour)?;
        text(&mut new, "b")
    };
    ask("put 1, delete, put 3, get", "3", prototype(), ours());

    let mut prototype = || -> Result<String> {
        old.set("c", "1", now + 1)?;
        old.set("c", "2", now + 3_600)?;
        told(old.get("c", now + 2)?)
    };
    let mut ours = || -> Result<String> {
        new.put(b"c", b"1", Some(Duration::from_millis(1)))?;
        new.put(b"c", b"2", hour)?;
        text(&mut new, "c")
    };
    ask("put 1 for a moment, put 2 for an hour, get later", "2", prototype(), ours());

    let mut prototype = || -> Result<String> {
        old.set("Key", "1", now + 3_600)?;
        old.set("key", "2", now + 3_600)?;
        told(old.get("key", now)?)
    };
    let mut ours = || -> Result<String> {
        new.put(b"Key", b"1", hour)?;
        new.put(b"key", b"2", hour)?;
        text(&mut new, "key")
    };
    ask("put 1 under Key, put 2 under key, get key", "2", prototype(), ours());

    let years = 20 * 365 * 86_400;
    let mut prototype = || -> Result<String> {
        old.set("e", "1", now + years)?;
        told(old.get("e", now)?)
    };
    let mut ours = || -> Result<String> {
        new.put(b"e", b"1", Some(Duration::from_secs(years)))?;
        text(&mut new, "e")
    };
    ask("put 1 for twenty years, get", "1", prototype(), ours());
    let names = ["what is done", "right", "the prototype", "this store"];
    Ok(names.into_iter().zip(asked).fold(Frame::new(), |frame, (name, words)| frame.text(name, words)))
}

fn told(got: Got) -> Result<String> {
    Ok(match got {
        Got::Value(value) => value,
        Got::Nothing => "nothing".into(),
        Got::Deleted => "deleted".into(),
        Got::Expired => "expired".into(),
    })
}

fn text(store: &mut Store, key: &str) -> Result<String> {
    let entry = store.get(key.as_bytes())?;
    Ok(entry.map_or_else(|| "nothing".into(), |entry| String::from_utf8_lossy(&entry.value).into_owned()))
}

/// The server's own words, without the driver's.
fn short(error: &lab::Error) -> &str {
    let cause = error.cause();
    cause.rsplit_once("): ").map_or(cause, |(_, words)| words).trim_end_matches(" }")
}
