//! Named places in a system's code where a test may end its process.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::signal::{Signal, raise};

/// `name`, or `name:nth`: where this process kills itself.
pub(super) const CRASH_AT: &str = "LAB_CRASH_AT";
/// A file that gets a line for each point that is reached.
pub(super) const REPORT: &str = "LAB_CRASH_REPORT";

/// Until the first point has looked at the environment, it may be armed.
static OFF: AtomicBool = AtomicBool::new(false);

/// A place where a test may kill this process: `LAB_CRASH_AT=name` ends it here, `LAB_CRASH_AT=name:3` at the third time.
///
/// Free when not armed: one relaxed load.
///
/// ```
/// use lab::crash;
///
/// fn append(log: &mut Vec<u8>, record: &[u8]) {
///     log.extend_from_slice(record);
///     crash::point("after-log-write");
/// }
/// # append(&mut Vec::new(), b"record");
/// ```
#[inline]
pub fn point(name: &str) {
    if !OFF.load(Ordering::Relaxed) {
        reached(name);
    }
}

struct Plan {
    at: Option<(String, u64)>,
    report: Option<File>,
    times: HashMap<String, u64>,
}

impl Plan {
    fn from_environment() -> Option<Mutex<Self>> {
        let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        let at = set(CRASH_AT).map(|at| match at.rsplit_once(':') {
            Some((name, nth)) if nth.parse::<u64>().is_ok() => (name.to_string(), nth.parse().unwrap_or(1)),
            _ => (at, 1),
        });
        // Without its report the parent hears of no point and fails, so an error here needs no second voice.
        let report = set(REPORT).and_then(|path| OpenOptions::new().append(true).open(path).ok());
        (at.is_some() || report.is_some()).then(|| Mutex::new(Self { at, report, times: HashMap::new() }))
    }

    fn report(&mut self, what: &str, name: &str) {
        if let Some(report) = &mut self.report {
            let _ = report.write_all(format!("{what} {name}\n").as_bytes()); // the parent misses the line and says so
        }
    }
}

fn plan() -> Option<&'static Mutex<Plan>> {
    static PLAN: OnceLock<Option<Mutex<Plan>>> = OnceLock::new();
    PLAN.get_or_init(Plan::from_environment).as_ref()
}

/// Tells the parent, if there is one, that its child does what it was started for.
pub(super) fn report_role(role: &str) {
    if let Some(plan) = plan() {
        plan.lock().unwrap_or_else(PoisonError::into_inner).report("role", role);
    }
}

#[cold]
fn reached(name: &str) {
    let Some(plan) = plan() else {
        OFF.store(true, Ordering::Relaxed);
        return;
    };
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    let times = plan.times.entry(name.to_string()).or_default();
    *times += 1;
    let now = *times;
    plan.report("reached", name);
    if plan.at.as_ref().is_some_and(|(at, nth)| at == name && *nth == now) {
        plan.report("died", name);
        let _ = raise(Signal::SIGKILL);
        std::process::abort(); // not reached: nothing survives SIGKILL
    }
}
