//! What the kernel says below /proc: its own memory, the machine's and a process's, the sockets and what became of them.

use std::collections::BTreeMap;

use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

use lab::{Doing, Error, Result};

/// The size of a page; what /proc/slabinfo and /proc/net/sockstat count in.
pub(crate) const PAGE: f64 = 4096.0;

/// One of the kernel's caches of equal objects: a line of /proc/slabinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slab {
    /// Objects in use.
    pub active: u64,
    /// Objects in one slab.
    pub per_slab: u64,
    /// Pages of one slab.
    pub pages: u64,
}

impl Slab {
    /// What an object costs with its part of what is left over at the end of a slab.
    pub fn bytes_each(&self) -> f64 {
        self.pages as f64 * PAGE / self.per_slab.max(1) as f64
    }
}

/// The kernel's slab caches by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slabs(BTreeMap<String, Slab>);

impl Slabs {
    /// Reads /proc/slabinfo, which only root may.
    pub fn read() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/slabinfo")
            .doing("read /proc/slabinfo")
            .map_err(|error| error.remedy("only root may: run as root to see the kernel's own memory"))?;
        Self::parse(&text)
    }

    /// Reads the text of /proc/slabinfo, version 2.
    pub fn parse(text: &str) -> Result<Self> {
        let failure = |cause: String| Error::new("read /proc/slabinfo", cause);
        let mut lines = text.lines();
        match lines.next() {
            Some(first) if first.starts_with("slabinfo - version: 2.") => {}
            first => return Err(failure(format!("it begins with {first:?}"))),
        }
        let mut slabs = BTreeMap::new();
        for line in lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let numbers: Option<Vec<u64>> = words.take(5).map(|word| word.parse().ok()).collect();
            match numbers.as_deref() {
                Some(&[active, _, _, per_slab, pages]) => {
                    slabs.insert(name.to_string(), Slab { active, per_slab, pages })
                }
                _ => return Err(failure(format!("it has the line {line:?}"))),
            };
        }
        Ok(Self(slabs))
    }

    /// One cache by its name; none where the kernel has merged it into another one of the same size.
    pub fn get(&self, name: &str) -> Option<Slab> {
        self.0.get(name).copied()
    }

    /// By how many objects a cache has grown.
    pub fn grown(&self, since: &Self, name: &str) -> f64 {
        let active = |slabs: &Self| slabs.get(name).map_or(0.0, |slab| slab.active as f64);
        active(self) - active(since)
    }
}

/// One line of /proc/net/sockstat, of the network that the process `pid` is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SockStat {
    /// TCP sockets that are connected or listen, in that network.
    pub inuse: u64,
    /// Sockets that wait out TIME_WAIT, in that network.
    pub time_wait: u64,
    /// Sockets of the whole machine that are not freed yet, by an exact count.
    pub alloc: u64,
    /// Pages in the buffers of all TCP sockets of the machine.
    pub pages: u64,
}

impl SockStat {
    /// Of this process's network.
    pub fn read() -> Result<Self> {
        Self::read_at("/proc/net/sockstat")
    }

    /// Of the network that this process is in.
    pub fn of(pid: u32) -> Result<Self> {
        Self::read_at(&format!("/proc/{pid}/net/sockstat"))
    }

    fn read_at(path: &str) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(path).doing(format!("read {path}"))?)
    }

    /// Reads the text of a sockstat file.
    pub fn parse(text: &str) -> Result<Self> {
        let tcp = text.lines().find_map(|line| line.strip_prefix("TCP: "));
        let words: Vec<&str> = tcp.map(|line| line.split_whitespace().collect()).unwrap_or_default();
        let value = |name: &str| {
            let at = words.iter().position(|word| *word == name);
            let value = at.and_then(|at| words.get(at + 1)).and_then(|word| word.parse().ok());
            value.ok_or_else(|| Error::new("read the sockets that are in use", format!("the kernel names no {name}")))
        };
        Ok(Self { inuse: value("inuse")?, time_wait: value("tw")?, alloc: value("alloc")?, pages: value("mem")? })
    }
}

/// Bytes of the machine's memory, from /proc/meminfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MachineMemory {
    /// All of it.
    pub total: u64,
    /// What processes can still have without swapping.
    pub available: u64,
    /// In slab caches.
    pub slab: u64,
    /// In the kernel's stacks, one a thread.
    pub kernel_stack: u64,
}

impl MachineMemory {
    /// Reads /proc/meminfo.
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string("/proc/meminfo").doing("read /proc/meminfo")?)
    }

    /// Reads the text of /proc/meminfo.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self {
            total: bytes_of(text, "MemTotal")?,
            available: bytes_of(text, "MemAvailable")?,
            slab: bytes_of(text, "Slab")?,
            kernel_stack: bytes_of(text, "KernelStack")?,
        })
    }
}

