//! Cursors: a place in the order of one query, signed, so that what comes back is what was handed out.
//!
//! The text is base64url without padding of: version (1 byte), flags (1: leads backwards; 2: the place itself is included),
//! the query's fingerprint (16), the number of values (1), the values, and HMAC-SHA256 over all of that (32). It is signed
//! and not encrypted: whoever holds a cursor can read the sort key of one row that was shown anyway.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use mysql::Value;
use sha2::Sha256;

use super::Skip;
use super::value::{Reading, write};
use lab::{Error, Result};

const VERSION: u8 = 1;
const BACKWARDS: u8 = 1;
const INCLUSIVE: u8 = 2;
const MAC: usize = 32;
/// Nothing longer is looked at: no order that a pager takes makes a cursor of this length.
const LONGEST: usize = 80_000;
/// What the same key may sign elsewhere is no cursor.
const PURPOSE: &[u8] = b"pagination cursor\0";
const READING: &str = "read the cursor";

pub(super) type Fingerprint = [u8; 16];

/// Leads to a page. Opaque text that goes out to a client and comes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(String);

impl Cursor {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Cursor {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Cursor {
    /// Text from a client; whether it is a cursor shows when it is used.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Cursor {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// A place in an order, and which way to read from it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Position {
    pub backwards: bool,
    /// Whether a row at this very place is part of what is read.
    pub inclusive: bool,
    pub values: Vec<Value>,
}

/// Signs cursors with a secret key, and knows its own again.
///
/// ```
/// use pagination::Signer;
///
/// assert!(Signer::new([7; 32]).is_ok());
/// assert!(Signer::new("too short").is_err());
/// ```
#[derive(Clone)]
pub struct Signer {
    key: Vec<u8>,
    old: Vec<Vec<u8>>,
}

// It holds secrets.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer with {} keys", 1 + self.old.len())
    }
}

impl Signer {
    /// With a key of at least 32 random bytes, the same on all machines that serve the same readers.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self> {
        Ok(Self { key: checked(key.as_ref())?, old: Vec::new() })
    }

    /// With a key that nobody else knows: its cursors live no longer than this process.
    pub fn random() -> Self {
        Self { key: rand::random::<[u8; 32]>().to_vec(), old: Vec::new() }
    }

    /// Accepts cursors of an earlier key as well, while a new one takes over.
    pub fn accepting(mut self, old: impl AsRef<[u8]>) -> Result<Self> {
        self.old.push(checked(old.as_ref())?);
        Ok(self)
    }

    pub(super) fn seal(&self, position: &Position, query: &Fingerprint) -> Result<Cursor> {
        let mut bytes = vec![VERSION];
        bytes.push(BACKWARDS * u8::from(position.backwards) + INCLUSIVE * u8::from(position.inclusive));
        bytes.extend_from_slice(query);
        bytes.push(position.values.len() as u8);
        position.values.iter().for_each(|value| write(value, &mut bytes));
        bytes.extend_from_slice(&mac(&self.key, &bytes)?.finalize().into_bytes());
        let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        if text.len() > LONGEST {
            return Err(Error::new("make a cursor", format!("its {} characters are too many", text.len())));
        }
        Ok(Cursor(text))
    }

    pub(super) fn open(&self, cursor: &str, query: &Fingerprint, skip: Option<Skip>) -> Result<Position> {
        let refuse = |cause: &str| Error::new(READING, cause).remedy("start again from the first page");
        if cursor.len() > LONGEST {
            return Err(refuse("it is longer than any cursor"));
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse("it is no cursor, or a damaged one"))?;
        match bytes.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(refuse(&format!("it is of version {other}, and this reads version {VERSION}"))),
            None => return Err(refuse("it is empty")),
        }
        let Some((body, signature)) = bytes.split_last_chunk::<MAC>() else {
            return Err(refuse("it is cut off"));
        };
        let mut genuine = skip == Some(Skip::Signature);
        for key in std::iter::once(&self.key).chain(&self.old) {
            // Compared in constant time: how long it takes tells nothing about how much of it was right.
            genuine |= mac(key, body)?.verify_slice(signature).is_ok();
        }
        if !genuine {
            return Err(refuse("it was changed, or signed with another key"));
        }
        let mut reading = Reading(body);
        let damaged = |_| refuse("it is damaged");
        let [_, flags] = reading.take().map_err(damaged)?;
        let made_for: Fingerprint = reading.take().map_err(damaged)?;
        let count = reading.byte().map_err(damaged)?;
        let values = (0..count).map(|_| reading.value()).collect::<Result<Vec<Value>>>().map_err(damaged)?;
        if flags & !(BACKWARDS | INCLUSIVE) != 0 || !reading.is_at_end() {
            return Err(refuse("it is damaged"));
        }
        if made_for != *query && skip != Some(Skip::Fingerprint) {
            return Err(refuse("it belongs to another query: another table, order or filter"));
        }
        Ok(Position { backwards: flags & BACKWARDS != 0, inclusive: flags & INCLUSIVE != 0, values })
    }
}

