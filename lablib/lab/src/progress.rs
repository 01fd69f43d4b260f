//! Progress of anything that takes over two seconds.
//!
//! The kernel's output is line by line and a line cannot be taken back, so a bar is a new line only when it has something
//! new to say: after two seconds, then each time the remaining time has halved. A headless run gets one line at the end.

use std::time::{Duration, Instant};

use crate::session::in_notebook;

/// Shows how far a long step is, and how long it will still take.
///
/// ```
/// use lab::Progress;
///
/// let mut progress = Progress::new("inserting rows", 1_000);
/// for _ in 0..1_000 {
///     progress.step();
/// }
/// ```
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    next_line: Duration,
}

const QUIET: Duration = Duration::from_secs(2);

impl Progress {
    /// Starts the clock of a step with `total` parts.
    pub fn new(what: impl Into<String>, total: u64) -> Self {
        Self { what: what.into(), total, done: 0, started: Instant::now(), next_line: QUIET }
    }

    /// One part is done.
    pub fn step(&mut self) {
        self.advance(1);
    }

    /// `parts` more are done.
    pub fn advance(&mut self, parts: u64) {
        self.done += parts;
        let elapsed = self.started.elapsed();
        if elapsed >= self.next_line && self.done < self.total {
            let left = remaining(elapsed, self.done, self.total);
            self.next_line = elapsed + (left / 2).max(QUIET);
            if is_watched() {
                println!("{}", line(&self.what, self.done, self.total, left));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        if elapsed >= QUIET {
            println!("{}: {} of {} in {:.1} s", self.what, self.done, self.total, elapsed.as_secs_f64());
        }
    }
}

/// A person is looking, rather than a headless run.
fn is_watched() -> bool {
    in_notebook() && std::env::var_os("LAB_RUN").is_none()
}

fn remaining(elapsed: Duration, done: u64, total: u64) -> Duration {
    if done == 0 {
        return elapsed;
    }
    elapsed.mul_f64(total.saturating_sub(done) as f64 / done as f64)
}

fn line(what: &str, done: u64, total: u64, left: Duration) -> String {
    const WIDTH: u64 = 20;
    let filled = (done.min(total) * WIDTH).checked_div(total).unwrap_or(WIDTH);
    let bar: String = (0..WIDTH).map(|cell| if cell < filled { '█' } else { '░' }).collect();
    let percent = (done.min(total) * 100).checked_div(total).unwrap_or(100);
    format!("{what} {bar} {percent} %, about {:.0} s left", left.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_done_in_five_seconds_leaves_fifteen() {
        assert_eq!(remaining(Duration::from_secs(5), 25, 100), Duration::from_secs(15));
        assert_eq!(
            line("inserting rows", 25, 100, Duration::from_secs(15)),
            "inserting rows █████░░░░░░░░░░░░░░░ 25 %, about 15 s left"
        );
    }

    #[test]
    fn odd_totals_do_not_divide_by_zero_or_overrun() {
        assert_eq!(remaining(Duration::from_secs(3), 0, 10), Duration::from_secs(3));
        assert!(line("x", 5, 0, Duration::ZERO).contains("100 %"));
        assert!(line("x", 50, 10, Duration::ZERO).contains("100 %"));
    }
}
