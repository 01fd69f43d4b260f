//! What limits the number of threads: read from the kernel, before anything is tried.

use nix::sys::resource::{Resource, getrlimit};

use super::spawned::Spawned;
use crate::procfs::{MachineMemory, number_in, tasks_now};
use lab::{Doing, Result};

/// One limit on threads.
pub(super) struct ThreadLimit {
    /// The kernel's name for it.
    pub(super) name: String,
    /// What it is set to; none where it is not set.
    pub(super) says: Option<f64>,
    /// How many more threads it allows one process now; none where it does not bind.
    pub(super) allows: Option<f64>,
    /// What is counted.
    pub(super) counts: &'static str,
}

/// Every limit on threads, for a process whose threads cost as much each as those of `sample`.
pub(super) fn thread_limits(sample: &Spawned) -> Result<Vec<ThreadLimit>> {
    let tasks = tasks_now()? as f64;
    let limit = |name: &str, says: f64, allows: f64, counts| ThreadLimit {
        name: name.to_string(),
        says: Some(says),
        allows: Some(allows.max(0.0).floor()),
        counts,
    };
    let pid_max = number_in("/proc/sys/kernel/pid_max")? as f64;
    let threads_max = number_in("/proc/sys/kernel/threads-max")? as f64;
    let maps = number_in("/proc/sys/vm/max_map_count")? as f64;
    let memory = MachineMemory::read()?;
    let each = sample.each(sample.resident) + sample.each(sample.kernel_stacks);
    // A thread has a whole number of mappings; what is left over in a sample belongs to the allocator.
    let mut limits = vec![
        limit(
            "vm.max_map_count",
            maps,
            (maps - sample.maps_before) / sample.each(sample.maps).round().max(1.0),
            "mappings of one process",
        ),
        limit("kernel.pid_max", pid_max, pid_max - tasks, "threads of everybody"),
        limit("kernel.threads-max", threads_max, threads_max - tasks, "threads of everybody"),
        limit("memory", memory.total as f64, memory.available as f64 / each.max(1.0), "bytes that are touched"),
    ];
    let (processes, _) = getrlimit(Resource::RLIMIT_NPROC).doing("read the limit on processes")?;
    let capable = is_exempt()?;
    let bound = (processes < u64::MAX / 2).then_some(processes as f64);
    limits.push(ThreadLimit {
        name: "RLIMIT_NPROC".into(),
        says: bound,
        allows: bound.filter(|_| !capable).map(|most| (most - tasks).max(0.0)),
        counts: if capable { "threads of one user, unless it is root" } else { "threads of one user" },
    });
    let group = cgroup_limit();
    limits.push(ThreadLimit {
        name: "pids.max of the cgroup".into(),
        says: group.map(|(most, _)| most),
        allows: group.map(|(most, now)| (most - now).max(0.0)),
        counts: "threads of the group",
    });
    limits.sort_by(|a, b| a.allows.unwrap_or(f64::INFINITY).total_cmp(&b.allows.unwrap_or(f64::INFINITY)));
    Ok(limits)
}

/// Whether the limit on a user's processes does not bind this one: root, or a capability.
pub(crate) fn is_exempt() -> Result<bool> {
    const SYS_ADMIN: u32 = 21;
    const SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").doing("read this process's rights")?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let capabilities = u64::from_str_radix(field("CapEff:"), 16).unwrap_or(0);
    let root = field("Uid:").split_whitespace().next() == Some("0");
    Ok(root || capabilities & (1 << SYS_ADMIN | 1 << SYS_RESOURCE) != 0)
}

/// The limit of this process's control group and how many it has, if it has one.
fn cgroup_limit() -> Option<(f64, f64)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let folder = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "pids" => Some(format!("/sys/fs/cgroup/pids{path}")),
            "" => Some(format!("/sys/fs/cgroup{path}"))
                .filter(|folder| std::path::Path::new(folder).join("pids.max").exists()),
            _ => None,
        }
    })?;
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).ok()?.trim().parse().ok();
    Some((read("pids.max")?, read("pids.current")?))
}
