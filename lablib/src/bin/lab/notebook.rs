//! One notebook, run headless and judged.
//!
//! The kernel hides failures in several ways, so nothing that it or nbconvert says is taken for a success: the run counts
//! when no cell failed, nothing panicked, and the verdict file was written by this very run and holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lablib::lab::{Claim, Doing, Error, Result, Scale, Verdict, paths};
use serde_json::{Value, json};

use crate::cells::{Cells, joined};
use crate::jupyter::{Jupyter, Refusal};
use crate::kernel::{Kernel, Mode};
use crate::page::Neighbour;
use crate::{atlas, listing, page, report, words};

/// How a run ended.
pub struct Outcome {
    /// The notebook's file name without its extension.
    pub name: String,
    /// The notebook's first heading.
    pub title: String,
    /// Its question.
    pub question: String,
    /// The room of the library that it is about; empty where it is about none.
    pub chapter: &'static str,
    /// Wall time, kernel start included.
    pub seconds: f64,
    /// What this run's verdict said; none where it wrote none.
    pub verdict: Option<Verdict>,
    /// Why the run does not count; empty where it does.
    pub reasons: Vec<String>,
    /// The report's page, where one could be written.
    pub page: Option<PathBuf>,
}

impl Outcome {
    /// Whether the run counts.
    pub fn passed(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The chart that answers the question, or else the first: its file's name.
    pub fn deciding(&self) -> Option<&str> {
        let verdict = self.verdict.as_ref()?;
        verdict.deciding.as_ref().or(verdict.figures.first()).map(String::as_str)
    }
}

/// Runs notebooks, one after the other.
pub struct Runner<'a> {
    kernel: &'a Kernel,
    scale: Scale,
    /// The knobs that are set, as `LAB_SET` says it.
    set: String,
    /// Where pages are written.
    reports: PathBuf,
    jupyter: Option<Jupyter>,
    /// The run that Jupyter has been told to prepare for.
    prepared: Option<Run>,
}

/// One run: where it leaves what it does until it has been judged.
struct Run {
    notebook: PathBuf,
    /// What its verdict is known by.
    id: String,
    folder: PathBuf,
}

impl Run {
    fn of(notebook: &Path) -> Result<Self> {
        let id = format!("{}-{:x}", std::process::id(), rand::random::<u64>());
        let notebook = notebook.canonicalize().doing(format!("find {}", notebook.display()))?;
        let runs = paths::root().join("target/lab/executed");
        paths::sweep(&runs);
        let folder = runs.join(&id);
        fs::create_dir_all(&folder).doing(format!("create {}", folder.display()))?;
        Ok(Self { notebook, id, folder })
    }

    fn panics(&self) -> PathBuf {
        self.folder.join("panics.log")
    }

