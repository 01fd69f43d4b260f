//! A notebook's run: its name, scale and seed, the claims that it makes, and the verdict at its end.

use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Answering};
use crate::claim::{Claim, Claiming, Prediction, claims_as_html, said_of};
use crate::display::{self, escape};
use crate::guess::{self, Guess};
use crate::knob::{self, Knob, Knobs, Setting};
use crate::outline::Outline;
use crate::scale::seed_from_env;
use crate::{
    Doing, Error, Frame, Machine, OrFail, Result, Rng, Scale, freshness, gallery, kept, paths, service, session,
    significant, style,
};

/// Said in the first line of a run, and beside its verdict.
const EXPLORING: &str =
    "; compiled for exploring, where the smallest paths take up to twice as long: no verdict stands on it";

/// One run of one notebook.
///
/// ```no_run
/// use lab::*;
///
/// let mut lab = Experiment::new("01-consistent-hashing");
/// let keys = lab.knob("keys", 10_000, 1_000_000);
/// let guess = lab.guess("Which share of the keys moves when 50 of 1,000 shards leave?", "%");
/// let moved = lab.predict("the share of keys that move, in %", 5.0, 0.2);
/// // … the experiment runs …
/// # let measured = 4.95;
/// lab.claim("the ring moves its share").guessed(&guess).predicted(moved).measured(measured).unit("%").between(4.5, 5.5);
/// lab.answer(format!("**{measured} %** of the keys move")).rule("a ring where shards come and go").limits("one machine");
/// lab.verdict();
/// ```
#[derive(Debug)]
pub struct Experiment {
    name: String,
    scale: Scale,
    seed: u64,
    started: Instant,
    began: SystemTime,
    /// At its beginning: a notebook that is saved meanwhile makes no other run of it.
    revision: String,
    /// At its beginning.
    load: f64,
    claims: Vec<Claim>,
    left_out: usize,
    rehearsal: bool,
    knobs: Knobs,
    guesses: Vec<Guess>,
    answer: Option<Answer>,
    outline: Outline,
}

/// What a run leaves in `target/results/NAME.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Verdict {
    /// The experiment's name, which is the notebook's.
    pub name: String,
    /// `quick` or `full`.
    pub scale: String,
    /// The seed of everything random in it.
    pub seed: u64,
    /// When it began (UTC).
    #[serde(default)]
    pub began: String,
    /// How long the run took, from the experiment's first line to its verdict.
    pub seconds: f64,
    /// The machine's load at its beginning and at its end.
    #[serde(default)]
    pub load: [f64; 2],
    /// The commit that was run, with `+` where files had been changed.
    pub revision: String,
    /// Where it was measured.
    pub machine: Machine,
    /// Whether lablib was compiled incrementally, for exploring: such a run proves nothing.
    pub exploring: bool,
    /// Which run wrote this: what the runner set as `LAB_RUN`.
    pub run: Option<String>,
    /// Whether every claim and every check holds, and there is a claim.
    pub holds: bool,
    /// The claims, and the checks.
    pub claims: Vec<Claim>,
    /// The kinds of servers that it used: see [`service::used`].
    #[serde(default)]
    pub servers: Vec<String>,
    /// Figures shown, in order, as file names without extension below `target/reports/NAME/`.
    pub figures: Vec<String>,
    /// Texts that had no room on their figure.
    #[serde(default)]
    pub cut: Vec<String>,
    /// The answer to the notebook's question.
    #[serde(default)]
    pub answer: Option<Answer>,
    /// Which of the figures shows it.
    #[serde(default)]
    pub deciding: Option<String>,
    /// What the reader was asked; without a value where nobody answered.
    #[serde(default)]
    pub guesses: Vec<Guess>,
    /// The notebook's parameters, and which of them were set from outside.
    #[serde(default)]
    pub knobs: Vec<Setting>,
}

impl Experiment {
    /// Opens a run. `name` is the notebook's file name without its extension.
    pub fn new(name: &str) -> Self {
        session::begin();
        Self::open(name).or_fail()
    }

