//! What the kernel says of each limit, and what follows from it.

use nix::sys::resource::{Resource, getrlimit};

use crate::procfs::group_limit;
use crate::sockets::{TIME_WAIT, ephemeral_ports};
use lab::{Doing, Frame, Result, significant};

/// The limits of this process and machine, a row for each: what the kernel says, what the prototype said, what we predict, what is seen
/// when it is reached, and what lifts it. What this kernel does not state is `nothing`; without a range of ports it is an error.
pub fn kernel_says() -> Result<Frame> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of descriptors")?;
    let range = ephemeral_ports()?;
    let ports = range.len() as f64;
    let one_destination = format!("{} connections to one destination", significant(ports));
    let each_second = format!(
        "at most {} new connections a second with 0, {} with 2 on loopback",
        significant((ports / TIME_WAIT.as_secs_f64()).floor()),
        significant(ports)
    );
    let threads = ["kernel/pid_max", "kernel/threads-max", "vm/max_map_count"];
    let threads = threads.map(|name| format!("{} {}", name.replace('/', "."), says(name)));
    let group = group_limit().map_or("no limit".into(), |(most, _)| significant(most));
    let limits: [(&str, String, &str, &str, &str, &str); 9] = [
        (
            "descriptors of a process",
            format!("{} soft, {} hard", significant(soft as f64), significant(hard as f64)),
            "1,024 or 4,096; tuned above 100,000",
            "soft limit less what is open",
            "EMFILE",
            "setrlimit up to the hard limit; more processes",
        ),
        (
            "open files of the machine",
            says("fs/file-max"),
            "about 1,000,000; a load balancer 4,000,000",
            "not met here",
            "ENFILE",
            "fs.file-max",
        ),
        (
            "ephemeral ports",
            format!("{} to {}", range.start(), range.end()),
            "about 28,000; tuned 60,000",
            &one_destination,
            "EADDRNOTAVAIL",
            "more addresses or destinations; a wider range",
        ),
        (
            "TIME_WAIT",
            format!("tcp_tw_reuse = {}", says("net/ipv4/tcp_tw_reuse")),
            "60 s",
            &each_second,
            "EADDRNOTAVAIL",
            "keeping connections",
        ),
        (
            "accept queue",
            format!("somaxconn = {}", says("net/core/somaxconn")),
            "–",
            "backlog + 1 connections",
            "the client's SYN is dropped; it asks again after 1 s",
            "a larger backlog; accepting sooner",
        ),
        (
            "SYN queue",
            format!(
                "tcp_max_syn_backlog = {}, cookies {}",
                says("net/ipv4/tcp_max_syn_backlog"),
                says("net/ipv4/tcp_syncookies")
            ),
            "–",
            "backlog + 1 handshakes",
            "a cookie is sent; without cookies, the SYN is dropped",
            "SYN cookies",
        ),
        (
            "a client's patience",
            format!("tcp_syn_retries = {}", says("net/ipv4/tcp_syn_retries")),
            "–",
            "the SYN is sent again after 1 s, and on",
            "ETIMEDOUT",
            "a deadline of one's own",
        ),
        (
            "memory for TCP",
            format!("{} pages", says("net/ipv4/tcp_mem")),
            "1,000,000 connections per GB",
            "several kB a connection",
            "ENOMEM, dropped segments",
            "net.ipv4.tcp_mem",
        ),
        (
            "threads",
            format!("{}, control group {group}", threads.join(", ")),
            "32,768 or 4,194,304; RAM ÷ 8 MB",
            "the smallest of these",
            "EAGAIN, ENOMEM",
            "tasks instead of threads",
        ),
    ];
    Ok(Frame::new()
        .text("limit", limits.iter().map(|limit| limit.0))
        .text("the kernel says", limits.iter().map(|limit| &limit.1))
        .text("the prototype said", limits.iter().map(|limit| limit.2))
        .text("so we predict", limits.iter().map(|limit| limit.3))
        .text("and when it is reached", limits.iter().map(|limit| limit.4))
        .text("what lifts it", limits.iter().map(|limit| limit.5)))
}

/// A setting of the kernel; of several numbers the last, which is the largest.
fn says(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    let last = text.split_whitespace().last().and_then(|number| number.parse().ok());
    last.map_or("nothing".to_string(), significant)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_the_library_say_the_same() {
        let says = kernel_says().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let numbers: Vec<f64> = files.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [soft, hard] = numbers[..] else { panic!("{files}") };
        let descriptors = says.filter("limit", "descriptors of a process").texts("the kernel says");
        assert_eq!(descriptors, [format!("{} soft, {} hard", significant(soft), significant(hard))]);
        let most: f64 = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
        assert!(most >= hard);
        assert!(!ephemeral_ports().unwrap().is_empty());
        assert!(says.texts("the kernel says").iter().all(|says| !says.contains("nothing")), "{says:?}");
        assert_eq!(super::says("net/ipv4/no_such_setting"), "nothing");
    }
}
