//! A primary and its replicas: whatever the primary commits, they replay, by GTID. Each replica of the lab's own follows
//! through a [`Link`] of its own, so that replication can be delayed, throttled and cut without touching a client.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::mariadb::{self, MariaDb};
use super::node::TO_START;
use crate::link::Link;
use crate::{Crowd, Doing, Error, OrFail, Result};

/// How long replicas may take to catch up before something must be wrong.
const CATCH_UP: Duration = Duration::from_secs(60);

/// A primary with replicas that follow it.
///
/// ```
/// use lab::service;
///
/// let db = service::mysql_replicated(1);
/// db.primary.execute("CREATE TABLE seen (id INT PRIMARY KEY)");
/// db.primary.execute("INSERT INTO seen VALUES (42)");
/// db.catch_up();
/// assert_eq!(db.replicas[0].ask("SELECT id FROM seen").unwrap(), "42");
/// ```
#[derive(Debug)]
pub struct Replicated {
    /// Where writes go.
    pub primary: MariaDb,
    /// Where they arrive, a little later; they refuse writes of their own.
    pub replicas: Vec<MariaDb>,
    /// The wire between the primary and each replica; none where the servers are yours.
    pub links: Vec<Link>,
}

/// A private primary with replicas to be started, with settings that differ from the lab's.
#[derive(Debug, Clone, Default)]
pub struct ReplicatedBuilder {
    replicas: usize,
    settings: Vec<(String, String)>,
}

impl ReplicatedBuilder {
    /// Sets what `mariadbd --help --verbose` lists, on each of the servers.
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.push((setting.to_owned(), value.to_owned()));
        self
    }

    /// Starts them, and returns when the replicas have caught up: always private servers.
    pub fn start(self) -> Result<Replicated> {
        let replicated = Replicated::private(self.replicas, &self.settings)?;
        replicated.try_catch_up()?;
        Ok(replicated)
    }
}

impl Replicated {
    /// A private primary with `replicas` replicas, whatever `LAB_MYSQL_URL` says: for an experiment that kills them or cuts
    /// their links.
    ///
    /// ```
    /// use lab::service::Replicated;
    ///
    /// let db = Replicated::of(1).with("rpl_semi_sync_slave_enabled", "ON").start().unwrap();
    /// assert_eq!(db.replicas[0].ask("SELECT @@rpl_semi_sync_slave_enabled").unwrap(), "1");
    /// assert!(db.links[0].stats().total >= 1);
    /// ```
    pub fn of(replicas: usize) -> ReplicatedBuilder {
        ReplicatedBuilder { replicas, settings: Vec::new() }
    }

    /// A primary with `replicas` replicas that have caught up with it: private servers, or those that `LAB_MYSQL_URL` lists,
    /// the primary first, if they replicate already.
    pub fn start(replicas: usize) -> Result<Self> {
        let replicated = match mariadb::own_servers()? {
            Some(servers) => Self::of_own(servers, replicas)?,
            None => Self::private(replicas, &[])?,
        };
        replicated.try_catch_up()?;
        Ok(replicated)
    }

    fn private(replicas: usize, settings: &[(String, String)]) -> Result<Self> {
        let build = |number: usize| {
            let server = match number {
                0 => MariaDb::with("read_only", "OFF").named("primary"),
                _ => MariaDb::with("read_only", "ON").named("replica").replica(),
            };
            settings.iter().fold(server, |server, (setting, value)| server.with(setting, value))
        };
        let mut servers = Crowd::of(replicas + 1).within(TO_START).map(0..=replicas, |number| build(number).start())?;
        let primary = servers.remove(0);
        let links = servers.iter().map(|_| Link::to(primary.address())).collect::<Result<Vec<_>>>()?;
        for (replica, link) in servers.iter().zip(&links) {
            replica.replicate_through(&primary, link.address())?;
        }
        Ok(Self { primary, replicas: servers, links })
    }

    fn of_own(mut servers: Vec<MariaDb>, replicas: usize) -> Result<Self> {
        if servers.len() <= replicas {
            let cause = format!(
                "it lists {}, and a primary with {replicas} replicas are {} servers",
                servers.len(),
                replicas + 1
            );
            return Err(Error::new(format!("use {}", mariadb::VARIABLE), cause)
                .remedy("list the primary first, then its replicas"));
        }
        servers.truncate(replicas + 1);
        let primary = servers.remove(0);
        Ok(Self { primary, replicas: servers, links: Vec::new() })
    }

    /// Waits until every replica has replayed what the primary has committed by now; says how long that took.
    #[track_caller]
    pub fn catch_up(&self) -> Duration {
        self.try_catch_up().or_fail()
    }