    fn open(name: &str) -> Result<Self> {
        check_name(name)?;
        let mut lab = Self::with_name(name, false)?;
        lab.outline = Outline::read(&paths::root().join("notebooks").join(format!("{name}.ipynb")));
        gallery::open(paths::reports().join(name))?;
        let build = if freshness::EXPLORING { EXPLORING } else { "" };
        let heading = format!("{name}, {} scale, seed {}{build}", lab.scale, lab.seed);
        let warning = freshness::warning();
        let html = format!(
            "{}{}<p class=\"lab-note\">{}</p>{}",
            display::FACE,
            style::STYLE,
            escape(&heading),
            warning.as_ref().map(|text| format!("<p class=\"lab-warning\">{}</p>", escape(text))).unwrap_or_default()
        );
        display::emit(&html, &[Some(heading), warning].into_iter().flatten().collect::<Vec<_>>().join("\n"));
        Ok(lab)
    }

    /// An experiment whose verdict counts for nothing: it writes no file and fails no cell. For showing what a failing
    /// claim looks like.
    pub fn rehearsal(name: &str) -> Self {
        Self::with_name(name, true).or_fail()
    }

    fn with_name(name: &str, rehearsal: bool) -> Result<Self> {
        Ok(Self {
            name: name.to_string(),
            scale: Scale::from_env()?,
            seed: seed_from_env()?,
            started: Instant::now(),
            began: SystemTime::now(),
            revision: revision(&paths::root()),
            load: Machine::load(),
            claims: Vec::new(),
            left_out: 0,
            rehearsal,
            knobs: Knobs::from_env()?,
            guesses: Vec::new(),
            answer: None,
            outline: Outline::default(),
        })
    }

