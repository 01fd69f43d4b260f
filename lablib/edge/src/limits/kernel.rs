//! What the kernel says of each limit, and what follows from it.

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use crate::sockets::TIME_WAIT;
use lab::{Doing, Error, Network, Result, Table, significant};

/// The limits of this process and machine, as the kernel states them. What this kernel does not state is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Descriptors of a process: soft and hard limit.
    pub descriptors: (u64, u64),
    /// Open files of the machine.
    pub file_max: Option<u64>,
    /// The highest that a hard limit of descriptors may be.
    pub nr_open: Option<u64>,
    /// The ephemeral ports: first and last.
    pub ports: Option<(u16, u16)>,
    /// 0: a port in TIME_WAIT is not used again; 1: after a second; 2: after a second, on loopback only.
    pub tw_reuse: Option<u64>,
    /// Sockets in TIME_WAIT; those beyond are dropped at once.
    pub max_tw_buckets: Option<u64>,
    /// What caps the backlog of `listen`.
    pub somaxconn: Option<u64>,
    /// What caps the SYN queue where there are no cookies.
    pub max_syn_backlog: Option<u64>,
    /// Whether the kernel answers with cookies when the SYN queue is full.
    pub syncookies: Option<u64>,
    /// How often a SYN is sent again.
    pub syn_retries: Option<u64>,
    /// Pages of memory for TCP beyond which it is refused.
    pub tcp_mem_pages: Option<u64>,
    /// Buffers of a connection, in bytes: smallest, default and largest for reading.
    pub rmem: Option<[u64; 3]>,
    /// The same for writing.
    pub wmem: Option<[u64; 3]>,
    /// Process and thread numbers.
    pub pid_max: Option<u64>,
    /// Threads of the machine.
    pub threads_max: Option<u64>,
    /// Processes and threads of this user: soft limit.
    pub user_processes: u64,
    /// Mappings of a process: a thread's stack takes two.
    pub max_map_count: Option<u64>,
    /// Threads of this process's control group, the smallest on the way up.
    pub cgroup_pids: Option<u64>,
    /// Memory of the machine that is available, in bytes.
    pub memory: Option<u64>,
}

impl Kernel {
    /// Asks the kernel.
    pub fn says() -> Result<Self> {
        let limit = |resource, name: &str| getrlimit(resource).doing(format!("read the limit of {name}"));
        Ok(Self {
            descriptors: limit(Resource::RLIMIT_NOFILE, "descriptors")?,
            file_max: number("fs/file-max"),
            nr_open: number("fs/nr_open"),
            ports: range(&Network::setting("ipv4/ip_local_port_range").unwrap_or_default()),
            tw_reuse: number("net/ipv4/tcp_tw_reuse"),
            max_tw_buckets: number("net/ipv4/tcp_max_tw_buckets"),
            somaxconn: number("net/core/somaxconn"),
            max_syn_backlog: number("net/ipv4/tcp_max_syn_backlog"),
            syncookies: number("net/ipv4/tcp_syncookies"),
            syn_retries: number("net/ipv4/tcp_syn_retries"),
            tcp_mem_pages: three("ipv4/tcp_mem").map(|[_, _, most]| most),
            rmem: three("ipv4/tcp_rmem"),
            wmem: three("ipv4/tcp_wmem"),
            pid_max: number("kernel/pid_max"),
            threads_max: number("kernel/threads-max"),
            user_processes: limit(Resource::RLIMIT_NPROC, "processes")?.0,
            max_map_count: number("vm/max_map_count"),
            cgroup_pids: cgroup_pids(),
            memory: available_memory(),
        })
    }

    /// How many ephemeral ports there are.
    pub fn port_count(&self) -> Result<f64> {
        let count = self.ports.map(|(first, last)| f64::from(last) - f64::from(first) + 1.0);
        count.ok_or_else(|| Error::new("count the ports", "the kernel does not state the range"))
    }

    /// All of it, with what follows and what lifts it.
    pub fn table(&self) -> Table {
        let rows = self.rows();
        let column = |at: usize| rows.iter().map(move |row| row[at].as_str());
        Table::new("What the kernel says, and what to expect when it is reached")
            .text("limit", column(0))
            .text("the kernel says", column(1))
            .text("the prototype said", column(2))
            .text("so we predict", column(3))
            .text("and when it is reached", column(4))
            .text("what lifts it", column(5))
    }