    /// As [`catch_up`](Self::catch_up).
    pub fn try_catch_up(&self) -> Result<Duration> {
        let asked = Instant::now();
        let position = self.primary.position()?;
        for replica in &self.replicas {
            if !replica.wait_for(&position, CATCH_UP)? {
                let why = replica.replication_error()?.unwrap_or_else(|| "it only is slow".into());
                let cause = format!("the replica has not replayed {position} after {} s ({why})", CATCH_UP.as_secs());
                return Err(Error::new("wait for a replica", cause).at(replica.name()));
            }
        }
        Ok(asked.elapsed())
    }
}

impl MariaDb {
    /// Follows `primary` from where it last stopped, which it reaches at `address`: that of a link which delays or cuts the connection.
    pub fn replicate_through(&self, primary: &MariaDb, address: &str) -> Result<()> {
        let failure = |cause: &str| Error::new("follow a primary", cause).at(self.name());
        let port = |text: &str| text.parse::<u16>().ok();
        let (host, port) = address
            .rsplit_once(':')
            .and_then(|(host, text)| Some((host, port(text)?)))
            .ok_or_else(|| failure(&format!("{address:?} is no address like 127.0.0.1:3306")))?;
        let login = mysql::Opts::from_url(primary.url()).doing("read the primary's URL")?;
        let user = login.get_user().unwrap_or_default();
        let password = login.get_pass().unwrap_or_default();
        let statements = self.dialect().follow(host, port, user, password);
        self.administer(&statements)
    }

    /// Replays everything from now on this many seconds late.
    pub fn delay_replication(&self, seconds: u32) -> Result<()> {
        self.administer(&self.dialect().delay(seconds))
    }

    /// Makes a replica a primary: it stops following and accepts writes.
    #[track_caller]
    pub fn promote(&self) {
        self.try_promote().or_fail();
    }

    /// As [`promote`](Self::promote).
    pub fn try_promote(&self) -> Result<()> {
        let mut statements = self.dialect().stop_following();
        statements.push(self.dialect().set_read_only(false).into());
        self.administer(&statements)
    }

    /// The position of its last transaction, for [`wait_for`](Self::wait_for) on a replica.
    pub fn position(&self) -> Result<String> {
        self.ask(self.dialect().position())
    }

    /// Waits until it has replayed a primary's position; says whether it has within `patience`.
    pub fn wait_for(&self, position: &str, patience: Duration) -> Result<bool> {
        self.ask(&self.dialect().wait_for_position(position, patience.as_secs_f64())).map(|answer| answer == "0")
    }

    /// The position of what a replica has received, replayed or not.
    pub fn received(&self) -> Result<String> {
        let (column, also_executed) = match self.dialect().is_mariadb() {
            true => ("Gtid_IO_Pos", false),
            // Counted since the replica was last started, so what it had replayed by then is missing in it.
            false => ("Retrieved_Gtid_Set", true),
        };
        let received = self.replica_status(column)?;
        match also_executed {
            true => Ok([received, self.position()?].join(",").trim_matches(',').to_owned()),
            false => Ok(if received == "NULL" { String::new() } else { received }),
        }
    }

    /// How many seconds a replica says that it is behind, in its own words: `NULL` where it says nothing.
    pub fn seconds_behind(&self) -> Result<String> {
        self.replica_status(self.dialect().seconds_behind())
    }

    fn replica_status(&self, column: &str) -> Result<String> {
        let doing = "ask a replica how it does";
        let status: Option<mysql::Row> =
            self.connect()?.query_first(self.dialect().replica_status()).doing(doing).map_err(|e| e.at(self.name()))?;
        let status = status.ok_or_else(|| Error::new(doing, "it follows nobody").at(self.name()))?;
        let value: Option<Option<String>> = status.get(column);
        Ok(value.flatten().unwrap_or_else(|| "NULL".into()))
    }

    /// Why it does not replicate; nothing when it does.
    pub fn replication_error(&self) -> Result<Option<String>> {
        let doing = || "ask a replica how it does";
        let status: Option<mysql::Row> = self.connect()?.query_first(self.dialect().replica_status()).doing(doing())?;
        let Some(status) = status else { return Ok(Some("it follows nobody".into())) };
        let [receives, replays, receive_error, replay_error] =
            self.dialect().replica_status_columns().map(|column| status.get::<String, _>(column).unwrap_or_default());
        Ok(match (receives.as_str(), replays.as_str()) {
            ("Yes", "Yes") => None,
            ("Yes", _) => Some(format!("it does not replay: {replay_error}")),
            _ => Some(format!("it does not receive ({receives}): {receive_error}")),
        })
    }
}
