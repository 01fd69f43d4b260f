//! What runs leave behind: frames and verdicts, so that two machines, two commits or two days can be compared.
//!
//! - A frame is kept under `target/results/EXPERIMENT/RUN/NAME.csv`, where RUN says when, of which revision, at which scale and from
//!   which seed; `run.json` beside it says on which machine. `ci/lab clean` leaves these folders alone.
//! - What a headless run was judged to be is there as `verdict.json`: `ci/lab margins` reads those of many runs.
//! - Read back, each row says from which run it is. A folder that was copied from another machine is read in the same way.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Doing, Error, Frame, Machine, Result, Verdict, paths};

const FACTS: &str = "run.json";
const VERDICT: &str = "verdict.json";

/// What is said of each run beside its rows.
const OWN: [&str; 8] = ["run", "time", "revision", "scale", "seed", "exploring", "machine", "set"];

/// What is true of everything that one run keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// When it began (UTC).
    pub time: String,
    pub revision: String,
    pub scale: String,
    pub seed: u64,
    /// Compiled for exploring, where the smallest paths take twice as long.
    pub exploring: bool,
    pub machine: Machine,
    /// The knobs that were set from outside, as `LAB_SET` says it.
    #[serde(default)]
    pub set: String,
}

impl Facts {
    fn folder(&self) -> String {
        format!("{}-{}-{}-{}", self.time.replace(':', "-"), self.revision, self.scale, self.seed)
    }
}

/// Keeps a frame of a run; another of the same name in the same run takes its place.
pub(crate) fn keep(results: &Path, experiment: &str, facts: &Facts, name: &str, frame: &Frame) -> Result<()> {
    if let Some(own) = frame.columns().iter().find(|name| OWN.contains(&name.as_str())) {
        let cause = format!("it has a column {own:?}, and each row that is read back says in {}", OWN.join(", "));
        return Err(Error::new(format!("keep {name:?}"), format!("{cause} from which run it is")).remedy("rename it"));
    }
    write(&results.join(experiment), facts, &format!("{name}.csv"), frame.to_csv()?)
}

/// Keeps what a run was judged to be.
pub(crate) fn keep_verdict(results: &Path, facts: &Facts, verdict: &Verdict) -> Result<()> {
    let text = serde_json::to_string_pretty(verdict).doing("write down a verdict")? + "\n";
    write(&results.join(&verdict.name), facts, VERDICT, text)
}

/// Writes a file of a run, and beside it what is true of the whole run.
fn write(experiment: &Path, facts: &Facts, name: &str, content: String) -> Result<()> {
    let facts_text = serde_json::to_string_pretty(facts).doing("write down a run")? + "\n";
    for (name, content) in [(FACTS, facts_text), (name, content)] {
        let path = experiment.join(facts.folder()).join(name);
        paths::write_whole(&path, content).doing(format!("write {}", path.display()))?;
    }
    Ok(())
}

/// What headless runs of this experiment were judged to be, the oldest first. One that cannot be read is of another time, and left
/// out.
pub fn verdicts(results: &Path, experiment: &str) -> Vec<Verdict> {
    let read = |run: PathBuf| serde_json::from_str(&std::fs::read_to_string(run.join(VERDICT)).ok()?).ok();
    entries(&results.join(experiment)).into_iter().filter_map(read).collect()
}