    fn rows(&self) -> Vec<[String; 6]> {
        let says = |value: Option<u64>| value.map_or("nothing".to_string(), |value| significant(value as f64));
        let (soft, hard) = self.descriptors;
        let ports = self.ports.map_or(0.0, |(first, last)| f64::from(last) - f64::from(first) + 1.0);
        let row = |cells: [&str; 6]| cells.map(str::to_string);
        vec![
            row([
                "descriptors of a process",
                &format!("{} soft, {} hard", significant(soft as f64), significant(hard as f64)),
                "1,024 or 4,096; tuned above 100,000",
                "soft limit less what is open",
                "EMFILE",
                "setrlimit up to the hard limit; more processes",
            ]),
            row([
                "open files of the machine",
                &says(self.file_max),
                "about 1,000,000",
                "not met here",
                "ENFILE",
                "fs.file-max",
            ]),
            row([
                "ephemeral ports",
                &self.ports.map_or("nothing".into(), |(first, last)| format!("{first} to {last}")),
                "about 28,000; tuned 60,000",
                &format!("{} connections to one destination", significant(ports)),
                "EADDRNOTAVAIL",
                "more addresses or destinations; a wider range",
            ]),
            row([
                "TIME_WAIT",
                &format!("tcp_tw_reuse = {}", says(self.tw_reuse)),
                "60 s",
                &format!(
                    "at most {} new connections a second with 0, {} with 2 on loopback",
                    significant((ports / TIME_WAIT.as_secs_f64()).floor()),
                    significant(ports)
                ),
                "EADDRNOTAVAIL",
                "keeping connections",
            ]),
            row([
                "accept queue",
                &format!("somaxconn = {}", says(self.somaxconn)),
                "–",
                "backlog + 1 connections",
                "the client's SYN is dropped; it asks again after 1 s",
                "a larger backlog; accepting sooner",
            ]),
            row([
                "SYN queue",
                &format!("tcp_max_syn_backlog = {}, cookies {}", says(self.max_syn_backlog), says(self.syncookies)),
                "–",
                "backlog + 1 handshakes",
                "a cookie is sent; without cookies, the SYN is dropped",
                "SYN cookies",
            ]),
            row([
                "a client's patience",
                &format!("tcp_syn_retries = {}", says(self.syn_retries)),
                "–",
                "the SYN is sent again after 1 s, and on",
                "ETIMEDOUT",
                "a deadline of one's own",
            ]),
            row([
                "memory for TCP",
                &format!("{} pages", says(self.tcp_mem_pages)),
                "1,000,000 connections per GB",
                "several kB a connection",
                "ENOMEM, dropped segments",
                "net.ipv4.tcp_mem",
            ]),
            row([
                "threads",
                &format!(
                    "pid_max {}, threads-max {}, mappings {}, control group {}",
                    says(self.pid_max),
                    says(self.threads_max),
                    says(self.max_map_count),
                    self.cgroup_pids.map_or("no limit".into(), |most| significant(most as f64))
                ),
                "32,768 or 4,194,304; RAM ÷ 8 MB",
                "the smallest of these",
                "EAGAIN, ENOMEM",
                "tasks instead of threads",
            ]),
        ]
    }
}

fn number(name: &str) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn three(name: &str) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = Network::setting(name)?.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    numbers.try_into().ok()
}

/// The smallest `pids.max` from this process's group up to the root; none where there is no such limit.
fn cgroup_pids() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut smallest = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        for folder in std::path::Path::new(path).ancestors() {
            let file = format!("{root}{}/pids.max", folder.display());
            let most = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
            smallest = [smallest, most].into_iter().flatten().min();
        }
    }
    smallest
}

fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_the_library_say_the_same() {
        let says = Kernel::says().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<u64> = files.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(numbers, [says.descriptors.0, says.descriptors.1]);
        assert!(says.nr_open.unwrap() >= says.descriptors.1);
        assert!(says.port_count().unwrap() >= 1.0);
        assert_eq!(says.table().rows(), says.rows().len());
    }

    #[test]
    fn a_range_is_two_numbers() {
        assert_eq!(range("32768\t60999"), Some((32_768, 60_999)));
        for bad in ["", "7", "a b", "1 70000"] {
            assert_eq!(range(bad), None, "{bad:?}");
        }
    }
}
