//! `lab test`: every check that CI runs, counted in one closing line.

use std::collections::BTreeSet;
use std::process::{Command, ExitCode};
use std::time::Instant;

use lablib::lab::{Doing, Error, Result, Scale, paths};

use crate::cells::Cells;
use crate::command::{cargo, run};
use crate::{page, path_from_env, report};

#[derive(Default)]
struct Tally {
    passed: u64,
    /// The steps, and how many seconds each took.
    steps: Vec<(String, f64)>,
    /// The programs that the steps of tests ran.
    programs: Vec<(String, f64)>,
    /// What failed, by name: the closing lines say it once more, because a long log is read from its end.
    failed: Vec<String>,
}

impl Tally {
    fn count(&mut self, name: &str, good: bool) {
        if good {
            self.passed += 1;
        } else {
            self.failed.push(name.into());
        }
    }

    /// Counts one check that is no test of its own.
    fn check(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        println!("--- {name}");
        let outcome = check();
        let seconds = start.elapsed().as_secs_f64();
        self.steps.push((name.into(), seconds));
        match &outcome {
            Ok(()) => println!("✓ {name}: {seconds:.0} s"),
            // What a command printed stands above.
            Err(error) => println!("✗ {name}: {}", error.to_string().lines().next().unwrap_or_default()),
        }
        self.count(name, outcome.is_ok());
    }
}

