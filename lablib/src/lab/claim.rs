//! A claim: a sentence, a measured value with its spread, and the bound that it must keep.

use serde::{Deserialize, Serialize};

use crate::lab::display::escape;
use crate::lab::samples::significant;
use crate::lab::{Experiment, Samples, Scale};

/// A claim that has been judged; one row of the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The sentence.
    pub claim: String,
    /// What theory, or the prototype, says; said before the run.
    pub predicted: Option<f64>,
    /// The judged value: a mean where the bound is one of standard errors, else a median. None where nothing was measured.
    pub measured: Option<f64>,
    /// The standard deviation of the samples.
    pub spread: f64,
    /// The unit of all these numbers.
    pub unit: String,
    /// The bound, as a reader reads it.
    pub tolerance: String,
    /// How many measurements stand behind it.
    pub samples: usize,
    /// The scale at which the claim is made: `quick`, `full` or `both`.
    pub made_at: String,
    /// Whether the measured value keeps the bound.
    pub holds: bool,
}

/// A claim in the making: say what was predicted and measured, then the bound, which judges it.
///
/// ```
/// use lablib::lab::Experiment;
///
/// let mut lab = Experiment::rehearsal("claims");
/// lab.claim("an exact count").measured(3).exactly(3);
/// lab.claim("a mean of many seeds").predicted(5.0).measured(vec![4.9, 5.2, 5.0]).unit("%").within_standard_errors(4.0);
/// lab.claim("a ratio of two arms").measured(7.5).unit("×").at_least(5.0);
/// assert!(lab.claims().iter().all(|claim| claim.holds));
/// ```
#[must_use = "a claim is judged by its bound: exactly, between, at_least, at_most, or within_standard_errors"]
#[derive(Debug)]
pub struct Claiming<'a> {
    lab: &'a mut Experiment,
    sentence: String,
    predicted: Option<f64>,
    measured: Samples,
    unit: String,
    made_at: Option<Scale>,
}

impl<'a> Claiming<'a> {
    pub(crate) fn new(lab: &'a mut Experiment, sentence: String) -> Self {
        let measured = Samples::default();
        Self { lab, sentence, predicted: None, measured, unit: String::new(), made_at: None }
    }

    /// What theory says, before the run.
    pub fn predicted(mut self, value: f64) -> Self {
        self.predicted = Some(value);
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
        self.judge(Samples::median, format!("exactly {}", significant(value)), holds);
    }

    /// The median is within `low` and `high`, both included.
    pub fn between(self, low: f64, high: f64) {
        let median = self.measured.median();
        let bound = format!("{} to {}", significant(low), significant(high));
        self.judge(Samples::median, bound, (low..=high).contains(&median));
    }

    /// The median is no smaller than `low`.
    pub fn at_least(self, low: f64) {
        let holds = self.measured.median() >= low;
        self.judge(Samples::median, format!("at least {}", significant(low)), holds);
    }

    /// The median is no larger than `high`.
    pub fn at_most(self, high: f64) {
        let holds = self.measured.median() <= high;
        self.judge(Samples::median, format!("at most {}", significant(high)), holds);
    }

    /// The mean of at least five samples is within so many of its own standard errors of the prediction.
    ///
    /// Four is the lab's habit: one draw in 16,000 of a true prediction falls outside. Samples without any spread must
    /// equal the prediction.
    pub fn within_standard_errors(self, errors: f64) {
        let Some(predicted) = self.predicted else {
            self.judge(Samples::mean, "a prediction, and there is none".into(), false);
            return;
        };
        if self.measured.len() < 3 {
            let bound = format!("a mean of at least 3 samples, not {}", self.measured.len());
            self.judge(Samples::mean, bound, false);
            return;
        }
        let (mean, allowed) = (self.measured.mean(), errors * self.measured.standard_error());
        let rounding = predicted.abs() * 1e-12;
        let bound = format!("{} ± {} ({errors} standard errors)", significant(predicted), significant(allowed));
        self.judge(Samples::mean, bound, (mean - predicted).abs() <= allowed + rounding);
    }

    fn judge(self, statistic: fn(&Samples) -> f64, tolerance: String, keeps_bound: bool) {
        let finite = self.measured.values().iter().all(|value| value.is_finite());
        let value = statistic(&self.measured);
        let tolerance = if self.measured.is_empty() {
            "something measured, and there is nothing".into()
        } else if !finite {
            "finite numbers, and one of them is not".into()
        } else {
            tolerance
        };
        let claim = Claim {
            claim: self.sentence,
            predicted: self.predicted,
            measured: value.is_finite().then_some(value),
            spread: self.measured.standard_deviation(),
            unit: self.unit,
            tolerance,
            samples: self.measured.len(),
            made_at: self.made_at.map_or_else(|| "both".into(), |scale| scale.to_string()),
            holds: keeps_bound && finite && !self.measured.is_empty(),
        };
        self.lab.record(claim, self.made_at);
    }
}

impl Claim {
    /// Predicted, measured and bound in one line.
    pub fn summary(&self) -> String {
        let mark = if self.holds { "✓" } else { "✗" };
        let predicted = self.predicted.map(|value| format!("predicted {}, ", self.with_unit(value)));
        format!(
            "{mark} {}: {}measured {}, bound {}",
            self.claim,
            predicted.unwrap_or_default(),
            self.measured_text(),
            self.tolerance
        )
    }

    fn with_unit(&self, value: f64) -> String {
        let gap = if self.unit.is_empty() { "" } else { "\u{202f}" };
        format!("{}{gap}{}", significant(value), self.unit)
    }

    fn measured_text(&self) -> String {
        let Some(measured) = self.measured else { return "nothing".into() };
        match self.samples {
            1 => self.with_unit(measured),
            count => format!("{} ± {} ({count} samples)", self.with_unit(measured), significant(self.spread)),
        }
    }
}

/// The verdict's table: one row a claim.
pub fn claims_as_html(claims: &[Claim]) -> String {
    let mut html = String::from(
        "<table class=\"lab-verdict\"><thead><tr><th scope=\"col\">claim</th><th scope=\"col\">predicted</th>\
         <th scope=\"col\">measured</th><th scope=\"col\">bound</th><th scope=\"col\">verdict</th></tr></thead><tbody>",
    );
    for claim in claims {
        let (class, word) = if claim.holds { ("holds", "✓ holds") } else { ("fails", "✗ does not hold") };
        let predicted = claim.predicted.map_or_else(|| "–".to_string(), |value| claim.with_unit(value));
        html.push_str(&format!(
            "<tr class=\"{class}\"><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td>{}</td><td class=\"mark\">{word}</td></tr>",
            escape(&claim.claim),
            escape(&predicted),
            escape(&claim.measured_text()),
            escape(&claim.tolerance),
        ));
    }
    html.push_str("</tbody></table>");
    html
}
