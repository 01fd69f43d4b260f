//! Facts of the machine that a result was measured on.

use serde::{Deserialize, Serialize};

/// What a reader needs to judge a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model name.
    pub cpu: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The operating system's name.
    pub system: String,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    /// The machine that runs this process. What cannot be read is "unknown" or 0.
    pub fn this() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let memory =
            field(&read("/proc/meminfo"), "MemTotal", ':').and_then(|text| text.split(' ').next()?.parse().ok());
        let system = field(&read("/etc/os-release"), "PRETTY_NAME", '=');
        Self {
            cpu: field(&cpuinfo, "model name", ':').unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or(0_u64) / 1024,
            system: system.map_or_else(unknown, |name| name.trim_matches('"').to_string()),
            kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_string())
                .filter(|release| !release.is_empty())
                .unwrap_or_else(unknown),
        }
    }

    /// How many processes have run or wanted to, on average over the last minute; 0 where that cannot be read.
    pub fn load() -> f64 {
        read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = self.memory_mib as f64 / 1024.0;
        write!(f, "{}, {} cores, {gib:.0} GiB, {}, Linux {}", self.cpu, self.cores, self.system, self.kernel)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn unknown() -> String {
    "unknown".into()
}

fn field(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then(|| value.trim().to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_and_memory() {
        let machine = Machine::this();
        assert!(machine.cores >= 1, "{machine}");
        assert!(machine.memory_mib > 100, "{machine}");
        assert!(Machine::load() >= 0.0);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX:  1 kB\nMemTotal:  2048 kB\n";
        assert_eq!(field(text, "MemTotal", ':').as_deref(), Some("2048 kB"));
        assert_eq!(field(text, "Swap", ':'), None);
    }
}
