//! When the primary is gone: which replica takes over, what it does first, and how an old primary may come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use super::Skip;
use super::cluster::Cluster;
use super::position::{Gtid, Position};
use lab::service::MariaDb;
use lab::{Doing, Error, Result};

/// A promotion that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Promotion {
    /// The number of the server that was the primary.
    pub from: usize,
    /// The number of the server that is the primary now.
    pub to: usize,
    /// What each replica had received when it was asked.
    pub candidates: Vec<Candidate>,
    /// Replicas that did not answer, at first or when they were to follow the new primary; they follow nobody, and are no
    /// replicas any more, until they [rejoin](Cluster::rejoin).
    pub silent: Vec<usize>,
    /// How long it took, in seconds.
    pub took: f64,
}

/// How far a replica had come when its primary was gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The server's number.
    pub server: usize,
    /// What it had received: in its relay log, replayed or not.
    pub received: Position,
}

impl Cluster {
    /// Makes the replica that has received the most the primary, once it has replayed all of that; the others follow
    /// it.
    ///
    /// The old primary is fenced first, as far as replicas go: their wires are cut, so that nothing of it arrives any
    /// more. Clients that still reach it are the caller's to keep away. A replica that does not answer is left out,
    /// with whatever it alone has received; so is a server that follows nobody, because it missed an earlier promotion or
    /// parted. Where no replica can take over, none does, and all follow the old primary as before.
    ///
    /// The new primary waits for no replica at its commits until it is told to: [`semi_sync`](Self::semi_sync) is a setting of
    /// the old one.
    pub fn promote(&self, patience: Duration) -> Result<Promotion> {
        self.promote_without(patience, None)
    }

    /// As [`promote`](Self::promote), with a step left out.
    pub fn promote_without(&self, patience: Duration, skip: Option<Skip>) -> Result<Promotion> {
        let (began, from) = (Instant::now(), self.primary());
        let candidates = self.followers();
        match self.take_over(&candidates, patience, skip) {
            Ok((to, received)) => {
                self.set_primary(to);
                let stopped = received.iter().map(|candidate| candidate.server);
                let followers = stopped.filter(|&other| other != to && self.follow(other, to).is_ok());
                let followers: BTreeSet<usize> = followers.collect();
                let silent = candidates.into_iter().filter(|server| *server != to && !followers.contains(server));
                let silent = silent.collect();
                *self.following() = followers;
                Ok(Promotion { from, to, candidates: received, silent, took: began.elapsed().as_secs_f64() })
            }
            Err(error) => {
                for &server in &candidates {
                    self.link(server)?.heal();
                    // One that did not answer may have been stopped all the same; one that is gone has been stopped anyway.
                    let _ = self
                        .connect(server, Duration::from_secs(1))
                        .and_then(|mut connection| connection.query_drop("START SLAVE").doing("go on"));
                }
                Err(error)
            }
        }
    }

    fn take_over(&self, replicas: &[usize], patience: Duration, skip: Option<Skip>) -> Result<(usize, Vec<Candidate>)> {
        let doing = "promote a replica";
        let mut candidates = Vec::new();
        for &server in replicas {
            // In front of a replica that is dead or stands still, a cut wire does no harm.
            self.link(server)?.cut();
            candidates.extend(self.stop_receiving(server, patience, skip));
        }
        let most = |best: &Candidate, other: &Candidate| best.received.covers(&other.received);
        let best = candidates.iter().find(|best| candidates.iter().all(|other| most(best, other)));
        let worst = candidates.iter().find(|worst| candidates.iter().all(|other| most(other, worst)));
        let chosen = if skip == Some(Skip::Choice) { worst } else { best };
        let Some(chosen) = chosen.cloned() else {
            let cause = match candidates.len() {
                0 => "no replica answers".to_owned(),
                _ => format!("the replicas have parted: {}", listed(&candidates)),
            };
            return Err(
                Error::new(doing, cause).remedy("bring a replica back, or choose which transactions to give up")
            );
        };
        let server = self.server(chosen.server)?;
        if skip != Some(Skip::Drain) && !chosen.received.is_start() {
            // What it has received was acknowledged, perhaps only because it was received.
            let replayed = server.wait_for(&chosen.received.to_string(), patience)?;
            if !replayed {
                let cause = format!(
                    "it has received {} and not replayed it in {:.1} s",
                    chosen.received,
                    patience.as_secs_f64()
                );
                return Err(Error::new(doing, cause).at(server.name()).remedy("give it more time"));
            }
        }
        server.try_promote()?;
        Ok((chosen.server, candidates))
    }

    fn stop_receiving(&self, server: usize, patience: Duration, skip: Option<Skip>) -> Result<Candidate> {
        // A server that stands still must not hold up the others for ever; but one that only is slow may be the one
        // that has received the most, so this is not the place to be hasty.
        let mut connection = self.connect(server, patience.max(Duration::from_secs(5)))?;
        let name = self.name(server);
        // Replaying first: a MariaDB whose two threads have both been stopped throws away what it has received and not
        // replayed, and asks for it again, when one of them is started. Its primary would not answer any more.
        let replaying = (skip != Some(Skip::Drain)).then_some("START SLAVE SQL_THREAD");
        for statement in replaying.into_iter().chain(["STOP SLAVE IO_THREAD"]) {
            connection.query_drop(statement).doing("stop a replica").map_err(|error| error.at(&name))?;
        }
        let replica = self.server(server)?;
        let replayed: Option<Option<String>> = connection
            .query_first(format!("SELECT {}", replica.dialect().replayed()))
            .doing("ask a replica how far it is")?;
        let replayed: Position = replayed.flatten().unwrap_or_default().parse()?;
        let mut received: Position = replica.received()?.parse()?;
        received.join(&replayed);
        Ok(Candidate { server, received })
    }

