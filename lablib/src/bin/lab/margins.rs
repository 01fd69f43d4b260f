//! `lab margins`: how far the claims of kept runs were from their bounds, in standard deviations of those runs.
//!
//! That a claim has held in ten runs says little: with its bound two standard deviations away, one run in forty fails for nothing.
//! Every headless run is kept, so what was interrupted is continued by running again, and the table counts what there is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, ExitCode};

use lablib::lab::{Claim, Error, Result, Samples, Verdict, paths, significant, verdicts};

use crate::report;

/// Closer than so many standard deviations to its bound, and a claim will fail for nothing some day.
const ENOUGH: f64 = 4.0;

const USAGE: &str = "ci/lab margins [NAME ...] [--since COMMIT|DATE] [--all]";

/// `margins [NAME ...] [--since COMMIT|DATE] [--all]`
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let (mut names, mut since, mut all) = (Vec::new(), None, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--all" => all = true,
            "--since" => since = Some(moment(arguments.next().map_or("", String::as_str))?),
            option if option.starts_with('-') => {
                return Err(Error::new("read the command", format!("there is no option {option}")).remedy(USAGE));
            }
            name => names.push(name.to_string()),
        }
    }
    let (mut margins, mut sets) = (Vec::new(), String::new());
    for notebook in report::choose(&names)? {
        let kept = verdicts(&paths::results(), &report::stem(&notebook));
        for runs in ["quick", "full"].map(|scale| counted(&kept, scale, since.as_deref())) {
            margins.extend(margins_of(&runs));
            sets.push_str(&described(&runs));
        }
    }
    if sets.is_empty() {
        let remedy = "run ci/lab report --times 5 first; --since counts runs of older commits as well";
        return Err(Error::new("tell margins", "no such run was kept").remedy(remedy));
    }
    print!("{}\n{sets}", table(margins, all));
    Ok(ExitCode::SUCCESS)
}

/// A date, or when a commit was made, in the form in which runs say when they began.
fn moment(text: &str) -> Result<String> {
    if text.len() >= 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-' {
        return Ok(text.to_string());
    }
    let mut git = Command::new("git");
    git.args(["show", "-s", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%S", "--end-of-options", text]);
    let output = git.current_dir(paths::root()).env("TZ", "UTC").output();
    match output {
        Ok(output) if output.status.success() && !text.is_empty() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
        }
        _ => Err(Error::new("read the command", format!("{text:?} is no commit and no date")).remedy(USAGE)),
    }
}

/// The runs at one scale that count together: those since a moment, or those of the revision that ran last.
fn counted<'a>(kept: &'a [Verdict], scale: &str, since: Option<&str>) -> Vec<&'a Verdict> {
    let of_scale: Vec<&Verdict> = kept.iter().filter(|run| run.scale == scale && !run.exploring).collect();
    let Some(last) = of_scale.last().map(|run| run.revision.as_str()) else { return Vec::new() };
    let counts = |run: &Verdict| since.map_or(run.revision == last, |since| run.began.as_str() >= since);
    of_scale.into_iter().filter(|run| counts(run)).collect()
}

/// A claim or check over several runs.
struct Margin {
    /// Which notebook, and at which scale.
    of: String,
    claim: Claim,
    runs: usize,
    /// In how many it did not hold.
    failed: usize,
    measured: Samples,
    /// The bound that is nearest, with its sign, and how many standard deviations away it is. None where no number is the bound.
    nearest: Option<(String, f64)>,
}

fn margins_of(runs: &[&Verdict]) -> Vec<Margin> {
    let mut claims: BTreeMap<&str, Vec<&Claim>> = BTreeMap::new();
    for claim in runs.iter().flat_map(|run| &run.claims) {
        claims.entry(&claim.claim).or_default().push(claim);
    }
    let of = runs.first().map(|run| format!("{} {}", run.name, run.scale)).unwrap_or_default();
    let margin = |judged: Vec<&Claim>| Margin {
        of: of.clone(),
        claim: (*judged[judged.len() - 1]).clone(),
        runs: judged.len(),
        failed: judged.iter().filter(|claim| !claim.holds).count(),
        measured: judged.iter().filter_map(|claim| claim.measured).collect(),
        nearest: nearest(&judged),
    };
    claims.into_values().map(margin).collect()
}

