//! `lab tether PROGRAM …`: becomes that program, and dies when whoever started it dies.
//!
//! A run is a chain of processes (`lab report`, its `ci/runner`, the kernel, the cells, the guardian), and none of them ends by
//! itself when the one before is killed; the runner starts kernels in sessions of their own. Tethered, they go together.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use lablib::lab::{Error, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Never returns, unless the program cannot be run.
pub fn run(arguments: &[OsString]) -> Result<ExitCode> {
    let starter = getppid();
    let failure = |cause: String| Error::new("tether a program", cause);
    let (program, rest) = arguments.split_first().ok_or_else(|| failure("none is named".into()))?;
    set_pdeathsig(Signal::SIGKILL).map_err(|error| failure(error.to_string()))?;
    if getppid() != starter {
        return Err(failure("whoever started it is gone already".into()));
    }
    // Only returns where it failed.
    let error = Command::new(program).args(rest).exec();
    Err(failure(format!("{}: {error}", program.display())))
}