fn checked(key: &[u8]) -> Result<Vec<u8>> {
    if key.len() < 32 {
        let cause =
            format!("the key has {} bytes, and fewer than 32 can be guessed sooner than the signature", key.len());
        return Err(Error::new("sign cursors", cause).remedy("use 32 random bytes"));
    }
    Ok(key.to_vec())
}

fn mac(key: &[u8], body: &[u8]) -> Result<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|cause| Error::new("sign a cursor", cause))?;
    mac.update(PURPOSE);
    mac.update(body);
    Ok(mac)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::tests::any_value;
    use super::*;

    const QUERY: Fingerprint = [3; 16];

    fn signer() -> Signer {
        Signer::new([1; 32]).unwrap()
    }

    fn cause(result: Result<Position>) -> String {
        result.unwrap_err().cause().to_string()
    }

    fn any_position() -> impl Strategy<Value = Position> {
        (any::<bool>(), any::<bool>(), proptest::collection::vec(any_value(), 1..5))
            .prop_map(|(backwards, inclusive, values)| Position { backwards, inclusive, values })
    }

    proptest! {
        #[test]
        fn a_place_of_any_values_comes_back_as_it_went_out(position in any_position()) {
            let cursor = signer().seal(&position, &QUERY).unwrap();
            prop_assert!(cursor.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(signer().open(cursor.as_str(), &QUERY, None).unwrap(), position);
        }

        #[test]
        fn every_flip_of_one_bit_is_refused(position in any_position()) {
            let cursor = signer().seal(&position, &QUERY).unwrap();
            let raw = BASE64_URL_SAFE_NO_PAD.decode(cursor.as_str()).unwrap();
            for bit in 0..raw.len() * 8 {
                let mut raw = raw.clone();
                raw[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(signer().open(&BASE64_URL_SAFE_NO_PAD.encode(raw), &QUERY, None).is_err(), "bit {}", bit);
            }
            for bit in 0..cursor.as_str().len() * 8 {
                let mut text = cursor.as_str().as_bytes().to_vec();
                text[bit / 8] ^= 1 << (bit % 8);
                if let Ok(text) = String::from_utf8(text) {
                    prop_assert!(signer().open(&text, &QUERY, None).is_err(), "bit {} of the text", bit);
                }
            }
        }

        #[test]
        fn every_part_and_every_extension_is_refused(position in any_position(), more in "[A-Za-z0-9_=-]{1,8}") {
            let text = signer().seal(&position, &QUERY).unwrap().to_string();
            for length in 0..text.len() {
                prop_assert!(signer().open(&text[..length], &QUERY, None).is_err());
            }
            prop_assert!(signer().open(&(text.clone() + &more), &QUERY, None).is_err());
            prop_assert!(signer().open(&(more + &text), &QUERY, None).is_err());
        }

        #[test]
        fn garbage_is_refused(text in "\\PC{0,200}", skip in proptest::option::of(Just(Skip::Signature))) {
            let _ = signer().open(&text, &QUERY, skip); // no panic even where the signature is not looked at
            prop_assert!(signer().open(&text, &QUERY, None).is_err());
        }
    }

    fn position() -> Position {
        Position { backwards: false, inclusive: false, values: vec![Value::from("O'Hara"), Value::Int(-7)] }
    }

    #[test]
    fn the_format_is_what_the_documentation_says() {
        let cursor = signer().seal(&position(), &QUERY).unwrap();
        let raw = BASE64_URL_SAFE_NO_PAD.decode(cursor.as_str()).unwrap();
        assert_eq!((raw[0], raw[1], &raw[2..18], raw[18]), (1, 0, &QUERY[..], 2));
        assert_eq!(raw.len(), 19 + (1 + 8 + 6) + (1 + 8) + 32);
        let both = Position { backwards: true, inclusive: true, ..position() };
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(signer().seal(&both, &QUERY).unwrap().as_str()).unwrap()[1], 3);
    }

    #[test]
    fn refusals_say_why_in_one_sentence() {
        let text = signer().seal(&position(), &QUERY).unwrap().to_string();
        let other = Signer::new([2; 32]).unwrap();
        assert_eq!(cause(other.open(&text, &QUERY, None)), "it was changed, or signed with another key");
        assert!(cause(signer().open(&text, &[4; 16], None)).starts_with("it belongs to another query"));
        assert_eq!(cause(signer().open("", &QUERY, None)), "it is empty");
        assert_eq!(cause(signer().open("AQ", &QUERY, None)), "it is cut off");
        assert_eq!(cause(signer().open("no cursor!", &QUERY, None)), "it is no cursor, or a damaged one");
        assert_eq!(cause(signer().open(&"A".repeat(1_000_000), &QUERY, None)), "it is longer than any cursor");
        let mut raw = BASE64_URL_SAFE_NO_PAD.decode(&text).unwrap();
        raw[0] = 9;
        let newer = BASE64_URL_SAFE_NO_PAD.encode(raw);
        assert_eq!(cause(signer().open(&newer, &QUERY, None)), "it is of version 9, and this reads version 1");
        let words = signer().open(&text, &[4; 16], None).unwrap_err().to_string();
        assert_eq!(
            words,
            "could not read the cursor: it belongs to another query: another table, order or filter; \
             start again from the first page"
        );
    }

    #[test]
    fn an_old_key_is_accepted_while_a_new_one_takes_over_and_does_not_sign() {
        let old = signer().seal(&position(), &QUERY).unwrap();
        let both = Signer::new([2; 32]).unwrap().accepting([1; 32]).unwrap();
        assert!(both.open(old.as_str(), &QUERY, None).is_ok());
        let new = both.seal(&position(), &QUERY).unwrap();
        assert!(signer().open(new.as_str(), &QUERY, None).is_err());
        assert!(!format!("{both:?}").contains("[2"), "secrets are not shown");
        assert!(Signer::new([1; 31]).is_err() && both.accepting("short").is_err());
    }

    #[test]
    fn a_signature_of_the_bytes_alone_is_none_of_ours() {
        let cursor = signer().seal(&position(), &QUERY).unwrap();
        let raw = BASE64_URL_SAFE_NO_PAD.decode(cursor.as_str()).unwrap();
        let body = &raw[..raw.len() - MAC];
        let mut plain = Hmac::<Sha256>::new_from_slice(&[1; 32]).unwrap();
        plain.update(body);
        let forged = [body, &plain.finalize().into_bytes()].concat();
        assert!(signer().open(&BASE64_URL_SAFE_NO_PAD.encode(forged), &QUERY, None).is_err());
    }

    #[test]
    fn without_its_checks_it_takes_what_it_must_not() {
        let text = signer().seal(&position(), &QUERY).unwrap().to_string();
        let other = Signer::new([2; 32]).unwrap();
        assert!(other.open(&text, &QUERY, Some(Skip::Signature)).is_ok());
        assert!(signer().open(&text, &[4; 16], Some(Skip::Fingerprint)).is_ok());
    }
}