    fn env(&self, scale: Scale, set: &str) -> Value {
        json!({"LAB_SCALE": scale.to_string(), "LAB_SET": set, "LAB_RUN": self.id, "LAB_PANICS": self.panics(), "TMPDIR": self.folder})
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl<'a> Runner<'a> {
    pub fn new(kernel: &'a Kernel, scale: Scale, set: &str, reports: PathBuf) -> Self {
        Self { kernel, scale, set: set.to_string(), reports, jupyter: None, prepared: None }
    }

    /// Runs a notebook, judges it and writes its page. Whatever goes wrong is a reason, not an error.
    ///
    /// The kernel of the `next` one gets ready meanwhile.
    pub fn run(&mut self, notebook: &Path, next: Option<&Path>) -> Outcome {
        let start = Instant::now();
        let name = report::stem(notebook);
        let cells = Cells::read(notebook);
        let (title, question) =
            cells.as_ref().map_or_else(|_| (name.clone(), String::new()), |cells| (cells.title(), cells.question()));
        let chapter = cells.as_ref().map(atlas::chapter).unwrap_or_default();
        let mut outcome =
            Outcome { name, title, question, chapter, seconds: 0.0, verdict: None, reasons: Vec::new(), page: None };
        match cells {
            Err(error) => outcome.reasons.push(error.to_string()),
            Ok(cells) => outcome.reasons.extend([cells.hidden_failures(), words::faults(&cells)].concat()),
        }
        // A `?` that hides its failure makes the rest of the run worthless, and so does an answer without its chart: it is not run.
        if outcome.reasons.is_empty()
            && let Err(error) = self.execute_and_judge(notebook, next, &mut outcome)
        {
            outcome.reasons.push(error.to_string());
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome
    }

    fn execute_and_judge(&mut self, notebook: &Path, next: Option<&Path>, outcome: &mut Outcome) -> Result<()> {
        let run = match self.prepared.take() {
            Some(run) if notebook.canonicalize().is_ok_and(|path| path == run.notebook) => run,
            _ => Run::of(notebook)?,
        };
        let executed = run.folder.join(format!("{}.ipynb", outcome.name));
        let done = self.execute(&run, &executed, next);
        let mut cells = if executed.exists() { Some(Cells::read(&executed)?) } else { None };
        outcome.verdict = verdict_of(&run.id)?;
        if let Some(cells) = &cells {
            outcome.reasons.extend(failed_cells(cells, recorded_panics(&run.panics()).first()));
        }
        // Where a cell shows its failure, what panicked after it only repeats it.
        if outcome.reasons.is_empty() {
            let panics = recorded_panics(&run.panics());
            outcome.reasons.extend(panics.iter().map(|panic| format!("something panicked: {panic}")));
        }
        outcome.reasons.extend(done.err().map(|error| error.to_string()));
        outcome.reasons = refused_for(outcome.verdict.as_ref(), std::mem::take(&mut outcome.reasons));
        if let (Some(cells), Some(verdict)) = (&cells, &outcome.verdict) {
            outcome.reasons.extend(misnamed(cells.servers(), &verdict.servers));
        }
        if let Some(cells) = &mut cells {
            self.write_page(cells, &executed, outcome)?;
        }
        Ok(())
    }

    fn execute(&mut self, run: &Run, executed: &Path, next: Option<&Path>) -> Result<()> {
        let seconds = self.scale.pick(300, 1_800);
        // At full scale nothing else happens meanwhile.
        let next = next.filter(|_| self.scale == Scale::Quick).and_then(|next| Run::of(next).ok());
        let order = json!({
            "run": run.notebook, "into": executed, "env": run.env(self.scale, &self.set), "seconds": seconds,
            "next": next.as_ref().map(|run| json!({"notebook": run.notebook, "env": run.env(self.scale, &self.set)})),
        });
        self.prepared = next;
        self.ask(&order, Duration::from_secs(seconds + 180)).map_err(|Refusal { cause, dead, .. }| {
            Error::new("run the notebook to its end", format!("{}{cause}", if dead { "the kernel died: " } else { "" }))
        })
    }

    /// The executed notebook as a page that needs no network, and the sources to which it links.
    fn write_page(&mut self, cells: &mut Cells, executed: &Path, outcome: &mut Outcome) -> Result<()> {
        let sources = page::prepare(cells, outcome, neighbours(&outcome.name)?);
        fs::write(executed, cells.json().to_string()).doing(format!("write {}", executed.display()))?;
        let (page, raw) = (self.reports.join(format!("{}.html", outcome.name)), executed.with_extension("html"));
        let order = json!({"page": executed, "into": raw, "templates": paths::root().join("ci")});
        self.ask(&order, Duration::from_secs(180)).map_err(|refusal| Error::new("write the page", refusal.cause))?;
        let html = page::finished(&fs::read_to_string(&raw).doing(format!("read {}", raw.display()))?);
        paths::write_whole(&page, html).doing(format!("write {}", page.display()))?;
        sources.iter().try_for_each(|folder| listing::write(&self.reports, folder))?;
        outcome.page = Some(page);
        Ok(())
    }

    /// Asks Jupyter, which is started where it is not there, and ended where it no longer answers.
    fn ask(&mut self, order: &Value, limit: Duration) -> std::result::Result<(), Refusal> {
        let jupyter = match &mut self.jupyter {
            Some(jupyter) => jupyter,
            none => {
                let started = Jupyter::start(&self.kernel.jupyter_path(Mode::Headless));
                none.insert(started.map_err(|error| Refusal { cause: error.to_string(), dead: false, silent: true })?)
            }
        };
        let answer = jupyter.ask(order, limit);
        if answer.as_ref().is_err_and(|refusal| refusal.silent) {
            self.jupyter = None;
        }
        answer
    }
}

/// The verdict that this run wrote, under whatever name.
fn verdict_of(run: &str) -> Result<Option<Verdict>> {
    let entries = match fs::read_dir(paths::results()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::new("read the verdicts", error)),
    };
    for entry in entries.flatten() {
        let verdict =
            fs::read_to_string(entry.path()).ok().and_then(|text| serde_json::from_str::<Verdict>(&text).ok());
        if let Some(verdict) = verdict
            && verdict.run.as_deref() == Some(run)
        {
            return Ok(Some(verdict));
        }
    }
    Ok(None)
}

/// Why a run is not accepted, given its verdict and what went wrong besides.
fn refused_for(verdict: Option<&Verdict>, mut besides: Vec<String>) -> Vec<String> {
    match verdict {
        None => besides.push("no verdict: the run ended without writing one".into()),
        Some(verdict) if verdict.exploring => {
            besides.push("lablib was compiled for exploring: no verdict stands on that".into());
        }
        Some(verdict) => {
            let failed = verdict.claims.iter().filter(|claim| !claim.holds);
            let kind = |claim: &Claim| if claim.check { "check" } else { "claim" };
            let said = |claim: &Claim| format!("{} does not hold: {}", kind(claim), claim.summary());
            let sentences: Vec<String> = failed.map(said).collect();
            // The panic that a failed verdict ends its cell with would say the same once more.
            if !sentences.is_empty() {
                besides.retain(|reason| !reason.contains(&verdict.headline()));
            }
            besides.splice(..0, sentences);
            besides.extend(verdict.cut.iter().map(|text| format!("a text has no room: {text}")));
        }
    }
    besides
}

/// Why a notebook's metadata does not say which servers are to be fetched for it.
fn misnamed(mut named: Vec<String>, used: &[String]) -> Option<String> {
    named.sort();
    let list = |servers: &[String]| if servers.is_empty() { "none".to_string() } else { servers.join(", ") };
    let sentence = || format!("its metadata (lab.servers) names {}, and it used {}", list(&named), list(used));
    (named != used).then(sentence)
}

/// What went wrong in the cells, in the order of the notebook. After the first loss of all variables every later cell fails
/// for that reason alone, so only the first failing cell is reported.
///
/// The last line of a process that ended may be lost, so its panic is looked up in what the library wrote down.
fn failed_cells(cells: &Cells, recorded: Option<&String>) -> Vec<String> {
    let reason = |(number, cell): (usize, &Value)| {
        let outputs = cell["outputs"].as_array()?;
        let of_type = |kind: &'static str| outputs.iter().filter(move |output| output["output_type"] == kind);
        let stderr: String = of_type("stream")
            .filter(|output| output["name"] == "stderr")
            .map(|output| joined(&output["text"]))
            .collect();
        let panic = panic_in(&stderr);
        let error = of_type("error").next().map(error_text);
        match (panic, error) {
            (Some(panic), _) => Some(format!("code cell {number} panicked: {panic}")),
            (None, Some(error)) if error.contains("terminated with status") => match recorded {
                Some(panic) => Some(format!("code cell {number} panicked: {panic}")),
                None => Some(format!("code cell {number} ended its process: {error}")),
            },
            (None, Some(error)) => Some(format!("code cell {number} failed: {error}")),
            (None, None) => None,
        }
    };
    cells.code().find_map(reason).into_iter().collect()
}

/// The message of the first panic in what a cell wrote to standard error.
fn panic_in(stderr: &str) -> Option<String> {
    let lines: Vec<&str> = stderr.lines().collect();
    let at = lines.iter().position(|line| line.contains("panicked at"))?;
    // The lab's own hook writes the message before those words, Rust's on the next line.
    let message = match lines[at].split_once(" (panicked at ") {
        Some((message, _)) => message,
        None => lines.get(at + 1).unwrap_or(&""),
    };
    Some(message.trim().to_string())
}

fn error_text(output: &Value) -> String {
    let text = [joined(&output["ename"]), joined(&output["evalue"])].join(" ");
    let traceback: Vec<&str> = output["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let text = if text.trim().is_empty() { traceback.join(" ") } else { text };
    without_colours(&text).trim().to_string()
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(letter);
        }
    }
    plain
}

/// Panics that the library's hook wrote down, of which the notebook shows no trace: their last line came after their cell
/// had ended.
fn recorded_panics(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_string).collect()
}

