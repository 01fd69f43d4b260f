//! `lab`: what the front door `ci/lab` leaves to a language, and the processes that the library needs beside a kernel.
//!
//! | subcommand | what it does |
//! |---|---|
//! | `setup` | builds the notebook kernel from the current sources, and the first data directories of the servers that are named |
//! | `report` | runs notebooks headless and judges them; writes the reports |
//! | `margins` | how far the claims of kept runs were from their bounds |
//! | `test` | every check that CI runs |
//! | `kernel` | lists the kernel for other Jupyters, or takes it off the list |
//! | `start-kernel` | becomes a person's kernel, on the sources as they are now |
//! | `tether` | becomes another program that dies with whoever started it |
//! | `guardian` | holds servers, and ends them when their owner is gone |
//! | `mover` | moves shards for an experiment that kills it |
//! | `id-worker` | makes ids for an experiment that stops and kills it |
//! | `connections` | holds one end of thousands of connections; with a number, has a fleet of processes hold so many |
//! | `tickets` | hands out numbers for an experiment that kills it |
//! | `seat-holder` | holds a seat for an experiment that kills it |
//! | `limits` | runs into a limit, in a network of its own |

mod atlas;
mod cells;
mod command;
mod explore;
mod guardian;
mod jupyter;
mod kernel;
mod listing;
mod margins;
mod notebook;
mod page;
mod predictions;
mod report;
mod suite;
mod tether;
mod words;

use std::process::ExitCode;

use lablib::lab::{Error, Result};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match command.as_str() {
        "setup" => set_up(&rest),
        "margins" => margins::run(&rest),
        "kernel" => kernel::list_or_unlist(&rest),
        "start-kernel" => kernel::start(&rest),
        "report" => report::run(&rest),
        "test" => suite::run_all(&rest),
        "tether" => tether::run(&std::env::args_os().skip(2).collect::<Vec<_>>()),
        "guardian" => return guardian::run(),
        "mover" => lablib::placing::sharding::mover_process().map(|()| ExitCode::SUCCESS),
        "id-worker" => lablib::identity::snowflake::id_worker_process().map(|()| ExitCode::SUCCESS),
        "connections" => lablib::edge::fleet::connections_process(&rest).map(|()| ExitCode::SUCCESS),
        "limits" => lablib::edge::limits_process().map(|()| ExitCode::SUCCESS),
        "tickets" => lablib::identity::tickets::issuer_process().map(|()| ExitCode::SUCCESS),
        "seat-holder" => lablib::sql::check_in::experiment::seat_holder_process().map(|()| ExitCode::SUCCESS),
        other => Err(Error::new("run lab", format!("there is no subcommand {other:?}")).remedy("see ci/lab help")),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("lab: {error}");
        ExitCode::FAILURE
    })
}

/// Builds the kernel, and what the first start of these servers would otherwise have to wait for.
fn set_up(servers: &[String]) -> Result<ExitCode> {
    if let Some(seconds) = kernel::build(kernel::Build::FullSpeed)?.built_in {
        println!("building the kernel: {seconds:.0} s");
    }
    servers.iter().try_for_each(|server| lablib::lab::service::prepare(server))?;
    Ok(ExitCode::SUCCESS)
}

/// The path in an environment variable that `ci/lab` sets.
fn path_from_env(name: &str) -> Result<std::path::PathBuf> {
    match std::env::var_os(name) {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => Err(Error::new("run lab", format!("{name} is not set")).remedy("start it through ci/lab")),
    }
}
