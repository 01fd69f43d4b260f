//! Connections to a SQL server that somebody may cut.

use std::time::Duration;

use mysql::{Conn, Opts, OptsBuilder};

/// A connection on which no step takes longer than `patience`. Always over TCP: a socket would go around a link that stands in
/// front of the server.
pub fn dial(opts: impl Into<Opts>, patience: Duration) -> mysql::Result<Conn> {
    let timed = OptsBuilder::from_opts(opts)
        .prefer_socket(false)
        .tcp_connect_timeout(Some(patience))
        .read_timeout(Some(patience))
        .write_timeout(Some(patience));
    Conn::new(timed)
}

/// Whether a connection is of no use any more after this.
pub fn is_lost(error: &mysql::Error) -> bool {
    match error {
        // The server shuts down, or somebody has ended the connection.
        mysql::Error::MySqlError(error) => matches!(error.code, 1053 | 1152 | 1927 | 3169 | 4031),
        _ => true,
    }
}