/// The room that is left to each bound is taken run by run, because a bound may itself have been measured.
fn nearest(judged: &[&Claim]) -> Option<(String, f64)> {
    let side = |sign: &str, room: fn(&Claim) -> Option<(f64, f64)>| {
        let rooms: Vec<(f64, f64)> = judged.iter().filter_map(|claim| room(claim)).collect();
        let (bounds, rooms): (Vec<f64>, Vec<f64>) = rooms.into_iter().unzip();
        let bound = format!("{sign} {}", significant(Samples::from(bounds).mean()));
        (!rooms.is_empty()).then(|| (bound, away(&Samples::from(rooms))))
    };
    let low = side("≥", |claim| Some((claim.low?, claim.measured? - claim.low?)));
    let high = side("≤", |claim| Some((claim.high?, claim.high? - claim.measured?)));
    [low, high].into_iter().flatten().min_by(|a, b| a.1.total_cmp(&b.1))
}

/// How many of its own standard deviations a room is wide; what never varied has no end of room, or none.
fn away(rooms: &Samples) -> f64 {
    match (rooms.mean(), rooms.standard_deviation()) {
        (room, spread) if spread > 0.0 => room / spread,
        (room, _) if room >= 0.0 => f64::INFINITY,
        _ => f64::NEG_INFINITY,
    }
}

impl Margin {
    fn away(&self) -> f64 {
        self.nearest.as_ref().map_or(f64::INFINITY, |(_, away)| *away)
    }

    fn is_too_near(&self) -> bool {
        self.failed > 0 || (self.runs > 1 && self.away() < ENOUGH)
    }

    fn line(&self) -> String {
        let mark = match (self.failed, self.is_too_near()) {
            (0, false) => " ".to_string(),
            (0, true) => "▸".to_string(),
            (failed, _) => format!("✗ {failed}"),
        };
        let away = match self.away() {
            _ if self.runs == 1 => "one run".to_string(),
            away if away.is_finite() => format!("{away:.1}"),
            away if away > 0.0 => "∞".to_string(),
            _ => "−∞".to_string(),
        };
        let (mean, spread) = (significant(self.measured.mean()), significant(self.measured.standard_deviation()));
        let measured = format!("{mean} ± {spread} {}", self.claim.unit);
        let bound = self.nearest.as_ref().map_or(&self.claim.tolerance, |(bound, _)| bound);
        let kind = if self.claim.check { "check" } else { "claim" };
        format!(
            "{mark:<4}{away:>8} {:>5}  {:<32} {measured:<26} {bound:<14} {kind}: {}",
            self.runs, self.of, self.claim.claim
        )
    }
}

/// The least room first; what never varied only where all of it was asked for.
fn table(mut margins: Vec<Margin>, all: bool) -> String {
    margins.sort_by(|a, b| b.failed.cmp(&a.failed).then(a.away().total_cmp(&b.away())));
    let mut text = format!(
        "    {:>8} {:>5}  {:<32} {:<26} nearest bound\n",
        "σ away", "runs", "notebook", "measured ± σ of the runs"
    );
    let listed = |margin: &&Margin| all || margin.is_too_near() || margin.away().is_finite();
    for margin in margins.iter().filter(listed) {
        let _ = writeln!(text, "{}", margin.line());
    }
    let count = |which: &dyn Fn(&Margin) -> bool| margins.iter().filter(|margin| which(margin)).count();
    let _ = writeln!(
        text,
        "\n{} of {} claims and checks have failed or are less than {ENOUGH} standard deviations from their bound; {} never varied; \
         {} are judged by a confidence interval, which refuses a true prediction once in 16,000 times",
        count(&Margin::is_too_near),
        margins.len(),
        count(&|margin| margin.runs > 1 && margin.nearest.is_some() && margin.away().is_infinite()),
        count(&|margin| margin.nearest.is_none()),
    );
    text
}

