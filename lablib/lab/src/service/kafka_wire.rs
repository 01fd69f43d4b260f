//! As much of Kafka's protocol as it takes to ask a broker who it is.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Metadata, in a version that every broker since 0.10.1 answers and that tells the cluster's id.
const METADATA: (i16, i16) = (3, 2);
const CLIENT: &str = "lab";
/// No answer to our question is larger: it names no topics.
const LARGEST: usize = 1 << 20;

/// What a broker says about its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Host and port of every broker.
    pub(super) brokers: Vec<(String, u16)>,
    pub(super) cluster: String,
    pub(super) controller: i32,
}

/// Asks the broker at `address`.
pub(super) fn metadata(address: &str, patience: Duration) -> Result<Metadata, String> {
    let text = |error: std::io::Error| error.to_string();
    let address = address.to_socket_addrs().map_err(text)?.next().ok_or("it has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(text)?;
    stream.set_read_timeout(Some(patience)).map_err(text)?;
    stream.set_write_timeout(Some(patience)).map_err(text)?;
    stream.write_all(&request(7)).map_err(text)?;
    let mut length = [0_u8; 4];
    stream.read_exact(&mut length).map_err(text)?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length <= LARGEST);
    let mut answer = vec![0_u8; length.ok_or("it does not speak Kafka's protocol")?];
    stream.read_exact(&mut answer).map_err(text)?;
    read(&answer, 7).ok_or_else(|| "it does not speak Kafka's protocol".into())
}

fn request(correlation: i32) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.0.to_be_bytes());
    body.extend(METADATA.1.to_be_bytes());
    body.extend(correlation.to_be_bytes());
    body.extend((CLIENT.len() as i16).to_be_bytes());
    body.extend(CLIENT.as_bytes());
    // An empty list of topics, which means none; a null one would mean all.
    body.extend(0_i32.to_be_bytes());
    [(body.len() as i32).to_be_bytes().to_vec(), body].concat()
}

fn read(answer: &[u8], correlation: i32) -> Option<Metadata> {
    let mut rest = Rest(answer);
    if rest.number()? != correlation {
        return None;
    }
    let mut brokers = Vec::new();
    for _ in 0..rest.number()? {
        let _id = rest.number()?;
        let host = rest.text()?;
        let port = u16::try_from(rest.number()?).ok()?;
        let _rack = rest.text()?;
        brokers.push((host, port));
    }
    Some(Metadata { brokers, cluster: rest.text()?, controller: rest.number()? })
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number(&mut self) -> Option<i32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*number))
    }

    /// A text; null reads as empty.
    fn text(&mut self) -> Option<String> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::try_from(i16::from_be_bytes(*length).max(0)).ok()?);
        let (text, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as a real broker (4.1.1) gave it, with its port at 21,092.
    const ANSWER: &[u8] = b"\0\0\0\x07\0\0\0\x01\0\0\0\x01\0\x09127.0.0.1\0\0\x52\x64\xff\xff\0\x16AAAAAAAAQACAAAAAAAAAAA\0\0\0\x01\0\0\0\0";

    #[test]
    fn a_brokers_answer_is_read() {
        let expected = Metadata {
            brokers: vec![("127.0.0.1".into(), 21_092)],
            cluster: "AAAAAAAAQACAAAAAAAAAAA".into(),
            controller: 1,
        };
        assert_eq!(read(ANSWER, 7), Some(expected));
    }

    #[test]
    fn an_answer_cut_short_anywhere_and_one_to_another_question_are_refused() {
        // The list of topics, the last four bytes, is not read.
        for length in 0..ANSWER.len() - 4 {
            assert_eq!(read(&ANSWER[..length], 7), None, "{length}");
        }
        assert_eq!(read(ANSWER, 8), None);
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let request = request(7);
        assert_eq!(request.len(), 4 + i32::from_be_bytes([request[0], request[1], request[2], request[3]]) as usize);
        assert_eq!(request[4..8], [0, 3, 0, 2]);
    }
}