/// All that was kept under this name, the oldest run first.
pub(crate) fn runs(results: &Path, experiment: &str, name: &str) -> Result<Frame> {
    let doing = || format!("read what runs have kept as {name:?}");
    let folder = results.join(experiment);
    let mut all: Option<Frame> = None;
    let mut others: Vec<String> = Vec::new();
    for run in entries(&folder) {
        let text = |path: PathBuf| std::fs::read_to_string(&path).doing(format!("read {}", path.display()));
        let files =
            entries(&run).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "csv"));
        others.extend(files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())));
        let path = run.join(format!("{name}.csv"));
        if !path.is_file() {
            continue;
        }
        let facts: Facts = serde_json::from_str(&text(run.join(FACTS))?)
            .doing(doing())
            .map_err(|error| error.at(run.join(FACTS).display()))?;
        let kept = Frame::from_csv(&text(path.clone())?).map_err(|error| error.at(path.display()))?;
        let kept = kept
            .everywhere("run", "", facts.folder())
            .everywhere("time", "", &facts.time)
            .everywhere("revision", "", &facts.revision)
            .everywhere("scale", "", &facts.scale)
            .everywhere("seed", "", facts.seed)
            .everywhere("exploring", "", facts.exploring)
            .everywhere("machine", "", &facts.machine)
            .everywhere("set", "", &facts.set);
        all = Some(match all {
            Some(before) => before.stacked(&kept).map_err(|error| error.at(path.display()))?,
            None => kept,
        });
    }
    others.sort_unstable();
    others.dedup();
    all.ok_or_else(|| {
        let there = if others.is_empty() { "nothing".to_string() } else { others.join(", ") };
        Error::new(doing(), format!("{} holds {there}", folder.display())).remedy("keep it with lab.keep(…) in a run")
    })
}

/// What is in a folder, sorted; nothing where there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A moment as in `2026-11-29T21:03:12.345Z`.
pub(crate) fn utc(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = |year: u64| if leap(year) { 366 } else { 365 };
    while day >= length(year) {
        day -= length(year);
        year += 1;
    }
    let months = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for days in months {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let millisecond = since.subsec_millis();
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z", day + 1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("lab-kept-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn facts(seconds: u64, revision: &str) -> Facts {
        let time = utc(UNIX_EPOCH + Duration::from_secs(seconds));
        let (scale, machine) = ("quick".into(), Machine::this());
        Facts { time, revision: revision.into(), scale, seed: 7, exploring: false, machine, set: "ages=9".into() }
    }

    #[test]
    fn moments_are_written_as_people_read_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn two_runs_come_back_as_one_frame_that_says_which_is_which() {
        let folder = Folder::new("two");
        let frame = |value: f64| Frame::new().text("arm", ["a, \"b\""]).numbers("wait", "ms", [value]);
        keep(&folder.0, "10-pool", &facts(1, "abc"), "waits", &frame(4.0)).unwrap();
        keep(&folder.0, "10-pool", &facts(2, "def+"), "waits", &frame(9.0)).unwrap();
        keep(&folder.0, "10-pool", &facts(2, "def+"), "waits", &frame(5.0)).unwrap();
        let both = runs(&folder.0, "10-pool", "waits").unwrap();
        assert_eq!((both.height(), both.unit("wait")), (2, "ms"), "kept again is kept once");
        assert_eq!(both.filter("revision", "def+").samples("wait").values(), [5.0]);
        assert_eq!(both.texts("time"), ["1970-01-01T00:00:01.000Z", "1970-01-01T00:00:02.000Z"]);
        assert_eq!((both.texts("arm")[1].as_str(), both.samples("seed").median()), ("a, \"b\"", 7.0));
        assert_eq!(both.distinct("machine"), [Machine::this().to_string()]);
        assert_eq!(both.distinct("set"), ["ages=9"], "knobs that were set make another experiment of it");
    }

    #[test]
    fn what_was_never_kept_or_is_broken_is_said() {
        let folder = Folder::new("broken");
        let error = runs(&folder.0, "10-pool", "waits").unwrap_err().to_string();
        assert!(error.contains("holds nothing"), "{error}");
        let waits = Frame::new().numbers("wait", "ms", [4.0]);
        keep(&folder.0, "10-pool", &facts(1, "abc"), "waits", &waits).unwrap();
        let error = runs(&folder.0, "10-pool", "wiats").unwrap_err().to_string();
        assert!(error.contains("holds waits"), "{error}");
        // In another unit, numbers below each other would be no column.
        keep(&folder.0, "10-pool", &facts(2, "abc"), "waits", &Frame::new().numbers("wait", "s", [4.0])).unwrap();
        let error = runs(&folder.0, "10-pool", "waits").unwrap_err().to_string();
        assert!(error.contains("\"ms\" here and in \"s\" there"), "{error}");
        let run = folder.0.join("10-pool").join(facts(2, "abc").folder());
        std::fs::write(run.join(FACTS), "{").unwrap();
        assert!(runs(&folder.0, "10-pool", "waits").unwrap_err().to_string().contains("run.json"));
    }
}