    /// The experiment's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scale of this run.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// `quick` or `full`, by the scale of this run.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        self.scale.pick(quick, full)
    }

    /// A parameter of the notebook: `quick` or `full`, by the scale of this run, unless it was set from outside
    /// (`ci/lab report 07 --set ages=10000`, or `LAB_SET`). Ends the cell where what was set is nothing that it can be.
    ///
    /// ```
    /// let mut lab = lab::Experiment::rehearsal("knobs");
    /// let ages = lab.knob("ages", 4_usize, 20);
    /// let sizes: Vec<u64> = lab.knob("sizes", vec![10, 100], vec![10, 100, 1_000]);
    /// assert_eq!((ages, sizes.len()), (4, 2));
    /// ```
    pub fn knob<T: Knob>(&mut self, name: &str, quick: T, full: T) -> T {
        self.knobs.turn(name, quick, full, self.scale).or_fail()
    }

    /// Asks the reader for a number, before it is measured; in a cell of its own. Draw it with a chart's `guess`, and put it into the
    /// verdict with a claim's [`guessed`](Claiming::guessed). Where nobody is there to be asked, nothing waits, and the guess has no value: see
    /// [`crate::guess`] for who is.
    pub fn guess(&mut self, question: &str, unit: &str) -> Guess {
        let guess = guess::ask(question, unit).or_fail();
        if let Some(folder) = guess::path_in("LAB_GUESSES_TO") {
            guess::keep(&folder, &guess::student(), &self.name, &guess).or_fail();
        }
        display::emit(&guess.card(), &guess.plain());
        self.guesses.retain(|other| other.question() != question);
        self.guesses.push(guess.clone());
        guess
    }

    /// What a class has guessed, where `LAB_GUESSES_TO` was this folder: student, question, guess, unit and notebook. Ends the cell
    /// where there is nothing.
    ///
    /// ```no_run
    /// # use lab::*;
    /// # let lab = Experiment::rehearsal("x");
    /// let room = lab.guesses("/srv/class").filter("notebook", lab.name());
    /// Chart::histogram("What the room guessed").of(&room, "guess", "question").mark_x("measured", 4.95).show();
    /// ```
    pub fn guesses(&self, folder: impl AsRef<Path>) -> Frame {
        guess::kept(folder.as_ref()).or_fail()
    }

    /// Answers the notebook's question, in the last cell before the verdict: two or three sentences with the figures of this run, then a
    /// rule of choice and the limits of both. They may be **bold** and link to the notebook's sections: see [`crate::answer`].
    ///
    /// ```
    /// let mut lab = lab::Experiment::rehearsal("answers");
    /// lab.answer("A ring moves [4.95 %](#1.-What-moves?) of the keys").rule("**Ring** where shards leave").limits("Loopback");
    /// ```
    pub fn answer(&mut self, text: impl std::fmt::Display) -> Answering<'_> {
        Answering::new(self, text.to_string())
    }

    pub(crate) fn answered(&mut self, answer: Answer) {
        display::emit(&format!("{}{}", style::STYLE, answer.card()), &answer.plain());
        self.answer = Some(answer);
    }

    /// A stream of random numbers of this run, by its label.
    pub fn rng(&self, label: &str) -> Rng {
        Rng::seeded(self.seed, label)
    }

    /// Says what will be measured, before it is: `value`, and how far from it a measured value may be (in the same unit) before
    /// the prediction counts as missed. Ends the cell where either is not a number.
    pub fn predict(&mut self, sentence: &str, value: f64, tolerance: f64) -> Prediction {
        if !(value.is_finite() && tolerance.is_finite() && tolerance >= 0.0) {
            let cause = format!("{value} within {tolerance} is no prediction");
            Err::<(), _>(Error::new(format!("predict {sentence:?}"), cause)).or_fail();
        }
        let within = if tolerance > 0.0 { format!(", within {}", significant(tolerance)) } else { String::new() };
        let text = format!("Predicted: {sentence}: {}{within}", significant(value));
        display::emit(&format!("<p class=\"lab-claim predicted\">{}</p>", escape(&text)), &text);
        Prediction::new(value, tolerance)
    }

    /// Starts a claim; its bound judges it. A claim at a time, each a sentence that a newcomer understands.
    pub fn claim(&mut self, sentence: &str) -> Claiming<'_> {
        Claiming::new(self, sentence.to_string(), false)
    }

    /// Starts a check: judged, counted and failing the run like a claim, but not one of the three to eight that a reader is asked
    /// to take away. The verdict lists checks below the claims, folded while they hold.
    ///
    /// ```
    /// let mut lab = lab::Experiment::rehearsal("checks");
    /// lab.claim("no acknowledged write is lost").measured(0).exactly(0);
    /// lab.check("the server has counted as many writes as the clients").measured(120).exactly(120);
    /// assert!(lab.claims()[1].check);
    /// ```
    pub fn check(&mut self, sentence: &str) -> Claiming<'_> {
        Claiming::new(self, sentence.to_string(), true)
    }

    /// Keeps a frame for comparing it with other runs: `target/results/NAME/RUN/name.csv`, where `ci/lab clean` leaves it. Ends
    /// the cell where it cannot be written; a rehearsal keeps nothing.
    pub fn keep(&self, name: &str, frame: &Frame) {
        if !self.rehearsal {
            let kept =
                check_name(name).and_then(|()| kept::keep(&paths::results(), &self.name, &self.facts(), name, frame));
            kept.or_fail();
        }
    }

    /// What this and earlier runs of this experiment have kept under this name, one below the other: each row says in the columns
    /// run, time, revision, scale, seed, exploring and machine from which it is. Ends the cell where nothing was kept.
    pub fn runs(&self, name: &str) -> Frame {
        self.runs_in(paths::results(), name)
    }

    /// As [`runs`](Self::runs), of another machine whose `target/results` was copied to this folder.
    pub fn runs_in(&self, folder: impl AsRef<Path>, name: &str) -> Frame {
        // Whatever is predicted in this run was known before it.
        kept::runs(folder.as_ref(), &self.name, name).or_fail().taken_at(Some(self.started))
    }

    fn facts(&self) -> kept::Facts {
        kept::Facts {
            time: kept::utc(self.began),
            revision: self.revision.clone(),
            scale: self.scale.to_string(),
            seed: self.seed,
            exploring: freshness::EXPLORING,
            machine: Machine::this(),
            set: self.knobs.set(),
        }
    }

    /// The claims and checks that have been judged so far.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The claims and checks that do not hold.
    pub fn failures(&self) -> Vec<&Claim> {
        self.claims.iter().filter(|claim| !claim.holds).collect()
    }

    pub(crate) fn record(&mut self, mut claim: Claim, made_at: Option<Scale>) {
        if made_at.is_some_and(|scale| scale != self.scale) {
            self.left_out += 1;
            return;
        }
        claim.section = self.outline.section_of(&claim.claim);
        display::emit(&claim.line(), &claim.summary());
        self.claims.push(claim);
    }

    /// Shows the table of claims and writes `target/results/NAME.json`; fails the cell where a claim does not hold, or
    /// where none was made.
    ///
    /// Ends the cell as well where a knob was to be set that the notebook does not have.
    pub fn verdict(&self) {
        if !self.rehearsal {
            self.knobs.refuse_unknown().or_fail();
        }
        let verdict = self.judged();
        let facts = format!(
            "{} scale, seed {}, {:.1} s; revision {}; {}{}",
            verdict.scale,
            verdict.seed,
            verdict.seconds,
            verdict.revision,
            verdict.machine,
            if verdict.exploring { EXPLORING } else { "" }
        );
        let left_out = match self.left_out {
            0 => String::new(),
            1 => "One sentence is judged at the other scale only.".into(),
            count => format!("{count} sentences are judged at the other scale only."),
        };
        let headline = verdict.headline();
        let knobs = verdict.knobs_in_words();
        let html = format!(
            "{}<div class=\"lab-verdict-box\"><p class=\"lab-headline\">{}</p>{}<p class=\"lab-note\">{} {} {}</p></div>",
            style::STYLE,
            escape(&headline),
            claims_as_html(&self.claims),
            escape(&left_out),
            escape(&facts),
            escape(&knobs)
        );
        let (checks, claims): (Vec<&Claim>, Vec<&Claim>) = self.claims.iter().partition(|claim| claim.check);
        let mut rows: Vec<String> = claims.into_iter().map(Claim::summary).collect();
        if !checks.is_empty() {
            rows.push("Checks:".into());
            rows.extend(checks.into_iter().map(Claim::summary));
        }
        let plain = format!("{headline}\n{}\n{left_out}\n{facts}\n{knobs}", rows.join("\n"));
        display::emit(&html, &plain);
        if self.rehearsal {
            return;
        }
        verdict.write().or_fail();
        // What somebody tries out by hand is no run to be counted.
        if verdict.run.is_some() {
            kept::keep_verdict(&paths::results(), &self.facts(), &verdict).or_fail();
        }
        if !verdict.holds {
            let failed: Vec<String> = self.failures().iter().map(|claim| claim.summary()).collect();
            std::panic::panic_any(format!("{headline}\n{}", failed.join("\n")));
        }
    }

    pub(crate) fn judged(&self) -> Verdict {
        Verdict {
            name: self.name.clone(),
            scale: self.scale.to_string(),
            seed: self.seed,
            began: kept::utc(self.began),
            seconds: self.started.elapsed().as_secs_f64(),
            load: [self.load, Machine::load()],
            revision: revision(&paths::root()),
            machine: Machine::this(),
            exploring: freshness::EXPLORING,
            run: std::env::var("LAB_RUN").ok(),
            holds: self.claims.iter().any(|claim| !claim.check) && self.failures().is_empty(),
            claims: self.claims.clone(),
            servers: service::used(),
            figures: gallery::figures(),
            cut: gallery::cut(),
            answer: self.answer.clone(),
            deciding: gallery::deciding(),
            guesses: self.guesses.clone(),
            knobs: self.knobs.settings().to_vec(),
        }
    }
}