/// Bytes of one process, from /proc/PID/status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessMemory {
    /// Address space.
    pub virtual_bytes: u64,
    /// Memory of its own that is really there.
    pub resident: u64,
    /// How many threads it has.
    pub threads: u64,
}

impl ProcessMemory {
    /// Of the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        Self::parse(&std::fs::read_to_string(&path).doing(format!("read {path}"))?)
    }

    /// Reads the text of a status file.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self {
            virtual_bytes: bytes_of(text, "VmSize")?,
            resident: bytes_of(text, "RssAnon")?,
            threads: value_of(text, "Threads", "")?,
        })
    }
}

/// Bytes, which the kernel states in kilobytes.
fn bytes_of(text: &str, name: &str) -> Result<u64> {
    value_of(text, name, " kB").map(|kilobytes| kilobytes * 1024)
}

fn value_of(text: &str, name: &str, unit: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.strip_suffix(unit));
    let value = value.and_then(|value| value.trim().parse().ok());
    value.ok_or_else(|| Error::new("read what the kernel counts", format!("it names no {name}")))
}

/// Open files of the machine, and how many there may be: /proc/sys/fs/file-nr.
pub fn open_files() -> Result<(u64, u64)> {
    let doing = "read the number of open files";
    let text = std::fs::read_to_string("/proc/sys/fs/file-nr").doing(doing)?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [open, _, most] => Ok((open, most)),
        _ => Err(Error::new(doing, format!("the kernel says {text:?}"))),
    }
}

/// A number from a file of /proc.
pub(crate) fn number_in(path: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).doing(format!("read {path}"))?;
    text.trim().parse().doing(format!("read {path}"))
}

/// What a process has used of the processor, by the kernel's account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds of the processor, its own and the kernel's on its behalf.
    pub seconds: f64,
    /// How often one of its threads went to sleep.
    pub waits: u64,
}

impl Usage {
    /// Of this process.
    pub(crate) fn now() -> Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).doing("ask what this process has used")?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(Self {
            seconds: seconds(usage.user_time()) + seconds(usage.system_time()),
            waits: usage.voluntary_context_switches() as u64,
        })
    }

    /// What was used between two moments.
    pub fn since(&self, earlier: &Self) -> Self {
        Self { seconds: self.seconds - earlier.seconds, waits: self.waits - earlier.waits }
    }
}

/// The limit on the threads of this process's control group, or of one above it, and how many it has: the one that leaves the fewest.
/// None where there is no such limit.
pub(crate) fn group_limit() -> Option<(f64, f64)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let folders = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        match (fields.next()?, fields.next()?) {
            ("", path) => Some(("/sys/fs/cgroup", path)),
            ("pids", path) => Some(("/sys/fs/cgroup/pids", path)),
            _ => None,
        }
    });
    let limits = folders.flat_map(|(root, path)| {
        std::path::Path::new(path).ancestors().filter_map(move |folder| {
            let read = |name| std::fs::read_to_string(format!("{root}{}/{name}", folder.display())).ok();
            Some((read("pids.max")?.trim().parse().ok()?, read("pids.current")?.trim().parse().ok()?))
        })
    });
    limits.min_by(|(most, now): &(f64, f64), (other_most, other_now)| (most - now).total_cmp(&(other_most - other_now)))
}

/// Threads of the whole machine.
pub(crate) fn tasks_now() -> Result<u64> {
    let doing = "count the machine's threads";
    let text = std::fs::read_to_string("/proc/loadavg").doing(doing)?;
    let total = text.split_whitespace().nth(3).and_then(|word| word.split_once('/')).map(|(_, total)| total.parse());
    match total {
        Some(Ok(total)) => Ok(total),
        _ => Err(Error::new(doing, format!("the kernel says {text:?}"))),
    }
}

/// One line of `/proc/net/tcp`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    pub(crate) local: u16,
    pub(crate) remote: u16,
    pub(crate) state: u8,
    /// Connections in a listener's accept queue; bytes to be read for other sockets.
    pub(crate) waiting: u64,
    /// Seconds until the socket's timer fires.
    pub(crate) timer: f64,
}

impl Seen {
    pub(crate) const SYN_SENT: u8 = 2;
    pub(crate) const SYN_RECEIVED: u8 = 3;
    pub(crate) const TIME_WAIT: u8 = 6;
    pub(crate) const LISTEN: u8 = 10;

    /// Whether it listens at this port.
    pub(crate) fn is_listening(&self, port: u16) -> bool {
        self.local == port && self.state == Self::LISTEN
    }

    /// One line; none where it is no socket's.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
        let (local, remote) = (port()?, port()?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let waiting = u64::from_str_radix(fields.next()?.split(':').nth(1)?, 16).ok()?;
        let ticks = u64::from_str_radix(fields.next()?.split(':').nth(1)?, 16).ok()?;
        // The kernel speaks of hundredths to everybody, whatever it counts in itself.
        Some(Self { local, remote, state, waiting, timer: ticks as f64 / 100.0 })
    }

