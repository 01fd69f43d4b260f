//! A claim: a sentence, a measured value with its spread, and the bound that it must keep.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::display::escape;
use crate::number::significant;
use crate::{Error, Experiment, Guess, OrFail, Samples, Scale};

/// How often a true prediction may be called wrong: once in so many claims.
const FALSE_ALARM: f64 = 1.0 / 16_000.0;

/// Fewer samples than this say next to nothing about their own spread.
const ENOUGH: usize = 5;

/// What theory, or whoever measured before, says about a figure, before it is measured; made by [`Experiment::predict`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    value: f64,
    tolerance: f64,
    made: Instant,
}

impl Prediction {
    pub(crate) fn new(value: f64, tolerance: f64) -> Self {
        Self { value, tolerance, made: Instant::now() }
    }

    /// The predicted value.
    pub fn value(self) -> f64 {
        self.value
    }

    fn comes_true(self, measured: f64) -> bool {
        (measured - self.value).abs() <= self.tolerance + self.value.abs() * 1e-12
    }
}

/// A claim that has been judged; one row of the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The sentence.
    pub claim: String,
    /// What theory, or the prototype, says; said before the run.
    pub predicted: Option<f64>,
    /// How far the measured value may be from the predicted one before the prediction counts as missed.
    pub predicted_within: Option<f64>,
    /// Whether the prediction came true: a claim can hold although it did not. None where nothing was predicted.
    pub came_true: Option<bool>,
    /// The judged value: a mean where the bound is a confidence interval, else a median. None where nothing was measured.
    pub measured: Option<f64>,
    /// The standard deviation of the samples.
    pub spread: f64,
    /// The unit of all these numbers.
    pub unit: String,
    /// The bound, as a reader reads it.
    pub tolerance: String,
    /// The smallest value that keeps the bound; none where there is no such number, or a confidence interval judged.
    #[serde(default)]
    pub low: Option<f64>,
    /// The largest.
    #[serde(default)]
    pub high: Option<f64>,
    /// How many measurements stand behind it.
    pub samples: usize,
    /// The scale at which the claim is made: `quick`, `full` or `both`.
    pub made_at: String,
    /// Whether the measured value keeps the bound.
    pub holds: bool,
    /// Whether it is a check: judged, counted and failing the run like a claim, but nothing that a reader is asked to remember.
    #[serde(default)]
    pub check: bool,
    /// What the reader said before it was measured, in the same unit.
    #[serde(default)]
    pub guessed: Option<f64>,
    /// The section of the notebook that it stands in; empty where nobody knows.
    #[serde(default)]
    pub section: String,
}

/// A claim in the making: say what was predicted and measured, then the bound, which judges it.
///
/// The bound alone decides whether a claim holds. Its prediction is judged beside it: a claim may hold although the prediction
/// missed, and the verdict says so. A prediction must be older than what it is compared with, else the claim is refused.
///
/// ```
/// use lab::{Experiment, Samples};
///
/// let mut lab = Experiment::rehearsal("claims");
/// let moved = lab.predict("keys that move, in %", 5.0, 0.5);
/// let measured = Samples::from(vec![4.9, 5.2, 5.0, 5.1, 4.8]);
///
/// lab.claim("an exact count").measured(3).exactly(3);
/// lab.claim("a mean of many seeds").predicted(moved).measured(&measured).unit("%").within_confidence();
/// lab.claim("a ratio of two arms").measured(7.5).unit("×").at_least(5.0);
/// assert!(lab.claims().iter().all(|claim| claim.holds));
/// ```
#[must_use = "a claim is judged by its bound: exactly, between, at_least, at_most, or within_confidence"]
#[derive(Debug)]
pub struct Claiming<'a> {
    lab: &'a mut Experiment,
    sentence: String,
    predicted: Option<Prediction>,
    guessed: Option<&'a Guess>,
    measured: Samples,
    unit: String,
    made_at: Option<Scale>,
    check: bool,
}

impl<'a> Claiming<'a> {
    pub(crate) fn new(lab: &'a mut Experiment, sentence: String, check: bool) -> Self {
        let measured = Samples::default();
        let (predicted, guessed, unit) = (None, None, String::new());
        Self { lab, sentence, predicted, guessed, measured, unit, made_at: None, check }
    }

    /// What was said before the run, by [`Experiment::predict`].
    pub fn predicted(mut self, prediction: Prediction) -> Self {
        self.predicted = Some(prediction);
        self
    }

    /// What the reader said before the run, by [`Experiment::guess`], in the claim's unit: the verdict compares. Nothing where there is no
    /// guess.
    pub fn guessed(mut self, guess: &'a Guess) -> Self {
        self.guessed = Some(guess);
        self
    }

