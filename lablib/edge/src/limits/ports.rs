//! Ephemeral ports: one address to one destination has as many connections as the range has ports.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::chamber;
use super::lanes::{fill_lanes, has_lanes, open_descriptors, raise_descriptors};
use super::namespace::{From, Listener, Narrowed, errno};
use lab::chart::{Bars, Chart, Lines};
use lab::{Error, Network, OrFail, Result, Samples};

/// Its piece that runs in a network of its own.
pub(super) const PIECE: &str = "ports";

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

/// One range, used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPoint {
    /// Ports of the range.
    pub ports: u64,
    /// Connections that were open at the same time.
    pub opened: u64,
    /// The error that the next one got.
    pub error: String,
}

/// One way to use, lose or gain ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// What is done.
    pub name: String,
    /// Connections that theory allows.
    pub predicted: u64,
    /// Connections that were open at the same time.
    pub opened: u64,
    /// The errors that ended it, one for each pair of address and destination.
    pub errors: Vec<String>,
}

/// What was found out about ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Where it was found out.
    pub network: Network,
    /// Each size of the range.
    pub points: Vec<PortPoint>,
    /// Each way, at one size.
    pub ways: Vec<Way>,
    /// The range in which the ways were tried.
    pub ways_at: u64,
    /// What this machine does not allow.
    pub left_out: Vec<String>,
}

/// Uses up each of the ranges, in a process and a network of its own.
pub fn ports(spec: &PortSpec) -> Ports {
    let run = || -> Result<Ports> {
        let odd = spec.ranges.iter().chain([&spec.ways]).find(|ports| **ports == 0 || **ports % 2 == 1);
        if let Some(odd) = odd {
            let cause = format!("the kernel walks a range in steps of two, and may miss a port of {odd}");
            return Err(Error::new("use up the ports", cause).remedy("ask for an even range"));
        }
        if spec.ranges.is_empty() || spec.reserved + 2 > spec.ways {
            return Err(Error::new("use up the ports", "there is no range, or all of it is reserved"));
        }
        chamber::run(PIECE, spec)
    };
    run().or_fail()
}

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(super) fn measure(network: &Network, spec: &PortSpec) -> Result<Ports> {
    let limit = raise_descriptors()?;
    // A connection takes two descriptors, one at each end.
    let room = limit.saturating_sub(open_descriptors()?.len() as u64 + 16) / 2;
    let lanes = has_lanes();
    let mut found = Ports {
        network: network.clone(),
        points: Vec::new(),
        ways: Vec::new(),
        ways_at: u64::from(spec.ways),
        left_out: Vec::new(),
    };
    let affordable = |ports: u64| lanes || ports <= room;
    for &ports in &spec.ranges {
        if !affordable(u64::from(ports)) {
            found.left_out.push(format!("{ports} connections need more than {limit} descriptors"));
            continue;
        }
        let server = Listener::inside(network, HERE, 4_096)?;
        let filled = fill(&Narrowed::inside(network, ports)?, &[(From::Anywhere, &server)], room)?;
        let [(opened, error)] = &filled[..] else { continue };
        found.points.push(PortPoint { ports: u64::from(ports), opened: *opened, error: error.clone() });
    }
    let range = Narrowed::inside(network, spec.ways)?;
    let ways = Ways { network, range, room, lanes };
    ways.all(spec, &mut found)?;
    if let Some(why) = network.why_shared() {
        found.left_out.push(format!("ports narrowed socket by socket, none reserved: {why}"));
    }
    Ok(found)
}

struct Ways<'a> {
    network: &'a Network,
    range: Narrowed,
    room: u64,
    lanes: bool,
}

