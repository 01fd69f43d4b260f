//! What a node says to a request, redirections read.

use redis::{ServerErrorKind, Value};

/// What a node said to a request.
#[derive(Clone)]
pub(super) enum Said {
    Answer(Value),
    /// The slot has this master now.
    Moved(u16, String),
    /// Ask that node, this once.
    Ask(String),
    TryAgain,
    Down(String),
    Refused(String),
    /// It could not be asked.
    Unreached(String),
    /// It was asked, and the connection broke before the answer.
    Silent(String),
}

impl Said {
    pub(super) fn read(value: Value, asked: &str) -> Self {
        let Value::ServerError(error) = value else { return Self::Answer(value) };
        let text = error.to_string();
        let details = error.details().unwrap_or_default();
        let mut words = details.split_ascii_whitespace();
        let slot = words.next().and_then(|slot| slot.parse().ok());
        let address = words.next().map(|address| match address.strip_prefix(':') {
            // A node that does not say which host means its own.
            Some(port) => format!("{}:{port}", asked.rsplit_once(':').map_or("", |(host, _)| host)),
            None => address.to_owned(),
        });
        match (error.kind(), slot, address) {
            (Some(ServerErrorKind::Moved), Some(slot), Some(address)) => Self::Moved(slot, address),
            (Some(ServerErrorKind::Ask), Some(_), Some(address)) => Self::Ask(address),
            (Some(ServerErrorKind::TryAgain), ..) => Self::TryAgain,
            (Some(ServerErrorKind::ClusterDown | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown), ..) => {
                Self::Down(text)
            }
            _ => Self::Refused(text),
        }
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::Answer(value) => format!("it answered {value:?}"),
            Self::Moved(slot, address) => format!("slot {slot} has moved to {address}"),
            Self::Ask(address) => format!("it is to be asked at {address}"),
            Self::TryAgain => "its slot is moving, and its keys are on both sides".into(),
            Self::Down(text) | Self::Refused(text) | Self::Unreached(text) | Self::Silent(text) => text.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: &str) -> Said {
        let value = redis::parse_redis_value(format!("-{error}\r\n").as_bytes());
        value.map_or_else(|error| Said::Refused(error.to_string()), |value| Said::read(value, "10.0.0.1:7000"))
    }

    #[test]
    fn every_redirection_is_understood() {
        assert!(matches!(said("MOVED 3999 10.0.0.2:6381"), Said::Moved(3_999, address) if address == "10.0.0.2:6381"));
        assert!(matches!(said("MOVED 3999 :6381"), Said::Moved(3_999, address) if address == "10.0.0.1:6381"));
        assert!(matches!(said("ASK 3999 10.0.0.2:6381"), Said::Ask(address) if address == "10.0.0.2:6381"));
        assert!(matches!(said("TRYAGAIN Multiple keys request during rehashing of slot"), Said::TryAgain));
        assert!(matches!(said("CLUSTERDOWN The cluster is down"), Said::Down(_)));
        assert!(matches!(said("LOADING Redis is loading the dataset in memory"), Said::Down(_)));
        assert!(matches!(said("CROSSSLOT Keys in request don't hash to the same slot"), Said::Refused(_)));
        assert!(matches!(said("MOVED nonsense"), Said::Refused(_)));
    }
}