    /// What was measured: a number, a list of numbers, or [`Samples`].
    pub fn measured(mut self, samples: impl Into<Samples>) -> Self {
        self.measured = samples.into();
        self
    }

    /// The unit of the numbers.
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = unit.to_string();
        self
    }

    /// The claim is made at this scale only; at the other it is left out.
    pub fn only_at(mut self, scale: Scale) -> Self {
        self.made_at = Some(scale);
        self
    }

    /// Every sample equals `value`. For counts: correctness has no tolerance.
    pub fn exactly(self, value: impl Into<Samples>) {
        let value = value.into().median();
        let holds = self.measured.values().iter().all(|&sample| sample == value);
        self.judge(Samples::median, format!("exactly {}", significant(value)), [Some(value); 2], holds);
    }

    /// The median is within `low` and `high`, both included.
    pub fn between(self, low: f64, high: f64) {
        let median = self.measured.median();
        let bound = format!("{} to {}", significant(low), significant(high));
        self.judge(Samples::median, bound, [Some(low), Some(high)], (low..=high).contains(&median));
    }

    /// The median is no smaller than `low`.
    pub fn at_least(self, low: f64) {
        let holds = self.measured.median() >= low;
        self.judge(Samples::median, format!("at least {}", significant(low)), [Some(low), None], holds);
    }

    /// The median is no larger than `high`.
    pub fn at_most(self, high: f64) {
        let holds = self.measured.median() <= high;
        self.judge(Samples::median, format!("at most {}", significant(high)), [None, Some(high)], holds);
    }

    /// The prediction lies in the confidence interval of the mean: Student's t for so many samples, at least five of them.
    ///
    /// One true prediction in 16,000 falls outside. Samples without any spread must equal the prediction.
    pub fn within_confidence(self) {
        let Some(prediction) = self.predicted else {
            self.judge(Samples::mean, "a prediction, and there is none".into(), [None; 2], false);
            return;
        };
        let (predicted, samples) = (prediction.value, self.measured.len());
        let Some(quantile) = t_quantile(samples) else {
            let bound = format!("a mean of at least {ENOUGH} samples, not {samples}");
            self.judge(Samples::mean, bound, [None; 2], false);
            return;
        };
        let (mean, allowed) = (self.measured.mean(), quantile * self.measured.standard_error());
        let rounding = predicted.abs() * 1e-12;
        let bound = format!(
            "{} ± {} ({} standard errors: Student's t, {samples} samples)",
            significant(predicted),
            significant(allowed),
            significant(quantile)
        );
        self.judge(Samples::mean, bound, [None; 2], (mean - predicted).abs() <= allowed + rounding);
    }

    fn judge(
        self,
        statistic: fn(&Samples) -> f64,
        tolerance: String,
        [low, high]: [Option<f64>; 2],
        keeps_bound: bool,
    ) {
        if let Some(guess) = self.guessed.filter(|guess| guess.unit() != self.unit) {
            let cause = format!("the guess is in {:?} and the claim in {:?}", guess.unit(), self.unit);
            Err::<(), _>(Error::new(format!("compare a guess with {:?}", self.sentence), cause)).or_fail();
        }
        let finite = self.measured.values().iter().all(|value| value.is_finite());
        let value = statistic(&self.measured);
        let too_late = self.predicted.is_some_and(|said| self.measured.taken().is_some_and(|taken| taken < said.made));
        let (tolerance, sound) = if self.measured.is_empty() {
            ("something measured, and there is nothing".into(), false)
        } else if !finite {
            ("finite numbers, and one of them is not".into(), false)
        } else if too_late {
            ("a prediction made before the measurement, and this one came after it".into(), false)
        } else {
            (tolerance, true)
        };
        let claim = Claim {
            claim: self.sentence,
            predicted: self.predicted.map(|said| said.value),
            predicted_within: self.predicted.map(|said| said.tolerance),
            came_true: self.predicted.map(|said| said.comes_true(value)),
            measured: value.is_finite().then_some(value),
            spread: self.measured.standard_deviation(),
            unit: self.unit,
            tolerance,
            low,
            high,
            samples: self.measured.len(),
            made_at: self.made_at.map_or_else(|| "both".into(), |scale| scale.to_string()),
            holds: keeps_bound && sound,
            check: self.check,
            guessed: self.guessed.and_then(Guess::value),
            section: String::new(),
        };
        self.lab.record(claim, self.made_at);
    }
}