impl Ways<'_> {
    fn all(&self, spec: &PortSpec, found: &mut Ports) -> Result<()> {
        let n = self.range.ports();
        let here = From::Anywhere;
        let bound = [From::Bound(HERE)];
        let late = [From::Address(HERE)];
        let two = [From::Address(HERE), From::Address(ELSEWHERE)];
        self.way(found, "one address, one destination", n, &[here], 1)?;
        let inside = Listener::on(SocketAddrV4::new(ELSEWHERE, self.range.first + spec.ways / 2), 1)?;
        self.way(found, "… and a listener inside the range", n - 1, &[here], 1)?;
        drop(inside);
        if self.network.is_own() {
            let (first, last) = (self.range.first + 2, self.range.first + 1 + spec.reserved);
            self.network.set("ipv4/ip_local_reserved_ports", format!("{first}-{last}"))?;
            let name = format!("… and {} ports reserved", spec.reserved);
            self.way(found, &name, n - u64::from(spec.reserved), &[here], 1)?;
            self.network.set("ipv4/ip_local_reserved_ports", "\n")?; // nothing at all would change nothing
        }
        self.way(found, "one address, two destinations", 2 * n, &[here], 2)?;
        self.way(found, "… that binds its port before it connects", n, &bound, 2)?;
        self.way(found, "… that binds its address only", 2 * n, &late, 2)?;
        self.way(found, "two addresses, one destination", 2 * n, &two, 1)?;
        self.way(found, "two addresses, two destinations", 4 * n, &two, 2)
    }

    fn way(&self, found: &mut Ports, name: &str, predicted: u64, froms: &[From], servers: usize) -> Result<()> {
        if !self.lanes && predicted > self.room {
            found.left_out.push(format!("{name}: {predicted} connections need more descriptors than there are"));
            return Ok(());
        }
        let servers = (0..servers).map(|_| Listener::inside(self.network, HERE, 4_096)).collect::<Result<Vec<_>>>()?;
        let pairs: Vec<_> = froms.iter().flat_map(|from| servers.iter().map(|server| (*from, server))).collect();
        let filled = fill(&self.range, &pairs, self.room)?;
        found.ways.push(Way {
            name: name.to_string(),
            predicted,
            opened: filled.iter().map(|(opened, _)| opened).sum(),
            errors: filled.into_iter().map(|(_, error)| error).collect(),
        });
        Ok(())
    }
}

/// Connects each pair until the kernel refuses, with all of them open at once: how many, and the error.
fn fill(range: &Narrowed, pairs: &[(From, &Listener)], room: u64) -> Result<Vec<(u64, String)>> {
    let filled: Mutex<Vec<(u64, String)>> = Mutex::new(vec![(0, String::new()); pairs.len()]);
    let at = Mutex::new(0);
    fill_lanes(u64::MAX, room, |most| {
        let mut held = Vec::new();
        let mut at = at.lock().unwrap_or_else(PoisonError::into_inner); // lanes come one after the other
        let mut filled = filled.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((from, server)) = pairs.get(*at) {
            if held.len() as u64 >= most {
                return (held, None);
            }
            if filled[*at].0 > range.ports() {
                filled[*at].1 = "none".to_string(); // more than there are: seen, and not waited for to end
                *at += 1;
                continue;
            }
            match connected(range, *from, server) {
                Ok(pair) => {
                    held.push(pair);
                    filled[*at].0 += 1;
                }
                Err(error) => {
                    filled[*at].1 = errno(&error);
                    *at += 1;
                }
            }
        }
        (held, Some(std::io::Error::other("all pairs are done")))
    })?;
    Ok(filled.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Both ends of a connection. Closed with a reset, its port is free at once.
fn connected(range: &Narrowed, from: From, server: &Listener) -> std::io::Result<(Socket, Socket)> {
    let client = range.connect(from, server.address)?;
    client.set_linger(Some(Duration::ZERO))?;
    let (peer, _) = server.socket.accept()?;
    Ok((client, peer))
}

impl Ports {
    /// Connections less ports, at each size of the range. Another refusal than EADDRNOTAVAIL is no number.
    pub fn off(&self) -> Samples {
        let off = |point: &PortPoint| match point.error.as_str() {
            "EADDRNOTAVAIL" => point.opened as f64 - point.ports as f64,
            _ => f64::NAN,
        };
        self.points.iter().map(off).collect()
    }

    /// Connections less predicted, for each of the ways.
    pub fn ways_off(&self) -> Samples {
        self.ways.iter().map(|way| way.opened as f64 - way.predicted as f64).collect()
    }

    /// Connections of the way of this name; ends the cell where there is none.
    pub fn way(&self, name: &str) -> u64 {
        let way = self.ways.iter().find(|way| way.name.contains(name)).map(|way| way.opened);
        way.ok_or_else(|| Error::new("look up a way", format!("there is no {name:?}"))).or_fail()
    }

    /// Predicted and opened, over the size of the range.
    pub fn chart(&self, title: &str) -> Lines {
        let at = |value: fn(&PortPoint) -> u64| {
            self.points.iter().map(move |point| (point.ports as f64, value(point) as f64)).collect::<Vec<_>>()
        };
        Chart::lines(title)
            .x("ports of the range", "")
            .log_x()
            .y("connections until EADDRNOTAVAIL", "")
            .log_y()
            .points("opened", at(|point| point.opened))
            .predicted_points("predicted", at(|point| point.ports))
    }

    /// The ways, with what was predicted.
    pub fn ways_chart(&self, title: &str) -> Bars {
        let chart = Chart::bars(title).y("connections at the same time", "").horizontal();
        self.ways.iter().fold(chart, |chart, way| {
            chart.bar(&way.name, way.opened as f64).predicted(&way.name, way.predicted as f64)
        })
    }
}