impl Verdict {
    /// The verdict in one sentence.
    pub fn headline(&self) -> String {
        let of = |check: bool| {
            let these = self.claims.iter().filter(|claim| claim.check == check);
            (these.clone().count(), these.filter(|claim| !claim.holds).count())
        };
        let missed = self.claims.iter().filter(|claim| claim.prediction_missed()).count();
        let headline = match (of(false), of(true)) {
            ((0, _), _) => "No claim was made, so nothing is proved.".into(),
            ((claims, failed), (0, _)) => said_of(claims, failed, "claim"),
            ((claims, failed), (checks, broken)) => {
                format!("{} {}", said_of(claims, failed, "claim"), said_of(checks, broken, "check"))
            }
        };
        let headline = match missed {
            0 => headline,
            1 => headline + " One prediction missed.",
            missed => format!("{headline} {missed} predictions missed."),
        };
        match knob::set_in(&self.knobs) {
            set if set.is_empty() => headline,
            set => format!("{headline} Set by hand: {}.", set.replace(',', ", ")),
        }
    }

    /// Whether it is of the notebook as it stands: no knob was set, and nobody's guess is in its charts.
    pub fn is_plain(&self) -> bool {
        self.knobs.iter().all(|knob| !knob.set) && self.guesses.iter().all(|guess| guess.value().is_none())
    }

