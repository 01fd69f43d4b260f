//! `lab report`: runs notebooks, judges them, and writes the pages and their index.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lablib::lab::{Doing, Error, Result, Scale, knob, paths};

use crate::atlas;
use crate::cells::Cells;
use crate::kernel;
use crate::notebook::{Outcome, Runner};
use crate::words;

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Order {
    names: Vec<String>,
    scale: Scale,
    times: u32,
    gallery: bool,
    /// The knobs to set, as `LAB_SET` says it.
    set: String,
}

/// How `report` is called.
const USAGE: &str = "ci/lab report [NAME ...] [--full] [--times N] [--set KNOB=VALUE ...] [--gallery]";

/// `report [NAME ...] [--full] [--times N] [--set KNOB=VALUE ...] [--gallery]`
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let order = parse(arguments, Scale::from_env()?, &std::env::var("LAB_SET").unwrap_or_default())?;
    let notebooks = choose(&order.names)?;
    words::refuse_unknown(&notebooks, &knob::assignments(&order.set)?)?;
    lablib::lab::seed_from_env()?;
    lablib::lab::service::own_servers_answer()?;
    lablib::placing::hot_tenants::own_server_answers()?;
    let outcomes = run_all(&notebooks, order.scale, order.times, &order.set)?;
    if order.gallery {
        write_gallery(&latest(&outcomes))?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.passed()).count();
    let runs = if outcomes.len() == 1 { "run holds" } else { "runs hold" };
    println!(
        "{} of {} {runs}; the pages: {}",
        outcomes.len() - failed,
        outcomes.len(),
        paths::reports().join("index.html").display()
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs notebooks one after the other, each so many times, prints a line for each run, and writes the index.
pub fn run_all(notebooks: &[PathBuf], scale: Scale, times: u32, set: &str) -> Result<Vec<Outcome>> {
    let kernel = kernel::build(kernel::Build::FullSpeed)?;
    let mut runner = Runner::new(&kernel, scale, set, paths::reports());
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (index, notebook) in notebooks.iter().enumerate() {
        for round in 1..=times {
            let next = if round < times { Some(notebook) } else { notebooks.get(index + 1) };
            let outcome = runner.run(notebook, next.map(PathBuf::as_path));
            let round = if times > 1 { format!(" ({round} of {times})") } else { String::new() };
            println!("{}", line(&outcome, &round));
            outcomes.push(outcome);
        }
        // After each notebook: a run that is cut short leaves an index of what it has done.
        atlas::write(&latest(&outcomes))?;
    }
    Ok(outcomes)
}

fn parse(arguments: &[String], scale: Scale, set: &str) -> Result<Order> {
    let mut order = Order { names: Vec::new(), scale, times: 1, gallery: false, set: set.trim().to_string() };
    let refuse = |cause: String| Err(Error::new("read the command", cause).remedy(USAGE));
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--full" => order.scale = Scale::Full,
            "--gallery" => order.gallery = true,
            "--times" => match arguments.next().and_then(|text| text.parse().ok()).filter(|&times| times > 0) {
                Some(times) => order.times = times,
                None => return refuse("--times wants a whole number from 1 on".into()),
            },
            "--set" => match arguments.next() {
                Some(set) if order.set.is_empty() => order.set = set.clone(),
                Some(set) => order.set = format!("{},{set}", order.set),
                None => return refuse("--set wants a knob and its value, KNOB=VALUE".into()),
            },
            option if option.starts_with('-') => return refuse(format!("there is no option {option}")),
            name => order.names.push(name.to_string()),
        }
    }
    if order.gallery && !order.set.is_empty() {
        return refuse(format!("the gallery shows no run whose knobs were set ({})", order.set));
    }
    Ok(order)
}

/// All notebooks, sorted.
pub fn all_notebooks() -> Result<Vec<PathBuf>> {
    notebooks_in(&paths::root().join("notebooks"))
}

fn notebooks_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).doing(format!("read {}", folder.display()))?;
    // What JupyterLab saves for itself is hidden.
    let is_notebook = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".ipynb") && !name.starts_with('.')
    };
    let mut notebooks: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_notebook).collect();
    notebooks.sort();
    Ok(notebooks)
}

/// Their names.
pub fn all_names() -> Result<Vec<String>> {
    Ok(all_notebooks()?.iter().map(|notebook| stem(notebook)).collect())
}

