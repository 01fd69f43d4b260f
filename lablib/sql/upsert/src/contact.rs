//! What is put into the table.

use lab::{Error, Result};

/// The longest e-mail address, in bytes: it is a key, and an index entry has its limits.
const LONGEST_EMAIL: usize = 190;
/// The longest name and the longest phone number, in characters.
pub(super) const LONGEST_TEXT: usize = 64;

/// A person's entry in an address book; the e-mail address says which entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Contact {
    email: String,
    name: String,
    phone: String,
}

impl Contact {
    /// An entry that the table can hold: an address of 1 to 190 bytes, a name and a phone of at most 64 characters each.
    ///
    /// Checked here because not every way is told by the server: `INSERT IGNORE` cuts a name that is too long, in silence.
    pub fn new(email: impl Into<String>, name: impl Into<String>, phone: impl Into<String>) -> Result<Self> {
        let contact = Self { email: email.into(), name: name.into(), phone: phone.into() };
        let cause = if contact.email.is_empty() {
            "it has no e-mail address".to_string()
        } else if contact.email.len() > LONGEST_EMAIL {
            format!("its address has {} bytes, and {LONGEST_EMAIL} are the limit", contact.email.len())
        } else if contact.name.chars().count() > LONGEST_TEXT {
            format!("its name has {} characters, and {LONGEST_TEXT} are the limit", contact.name.chars().count())
        } else if contact.phone.chars().count() > LONGEST_TEXT {
            format!("its phone has {} characters, and {LONGEST_TEXT} are the limit", contact.phone.chars().count())
        } else {
            return Ok(contact);
        };
        Err(Error::new("take a contact", cause))
    }

    /// Which entry it is.
    pub fn email(&self) -> &str {
        &self.email
    }

    /// The name, which only a new entry takes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The phone, which every put sets.
    pub fn phone(&self) -> &str {
        &self.phone
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_before_a_server_hears_of_it() {
        let refused = |email: &str, name: &str, phone: &str| Contact::new(email, name, phone).unwrap_err().to_string();
        assert_eq!(refused("", "a", "1"), "could not take a contact: it has no e-mail address");
        assert!(refused(&"x".repeat(191), "a", "1").contains("191 bytes"));
        assert!(refused("a", &"ä".repeat(65), "1").contains("name has 65 characters"));
        assert!(refused("a", "b", &"1".repeat(65)).contains("phone has 65 characters"));
        assert!(Contact::new("x".repeat(190), "ä".repeat(64), "").is_ok());
    }
}