/// The notebooks before and behind this one; none where it is none of the lab's.
fn neighbours(name: &str) -> Result<[Neighbour; 2]> {
    let all = report::all_notebooks()?;
    let Some(at) = all.iter().position(|notebook| report::stem(notebook) == name) else { return Ok([None, None]) };
    let neighbour = |at: Option<usize>| {
        let notebook = at.and_then(|at| all.get(at))?;
        Some((report::stem(notebook), Cells::read(notebook).ok()?.title()))
    };
    Ok([neighbour(at.checked_sub(1)), neighbour(Some(at + 1))])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_in_either_form() {
        let rust = "\nthread 'main' panicked at src/lib.rs:3:1:\nboom\nnote: run with";
        assert_eq!(panic_in(rust).as_deref(), Some("boom"));
        let own = "a warning\nboom and more (panicked at src/lib.rs:3:1)";
        assert_eq!(panic_in(own).as_deref(), Some("boom and more"));
        assert_eq!(panic_in("all is well"), None);
    }

    #[test]
    fn a_verdict_counts_that_was_written_and_not_compiled_for_exploring() {
        let verdict = |exploring: bool| {
            let json = json!({
                "name": "01-a", "scale": "quick", "seed": 1, "seconds": 1.0, "revision": "", "run": null, "holds": true,
                "machine": lablib::lab::Machine::this(), "exploring": exploring, "claims": [], "figures": [],
            });
            serde_json::from_value::<Verdict>(json).unwrap()
        };
        assert_eq!(refused_for(Some(&verdict(false)), Vec::new()), Vec::<String>::new());
        for (verdict, reason) in [(Some(verdict(true)), "compiled for exploring"), (None, "no verdict")] {
            let reasons = refused_for(verdict.as_ref(), vec!["a panic".into()]);
            assert!(reasons.len() == 2 && reasons[0] == "a panic" && reasons[1].contains(reason), "{reasons:?}");
        }
    }

    #[test]
    fn colours_are_no_part_of_a_reason() {
        assert_eq!(without_colours("\u{1b}[31m[E0425] Error:\u{1b}[0m x"), "[E0425] Error: x");
    }
}