/// By how many standard errors the mean of so many samples of a normal quantity is off once in 16,000 times.
fn t_quantile(samples: usize) -> Option<f64> {
    let freedom = samples.checked_sub(1).filter(|_| samples >= ENOUGH)?;
    let t = StudentsT::new(0.0, 1.0, freedom as f64).ok()?;
    Some(t.inverse_cdf(1.0 - FALSE_ALARM / 2.0))
}

impl Claim {
    /// Its sentence, predicted, measured and bound in one line.
    pub fn summary(&self) -> String {
        let mark = if self.holds { "✓" } else { "✗" };
        format!("{mark} {}: {}", self.claim, self.figures())
    }

    /// Predicted, measured and bound.
    fn figures(&self) -> String {
        let predicted = self.predicted_text().map(|text| format!("predicted {text}, ")).unwrap_or_default();
        let missed = if self.prediction_missed() { "; it holds, but the prediction missed" } else { "" };
        let guessed = self.guessed_text().map(|text| format!("; {text}")).unwrap_or_default();
        format!("{predicted}measured {}, bound {}{missed}{guessed}", self.measured_text(), self.tolerance)
    }

    /// What its cell shows. Its sentence stands in the code above and in the verdict, and here only where it does not hold.
    pub(crate) fn line(&self) -> String {
        let class = if self.holds { "holds" } else { "fails" };
        let quiet = if self.check { " check" } else { "" };
        let text = if self.holds { format!("✓ holds: {}", self.figures()) } else { self.summary() };
        format!("<p class=\"lab-claim {class}{quiet}\" title=\"{}\">{}</p>", escape(&self.claim), escape(&text))
    }

    /// "you said 30 %, it is 4.95 %".
    fn guessed_text(&self) -> Option<String> {
        Some(format!("you said {}, it is {}", self.with_unit(self.guessed?), self.with_unit(self.measured?)))
    }

    /// Whether it holds, although something else was predicted.
    pub fn prediction_missed(&self) -> bool {
        self.holds && self.came_true == Some(false)
    }

    /// The prediction and how far off it may be; in the verdict, ± beside a measured value is the standard deviation.
    fn predicted_text(&self) -> Option<String> {
        let value = self.with_unit(self.predicted?);
        match self.predicted_within {
            Some(within) if within > 0.0 => Some(format!("{value} (within {})", significant(within))),
            _ => Some(value),
        }
    }

    fn with_unit(&self, value: f64) -> String {
        let gap = if self.unit.is_empty() { "" } else { "\u{202f}" };
        let number = significant(value);
        let unit = if number == "1" { one_of(&self.unit) } else { self.unit.clone() };
        format!("{number}{gap}{unit}")
    }

    fn measured_text(&self) -> String {
        let Some(measured) = self.measured else { return "nothing".into() };
        match self.samples {
            1 => self.with_unit(measured),
            count => format!("{} ± {} ({count} samples)", self.with_unit(measured), significant(self.spread)),
        }
    }
}

/// The unit of a single one: "1 key", not "1 keys". Of several words the first that stands for many is the one that counts
/// ("ports at the client", "wrong answers"); symbols are none ("ms", "×", "connections/s").
fn one_of(unit: &str) -> String {
    let is_word =
        |word: &str| word.len() > 2 && word.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '-');
    let many = |word: &&str| is_word(word) && word.ends_with('s') && !word.ends_with("ss") && !word.ends_with("us");
    let Some(word) = unit.split(' ').find(many).filter(|_| unit.starts_with(|letter: char| letter.is_alphabetic()))
    else {
        return unit.to_string();
    };
    let endings = [
        ("lives", "life"),
        ("ies", "y"),
        ("sses", "ss"),
        ("tches", "tch"),
        ("rches", "rch"),
        ("shes", "sh"),
        ("xes", "x"),
        ("s", ""),
    ];
    let found = endings.iter().find_map(|(many, one)| Some(format!("{}{one}", word.strip_suffix(many)?)));
    unit.replacen(word, &found.unwrap_or_default(), 1)
}

/// The verdict's table: one row a claim; and the checks in a table for each section of the notebook, folded where all of them hold
/// as predicted.
pub fn claims_as_html(claims: &[Claim]) -> String {
    let (checks, claims): (Vec<&Claim>, Vec<&Claim>) = claims.iter().partition(|claim| claim.check);
    let mut sections: Vec<(&str, Vec<&Claim>)> = Vec::new();
    for check in checks {
        match sections.iter_mut().find(|(section, _)| *section == check.section) {
            Some((_, checks)) => checks.push(check),
            None => sections.push((&check.section, vec![check])),
        }
    }
    let mut html = table_of("claim", &claims);
    for (section, checks) in sections {
        let failed = checks.iter().filter(|check| !check.holds).count();
        let open = if checks.iter().any(|check| !check.holds || check.prediction_missed()) { " open" } else { "" };
        let said = said_of(checks.len(), failed, "check");
        let summary = match section {
            "" => said,
            section => format!("{} · {said}", escape(section)),
        };
        html.push_str(&format!(
            "<details class=\"lab-checks\"{open}><summary>{summary}</summary>{}</details>",
            table_of("check", &checks)
        ));
    }
    html
}

