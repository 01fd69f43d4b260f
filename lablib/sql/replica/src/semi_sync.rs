//! Semi-synchronous replication: a commit is acknowledged when a replica has it, or when waiting took too long.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use lab::service::{Counters, MariaDb};
use lab::{Error, Result};

/// When a commit becomes visible to others on the primary, and when it waits for a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitPoint {
    /// Wait first, then commit in the storage engine: nobody sees what a replica does not have.
    AfterSync,
    /// Commit in the storage engine, then wait: others see it at once, and may have seen what a failover then loses.
    /// MariaDB's default.
    AfterCommit,
}

/// How the primary waits for its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiSync {
    /// How long a commit waits; the first that waits longer turns waiting off for all. MariaDB's default is 10 s.
    pub timeout: Duration,
    /// Before or after it becomes visible.
    pub wait_point: WaitPoint,
}

impl SemiSync {
    /// Waits before it becomes visible, for so long at most.
    pub fn lossless(timeout: Duration) -> Self {
        Self { timeout, wait_point: WaitPoint::AfterSync }
    }
}

/// What a primary has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemiSyncStatus {
    /// Whether commits wait for a replica now.
    pub on: bool,
    /// Replicas that acknowledge.
    pub replicas: u64,
    /// Commits that were acknowledged to the client without a replica.
    pub unwaited: u64,
}

impl Cluster {
    /// Makes the primary wait for one of its replicas at each commit, from now on; `None` makes it wait for nobody.
    pub fn semi_sync(&self, how: Option<SemiSync>) -> Result<()> {
        let primary = self.mariadb(self.primary())?;
        let Some(SemiSync { timeout, wait_point }) = how else {
            return primary.try_execute("SET GLOBAL rpl_semi_sync_master_enabled = OFF");
        };
        // The server takes milliseconds, and 0 for "do not wait at all".
        let milliseconds = timeout.as_millis().max(1);
        let point = match wait_point {
            WaitPoint::AfterSync => "AFTER_SYNC",
            WaitPoint::AfterCommit => "AFTER_COMMIT",
        };
        for statement in [
            format!("SET GLOBAL rpl_semi_sync_master_timeout = {milliseconds}"),
            format!("SET GLOBAL rpl_semi_sync_master_wait_point = {point}"),
            "SET GLOBAL rpl_semi_sync_master_enabled = ON".into(),
        ] {
            primary.try_execute(&statement)?;
        }
        let mut expected = 0;
        for replica in self.followers() {
            let replica = self.mariadb(replica)?;
            if !replica.is_running() || replica.is_paused() {
                continue;
            }
            expected += 1;
            if replica.ask("SELECT @@rpl_semi_sync_slave_enabled")? == "0" {
                // A replica says at its log-in whether it will acknowledge.
                let statements =
                    ["SET GLOBAL rpl_semi_sync_slave_enabled = ON", "STOP SLAVE IO_THREAD", "START SLAVE IO_THREAD"];
                statements.iter().try_for_each(|statement| replica.try_execute(statement))?;
            }
        }
        self.until_semi_sync(expected, Duration::from_secs(20))
    }

    /// Waits until commits wait for a replica, and so many acknowledge: after a timeout they do again once a replica has caught up.
    ///
    /// It has caught up when it acknowledges the *last* commit. Where commits follow each other faster than an
    /// acknowledgement travels, there always is a later one, and waiting does not come back until they pause.
    pub fn until_semi_sync(&self, replicas: u64, patience: Duration) -> Result<()> {
        let asked = Instant::now();
        loop {
            let status = self.semi_sync_status()?;
            if status.on && status.replicas >= replicas.max(1) {
                return Ok(());
            }
            if asked.elapsed() > patience {
                let cause = format!("after {} s, {} replicas acknowledge", patience.as_secs(), status.replicas);
                return Err(Error::new("wait for semi-synchronous replication", cause).remedy("heal the links"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the primary has counted so far.
    pub fn semi_sync_status(&self) -> Result<SemiSyncStatus> {
        let primary = self.mariadb(self.primary())?;
        let on = primary.ask(
            "SELECT variable_value FROM information_schema.global_status \
             WHERE variable_name = 'Rpl_semi_sync_master_status'",
        )? == "ON";
        let counters = Counters::of_server(primary)?;
        let count = |name: &str| counters.get(name).map(|count| count as u64);
        Ok(SemiSyncStatus {
            on,
            replicas: count("Rpl_semi_sync_master_clients")?,
            unwaited: count("Rpl_semi_sync_master_no_tx")?,
        })
    }

    fn mariadb(&self, server: usize) -> Result<&MariaDb> {
        let server = self.server(server)?;
        match server.dialect().is_mariadb() {
            true => Ok(server),
            false => Err(Error::new("set up semi-synchronous replication", "it is a plugin with other names in MySQL")
                .at(server.name())
                .remedy("load semisync_source and semisync_replica yourself, or use a MariaDB")),
        }
    }
}
