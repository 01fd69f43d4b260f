//! A value of a column: what a row shows, a filter compares with and a cursor remembers.

use std::fmt;

use lab::{Error, Result};

/// A value, exactly as the server holds it.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Value {
    /// No value.
    Null,
    /// A whole number.
    Int(i64),
    /// A whole number that may be beyond `i64`.
    UInt(u64),
    /// A FLOAT.
    Float(f32),
    /// A DOUBLE.
    Double(f64),
    /// Text, decimal numbers, bytes.
    Bytes(Vec<u8>),
    /// Year, month, day, hour, minute, second, microsecond.
    Date(u16, u8, u8, u8, u8, u8, u32),
    /// Negative, days, hours, minutes, seconds, microseconds.
    Time(bool, u32, u8, u8, u8, u32),
}

impl Value {
    /// The text, where it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The whole number, where it is one that `i64` holds.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::UInt(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// Appends the value to bytes that [`Reading::value`] reads back. Equal values give equal bytes.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Null => to.push(0),
            Self::Int(number) => tagged(to, 1, &number.to_be_bytes()),
            Self::UInt(number) => match i64::try_from(*number) {
                Ok(number) => tagged(to, 1, &number.to_be_bytes()),
                Err(_) => tagged(to, 2, &number.to_be_bytes()),
            },
            Self::Float(number) => tagged(to, 3, &number.to_bits().to_be_bytes()),
            Self::Double(number) => tagged(to, 4, &number.to_bits().to_be_bytes()),
            Self::Bytes(bytes) => {
                tagged(to, 5, &(bytes.len() as u64).to_be_bytes());
                to.extend_from_slice(bytes);
            }
            Self::Date(year, month, day, hour, minute, second, micros) => {
                tagged(to, 6, &year.to_be_bytes());
                to.extend_from_slice(&[*month, *day, *hour, *minute, *second]);
                to.extend_from_slice(&micros.to_be_bytes());
            }
            Self::Time(negative, days, hours, minutes, seconds, micros) => {
                tagged(to, 7, &[u8::from(*negative)]);
                to.extend_from_slice(&days.to_be_bytes());
                to.extend_from_slice(&[*hours, *minutes, *seconds]);
                to.extend_from_slice(&micros.to_be_bytes());
            }
        }
    }
}

fn tagged(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    to.extend_from_slice(bytes);
}

/// Bytes that are read from the front.
pub(super) struct Reading<'a>(pub(super) &'a [u8]);

impl Reading<'_> {
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(super) fn value(&mut self) -> Result<Value> {
        Ok(match self.byte()? {
            0 => Value::Null,
            1 => Value::Int(i64::from_be_bytes(self.take()?)),
            2 => Value::UInt(u64::from_be_bytes(self.take()?)),
            3 => Value::Float(f32::from_bits(u32::from_be_bytes(self.take()?))),
            4 => Value::Double(f64::from_bits(u64::from_be_bytes(self.take()?))),
            5 => {
                let length = u64::from_be_bytes(self.take()?);
                let (bytes, rest) = usize::try_from(length)
                    .ok()
                    .and_then(|length| self.0.split_at_checked(length))
                    .ok_or_else(too_short)?;
                self.0 = rest;
                Value::Bytes(bytes.to_vec())
            }
            6 => {
                let year = u16::from_be_bytes(self.take()?);
                let [month, day, hour, minute, second] = self.take()?;
                Value::Date(year, month, day, hour, minute, second, u32::from_be_bytes(self.take()?))
            }
            7 => {
                let negative = self.byte()? != 0;
                let days = u32::from_be_bytes(self.take()?);
                let [hours, minutes, seconds] = self.take()?;
                Value::Time(negative, days, hours, minutes, seconds, u32::from_be_bytes(self.take()?))
            }
            tag => return Err(Error::new("read a value", format!("there is no kind {tag}"))),
        })
    }
}

