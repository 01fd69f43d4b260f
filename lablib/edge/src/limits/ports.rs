//! Ephemeral ports: one address to one destination has as many connections as the range has ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::Socket;

use crate::descriptor_tables::{fill_tables, open_descriptors, raise_descriptors, threads_may_have_tables};
use crate::process::start;
use crate::sockets::{From, Listener, Narrowed, errno};
use lab::{Error, Frame, Network, Result};

/// Its piece that runs in a network of its own.
pub(crate) const PIECE: &str = "ports";

/// What to find out about ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortSpec {
    /// Sizes of the range. Even numbers: the kernel walks a range in steps of two, and may miss a port of an odd one.
    pub ranges: Vec<u16>,
    /// The size at which the ways out are tried.
    pub ways: u16,
    /// Ports that one of the ways reserves.
    pub reserved: u16,
}

/// What was found out about ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ports {
    /// Where it was found out.
    pub network: Network,
    /// Each size of the range: ports, opened, then (the error that the next connection got), and off (opened less ports; another
    /// refusal than EADDRNOTAVAIL is no number).
    pub ranges: Frame,
    /// Each way to use, lose or gain ports at one size of the range: way, predicted, opened, off, and then (the errors that ended it).
    pub ways: Frame,
    /// What this machine does not allow.
    pub left_out: Vec<String>,
}

/// Uses up each of the ranges, in a process and a network of its own.
pub fn ports(spec: &PortSpec) -> Result<Ports> {
    let odd = spec.ranges.iter().chain([&spec.ways]).find(|ports| **ports == 0 || **ports % 2 == 1);
    if let Some(odd) = odd {
        let cause = format!("the kernel walks a range in steps of two, and may miss a port of {odd}");
        return Err(Error::new("use up the ports", cause).remedy("ask for an even range"));
    }
    if spec.ranges.is_empty() || spec.reserved + 2 > spec.ways {
        return Err(Error::new("use up the ports", "there is no range, or all of it is reserved"));
    }
    start(PIECE, spec)?.finish()
}

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(crate) fn measure(network: &Network, spec: &PortSpec) -> Result<Ports> {
    let limit = raise_descriptors()?;
    // A connection takes two descriptors, one at each end.
    let room = limit.saturating_sub(open_descriptors()?.len() as u64 + 16) / 2;
    let tables = threads_may_have_tables();
    let (mut ranges, mut left_out) = (Frame::new(), Vec::new());
    for &ports in &spec.ranges {
        if !tables && u64::from(ports) > room {
            left_out.push(format!("{ports} connections need more than {limit} descriptors"));
            continue;
        }
        let server = Listener::inside(network, HERE, 4_096)?;
        let filled = fill(&Narrowed::inside(network, ports)?, &[(From::Anywhere, &server)], room)?;
        ranges.extend(filled.into_iter().map(|(opened, error)| {
            let off = if error == "EADDRNOTAVAIL" { opened as f64 - f64::from(ports) } else { f64::NAN };
            Frame::new()
                .counts("ports", "", [u64::from(ports)])
                .counts("opened", "", [opened])
                .numbers("off", "", [off])
                .text("then", [error])
        }));
    }
    let range = Narrowed::inside(network, spec.ways)?;
    let mut ways = Ways { network, range, room, tables, found: Frame::new(), left_out };
    ways.all(spec)?;
    let Ways { found, mut left_out, .. } = ways;
    if let Some(why) = network.why_shared() {
        left_out.push(format!("ports narrowed socket by socket, none reserved: {why}"));
    }
    Ok(Ports { network: network.clone(), ranges, ways: found, left_out })
}

struct Ways<'a> {
    network: &'a Network,
    range: Narrowed,
    room: u64,
    tables: bool,
    found: Frame,
    left_out: Vec<String>,
}

impl Ways<'_> {
    fn all(&mut self, spec: &PortSpec) -> Result<()> {
        let n = self.range.ports();
        let here = From::Anywhere;
        let bound = [From::Bound(HERE)];
        let late = [From::Address(HERE)];
        let two = [From::Address(HERE), From::Address(ELSEWHERE)];
        self.way("one address, one destination", n, &[here], 1)?;
        let inside = Listener::on(SocketAddrV4::new(ELSEWHERE, self.range.first + spec.ways / 2), 1)?;
        self.way("… and a listener inside the range", n - 1, &[here], 1)?;
        drop(inside);
        if self.network.is_own() {
            let (first, last) = (self.range.first + 2, self.range.first + 1 + spec.reserved);
            self.network.set("ipv4/ip_local_reserved_ports", format!("{first}-{last}"))?;
            let name = format!("… and {} ports reserved", spec.reserved);
            self.way(&name, n - u64::from(spec.reserved), &[here], 1)?;
            self.network.set("ipv4/ip_local_reserved_ports", "\n")?; // nothing at all would change nothing
        }
        self.way("one address, two destinations", 2 * n, &[here], 2)?;
        self.way("… that binds its port before it connects", n, &bound, 2)?;
        self.way("… that binds its address only", 2 * n, &late, 2)?;
        self.way("two addresses, one destination", 2 * n, &two, 1)?;
        self.way("two addresses, two destinations", 4 * n, &two, 2)
    }

    fn way(&mut self, name: &str, predicted: u64, froms: &[From], servers: usize) -> Result<()> {
        if !self.tables && predicted > self.room {
            self.left_out.push(format!("{name}: {predicted} connections need more descriptors than there are"));
            return Ok(());
        }
        let servers = (0..servers).map(|_| Listener::inside(self.network, HERE, 4_096)).collect::<Result<Vec<_>>>()?;
        let pairs: Vec<_> = froms.iter().flat_map(|from| servers.iter().map(|server| (*from, server))).collect();
        let (opened, mut errors): (Vec<u64>, Vec<String>) = fill(&self.range, &pairs, self.room)?.into_iter().unzip();
        let opened: u64 = opened.iter().sum();
        errors.dedup();
        self.found.extend([Frame::new()
            .text("way", [name])
            .counts("predicted", "", [predicted])
            .counts("opened", "", [opened])
            .numbers("off", "", [opened as f64 - predicted as f64])
            .text("then", [errors.join(", ")])]);
        Ok(())
    }
}

/// Connects each pair until the kernel refuses, with all of them open at once: how many, and the error.
fn fill(range: &Narrowed, pairs: &[(From, &Listener)], room: u64) -> Result<Vec<(u64, String)>> {
    let (mut filled, mut opened) = (Vec::new(), 0);
    fill_tables(room, |most| {
        let mut held = Vec::new();
        while let Some((from, server)) = pairs.get(filled.len()) {
            if held.len() as u64 >= most {
                return (held, false);
            }
            // More than there are: seen, and not waited for to end.
            let error = match connected(range, *from, server) {
                Ok(pair) => {
                    held.push(pair);
                    opened += 1;
                    if opened <= range.ports() {
                        continue;
                    }
                    "none".to_string()
                }
                Err(error) => errno(&error),
            };
            filled.push((std::mem::take(&mut opened), error));
        }
        (held, true)
    })?;
    Ok(filled)
}

/// Both ends of a connection. Closed with a reset, its port is free at once.
fn connected(range: &Narrowed, from: From, server: &Listener) -> std::io::Result<(Socket, Socket)> {
    let client = range.connect(from, server.address)?;
    client.set_linger(Some(Duration::ZERO))?;
    let (peer, _) = server.socket.accept()?;
    Ok((client, peer))
}