    /// All TCP sockets of the network that this process is in.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let text = std::fs::read_to_string("/proc/self/net/tcp").doing("read /proc/self/net/tcp")?;
        Ok(text.lines().skip(1).filter_map(Self::read).collect())
    }
}

/// The kernel's TCP counters of the network that this process is in, by name: `TcpExt:ListenOverflows`.
pub(crate) fn counters() -> Result<BTreeMap<String, i64>> {
    let mut all = BTreeMap::new();
    for file in ["/proc/self/net/netstat", "/proc/self/net/snmp"] {
        let text = std::fs::read_to_string(file).doing(format!("read {file}"))?;
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (mut names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace().skip(1));
            let table = names.next().unwrap_or_default();
            for (name, value) in names.zip(values) {
                all.insert(format!("{table}{name}"), value.parse().unwrap_or(0));
            }
        }
    }
    Ok(all)
}

/// What a counter grew by.
pub(crate) fn grown(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>, name: &str) -> u64 {
    let at = |counters: &BTreeMap<String, i64>| counters.get(name).copied().unwrap_or(0);
    u64::try_from(at(after) - at(before)).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SLABINFO: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
TCP                  130    130   2368   13    8 : tunables    0    0    0 : slabdata     10     10      0
filp                 840    840    192   21    1 : tunables    0    0    0 : slabdata     40     40      0
";

    #[test]
    fn a_slab_cache_is_read_with_what_packing_costs() {
        let slabs = Slabs::parse(SLABINFO).unwrap();
        let tcp = slabs.get("TCP").unwrap();
        assert_eq!(tcp.active, 130);
        assert!((tcp.bytes_each() - 32_768.0 / 13.0).abs() < 1e-9);
        assert_eq!(slabs.get("UDP"), None);
        let later = Slabs::parse(&SLABINFO.replace(" 130    130", " 143    143")).unwrap();
        assert_eq!(later.grown(&slabs, "TCP"), 13.0);
    }

    #[test]
    fn what_is_no_slabinfo_is_refused() {
        for text in [
            "",
            "slabinfo - version: 1.0\n",
            "slabinfo - version: 2.1\nTCP 1 2\n",
            "slabinfo - version: 2.1\nTCP a 1 1 1 1",
        ] {
            assert!(Slabs::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sockets_and_memory_are_read_by_name() {
        let text = "sockets: used 18\nTCP: inuse 7 orphan 1 tw 2 alloc 9 mem 143\nUDP: inuse 0 mem 0\n";
        let expected = SockStat { inuse: 7, time_wait: 2, alloc: 9, pages: 143 };
        assert_eq!(SockStat::parse(text).unwrap(), expected);
        assert!(SockStat::parse("TCP: inuse 7").is_err());
        assert!(SockStat::parse("").is_err());
        let memory =
            MachineMemory::parse("MemTotal: 10 kB\nMemAvailable: 4 kB\nSlab: 3 kB\nKernelStack: 2 kB\n").unwrap();
        assert_eq!((memory.total, memory.available), (10_240, 4_096));
        assert!(MachineMemory::parse("MemTotal: 10 kB\n").is_err());
        let process = ProcessMemory::parse("VmSize:\t 20 kB\nRssAnon:\t 5 kB\nThreads:\t3\n").unwrap();
        assert_eq!(process, ProcessMemory { virtual_bytes: 20_480, resident: 5_120, threads: 3 });
    }

    #[test]
    fn a_line_of_proc_net_tcp_reads_as_it_should() {
        let line =
            "   1: 0100007F:4E20 0100007F:2328 06 00000000:00000005 03:0000176D 00000000     0        0 0 3 00000000";
        let seen = Seen::read(line).unwrap();
        assert_eq!((seen.local, seen.remote, seen.state, seen.waiting), (20_000, 9_000, Seen::TIME_WAIT, 5));
        assert!((seen.timer - 59.97).abs() < 1e-9);
        let six = "   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 \
                   00:00000000 00000000";
        assert_eq!(Seen::read(six).unwrap().local, 8_080);
        for bad in ["", "0: x", "0: 0100007F:4E20", "0: 0100007F:4E20 0100007F:2328 06", "a b c d e f g"] {
            assert_eq!(Seen::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn counters_are_read_by_name() {
        let counters = counters().unwrap();
        assert!(counters.contains_key("TcpExt:ListenOverflows") && counters.contains_key("Tcp:ActiveOpens"));
        let later = BTreeMap::from([("a".to_string(), 7)]);
        assert_eq!(grown(&BTreeMap::new(), &later, "a"), 7);
        assert_eq!(grown(&later, &BTreeMap::new(), "a"), 0, "a counter does not shrink");
    }
}
