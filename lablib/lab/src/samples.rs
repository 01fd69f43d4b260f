//! Repeated measurements of one quantity, and what they say.

use std::time::Instant;

use crate::number::significant;
use crate::{Error, Frame, OrFail, Result};

/// Some measurements of one quantity, in the order in which they were taken.
///
/// ```
/// use lab::Samples;
///
/// let moved = Samples::from(vec![4.8, 5.1, 5.0, 4.9, 5.2]);
/// assert_eq!(moved.median(), 5.0);
/// assert_eq!(moved.to_string(), "5 ± 0.158 (5 samples)");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Samples {
    values: Vec<f64>,
    /// When the first of them was taken; not known of numbers that were handed over later.
    taken: Option<Instant>,
}

impl Samples {
    /// Adds one measurement.
    pub fn push(&mut self, value: f64) {
        if self.values.is_empty() {
            self.taken = Some(Instant::now());
        }
        self.values.push(value);
    }

    /// When the first of them was taken, where that is known: a prediction has to be older.
    pub(crate) fn taken(&self) -> Option<Instant> {
        self.taken
    }

    /// As if the first of them was taken at this moment.
    pub(crate) fn taken_at(mut self, moment: Option<Instant>) -> Self {
        self.taken = moment;
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The measurements themselves.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The arithmetic mean; NaN where nothing was measured.
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// The standard deviation of the samples (n - 1); 0 for a single one.
    pub fn standard_deviation(&self) -> f64 {
        if self.values.len() < 2 {
            return 0.0;
        }
        let mean = self.mean();
        (self.values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (self.values.len() - 1) as f64).sqrt()
    }

    /// The standard error of the mean.
    pub fn standard_error(&self) -> f64 {
        self.standard_deviation() / (self.values.len() as f64).sqrt()
    }

    /// The value below which the share `q` (0 to 1) of the samples lies, interpolated; NaN where nothing was measured.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let position = q.clamp(0.0, 1.0) * last as f64;
        let below = sorted[position.floor() as usize];
        let above = sorted[position.ceil() as usize];
        // Equal neighbours may be infinite, where an interpolation would be NaN.
        if below == above { below } else { below + (above - below) * position.fract() }
    }

    /// The middle value.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The smallest value; NaN where nothing was measured.
    pub fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    /// The largest value; NaN where nothing was measured.
    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// The largest over the mean: how far a load is from level.
    pub fn max_over_mean(&self) -> f64 {
        self.max() / self.mean()
    }

    /// Each sample through `f`.
    pub fn map(&self, f: impl FnMut(f64) -> f64) -> Self {
        Self { values: self.values.iter().copied().map(f).collect(), taken: self.taken }
    }

    /// How many times as large each is as its partner in `others`; ends the cell where one has no partner.
    pub fn over(&self, others: &Samples) -> Self {
        self.ratios(others).or_fail()
    }

    /// A row for each sample, in the columns that a [trial's](crate::Trial::frame) observations have: round (from 1), figure, unit,
    /// value. So what was measured by hand can be kept and drawn.
    ///
    /// ```
    /// use lab::Samples;
    ///
    /// let moved = Samples::from(vec![4.8, 5.1, 5.0]).frame("moved", "%");
    /// assert_eq!(moved.filter("round", 2).number("value"), 5.1);
    /// ```
    pub fn frame(&self, figure: &str, unit: &str) -> Frame {
        Frame::new()
            .counts("round", "", 1..=self.values.len() as u64)
            .everywhere("figure", "", figure)
            .everywhere("unit", "", unit)
            .numbers("value", unit, self.values.iter().copied())
            .taken_at(self.taken)
    }

    fn ratios(&self, others: &Samples) -> Result<Self> {
        if self.len() != others.len() {
            let cause = format!("there are {} of the one and {} of the other", self.len(), others.len());
            return Err(Error::new("divide samples by each other", cause));
        }
        let values = self.values.iter().zip(&others.values).map(|(over, under)| over / under).collect();
        Ok(Self { values, taken: self.taken.into_iter().chain(others.taken).min() })
    }
}

impl PartialEq for Samples {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl std::fmt::Display for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.values.as_slice() {
            [] => f.write_str("nothing measured"),
            [one] => f.write_str(&significant(*one)),
            _ => {
                let (mean, sd) = (self.mean(), self.standard_deviation());
                write!(f, "{} ± {} ({} samples)", significant(mean), significant(sd), self.values.len())
            }
        }
    }
}

impl From<f64> for Samples {
    fn from(value: f64) -> Self {
        Self { values: vec![value], taken: None }
    }
}

impl From<u64> for Samples {
    fn from(value: u64) -> Self {
        Self { values: vec![value as f64], taken: None }
    }
}

impl From<usize> for Samples {
    fn from(value: usize) -> Self {
        Self { values: vec![value as f64], taken: None }
    }
}

impl From<i32> for Samples {
    fn from(value: i32) -> Self {
        Self { values: vec![f64::from(value)], taken: None }
    }
}

impl From<bool> for Samples {
    /// 1 for true: "does it hold?" as a measured value.
    fn from(value: bool) -> Self {
        Self { values: vec![f64::from(u8::from(value))], taken: None }
    }
}

impl From<Vec<f64>> for Samples {
    fn from(values: Vec<f64>) -> Self {
        Self { values, taken: None }
    }
}

impl From<&[f64]> for Samples {
    fn from(values: &[f64]) -> Self {
        Self { values: values.to_vec(), taken: None }
    }
}

impl From<&Samples> for Samples {
    fn from(samples: &Samples) -> Self {
        samples.clone()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|value| samples.push(value));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_a_known_series() {
        let samples = Samples::from(vec![2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(samples.mean(), 5.0);
        assert!((samples.standard_deviation() - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(samples.median(), 4.5);
        assert_eq!((samples.min(), samples.max()), (2.0, 9.0));
    }

    #[test]
    fn ratios_go_pair_by_pair_and_are_as_old_as_the_older_half() {
        let early: Samples = [2.0, 9.0].into_iter().collect();
        let late: Samples = [4.0, 3.0].into_iter().collect();
        assert_eq!(late.over(&early).values(), [2.0, 1.0 / 3.0]);
        assert_eq!((late.over(&early).taken(), early.over(&late).taken()), (early.taken(), early.taken()));
        let error = early.ratios(&Samples::from(1.0)).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("could not divide samples by each other: there are 2 of the one and 1 of the other".into())
        );
    }

    #[test]
    fn nothing_measured_is_not_a_number() {
        let nothing = Samples::default();
        assert!(nothing.mean().is_nan() && nothing.median().is_nan() && nothing.max().is_nan());
        assert_eq!(nothing.to_string(), "nothing measured");
    }
}
