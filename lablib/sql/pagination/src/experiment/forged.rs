//! Cursors that nobody handed out.

use super::people::{Order, People};
use crate::{Cursor, Pager, Signer, Skip};
use lab::service::MariaDb;
use lab::{Error, Result, Table};

/// One kind of cursor that must be refused.
#[derive(Debug, Clone)]
pub struct Forgery {
    /// What was done to it.
    pub what: String,
    pub tried: u64,
    /// How many were refused.
    pub refused: u64,
    /// What the last refusal said.
    pub said: String,
}

/// Tries everything on a pager of the newest first, with or without one of its checks.
pub fn forgeries(server: &MariaDb, people: &People, skip: Option<Skip>) -> Result<Vec<Forgery>> {
    let signer = Signer::new([7; 32])?;
    let query = people.query(Order::Newest).page_size(5);
    let mut pager = Pager::open_without(server, &query, &signer, skip)?;
    let none = || Error::new("forge a cursor", "there is none to begin with");
    let genuine = pager.first()?.next.ok_or_else(none)?;
    let second = pager.after(&genuine)?;
    let mut found = Vec::new();
    let mut attempt = |what: &str, cursors: Vec<Cursor>, backwards: bool| {
        let mut forgery = Forgery { what: what.into(), tried: 0, refused: 0, said: String::new() };
        for cursor in cursors {
            forgery.tried += 1;
            let read = if backwards { pager.before(&cursor) } else { pager.after(&cursor) };
            if let Err(error) = read {
                forgery.refused += 1;
                forgery.said = error.cause().to_string();
            }
        }
        found.push(forgery);
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

/// A row a kind.
pub fn forgery_table(found: &[Forgery]) -> Table {
    Table::new("Cursors that the pager did not hand out for this")
        .text("cursor", found.iter().map(|forgery| forgery.what.as_str()))
        .counts("tried", "", found.iter().map(|forgery| forgery.tried))
        .counts("refused", "", found.iter().map(|forgery| forgery.refused))
        .text("because", found.iter().map(|forgery| forgery.said.as_str()))
}