/// The notebooks of these names, with or without their number; all where no name is given.
pub fn choose(names: &[String]) -> Result<Vec<PathBuf>> {
    let all = all_notebooks()?;
    if names.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        let path = Path::new(name);
        if path.extension().is_some_and(|extension| extension == "ipynb") && path.exists() {
            return Ok(path.to_path_buf());
        }
        let found = all.iter().find(|notebook| {
            let stem = stem(notebook);
            stem == *name || stem.split_once('-').is_some_and(|(number, rest)| rest == name || number == name)
        });
        found.cloned().ok_or_else(|| {
            let known: Vec<String> = all.iter().map(|notebook| stem(notebook)).collect();
            Error::new("find the notebook", format!("there is no {name:?}"))
                .remedy(format!("there is {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

/// A notebook's file name without its extension.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn line(outcome: &Outcome, round: &str) -> String {
    let mark = if outcome.passed() { "✓" } else { "✗" };
    let claims = outcome.verdict.as_ref().map(|verdict| {
        let checks = verdict.claims.iter().filter(|claim| claim.check).count();
        let claims = format!(", {} claims", verdict.claims.len() - checks);
        if checks > 0 { format!("{claims}, {checks} checks") } else { claims }
    });
    let claims = claims.unwrap_or_default();
    let mut text = format!("{mark} {}{round}: {:.1} s{claims}", outcome.name, outcome.seconds);
    for reason in &outcome.reasons {
        let _ = write!(text, "\n    {reason}");
    }
    text
}

/// The last run of each notebook.
fn latest(outcomes: &[Outcome]) -> Vec<&Outcome> {
    let mut latest: Vec<&Outcome> = Vec::new();
    for outcome in outcomes {
        latest.retain(|other| other.name != outcome.name);
        latest.push(outcome);
    }
    latest
}

/// Writes `notebooks/README.md`, `notebooks/gallery/` and the table of the README, which are committed. Notebooks that did not run
/// keep their verdicts.
fn write_gallery(outcomes: &[&Outcome]) -> Result<()> {
    let notebooks = paths::root().join("notebooks");
    // Somebody's own knobs and guesses are nothing to show to everybody.
    let plain = |outcome: &&&Outcome| outcome.verdict.as_ref().is_some_and(|verdict| verdict.is_plain());
    let outcomes: Vec<&Outcome> = outcomes.iter().filter(plain).copied().collect();
    for outcome in outcomes.iter().filter(|outcome| outcome.passed()) {
        if let Some(chart) = outcome.deciding() {
            let from = paths::reports().join(&outcome.name).join(format!("{chart}.svg"));
            let to = notebooks.join("gallery").join(format!("{}.svg", outcome.name));
            fs::copy(&from, &to).doing(format!("copy {} to {}", from.display(), to.display()))?;
        }
    }
    let readme = notebooks.join("README.md");
    let old = fs::read_to_string(&readme).unwrap_or_default();
    let mut text = String::from(
        "# The notebooks\n\nWritten by `ci/lab report --gallery`; each verdict is that of its last such run, at the scale that it says.\n",
    );
    let mut table = String::new();
    for notebook in all_notebooks()? {
        let name = stem(&notebook);
        let cells = Cells::read(&notebook)?;
        let ran = outcomes.iter().find(|outcome| outcome.name == name && outcome.passed());
        let verdict = match ran.and_then(|outcome| outcome.verdict.as_ref()) {
            Some(verdict) => {
                let (scale, seconds) = (&verdict.scale, verdict.seconds);
                format!("{} ({scale} scale, {seconds:.0} s, on {})", verdict.headline(), verdict.machine)
            }
            None => kept_verdict(&old, &name).unwrap_or_else(|| "Not run at full scale yet.".into()),
        };
        let _ = write!(text, "\n## [{}]({name}.ipynb)\n\n{}\n", cells.title(), cells.question());
        if notebooks.join("gallery").join(format!("{name}.svg")).exists() {
            let _ = write!(text, "\n![{}](gallery/{name}.svg)\n", cells.title());
        }
        let _ = write!(text, "\nVerdict: {verdict}\n");
        table.push_str(&row(&name, &cells.question(), &verdict));
    }
    paths::write_whole(&readme, text).doing(format!("write {}", readme.display()))?;
    let front = paths::root().join("README.md");
    let doing = || format!("write the table in {}", front.display());
    let text = fs::read_to_string(&front).doing(doing())?;
    let text = with_table(&text, &table).ok_or_else(|| Error::new(doing(), format!("there is no line {TABLE:?}")))?;
    paths::write_whole(&front, text).doing(doing())
}

/// How the table of the README begins.
const TABLE: &str = "| | question | verdict |";

/// A notebook's row, with what its verdict says before it says where.
fn row(name: &str, question: &str, verdict: &str) -> String {
    let scale = ["full", "quick"].map(|scale| format!(" ({scale} scale"));
    let said = scale.iter().find_map(|scale| Some(format!("{}{scale})", verdict.split_once(scale)?.0)));
    let plain = |text: &str| text.replace('|', "\\|");
    let (question, said) = (plain(question), plain(&said.unwrap_or_else(|| verdict.to_string())));
    format!("| [{name}](notebooks/{name}.ipynb) | {question} | {said} |\n")
}

/// A text with these rows in its table.
fn with_table(text: &str, rows: &str) -> Option<String> {
    let (before, rest) = text.split_once(TABLE)?;
    let after = rest.trim_start_matches('\n').lines().skip_while(|line| line.starts_with('|'));
    let after: String = after.map(|line| format!("{line}\n")).collect();
    Some(format!("{before}{TABLE}\n|---|---|---|\n{rows}{after}"))
}

/// The verdict that the gallery gave a notebook before.
fn kept_verdict(gallery: &str, name: &str) -> Option<String> {
    let section = gallery.split("\n## ").find(|section| section.contains(&format!("]({name}.ipynb)")))?;
    section.lines().find_map(|line| line.strip_prefix("Verdict: ")).map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let verdict = "All 8 claims hold. All 12 checks hold. (full scale, 212 s, on a machine, 2 cores)";
        let rows = row("02-hot-tenants", "How?", verdict) + &row("41-tcp", "How many?", "Not run at full scale yet.");
        let text = format!("# Lab\n\n{TABLE}\n|---|---|---|\n| old | row | x |\n\nmore\n");
        let expected = format!(
            "# Lab\n\n{TABLE}\n|---|---|---|\n| [02-hot-tenants](notebooks/02-hot-tenants.ipynb) | How? | \
             All 8 claims hold. All 12 checks hold. (full scale) |\n\
             | [41-tcp](notebooks/41-tcp.ipynb) | How many? | Not run at full scale yet. |\n\nmore\n"
        );
        assert_eq!(with_table(&text, &rows).as_deref(), Some(expected.as_str()));
        assert_eq!(with_table(&expected, &rows).as_deref(), Some(expected.as_str()), "twice is once");
        assert_eq!(with_table("no table", &rows), None);
    }

    #[test]
    fn what_jupyterlab_saves_for_itself_is_no_notebook() {
        let folder = std::env::temp_dir().join(format!("lab-notebooks-{}", std::process::id()));
        for name in
            ["01-b.ipynb", "00-a.ipynb", ".~00-a.ipynb", ".ipynb_checkpoints/00-a-checkpoint.ipynb", "README.md"]
        {
            assert!(paths::write_whole(&folder.join(name), "").is_ok());
        }
        let found = notebooks_in(&folder).unwrap_or_default();
        assert_eq!(found, ["00-a.ipynb", "01-b.ipynb"].map(|name| folder.join(name)));
        let _ = fs::remove_dir_all(&folder);
    }

    fn order(text: &str) -> Result<Order> {
        parse(&text.split_whitespace().map(str::to_string).collect::<Vec<_>>(), Scale::Quick, "")
    }

    #[test]
    fn options_may_stand_anywhere() {
        let (names, set) = (vec!["00-tour".into()], String::new());
        let expected = Order { names, scale: Scale::Full, times: 3, gallery: true, set };
        assert_eq!(order("--times 3 00-tour --gallery --full"), Ok(expected));
    }

    #[test]
    fn nonsense_is_refused_in_one_sentence() {
        for text in ["--times", "--times 0", "--times many", "--fast", "--set", "--gallery --set a=1"] {
            let error = order(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("could not read the command: "), "{text}: {error:?}");
        }
    }

    #[test]
    fn knobs_are_set_by_each_option_and_by_the_environment() {
        let set = |text: &str, env: &str| {
            let arguments: Vec<String> = text.split_whitespace().map(str::to_string).collect();
            parse(&arguments, Scale::Quick, env).map(|order| order.set)
        };
        assert_eq!(set("--set ages=4 07 --set clients=8", ""), Ok("ages=4,clients=8".into()));
        assert_eq!(set("07 --set ages=4", "clients=8"), Ok("clients=8,ages=4".into()));
        assert_eq!(set("07", " "), Ok(String::new()));
        assert!(set("--gallery", "clients=8").is_err());
    }

    #[test]
    fn a_verdict_outlives_runs_of_other_notebooks() {
        let gallery = "# x\n\n## [A](00-tour.ipynb)\n\nQ\n\nVerdict: fine\n\n## [B](01-b.ipynb)\n\nVerdict: good\n";
        assert_eq!(kept_verdict(gallery, "01-b").as_deref(), Some("good"));
        assert_eq!(kept_verdict(gallery, "02-c"), None);
    }
}
