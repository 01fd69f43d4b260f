//! Values of columns as bytes in a cursor, and as text.

use mysql::Value;

use lab::{Error, Result};

/// Appends a value to bytes that [`Reading::value`] reads back. Equal values give equal bytes: a whole number is an `Int` where it fits.
pub(crate) fn write(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::NULL => to.push(0),
        Value::Int(number) => tagged(to, 1, &number.to_be_bytes()),
        Value::UInt(number) => match i64::try_from(*number) {
            Ok(number) => tagged(to, 1, &number.to_be_bytes()),
            Err(_) => tagged(to, 2, &number.to_be_bytes()),
        },
        Value::Float(number) => tagged(to, 3, &number.to_bits().to_be_bytes()),
        Value::Double(number) => tagged(to, 4, &number.to_bits().to_be_bytes()),
        Value::Bytes(bytes) => {
            tagged(to, 5, &(bytes.len() as u64).to_be_bytes());
            to.extend_from_slice(bytes);
        }
        Value::Date(year, month, day, hour, minute, second, micros) => {
            tagged(to, 6, &year.to_be_bytes());
            to.extend_from_slice(&[*month, *day, *hour, *minute, *second]);
            to.extend_from_slice(&micros.to_be_bytes());
        }
        Value::Time(negative, days, hours, minutes, seconds, micros) => {
            tagged(to, 7, &[u8::from(*negative)]);
            to.extend_from_slice(&days.to_be_bytes());
            to.extend_from_slice(&[*hours, *minutes, *seconds]);
            to.extend_from_slice(&micros.to_be_bytes());
        }
    }
}

fn tagged(to: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    to.push(tag);
    to.extend_from_slice(bytes);
}

/// A value for people: text as it is, anything else as SQL writes it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(true).trim_matches('\'').into(),
    }
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
            0 => Value::NULL,
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value that a column can hold.
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::NULL),
            any::<i64>().prop_map(Value::Int),
            (i64::MAX as u64 + 1..).prop_map(Value::UInt),
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
            values.iter().for_each(|value| write(value, &mut bytes));
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
    fn values_read_as_sql_writes_them() {
        assert_eq!(shown(&Value::Date(2024, 2, 29, 1, 2, 3, 40)), "2024-02-29 01:02:03.000040");
        assert_eq!(shown(&Value::Date(2024, 2, 29, 0, 0, 0, 0)), "2024-02-29");
        assert_eq!(shown(&Value::Time(true, 1, 2, 3, 4, 0)), "-026:03:04");
        assert_eq!(shown(&Value::from(None::<i64>)), "NULL");
    }

    #[test]
    fn equal_numbers_are_equal_bytes() {
        let bytes = |value: Value| {
            let mut bytes = Vec::new();
            write(&value, &mut bytes);
            bytes
        };
        assert_eq!(bytes(Value::UInt(7)), bytes(Value::Int(7)));
        assert_ne!(bytes(Value::UInt(u64::MAX)), bytes(Value::Int(-1)));
    }
}
