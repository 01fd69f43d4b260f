//! The prototype's replica: coordinates of a binary log by hand, no snapshot, a filter on the primary, and `read_only`
//! for protection. Its own check, both threads say Yes and a new row appears, is passed.

use std::time::Duration;

use mysql::prelude::Queryable;

use super::cluster::Cluster;
use crate::Comparison;
use lab::service::Replicated;
use lab::{Doing, Error, Result, Table};

/// Rows that the table held before the replica was set up.
const EARLIER: u64 = 100;

/// How the prototype's replica seems, and how it is.
#[derive(Debug, Clone)]
pub struct Seeming {
    /// Whether both threads run, as `SHOW SLAVE STATUS` has it.
    pub threads_run: bool,
    /// How many seconds it says that it is behind.
    pub seconds_behind: String,
    /// Whether a row written to the primary appeared.
    pub row_appeared: bool,
    /// Rows of the primary's table that it lacks, because there was no snapshot.
    pub without_snapshot: u64,
    /// Whether a table that was made with another default database is missing.
    pub filtered_table_missing: bool,
    /// Rows that an administrator wrote to it in spite of `read_only`.
    pub written_by_root: u64,
    /// What our comparison says.
    pub comparison: Comparison,
}

/// A primary and a replica, set up as the prototype does it. The table is there already, with rows in it, when somebody notes the primary's
/// coordinates.
fn set_up() -> Result<Cluster> {
    let servers = Replicated::of(1).with("binlog_do_db", "lab").start()?;
    let replica = &servers.replicas[0];
    let doing = "set up the prototype's replica";
    replica.administer(&replica.dialect().stop_following())?;
    let create = "CREATE TABLE test_table (id INT PRIMARY KEY, column1 VARCHAR(255), column2 VARCHAR(255))";
    servers.primary.try_execute(create)?;
    let rows: Vec<String> = (1..=EARLIER).map(|id| format!("({id}, 'early', 'bird')")).collect();
    servers.primary.try_execute(&format!("INSERT INTO test_table VALUES {}", rows.join(", ")))?;
    servers.primary.try_execute("FLUSH BINARY LOGS")?;
    let status: Option<(String, u64, String, String)> =
        servers.primary.connect()?.query_first("SHOW MASTER STATUS").doing(doing)?;
    let (file, offset, ..) = status.ok_or_else(|| Error::new(doing, "the primary writes no binary log"))?;
    let login = mysql::Opts::from_url(servers.primary.url()).doing(doing)?;
    let (user, password) = (login.get_user().unwrap_or_default(), login.get_pass().unwrap_or_default());
    replica.administer(&[
        "SET sql_log_bin = 0".into(),
        create.into(),
        format!(
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, MASTER_USER = '{user}', \
             MASTER_PASSWORD = '{password}', MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = {offset}, \
             MASTER_USE_GTID = no",
            servers.links[0].port(),
        ),
        "START SLAVE".into(),
    ])?;
    Cluster::of(servers)
}

/// Sets the prototype's replica up. A row is written, a table is made from another database, an administrator helps on the replica; then
/// everybody is asked how it is.
pub fn prototype() -> Result<Seeming> {
    let cluster = set_up()?;
    let doing = "use the prototype's replica";
    let (primary, replica) = (cluster.server(0)?, cluster.server(1)?);
    primary.try_execute("INSERT INTO test_table VALUES (1000, 'new', 'row')")?;
    let mut connection = primary.connect()?;
    // The filter looks at the default database, not at where the table is.
    for statement in
        ["CREATE DATABASE IF NOT EXISTS reports", "USE reports", "CREATE TABLE lab.orders (id INT PRIMARY KEY)"]
    {
        connection.query_drop(statement).doing(doing)?;
    }
    cluster.catch_up(Duration::from_secs(20))?;
    let row_appeared = replica.ask("SELECT COUNT(*) FROM test_table WHERE id = 1000")? == "1";
    replica.administer(&["SET sql_log_bin = 0".into(), "INSERT INTO test_table VALUES (2000, 'by', 'root')".into()])?;
    let tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'orders'";
    let count = |server: &lab::service::MariaDb, where_: &str| -> Result<u64> {
        let answer = server.ask(&format!("SELECT COUNT(*) FROM test_table WHERE {where_}"))?;
        answer.parse().doing(doing)
    };
    Ok(Seeming {
        threads_run: replica.replication_error()?.is_none(),
        seconds_behind: replica.seconds_behind()?,
        row_appeared,
        without_snapshot: count(primary, "id <= 1000")? - count(replica, "id <= 1000")?,
        filtered_table_missing: primary.ask(tables)? == "1" && replica.ask(tables)? == "0",
        written_by_root: count(replica, "id = 2000")?,
        comparison: cluster.compare(&["test_table"], 50)?,
    })
}

impl Seeming {
    /// What the prototype looks at, all green.
    pub fn seems_well(&self) -> bool {
        self.threads_run && self.row_appeared && self.seconds_behind == "0"
    }

    /// Faults of three kinds that it does not see.
    pub fn faults(&self) -> u64 {
        u64::from(self.without_snapshot > 0)
            + u64::from(self.filtered_table_missing)
            + u64::from(self.written_by_root > 0)
    }

    /// Both beside each other.
    pub fn table(&self) -> Table {
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let answers = [
            ("Do both threads run?", yes(self.threads_run)),
            ("Seconds_Behind_Master", self.seconds_behind.clone()),
            ("Does a new row appear?", yes(self.row_appeared)),
            ("Rows that it lacks, for want of a snapshot", self.without_snapshot.to_string()),
            ("Does it lack a table made from another database?", yes(self.filtered_table_missing)),
            ("Rows that root wrote to it in spite of read_only", self.written_by_root.to_string()),
            (
                "Chunks that differ, by our comparison",
                format!("{} of {}", self.comparison.differences.len(), self.comparison.chunks),
            ),
        ];
        Table::new("How the prototype's replica seems, and how it is")
            .text("asked", answers.iter().map(|(asked, _)| asked))
            .text("answer", answers.iter().map(|(_, answer)| answer))
    }
}