/// Runs everything, whatever fails on the way.
pub fn run_all(arguments: &[String]) -> Result<ExitCode> {
    if let Some(argument) = arguments.first() {
        return Err(Error::new("run the checks", format!("there is nothing to choose with {argument:?}")));
    }
    let mut tally = Tally::default();
    tally.check("formatting", || cargo_says(&["fmt", "--all", "--check"]).map(drop));
    tally.check(
        "notebooks: no outputs, no dead links, predictions before what they predict, answers with their chart",
        clean_notebooks,
    );
    tally.check("compose files", compose_files);
    tally.check("tests share the kernel's artifacts", shared_artifacts);
    for (name, which) in [("clippy", ALL), ("clippy, model checks", MODELS)] {
        let arguments = [&["clippy", "--release", "--all-targets"], which, &["--", "-D", "warnings"]].concat();
        tally.check(name, || cargo_says(&arguments).map(drop));
    }
    tally.check("documentation", || {
        let arguments = ["doc", "--release", "--no-deps", "--document-private-items"];
        let mut command = cargo(&paths::root(), &arguments);
        command.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
        said_by(command).map(drop)
    });
    tests(&mut tally, "the rooms", ALL);
    tests(&mut tally, "the models", MODELS);
    println!("--- notebooks");
    match report::choose(&[]).and_then(|notebooks| report::run_all(&notebooks, Scale::Quick, 1, "")) {
        Ok(outcomes) => {
            for outcome in outcomes {
                tally.count(&outcome.name, outcome.passed());
                tally.steps.push((outcome.name, outcome.seconds));
            }
        }
        Err(error) => {
            println!("✗ notebooks: {error}");
            tally.count("notebooks", false);
        }
    }
    tally.check("pages: found, read and followed without a network, each below a megabyte", whole_pages);
    println!("--- what took how long");
    println!("{}", times(&tally.steps, &tally.programs));
    for name in &tally.failed {
        println!("✗ {name}");
    }
    println!("lab: {} passed, {} failed", tally.passed, tally.failed.len());
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rooms and their map: what cargo takes where no package is named.
const ALL: &[&str] = &[];
const MODELS: &[&str] = &["-p", "lablib-models"];

/// Unit, property, integration and doc tests of some packages, the ones that need the whole set-up included.
fn tests(tally: &mut Tally, of: &str, packages: &[&str]) {
    println!("--- tests of {of}");
    let arguments = [&["test", "--release", "--no-fail-fast"], packages, &["--", "--include-ignored"]].concat();
    let mut command = cargo(&paths::root(), &arguments);
    // The tests kill and pause servers, which a server of the user's is spared.
    let servers = ["LAB_MYSQL_URL", "LAB_REDIS_URL", "LAB_REDIS_CLUSTER_URL", "LAB_KAFKA_URL"];
    // Nor is what somebody has set or guessed part of any test.
    for own in servers.into_iter().chain(["LAB_SET", "LAB_GUESSES", "LAB_GUESSES_TO"]) {
        command.env_remove(own);
    }
    let start = Instant::now();
    let outcome = said_by(command);
    tally.steps.push((format!("tests of {of}"), start.elapsed().as_secs_f64()));
    let (lines, good) = match &outcome {
        Ok(lines) => (lines.clone(), true),
        Err(failure) => (failure.cause().lines().map(str::to_string).collect(), false),
    };
    tally.programs.extend(programs(&lines));
    tally.passed += lines.iter().filter_map(|line| test_result(line)).map(|(passed, _)| passed).sum::<u64>();
    let failed = lines.iter().filter_map(|line| line.trim().strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let before = tally.failed.len();
    failed.for_each(|name| tally.count(name, false));
    // A test binary that does not build, or dies, names none of its tests.
    if !good && tally.failed.len() == before {
        tally.count(&format!("the tests of {of}"), false);
    }
}

/// The slowest tests and notebooks, the sum of all steps, and what it would be with all the notebooks that are to come.
fn times(steps: &[(String, f64)], programs: &[(String, f64)]) -> String {
    const NOTEBOOKS: f64 = 44.0;
    let mut slowest: Vec<&(String, f64)> = steps.iter().chain(programs).collect();
    slowest.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut text: String =
        slowest.iter().take(10).map(|(name, seconds)| format!("{seconds:6.0} s  {name}\n")).collect();
    let sum = |which: &dyn Fn(&str) -> bool| -> f64 {
        steps.iter().filter(|(name, _)| which(name)).map(|(_, seconds)| seconds).sum()
    };
    let is_notebook = |name: &str| name.starts_with(|letter: char| letter.is_ascii_digit());
    let notebooks = steps.iter().filter(|(name, _)| is_notebook(name)).count().max(1) as f64;
    // Tests grow in number with the notebooks; what else there is stays.
    let growing = sum(&|name| is_notebook(name) || name.starts_with("tests"));
    let all = sum(&|_| true);
    let expected = (all - growing + growing / notebooks * NOTEBOOKS) / 60.0;
    text.push_str(&format!("{all:6.0} s  all of it; with {NOTEBOOKS} notebooks like these {expected:.0} minutes"));
    text
}

/// Which test programs cargo says that it ran, and how long each took.
fn programs(said: &[String]) -> Vec<(String, f64)> {
    let (mut found, mut running) = (Vec::new(), String::new());
    for line in said.iter().map(|line| line.trim()) {
        if let Some(what) = line.strip_prefix("Running ").or_else(|| line.strip_prefix("Doc-tests ")) {
            // Behind its hash, a program's file is named as its crate or as the file of tests.
            let file = what.rsplit('/').next().unwrap_or(what).trim_end_matches(')');
            running = match what.contains("unittests") {
                _ if line.starts_with("Doc-tests") => format!("doc tests of {what}"),
                true => format!("unit tests of {}", file.rsplit_once('-').map_or(file, |(name, _)| name)),
                false => format!("tests/{}", file.rsplit_once('-').map_or(file, |(name, _)| name)),
            };
        } else if let Some((_, time)) = line.split_once("finished in ")
            && let Ok(seconds) = time.trim_end_matches('s').parse()
        {
            found.push((running.clone(), seconds));
        }
    }
    found
}

/// `test result: ok. 12 passed; 0 failed; …`
fn test_result(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line.trim().strip_prefix("test result: ")?.split(' ').filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn clean_notebooks() -> Result<()> {
    let mut faults = Vec::new();
    for notebook in report::all_notebooks()? {
        let cells = Cells::read(&notebook)?;
        let found =
            [cells.faults(&report::stem(&notebook)), cells.dead_links(&paths::root().join("notebooks"))].concat();
        faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", notebook.display())));
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::new("accept the notebooks", faults.join("; "))) }
}

fn whole_pages() -> Result<()> {
    let reports = paths::reports();
    let mut faults = Vec::new();
    for folder in [reports.clone(), reports.join("code")] {
        for entry in std::fs::read_dir(&folder).doing("read the pages")?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "html") {
                let text = std::fs::read_to_string(&path).doing("read a page")?;
                let mut found = page::faults(&text, &folder);
                if folder == reports && text.len() > 1_000_000 {
                    found.push(format!("it has {} bytes, more than a megabyte", text.len()));
                }
                faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", path.display())));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::new("accept the pages", faults.join("; "))) }
}

fn compose_files() -> Result<()> {
    let check = |argument: Option<&str>| {
        let mut command = Command::new(path_from_env("LAB_PYTHON")?.join("bin/python"));
        command.arg("ci/check_compose").args(argument).current_dir(paths::root());
        said_by(command).map(drop)
    };
    check(None)?;
    check(Some("--self-test"))
}

/// Building the tests after the set-up must compile this project and what only tests use: a dev-dependency that switches a
/// feature of a shared crate on would build half of the tree a second time, unseen.
fn shared_artifacts() -> Result<()> {
    let tree = ["tree", "-e", "normal,build", "--prefix", "none", "--format", "{p}"];
    let tree = run(cargo(&paths::root(), &tree), |_| ())?.join("\n");
    let lines = cargo_says(&["test", "--release", "--no-run"])?;
    let twice = built_twice(&tree, &lines);
    if twice.is_empty() {
        return Ok(());
    }
    let cause = format!("the tests built {} anew", twice.join(", "));
    Err(Error::new("share the artifacts", cause).remedy("switch the same features on in the workspace's table"))
}

/// The crates of the tree, `name vVERSION` on each line, that cargo says it compiles. What only tests use may need another
/// version of one of them: that is a crate of its own.
fn built_twice(tree: &str, said: &[String]) -> Vec<String> {
    let crate_of = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let ours: BTreeSet<String> = tree.lines().map(crate_of).collect();
    // What is ours stands with its folder.
    said.iter()
        .filter(|line| !line.contains('('))
        .filter_map(|line| line.trim().strip_prefix("Compiling ").map(crate_of))
        .filter(|built| ours.contains(built))
        .collect()
}

fn cargo_says(arguments: &[&str]) -> Result<Vec<String>> {
    said_by(cargo(&paths::root(), arguments))
}

/// Passes on what a command says as it comes, and returns it. What says no more than that a test passed stays out of the log, so
/// that the log is short enough to be read.
fn said_by(command: Command) -> Result<Vec<String>> {
    run(command, |line| {
        if !routine(line) {
            println!("{line}");
        }
    })
}

fn routine(line: &str) -> bool {
    let passed = line.starts_with("test ") && line.contains(" ... ok");
    passed || line.is_empty() || line.trim().starts_with("Executable ")
}

#[cfg(test)]
mod tests {
    use super::{built_twice, programs, test_result, times};

    #[test]
    fn counts_are_read_from_the_closing_line() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.50s";
        assert_eq!(test_result(line), Some((12, 3)));
        assert_eq!(test_result("test a ... ok"), None);
    }

    #[test]
    fn what_took_long_is_named_and_what_is_to_come_is_added() {
        let said = [
            "     Running unittests src/lib.rs (target/release/deps/pool-81e2043b567b5daf)",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.49s",
            "     Running tests/kernel.rs (target/release/deps/kernel-433dfba3c2f0a0d2)",
            "test result: ok. 9 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 127.33s",
            "   Doc-tests lab",
            "test result: ok. 72 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.16s",
        ];
        let programs = programs(&said.map(String::from));
        let names: Vec<&str> = programs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["unit tests of pool", "tests/kernel", "doc tests of lab"]);
        let steps = [("clippy", 60.0), ("tests of the rooms", 160.0), ("00-tour", 30.0), ("01-ring", 50.0)];
        let text = times(&steps.map(|(name, seconds)| (name.to_string(), seconds)), &programs);
        assert!(text.starts_with("   160 s  tests of the rooms\n   127 s  tests/kernel\n"), "{text}");
        // 60 s stay; 240 s for two notebooks are 120 s for each of 44.
        assert!(text.ends_with("   300 s  all of it; with 44 notebooks like these 89 minutes"), "{text}");
    }

    #[test]
    fn another_version_of_a_crate_is_not_built_twice() {
        let tree = "lablib v0.1.0 (/clone/lablib)\nitertools v0.14.0\nserde v1.0.2 (proc-macro)";
        let said = |lines: &[&str]| lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
        let harmless =
            said(&["   Compiling itertools v0.13.0", "   Compiling lablib v0.1.0 (/clone/lablib)", "  Finished"]);
        assert_eq!(built_twice(tree, &harmless), Vec::<String>::new());
        assert_eq!(built_twice(tree, &said(&["   Compiling serde v1.0.2"])), ["serde v1.0.2"]);
    }
}
