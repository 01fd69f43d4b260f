//! One notebook, run headless and judged.
//!
//! The kernel hides failures in several ways, so nothing that it or nbconvert says is taken for a success: the run counts
//! when no cell failed, nothing panicked, and the verdict file was written by this very run and holds.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lablib::lab::{Claim, Doing, Error, Result, Scale, Verdict, claims_as_html, place};
use serde_json::{Value, json};

use crate::cells::{Cells, joined};
use crate::kernel::{Kernel, Mode};
use crate::path_from_env;

/// How a run ended.
pub struct Outcome {
    /// The notebook's file name without its extension.
    pub name: String,
    /// The notebook's first heading.
    pub title: String,
    /// Its question.
    pub question: String,
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
}

/// What a run needs.
pub struct Runner<'a> {
    pub kernel: &'a Kernel,
    pub scale: Scale,
    /// Where pages are written.
    pub reports: PathBuf,
}

impl Runner<'_> {
    /// Runs a notebook, judges it and writes its page. Whatever goes wrong is a reason, not an error.
    pub fn run(&self, notebook: &Path) -> Outcome {
        let start = Instant::now();
        let name = crate::report::stem(notebook);
        let cells = Cells::read(notebook);
        let (title, question) =
            cells.as_ref().map_or_else(|_| (name.clone(), String::new()), |cells| (cells.title(), cells.question()));
        let mut outcome =
            Outcome { name, title, question, seconds: 0.0, verdict: None, reasons: Vec::new(), page: None };
        match cells {
            Err(error) => outcome.reasons.push(error.to_string()),
            Ok(cells) => outcome.reasons.extend(cells.hidden_failures()),
        }
        // A `?` that hides its failure makes the rest of the run worthless: it is not run.
        if outcome.reasons.is_empty()
            && let Err(error) = self.execute_and_judge(notebook, &mut outcome)
        {
            outcome.reasons.push(error.to_string());
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome
    }

    fn execute_and_judge(&self, notebook: &Path, outcome: &mut Outcome) -> Result<()> {
        let run = format!("{}-{:x}", std::process::id(), rand::random::<u64>());
        let folder = place::root().join("target/lab/executed").join(&run);
        fs::create_dir_all(&folder).doing(format!("create {}", folder.display()))?;
        let panics = folder.join("panics.log");
        let executed = folder.join(format!("{}.ipynb", outcome.name));
        let done = self.execute(notebook, &folder, &run, &panics);
        let mut cells = if executed.exists() { Some(Cells::read(&executed)?) } else { None };
        outcome.verdict = verdict_of(&run)?;
        if let Some(cells) = &cells {
            outcome.reasons.extend(failed_cells(cells, recorded_panics(&panics).first()));
        }
        // Where a cell shows its failure, what panicked after it only repeats it.
        if outcome.reasons.is_empty() {
            let panics = recorded_panics(&panics);
            outcome.reasons.extend(panics.iter().map(|panic| format!("something panicked: {panic}")));
        }
        outcome.reasons.extend(done.err().map(|error| error.to_string()));
        outcome.reasons = refused_for(outcome.verdict.as_ref(), std::mem::take(&mut outcome.reasons));
        if let Some(cells) = &mut cells {
            append_judgement(cells, outcome);
            fs::write(&executed, cells.json().to_string()).doing(format!("write {}", executed.display()))?;
            outcome.page = Some(self.write_page(&executed, &outcome.name)?);
        }
        let _ = fs::remove_dir_all(&folder);
        Ok(())
    }

    fn execute(&self, notebook: &Path, folder: &Path, run: &str, panics: &Path) -> Result<()> {
        let seconds = self.scale.pick(300, 1_800);
        let log = folder.join("nbconvert.log");
        let mut command = jupyter("nbconvert")?;
        command
            .args(["--to", "notebook", "--execute", "--allow-errors", "--log-level=WARN"])
            .arg(format!("--ExecutePreprocessor.timeout={seconds}"))
            .arg("--ExecutePreprocessor.startup_timeout=120")
            .arg("--ExecutePreprocessor.kernel_name=rust")
            .arg(format!("--output-dir={}", folder.display()))
            .arg(notebook)
            .env("JUPYTER_PATH", self.kernel.jupyter_path(Mode::Headless))
            .env("LAB_SCALE", self.scale.to_string())
            .env("LAB_RUN", run)
            .env("LAB_PANICS", panics)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).doing(format!("create {}", log.display()))?);
        let status = run_within(command, Duration::from_secs(seconds + 60))?;
        if status {
            return Ok(());
        }
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let dead = if text.contains("DeadKernelError") { "the kernel died: " } else { "" };
        Err(Error::new("run the notebook to its end", format!("{dead}{last}")))
    }

    /// The executed notebook as a page that needs no network.
    fn write_page(&self, executed: &Path, name: &str) -> Result<PathBuf> {
        fs::create_dir_all(&self.reports).doing(format!("create {}", self.reports.display()))?;
        let output = jupyter("nbconvert")?
            .args(["--to", "html", "--template=report", "--log-level=WARN"])
            .arg(format!("--TemplateExporter.extra_template_basedirs={}", place::root().join("ci").display()))
            .arg(format!("--output-dir={}", self.reports.display()))
            .arg(executed)
            .stdin(Stdio::null())
            .output()
            .doing("run nbconvert")?;
        let page = self.reports.join(format!("{name}.html"));
        match output.status.success() {
            true => Ok(page),
            false => {
                let text = String::from_utf8_lossy(&output.stderr);
                Err(Error::new("write the page", text.lines().last().unwrap_or("nbconvert failed")))
            }
        }
    }
}

