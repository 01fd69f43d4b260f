//! What the library does once in a notebook's process: failures are one line, and there is no life after the kernel.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{getpid, getppid};

/// Whether this process runs a notebook's cells.
pub fn in_notebook() -> bool {
    std::env::var_os("EVCXR_IS_RUNTIME").is_some()
}

/// Prepares this process, if it runs a notebook's cells; whatever a cell calls first calls this.
pub(crate) fn begin() {
    static ONCE: Once = Once::new();
    if in_notebook() {
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(short_panic));
            std::thread::spawn(end_with_the_kernel);
        });
    }
}

/// The sentence first, then where; no backtrace.
fn short_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message");
    let message = message.replace('\n', " ");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    // What is written after a cell has ended is lost, so the report's runner also reads a file. It looks for "panicked at":
    // keep the words.
    if let Some(log) = std::env::var_os("LAB_PANICS")
        && let Ok(mut log) = std::fs::File::options().create(true).append(true).open(log)
    {
        let _ = writeln!(log, "{message} (at {place})");
    }
    // One line: the kernel may hand two of them to different cells.
    eprintln!("{message} (panicked at {place})");
}

/// A kernel that was killed leaves the process of its cells behind: idle, that process sees the end of its input, but in an
/// endless cell it would run for ever.
fn end_with_the_kernel() {
    let kernel = getppid();
    // A parent-death signal would come when the kernel's *thread* that started this process ends, which is no end.
    while getppid() == kernel {
        std::thread::sleep(Duration::from_millis(500));
    }
    let _ = kill(getpid(), Signal::SIGKILL);
}
