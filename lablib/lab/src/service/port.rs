//! Ports for servers: free now, unlikely to be taken in between, and never one that the kernel hands out by itself.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// Redis puts its cluster bus 10,000 above its port by default, so nothing of the lab goes higher than this.
const HIGHEST: u16 = 55_534;
const LOWEST: u16 = 10_000;

/// Ports that one server of this process holds; free for others when dropped.
#[derive(Debug)]
pub(super) struct Ports(Vec<u16>);

/// What this process has given out: two threads must not choose the same port before either server listens on it.
static HELD: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

impl Ports {
    /// `count` ports on which nobody listens at this moment.
    pub(super) fn free(count: usize) -> Result<Self> {
        let outside = outside_of(&ephemeral());
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.get_or_insert_default();
        let mut chosen = Vec::with_capacity(count);
        for _ in 0..10_000 {
            if chosen.len() == count {
                return Ok(Self(chosen));
            }
            let port = outside[rand::random_range(0..outside.len())];
            if !held.contains(&port) && is_free(port) {
                held.insert(port);
                chosen.push(port);
            }
        }
        Err(Error::new("find a free port", "everything that was tried between 10000 and 55534 is taken"))
    }

    /// Whether each of them could be listened on.
    pub(super) fn are_free(&self) -> bool {
        self.0.iter().copied().all(is_free)
    }
}

impl std::ops::Deref for Ports {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        &self.0
    }
}

impl Drop for Ports {
    fn drop(&mut self) {
        if let Some(held) = HELD.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            held.retain(|port| !self.0.contains(port));
        }
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The range from which the kernel takes the near end of outgoing connections: a server's port in it may be taken by any
/// client at any time, above all between a server's death and its restart.
fn ephemeral() -> RangeInclusive<u16> {
    let usual = 32_768..=60_999;
    let Ok(text) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return usual };
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u16>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(low), Some(high)) => low..=high,
        _ => usual,
    }
}

fn outside_of(ephemeral: &RangeInclusive<u16>) -> Vec<u16> {
    let outside: Vec<u16> = (LOWEST..=HIGHEST).filter(|port| !ephemeral.contains(port)).collect();
    // A machine that gives the kernel everything leaves no better choice.
    if outside.len() < 1_000 { (LOWEST..=HIGHEST).collect() } else { outside }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_outside_the_kernels_range() {
        let kernel = ephemeral();
        let some: Vec<Ports> = (0..50).map(|_| Ports::free(2).unwrap()).collect();
        let all: Vec<u16> = some.iter().flat_map(|ports| ports.iter().copied()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 100);
        assert!(
            all.iter().all(|port| *port < 55_535 && (!kernel.contains(port) || outside_of(&kernel).contains(port)))
        );
        assert!(some.iter().all(Ports::are_free));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let ports = Ports::free(1).unwrap();
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
        assert!(!ports.are_free());
        drop(other);
        assert!(ports.are_free());
    }

    #[test]
    fn a_kernel_that_takes_every_port_for_itself_leaves_a_choice_nevertheless() {
        assert_eq!(outside_of(&(1_024..=65_535)).len(), usize::from(HIGHEST - LOWEST) + 1);
        assert_eq!(outside_of(&(32_768..=60_999)), (LOWEST..=32_767).collect::<Vec<u16>>());
    }
}