    /// What each knob stood at; empty where there is none.
    fn knobs_in_words(&self) -> String {
        let word = |knob: &Setting| match knob.set {
            true if self.scale == "full" => format!("{} {} (set; else {})", knob.name, knob.value, knob.full),
            true => format!("{} {} (set; else {})", knob.name, knob.value, knob.quick),
            false => format!("{} {}", knob.name, knob.value),
        };
        match self.knobs.iter().map(word).collect::<Vec<_>>() {
            knobs if knobs.is_empty() => String::new(),
            knobs => format!("Knobs: {}.", knobs.join("; ")),
        }
    }

    fn write(&self) -> Result<()> {
        let path = paths::results().join(format!("{}.json", self.name));
        let json = serde_json::to_string_pretty(self).doing("write the verdict")?;
        paths::write_whole(&path, json + "\n").doing(format!("write {}", path.display()))
    }
}

/// A name becomes a file's name: it must not lead elsewhere.
fn check_name(name: &str) -> Result<()> {
    if !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_') {
        return Ok(());
    }
    let cause = format!("{name:?} cannot be a file's name");
    Err(Error::new("open the experiment", cause).remedy("use letters, digits and dashes, as in the notebook's name"))
}

fn revision(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) if git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty()) => commit + "+",
        Some(commit) => commit,
        None => "unknown".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Samples;

    fn judged(judge: impl FnOnce(&mut Experiment)) -> Claim {
        let mut lab = Experiment::rehearsal("test");
        judge(&mut lab);
        lab.claims()[0].clone()
    }

    #[test]
    fn each_bound_holds_and_fails_where_it_should() {
        let holds = |judge: fn(Claiming<'_>), values: &[f64]| {
            judged(|lab| {
                let five = lab.predict("x", 5.0, 0.0);
                judge(lab.claim("x").predicted(five).measured(values));
            })
            .holds
        };
        assert!(holds(|claim| claim.exactly(3), &[3.0, 3.0]));
        assert!(!holds(|claim| claim.exactly(3), &[3.0, 4.0, 3.0]), "one wrong sample is enough");
        assert!(holds(|claim| claim.between(1.0, 2.0), &[1.0]));
        assert!(!holds(|claim| claim.between(1.0, 2.0), &[2.1]));
        assert!(holds(|claim| claim.at_least(2.0), &[2.0]));
        assert!(!holds(|claim| claim.at_least(2.0), &[1.9]));
        assert!(holds(|claim| claim.at_most(2.0), &[2.0]));
        assert!(!holds(|claim| claim.at_most(2.0), &[2.1]));
        let bounds = |judge: fn(Claiming<'_>)| {
            let claim = judged(|lab| judge(lab.claim("x").measured(1.5)));
            (claim.low, claim.high)
        };
        assert_eq!(bounds(|claim| claim.exactly(3)), (Some(3.0), Some(3.0)));
        assert_eq!(bounds(|claim| claim.between(1.0, 2.0)), (Some(1.0), Some(2.0)));
        assert_eq!(bounds(|claim| claim.at_least(2.0)), (Some(2.0), None));
        assert_eq!(bounds(|claim| claim.at_most(2.0)), (None, Some(2.0)));
        assert_eq!(bounds(|claim| claim.within_confidence()), (None, None));
        assert!(holds(|claim| claim.within_confidence(), &[4.9, 5.0, 5.2, 5.1, 4.7]));
        assert!(!holds(|claim| claim.within_confidence(), &[7.9, 8.0, 8.2, 8.1, 7.7]));
        assert!(!holds(|claim| claim.within_confidence(), &[5.0, 5.0, 5.0, 5.0]), "four have no spread to speak of");
        assert!(holds(|claim| claim.within_confidence(), &[5.0; 5]));
        assert!(!holds(|claim| claim.within_confidence(), &[5.1; 5]), "without a spread it is the value or it is not");
    }

    #[test]
    fn a_claim_may_hold_although_its_prediction_missed() {
        let mut lab = Experiment::rehearsal("test");
        let ten = lab.predict("x", 10.0, 1.0);
        for measured in [11.0, 89.0, 3.0] {
            lab.claim("x").predicted(ten).measured(measured).at_least(5.0);
        }
        let judged: Vec<_> = lab.claims().iter().map(|claim| (claim.holds, claim.prediction_missed())).collect();
        assert_eq!(judged, [(true, false), (true, true), (false, false)]);
        assert!(lab.claims()[1].summary().ends_with("it holds, but the prediction missed"));
        assert_eq!(lab.judged().headline(), "1 of 3 claims does not hold. One prediction missed.");
        let html = claims_as_html(lab.claims());
        assert!(html.contains("✓ holds, but the prediction missed"));
        assert!(html.contains("measured (± standard deviation)"), "± is defined where it stands: {html}");
    }

    #[test]
    fn a_prediction_made_after_the_measurement_is_refused() {
        let mut lab = Experiment::rehearsal("test");
        let early = lab.predict("x", 5.0, 1.0);
        let measured: Samples = [5.0, 5.0].into_iter().collect();
        let late = lab.predict("x", 5.0, 1.0);
        let derived = measured.map(|value| value * 1.0);
        for (prediction, samples) in [(early, &measured), (late, &measured), (early, &derived), (late, &derived)] {
            lab.claim("x").predicted(prediction).measured(samples).exactly(5);
        }
        assert_eq!(lab.claims().iter().map(|claim| claim.holds).collect::<Vec<_>>(), [true, false, true, false]);
        assert!(lab.claims()[1].tolerance.starts_with("a prediction made before the measurement"));
    }

    #[test]
    fn what_was_not_measured_never_holds() {
        for values in [vec![], vec![f64::NAN], vec![1.0, f64::INFINITY]] {
            for judge in [
                (|claim| claim.exactly(1)) as fn(Claiming<'_>),
                |claim| claim.at_least(0.0),
                |claim| claim.at_most(1e300),
                |claim| claim.between(f64::NEG_INFINITY, f64::INFINITY),
                |claim| claim.within_confidence(),
            ] {
                let claim = judged(|lab| {
                    let one = lab.predict("x", 1.0, 0.0);
                    judge(lab.claim("x").predicted(one).measured(Samples::from(values.clone())));
                });
                assert!(!claim.holds, "{claim:?}");
            }
        }
    }

    #[test]
    fn a_claim_of_the_other_scale_is_left_out() {
        let mut lab = Experiment::rehearsal("test");
        let other = if lab.scale() == Scale::Quick { Scale::Full } else { Scale::Quick };
        lab.claim("x").measured(1).only_at(other).exactly(2);
        assert!(lab.claims().is_empty());
    }

    #[test]
    fn no_claim_is_no_proof() {
        let verdict = Experiment::rehearsal("test").judged();
        assert!(!verdict.holds);
        assert_eq!(verdict.headline(), "No claim was made, so nothing is proved.");
    }

    #[test]
    fn a_check_is_judged_and_counted_but_is_no_claim() {
        let mut lab = Experiment::rehearsal("test");
        lab.check("x").measured(1).exactly(1);
        assert!(!lab.judged().holds, "checks alone prove nothing");
        assert_eq!(lab.judged().headline(), "No claim was made, so nothing is proved.");
        lab.claim("y").measured(1).exactly(1);
        assert!(lab.judged().holds);
        assert_eq!(lab.judged().headline(), "The claim holds. The check holds.");
        assert!(
            claims_as_html(lab.claims()).contains("<details class=\"lab-checks\"><summary>The check holds.</summary>")
        );
        lab.check("z").measured(1).exactly(2);
        assert!(!lab.judged().holds, "a check that fails fails the run");
        assert_eq!(lab.judged().headline(), "The claim holds. 1 of 2 checks does not hold.");
        assert!(claims_as_html(lab.claims()).contains("<details class=\"lab-checks\" open>"));
        let json = serde_json::to_string(&lab.judged()).unwrap();
        let back: Verdict = serde_json::from_str(&json).unwrap();
        assert_eq!(back.claims.iter().map(|claim| claim.check).collect::<Vec<_>>(), [true, false, true]);
        let old = json.replace(",\"check\":true", "").replace(",\"check\":false", "");
        assert!(serde_json::from_str::<Verdict>(&old).unwrap().claims.iter().all(|claim| !claim.check), "{old}");
    }

    #[test]
    fn a_run_whose_knobs_were_set_says_so() {
        let mut lab = Experiment::rehearsal("test");
        lab.claim("y").measured(1).exactly(1);
        assert_eq!(lab.knob("ages", 4_u32, 20), lab.scale().pick(4, 20));
        let mut verdict = lab.judged();
        assert!(verdict.is_plain() && verdict.headline() == "The claim holds.", "{}", verdict.headline());
        assert_eq!(verdict.knobs_in_words(), format!("Knobs: ages {}.", lab.scale().pick("4", "20")));
        verdict.knobs[0] = Setting { value: "9".into(), set: true, ..verdict.knobs[0].clone() };
        verdict.scale = "full".into();
        assert!(!verdict.is_plain());
        assert_eq!(verdict.headline(), "The claim holds. Set by hand: ages=9.");
        assert_eq!(verdict.knobs_in_words(), "Knobs: ages 9 (set; else 20).");
        let json = serde_json::to_value(&verdict).unwrap();
        let knob = serde_json::json!({"name": "ages", "value": "9", "quick": "4", "full": "20", "set": true});
        assert_eq!(json["knobs"], serde_json::json!([knob]));
    }

    #[test]
    fn what_the_reader_said_stands_beside_what_is() {
        let mut lab = Experiment::rehearsal("test");
        let said = Guess::new("How many?", "%", Some(30.0));
        lab.claim("x").guessed(&said).measured(4.95).unit("%").at_most(5.0);
        lab.claim("y").guessed(&Guess::new("?", "%", None)).measured(4.95).unit("%").at_most(5.0);
        assert!(
            lab.claims()[0].summary().ends_with("; you said 30\u{202f}%, it is 4.95\u{202f}%"),
            "{:?}",
            lab.claims()
        );
        assert!(!lab.claims()[1].summary().contains("you said") && lab.claims()[1].guessed.is_none());
        assert!(claims_as_html(lab.claims()).contains("<small>you said 30\u{202f}%, it is 4.95\u{202f}%</small>"));
        let verdict = Verdict { guesses: vec![said], ..lab.judged() };
        assert!(!verdict.is_plain(), "the gallery shows nobody's guess");
    }

    #[test]
    #[should_panic(expected = "the guess is in \"%\" and the claim in \"×\"")]
    fn a_guess_in_another_unit_is_compared_with_nothing() {
        let mut lab = Experiment::rehearsal("test");
        lab.claim("x").guessed(&Guess::new("?", "%", Some(30.0))).measured(4.95).unit("×").at_most(5.0);
    }

    #[test]
    fn nobody_is_asked_in_a_test_and_the_question_is_kept() {
        let mut lab = Experiment::rehearsal("test");
        for _ in 0..2 {
            assert_eq!(lab.guess("How many?", "%").value(), None);
        }
        assert_eq!(lab.judged().guesses, [Guess::new("How many?", "%", None)]);
    }

    #[test]
    fn checks_are_folded_by_section_and_failures_stand_open() {
        let mut lab = Experiment::rehearsal("test");
        let ten = lab.predict("x", 10.0, 1.0);
        lab.claim("a").measured(1).exactly(1);
        for (sentence, value) in [("b", 1), ("c", 1), ("d", 2)] {
            lab.check(sentence).measured(value).exactly(1);
        }
        lab.check("e").predicted(ten).measured(1).exactly(1);
        let mut claims = lab.claims().to_vec();
        for (claim, section) in claims.iter_mut().zip(["1. A", "1. A", "1. A", "2. B & C", "3. D"]) {
            claim.section = section.into();
        }
        let html = claims_as_html(&claims);
        for fold in [
            "<details class=\"lab-checks\"><summary>1. A · All 2 checks hold.</summary>",
            "<details class=\"lab-checks\" open><summary>2. B &amp; C · The check does not hold.</summary>",
            "<details class=\"lab-checks\" open><summary>3. D · The check holds.</summary>",
        ] {
            assert!(html.contains(fold), "{fold}: {html}");
        }
        assert_eq!(html.matches("<td>b</td>").count(), 1);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["", "../x", "a/b", "a b", "x.json"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name("01-consistent-hashing").is_ok());
    }
}