/// "All 12 checks hold."; "2 of 12 checks do not hold."
pub(crate) fn said_of(count: usize, failed: usize, what: &str) -> String {
    match (count, failed) {
        (1, 0) => format!("The {what} holds."),
        (count, 0) => format!("All {count} {what}s hold."),
        (1, _) => format!("The {what} does not hold."),
        (count, 1) => format!("1 of {count} {what}s does not hold."),
        (count, failed) => format!("{failed} of {count} {what}s do not hold."),
    }
}

fn table_of(what: &str, claims: &[&Claim]) -> String {
    let mut html = format!(
        "<table class=\"lab-verdict\"><thead><tr><th scope=\"col\">{what}</th><th scope=\"col\">predicted</th>\
         <th scope=\"col\">measured (± standard deviation)</th><th scope=\"col\">bound</th><th scope=\"col\">verdict</th>\
         </tr></thead><tbody>",
    );
    for claim in claims {
        let (class, word) = match claim.holds {
            true if claim.prediction_missed() => ("missed", "✓ holds, but the prediction missed"),
            true => ("holds", "✓ holds"),
            false => ("fails", "✗ does not hold"),
        };
        let guessed = claim.guessed_text().map(|text| format!("<small>{}</small>", escape(&text))).unwrap_or_default();
        html.push_str(&format!(
            "<tr class=\"{class}\"><td>{}{guessed}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td>{}</td><td class=\"mark\">{word}</td></tr>",
            escape(&claim.claim),
            escape(&claim.predicted_text().unwrap_or_else(|| "–".into())),
            escape(&claim.measured_text()),
            escape(&claim.tolerance),
        ));
    }
    html.push_str("</tbody></table>");
    html
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        for (unit, one) in [
            ("times", "time"),
            ("keys", "key"),
            ("entries", "entry"),
            ("processes", "process"),
            ("batches", "batch"),
            ("caches", "cache"),
            ("re-splits", "re-split"),
            ("half-lives", "half-life"),
            ("wrong answers", "wrong answer"),
            ("ports at the client", "port at the client"),
            ("ids", "id"),
            ("s", "s"),
            ("ms", "ms"),
            ("connections/s", "connections/s"),
            ("× the posts", "× the posts"),
            ("claim", "claim"),
            ("%", "%"),
            ("", ""),
        ] {
            assert_eq!(one_of(unit), one, "{unit:?}");
        }
        let mut lab = Experiment::rehearsal("test");
        lab.claim("served").measured(1).unit("times").exactly(1);
        lab.claim("served").measured(2).unit("times").exactly(2);
        assert_eq!(lab.claims()[0].summary(), "✓ served: measured 1\u{202f}time, bound exactly 1");
        assert_eq!(lab.claims()[1].summary(), "✓ served: measured 2\u{202f}times, bound exactly 2");
    }

    /// The quantiles of Student's t at 1 − 1/32,000, by numerical integration of its density.
    #[test]
    fn few_samples_are_given_more_room() {
        assert_eq!(t_quantile(4), None);
        for (samples, expected) in [(5, 17.507), (8, 8.485), (20, 5.108), (200, 4.090)] {
            let quantile = t_quantile(samples).unwrap();
            assert!((quantile - expected).abs() < 0.001, "{samples} samples: {quantile}");
        }
    }

    /// What the bound promises, tried: of 4,000 means of five samples around a true prediction hardly one is refused, where the
    /// normal distribution's four standard errors would refuse 65.
    #[test]
    fn a_true_prediction_is_hardly_ever_refused() {
        let mut rng = crate::Rng::seeded(7, "true predictions");
        let mut normal = || (0..12).map(|_| rng.unit()).sum::<f64>() - 6.0;
        let (mut refused, mut beyond_four) = (0, 0);
        for _ in 0..4_000 {
            let samples: Samples = (0..5).map(|_| normal()).collect();
            let off = samples.mean().abs() / samples.standard_error();
            refused += usize::from(off > t_quantile(5).unwrap());
            beyond_four += usize::from(off > 4.0);
        }
        assert!(refused <= 2, "{refused} of 4,000");
        assert!((30..110).contains(&beyond_four), "{beyond_four} of 4,000");
    }
}
