//! What limits the number of threads: read from the kernel, before anything is tried.

use nix::sys::resource::{Resource, getrlimit};

use super::spawned::Spawned;
use crate::procfs::{MachineMemory, group_limit, number_in, tasks_now};
use lab::{Doing, Frame, Result};

/// Every limit on threads, for a process whose threads cost as much each as those of `sample`, the tightest first: limit, says (what the
/// kernel has it at), counts (what is counted), and allows (how many threads it leaves to one process now). Missing where it is not set,
/// or does not bind.
pub(super) fn thread_limits(sample: &Spawned) -> Result<Frame> {
    let tasks = tasks_now()? as f64;
    let [pid_max, threads_max, maps] = ["kernel/pid_max", "kernel/threads-max", "vm/max_map_count"]
        .map(|name| number_in(&format!("/proc/sys/{name}")).map(|number| number as f64));
    let (pid_max, threads_max, maps) = (pid_max?, threads_max?, maps?);
    let memory = MachineMemory::read()?;
    let each = sample.each(sample.resident) + sample.each(sample.kernel_stacks);
    // A thread has a whole number of mappings; what is left over in a sample belongs to the allocator.
    let by_maps = (maps - sample.maps_before) / sample.each(sample.maps).round().max(1.0);
    let (processes, _) = getrlimit(Resource::RLIMIT_NPROC).doing("read the limit on processes")?;
    let processes = (processes < u64::MAX / 2).then_some(processes as f64);
    let capable = is_exempt()?;
    let of_user = if capable { "threads of one user, unless it is root" } else { "threads of one user" };
    let group = group_limit();
    let mut limits: [(&str, Option<f64>, &str, Option<f64>); 6] = [
        ("vm.max_map_count", Some(maps), "mappings of one process", Some(by_maps)),
        ("kernel.pid_max", Some(pid_max), "threads of everybody", Some(pid_max - tasks)),
        ("kernel.threads-max", Some(threads_max), "threads of everybody", Some(threads_max - tasks)),
        ("memory", Some(memory.total as f64), "bytes that are touched", Some(memory.available as f64 / each.max(1.0))),
        ("RLIMIT_NPROC", processes, of_user, processes.filter(|_| !capable).map(|most| most - tasks)),
        (
            "pids.max of the cgroup",
            group.map(|(most, _)| most),
            "threads of the group",
            group.map(|(most, now)| most - now),
        ),
    ];
    limits.sort_by(|a, b| a.3.unwrap_or(f64::INFINITY).total_cmp(&b.3.unwrap_or(f64::INFINITY)));
    Ok(Frame::new()
        .text("limit", limits.iter().map(|limit| limit.0))
        .numbers_or_missing("says", "", limits.iter().map(|limit| limit.1))
        .text("counts", limits.iter().map(|limit| limit.2))
        .numbers_or_missing("allows", "threads", limits.iter().map(|limit| limit.3.map(|most| most.max(0.0).floor()))))
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