    fn follow(&self, server: usize, primary: usize) -> Result<()> {
        let (replica, primary) = (self.server(server)?, self.server(primary)?);
        let link = self.link(server)?;
        link.heal().retarget(primary.address())?;
        replica.replicate_through(primary, link.address())
    }

    /// Lets a server that was a primary, and is running again, follow the present one.
    ///
    /// It is refused where it has transactions that the present primary never had, acknowledged or not: they would stay
    /// in it alone for ever. Then it follows nobody and refuses writes.
    pub fn rejoin(&self, server: usize, patience: Duration) -> Result<()> {
        let doing = "let a server rejoin";
        if server == self.primary() {
            return Err(Error::new(doing, "it is the primary").at(self.name(server)));
        }
        let old = self.server(server)?;
        let own = self.retire(old, patience)?;
        if let Some(parted) = self.parted(&own)? {
            let cause = format!("it has transactions up to {parted} that the primary does not have");
            return Err(Error::new(doing, cause)
                .at(self.name(server))
                .remedy("rescue what it has alone, then set it up again from a copy"));
        }
        self.follow(server, self.primary())?;
        let began = Instant::now();
        loop {
            let why = old.replication_error()?;
            let followed = why.is_none()
                && self.position().is_ok_and(|position| {
                    position.is_start()
                        || old.wait_for(&position.to_string(), Duration::from_millis(100)).unwrap_or(false)
                });
            if followed {
                self.following().insert(server);
                return Ok(());
            }
            if began.elapsed() > patience {
                self.link(server)?.cut();
                old.administer(&old.dialect().stop_following())?;
                let why = why.unwrap_or_else(|| "it only is slow".into());
                let cause = format!("it did not catch up in {:.1} s: {why}", patience.as_secs_f64());
                return Err(Error::new(doing, cause).at(self.name(server)).remedy("look at both servers' logs"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Keeps everybody from writing to an old primary, then asks for the last that it has: in this order, for what is written
    /// after the question would be known to nobody.
    fn retire(&self, old: &MariaDb, patience: Duration) -> Result<Position> {
        let doing = "keep clients from writing to an old primary";
        let user =
            mysql::Opts::from_url(old.url()).doing("read the server's URL")?.get_user().unwrap_or_default().to_owned();
        let mut administrator = old.connect_as_administrator()?;
        let at = |error: Error| error.at(old.name());
        let theirs = format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'");
        for statement in [
            old.dialect().set_read_only(true),
            "SET sql_log_bin = 0",
            // It has the primary's rights still, and whoever is connected keeps them for as long as that lasts.
            &format!("REVOKE READ_ONLY ADMIN ON *.* FROM '{user}'@'127.0.0.1'"),
            "STOP SLAVE",
        ] {
            administrator.query_drop(statement).doing(doing).map_err(at)?;
        }
        let connected: Vec<u64> = administrator.query(&theirs).doing(doing).map_err(at)?;
        administrator.query_drop(format!("KILL USER '{user}'")).doing(doing).map_err(at)?;
        // Killed is not gone: what one of them was committing may still come.
        let began = Instant::now();
        loop {
            let left: Vec<u64> = administrator.query(&theirs).doing(doing).map_err(at)?;
            if !left.iter().any(|id| connected.contains(id)) {
                break;
            }
            if began.elapsed() > patience {
                return Err(at(Error::new(doing, "a client of it does not go away")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let own: Position = old.position()?.parse()?;
        // A replica goes on where its last replayed transaction was; this one's last are its own.
        administrator.query_drop(format!("SET GLOBAL gtid_slave_pos = '{own}'")).doing(doing).map_err(at)?;
        Ok(own)
    }

    /// The first of these transactions that the primary never had. Waiting for positions cannot tell: it compares numbers, and
    /// both servers went on counting from where they parted. The state of its binary log has a number for each server that it
    /// ever had a transaction of.
    fn parted(&self, own: &Position) -> Result<Option<Gtid>> {
        let state = self.server(self.primary())?.ask("SELECT @@GLOBAL.gtid_binlog_state")?;
        let listed = state.split(',').filter(|part| !part.trim().is_empty());
        let has: Vec<Gtid> = listed.map(str::parse).collect::<Result<_>>()?;
        let covers = |gtid: &Gtid| {
            has.iter().any(|had| had.domain == gtid.domain && had.server == gtid.server && had.number >= gtid.number)
        };
        Ok(own.gtids().find(|gtid| !covers(gtid)))
    }
}

fn listed(candidates: &[Candidate]) -> String {
    candidates.iter().map(|candidate| candidate.received.to_string()).collect::<Vec<_>>().join(" and ")
}