fn too_short() -> Error {
    Error::new("read a value", "it ends too early")
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Int(number) => number.fmt(f),
            Self::UInt(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Double(number) => number.fmt(f),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Date(year, month, day, hour, minute, second, micros) => {
                write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")?;
                fraction(f, *micros)
            }
            Self::Time(negative, days, hours, minutes, seconds, micros) => {
                let sign = if *negative { "-" } else { "" };
                write!(f, "{sign}{:02}:{minutes:02}:{seconds:02}", days * 24 + u32::from(*hours))?;
                fraction(f, *micros)
            }
        }
    }
}

fn fraction(f: &mut fmt::Formatter<'_>, micros: u32) -> fmt::Result {
    if micros == 0 { Ok(()) } else { write!(f, ".{micros:06}") }
}

impl From<mysql::Value> for Value {
    fn from(value: mysql::Value) -> Self {
        match value {
            mysql::Value::NULL => Self::Null,
            mysql::Value::Bytes(bytes) => Self::Bytes(bytes),
            mysql::Value::Int(number) => Self::Int(number),
            mysql::Value::UInt(number) => Self::from(number),
            mysql::Value::Float(number) => Self::Float(number),
            mysql::Value::Double(number) => Self::Double(number),
            mysql::Value::Date(y, m, d, h, i, s, u) => Self::Date(y, m, d, h, i, s, u),
            mysql::Value::Time(n, d, h, i, s, u) => Self::Time(n, d, h, i, s, u),
        }
    }
}

impl From<&Value> for mysql::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Value::Int(number) => Self::Int(*number),
            Value::UInt(number) => Self::UInt(*number),
            Value::Float(number) => Self::Float(*number),
            Value::Double(number) => Self::Double(*number),
            Value::Date(y, m, d, h, i, s, u) => Self::Date(*y, *m, *d, *h, *i, *s, *u),
            Value::Time(n, d, h, i, s, u) => Self::Time(*n, *d, *h, *i, *s, *u),
        }
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::UInt(number), Self::Int)
    }
}

macro_rules! from {
    ($($from:ty => $into:expr),*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                $into(value)
            }
        }
    )*};
}

from! {
    i64 => Self::Int, i32 => |number| Self::Int(i64::from(number)), u32 => |number| Self::Int(i64::from(number)),
    u8 => |number| Self::Int(i64::from(number)), bool => |yes| Self::Int(i64::from(yes)), f64 => Self::Double,
    f32 => Self::Float, &str => |text: &str| Self::Bytes(text.as_bytes().to_vec()),
    String => |text: String| Self::Bytes(text.into_bytes()), Vec<u8> => Self::Bytes, &[u8] => |bytes: &[u8]| Self::Bytes(bytes.to_vec())
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value that a column can hold.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::from),
            (-1e30_f32..1e30).prop_map(Value::Float),
            (-1e300_f64..1e300).prop_map(Value::Double),
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(Value::Bytes),
            "\\PC{0,20}".prop_map(Value::from),
            Just(Value::from("Robert'); DROP TABLE people; -- \" ` \\ \0 %_ 🐦")),
            (any::<u16>(), any::<[u8; 5]>(), any::<u32>())
                .prop_map(|(y, [m, d, h, i, s], u)| Value::Date(y, m, d, h, i, s, u)),
            (any::<bool>(), any::<u32>(), any::<[u8; 3]>(), any::<u32>())
                .prop_map(|(n, d, [h, i, s], u)| Value::Time(n, d, h, i, s, u)),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(values in proptest::collection::vec(any_value(), 0..8)) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| value.write(&mut bytes));
            let mut reading = Reading(&bytes);
            for value in &values {
                prop_assert_eq!(&reading.value().unwrap(), value);
            }
            prop_assert!(reading.is_at_end());
        }

        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reading = Reading(&bytes);
            while !reading.is_at_end() && reading.value().is_ok() {}
        }
    }

    #[test]
    fn values_read_as_a_person_writes_them() {
        assert_eq!(Value::Date(2024, 2, 29, 1, 2, 3, 40).to_string(), "2024-02-29 01:02:03.000040");
        assert_eq!(Value::Time(true, 1, 2, 3, 4, 0).to_string(), "-26:03:04");
        assert_eq!(Value::from(None::<i64>).to_string(), "NULL");
        assert_eq!((Value::from(7_u64), Value::from(u64::MAX)), (Value::Int(7), Value::UInt(u64::MAX)));
    }
}
