//! Running other programs, cargo first of all.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use lablib::lab::{Doing, Error, Result};

/// Cargo on the workspace at `root`.
pub fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root).env("CARGO_TERM_COLOR", "never");
    command
}

/// Runs a command, hands each line that it writes on as it comes, and returns all of them; as the error's cause where it failed.
pub fn run(mut command: Command, mut each: impl FnMut(&str)) -> Result<Vec<String>> {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy());
    let operation = format!("run {}", words.collect::<Vec<_>>().join(" "));
    let (reader, writer) = std::io::pipe().doing(operation.as_str())?;
    let errors = writer.try_clone().doing(operation.as_str())?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = command.spawn().doing(operation.as_str())?;
    // The command holds the pipe's write end too: the reader would wait for it for ever.
    drop(command);
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.doing(operation.as_str())?;
        let line = String::from_utf8_lossy(&line).into_owned();
        each(&line);
        lines.push(line);
    }
    match child.wait().doing(operation.as_str())?.success() {
        true => Ok(lines),
        false => Err(Error::new(operation, lines.join("\n"))),
    }
}