/// One of Jupyter's commands, without whatever the user has configured for their own; it ends when this process ends.
pub fn jupyter(command: &str) -> Result<Command> {
    let python = path_from_env("LAB_PYTHON")?;
    // Not by its path, where a build may have put another program meanwhile.
    let mut jupyter = Command::new("/proc/self/exe");
    jupyter.arg("tether").arg(python.join("bin").join(format!("jupyter-{command}")));
    let home = place::root().join("target/lab/jupyter");
    jupyter
        .env("JUPYTER_NO_CONFIG", "1")
        .env("JUPYTER_CONFIG_DIR", home.join("config"))
        .env("JUPYTER_DATA_DIR", home.join("data"))
        .env("JUPYTER_RUNTIME_DIR", home.join("runtime"))
        .env("IPYTHONDIR", home.join("ipython"))
        .env("PYTHONWARNINGS", "ignore");
    Ok(jupyter)
}

/// Whether the command succeeded. Its whole process group, and whatever is tethered to it, ends with it, and at the latest
/// when its time is up.
fn run_within(mut command: Command, limit: Duration) -> Result<bool> {
    let start = Instant::now();
    let mut child = command.process_group(0).spawn().doing("start nbconvert")?;
    let group = nix::unistd::Pid::from_raw(child.id() as i32);
    loop {
        if let Some(status) = child.try_wait().doing("wait for nbconvert")? {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            return Ok(status.success());
        }
        if start.elapsed() > limit {
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
            return Err(Error::new("run the notebook", format!("it was not done after {} s", limit.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The verdict that this run wrote, under whatever name.
fn verdict_of(run: &str) -> Result<Option<Verdict>> {
    let entries = match fs::read_dir(place::results()) {
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
        }
    }
    besides
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

/// Puts the judgement at the top of the page, and the claims where the cell that should have shown them failed.
fn append_judgement(cells: &mut Cells, outcome: &Outcome) {
    if outcome.passed() {
        return;
    }
    let reasons: Vec<String> =
        outcome.reasons.iter().map(|reason| format!("<li>{}</li>", lablib::lab::display::escape(reason))).collect();
    let claims = outcome.verdict.as_ref().map(|verdict| claims_as_html(&verdict.claims)).unwrap_or_default();
    let html = format!(
        "{}<div class=\"lab-warning\">This run does not count:<ul>{}</ul></div>{claims}",
        lablib::lab::STYLE,
        reasons.concat()
    );
    let cell = json!({"cell_type": "markdown", "id": "judgement", "metadata": {}, "source": html});
    if let Some(list) = cells.json_mut()["cells"].as_array_mut() {
        list.insert(0, cell);
    }
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