/// "10-connection-pool quick: 5 runs of 3fa9c01d22ab, from 2026-11-30T10:12 to 2026-11-30T10:20, load 0.4 to 3.1"
fn described(runs: &[&Verdict]) -> String {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return String::new() };
    let mut revisions: Vec<&str> = runs.iter().map(|run| run.revision.as_str()).collect();
    revisions.dedup();
    let loads = runs.iter().flat_map(|run| run.load);
    let (least, most) = loads.fold((f64::INFINITY, 0.0_f64), |(least, most), load| (least.min(load), most.max(load)));
    let minute = |run: &Verdict| run.began.chars().take(16).collect::<String>();
    format!(
        "{} {}: {} run{} of {}, from {} to {}, load {least:.1} to {most:.1}\n",
        last.name,
        last.scale,
        runs.len(),
        if runs.len() == 1 { "" } else { "s" },
        revisions.join(", "),
        minute(first),
        minute(last),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A run that measured this, where at most 10 and at least 0 was allowed, and nothing else.
    fn measured(value: f64, scale: &str, revision: &str, began: &str) -> Verdict {
        let claim = json!({
            "claim": "waits", "predicted": null, "predicted_within": null, "came_true": null, "measured": value, "spread": 0.0,
            "unit": "ms", "tolerance": "0 to 10", "low": 0.0, "high": 10.0, "samples": 1, "made_at": "both",
            "holds": (0.0..=10.0).contains(&value),
        });
        let verdict = json!({
            "name": "10-pool", "scale": scale, "seed": 1, "began": began, "seconds": 1.0, "load": [0.5, 2.0],
            "revision": revision, "run": "1-a", "holds": true, "machine": lablib::lab::Machine::this(), "exploring": false,
            "claims": [claim], "figures": [],
        });
        serde_json::from_value(verdict).unwrap()
    }

    fn quick(values: &[f64]) -> Vec<Verdict> {
        values.iter().map(|value| measured(*value, "quick", "a", "2026-11-30T10:00")).collect()
    }

    #[test]
    fn a_margin_is_the_room_to_the_nearest_bound_in_standard_deviations() {
        for (values, bound, away, near) in [
            (vec![1.0, 2.0, 3.0], "≥ 0", 2.0, true),
            (vec![7.0, 8.0, 9.0], "≤ 10", 2.0, true),
            (vec![3.9, 4.0, 4.1], "≥ 0", 40.0, false),
            (vec![5.0, 5.0], "≥ 0", f64::INFINITY, false),
            (vec![5.0], "≥ 0", f64::INFINITY, false),
            (vec![9.0, 10.0, 11.0], "≤ 10", 0.0, true),
            (vec![12.0, 12.0], "≤ 10", f64::NEG_INFINITY, true),
        ] {
            let runs = quick(&values);
            let margins = margins_of(&runs.iter().collect::<Vec<_>>());
            assert_eq!(margins.len(), 1);
            let (side, distance) = margins[0].nearest.clone().unwrap();
            assert!(
                side == bound && (distance == away || (distance - away).abs() < 1e-6),
                "{values:?}: {side} {distance}"
            );
            assert_eq!(margins[0].is_too_near(), near, "{values:?}");
        }
    }

    #[test]
    fn the_least_room_stands_first_and_what_never_varied_is_counted() {
        let of = |values: &[f64]| {
            let runs = quick(values);
            margins_of(&runs.iter().collect::<Vec<_>>()).remove(0)
        };
        let margins = || vec![of(&[5.0, 5.0]), of(&[4.9, 5.1]), of(&[1.0, 2.0]), of(&[5.0, 11.0])];
        let text = table(margins(), false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("✗ 1") && lines[2].starts_with('▸') && lines[3].starts_with("    "), "{text}");
        assert!(lines[5].starts_with("2 of 4 claims and checks have failed or") && lines[5].contains("1 never varied"));
        assert_eq!(table(margins(), true).lines().count(), text.lines().count() + 1);
    }

    #[test]
    fn runs_of_another_scale_or_commit_are_kept_apart() {
        let kept = [
            measured(1.0, "quick", "a", "2026-11-28T10:00"),
            measured(2.0, "full", "a", "2026-11-29T10:00"),
            measured(3.0, "quick", "b", "2026-11-30T10:00"),
            measured(4.0, "quick", "b", "2026-11-30T11:00"),
        ];
        let values = |scale: &str, since: Option<&str>| -> Vec<f64> {
            counted(&kept, scale, since).iter().filter_map(|run| run.claims[0].measured).collect()
        };
        assert_eq!(values("quick", None), [3.0, 4.0]);
        assert_eq!(values("full", None), [2.0]);
        assert_eq!(values("quick", Some("2026-11-28")), [1.0, 3.0, 4.0]);
        assert_eq!(values("quick", Some("2026-11-30T10:30")), [4.0]);
        let told = described(&counted(&kept, "quick", Some("2026-11-28")));
        assert_eq!(told, "10-pool quick: 3 runs of a, b, from 2026-11-28T10:00 to 2026-11-30T11:00, load 0.5 to 2.0\n");
    }

    #[test]
    fn a_moment_is_a_date_or_a_commit() {
        assert_eq!(moment("2026-11-30").unwrap(), "2026-11-30");
        assert!(moment("HEAD").unwrap().starts_with("20"));
        for nonsense in ["", "yesterday", "--help"] {
            assert!(moment(nonsense).unwrap_err().to_string().contains("is no commit and no date"), "{nonsense}");
        }
    }
}
