//! Cursors that nobody handed out.

use super::people::{Order, People};
use crate::{Cursor, Pager, Signer, Skip};
use lab::service::MariaDb;
use lab::{Error, Frame, Result};

/// Tries everything on a pager of the newest first, with or without one of its checks. A row for each kind of `cursor` that must be
/// refused: how many were `tried` and `refused`, and what the last refusal said (`because`).
pub fn forgeries(server: &MariaDb, people: &People, skip: Option<Skip>) -> Result<Frame> {
    let signer = Signer::new([7; 32])?;
    let query = people.query(Order::Newest).page_size(5);
    let mut pager = Pager::open_without(server, &query, &signer, skip)?;
    let none = || Error::new("forge a cursor", "there is none to begin with");
    let genuine = pager.first()?.next.ok_or_else(none)?;
    let second = pager.after(&genuine)?;
    let mut found = Frame::new();
    let mut attempt = |what: &str, cursors: Vec<Cursor>, backwards: bool| {
        let (tried, mut refused, mut because) = (cursors.len() as u64, 0, String::new());
        for cursor in cursors {
            let read = if backwards { pager.before(&cursor) } else { pager.after(&cursor) };
            if let Err(error) = read {
                (refused, because) = (refused + 1, error.cause().to_string());
            }
        }
        let kind = Frame::new().text("cursor", [what]).counts("tried", "", [tried]).counts("refused", "", [refused]);
        found = found.stack(&kind.text("because", [because]));
    };
    let text = genuine.as_str();
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let flipped = |(place, letter): (usize, char)| {
        // Six bits in each letter.
        let value = letters.find(letter).unwrap_or(0);
        let other = move |bit: usize| letters.chars().nth(value ^ (1 << bit)).unwrap_or('A');
        (0..6).map(move |bit| Cursor::from(format!("{}{}{}", &text[..place], other(bit), &text[place + 1..])))
    };
    attempt("one bit flipped, each in turn", text.char_indices().flat_map(flipped).collect(), false);
    attempt("cut off, at each letter", (0..text.len()).map(|length| Cursor::from(&text[..length])).collect(), false);
    let garbage = ["", "2", "AAAA", "id > 0", "' OR 1=1 --", "\u{1f426}", "eyJpZCI6MTAwfQ"];
    attempt("made up", garbage.into_iter().map(Cursor::from).collect(), false);
    let foreign = |query, signer: &Signer| -> Result<Vec<Cursor>> {
        Ok(vec![Pager::open(server, &query, signer)?.first()?.next.ok_or_else(none)?])
    };
    attempt("signed with another key", foreign(query.clone(), &Signer::new([8; 32])?)?, false);
    attempt("of another order", foreign(people.query(Order::Age).page_size(5), &signer)?, false);
    attempt("of another filter", foreign(query.clone().filter("age", 30), &signer)?, false);
    attempt("`next` where `previous` belongs", vec![genuine.clone()], true);
    attempt("`previous` where `next` belongs", second.previous.into_iter().collect(), false);
    Ok(found)
}
