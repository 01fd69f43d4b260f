//! From values to positions, and where the ticks go.

use super::number::drawable;

/// How far apart numbers are on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    #[default]
    Linear,
    Log,
}

impl Kind {
    /// Whether the value has a place on such an axis. Around the smallest numbers that there are, logarithms end.
    pub(super) fn holds(self, value: f64) -> bool {
        drawable(value) && (self == Kind::Linear || value >= 1e-150)
    }
}

/// A range of values mapped to 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) kind: Kind,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Scale {
    /// The smallest range that holds all values; a range that is no range is widened.
    pub(super) fn around(kind: Kind, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = values
            .into_iter()
            .filter(|value| kind.holds(*value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low > high { (if kind == Kind::Log { 1.0 } else { 0.0 }, 1.0) } else { (low, high) };
        let scale = Self { kind, low, high };
        match kind {
            Kind::Log if high / low < 1.0 + 1e-9 => Self { low: low / 2.0, high: high * 2.0, ..scale },
            Kind::Linear if high - low <= 1e-9 * low.abs().max(high.abs()) => {
                let margin = if high == 0.0 { 1.0 } else { high.abs() * 0.5 };
                Self { low: low - margin, high: high + margin, ..scale }
            }
            _ => scale,
        }
    }

    /// Widened to include zero, unless the data is far away from it.
    pub(super) fn towards_zero(self) -> Self {
        if self.kind == Kind::Log {
            return self;
        }
        let Self { low, high, .. } = self;
        if low > 0.0 && low < 0.7 * high {
            Self { low: 0.0, ..self }
        } else if high < 0.0 && high > 0.7 * low {
            Self { high: 0.0, ..self }
        } else {
            self
        }
    }

    /// Widened to end on ticks.
    pub(super) fn rounded(self, ticks: usize) -> Self {
        match self.kind {
            Kind::Linear => {
                let step = self.step(ticks);
                let (low, high) = ((self.low / step + 1e-9).floor() * step, (self.high / step - 1e-9).ceil() * step);
                if low < high { Self { low, high, ..self } } else { self }
            }
            Kind::Log => {
                let nice = |value: f64, up: bool| {
                    let power = 10_f64.powf(value.log10().floor());
                    let stops = [1.0, 2.0, 5.0, 10.0].map(|stop| stop * power);
                    let found = if up {
                        stops.into_iter().find(|stop| *stop >= value * (1.0 - 1e-9))
                    } else {
                        stops.into_iter().rev().find(|stop| *stop <= value * (1.0 + 1e-9))
                    };
                    found.filter(|stop| *stop > 0.0 && stop.is_finite()).unwrap_or(value)
                };
                Self { low: nice(self.low, false), high: nice(self.high, true), ..self }
            }
        }
    }

    /// Widened on both sides by a share of its length.
    pub(super) fn padded(self, share: f64) -> Self {
        match self.kind {
            Kind::Linear => {
                let margin = (self.high - self.low) * share;
                Self { low: self.low - margin, high: self.high + margin, ..self }
            }
            Kind::Log => {
                let factor = (self.high / self.low).powf(share);
                Self { low: self.low / factor, high: self.high * factor, ..self }
            }
        }
    }

    /// 0 at the low end, 1 at the high end, beyond for values outside.
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log if value <= 0.0 => -1e6,
            Kind::Log => (value.log10() - self.low.log10()) / (self.high.log10() - self.low.log10()),
        };
        if share.is_nan() { 0.0 } else { share.clamp(-1e6, 1e6) }
    }

    /// The value at a share of the axis; the other way round than `place`.
    pub(super) fn value(&self, share: f64) -> f64 {
        match self.kind {
            Kind::Linear => self.low + (self.high - self.low) * share,
            Kind::Log => 10_f64.powf(self.low.log10() + (self.high.log10() - self.low.log10()) * share),
        }
    }

    pub(super) fn covers(&self, value: f64) -> bool {
        let share = self.place(value);
        self.kind.holds(value) && (-1e-9..=1.0 + 1e-9).contains(&share)
    }

    fn step(&self, ticks: usize) -> f64 {
        let rough = (self.high - self.low) / ticks.max(1) as f64;
        let power = 10_f64.powf(rough.log10().floor());
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|nice| nice * power).into_iter().find(|s| *s >= rough * 0.999).unwrap_or(rough)
    }

    /// About `wanted` round values within the range, never more than a few more.
    pub(super) fn ticks(&self, wanted: usize) -> Vec<f64> {
        let wanted = wanted.clamp(2, 20);
        if self.kind == Kind::Linear {
            return self.linear_ticks(wanted);
        }
        let (from, to) = (self.low.log10(), self.high.log10());
        let decades = ((from - 1e-9).ceil() as i32)..=((to + 1e-9).floor() as i32);
        let per_decade: &[f64] = match decades.clone().count() {
            0 | 1 if to - from < 0.7 => return self.linear_ticks(wanted.min(5)),
            count if count * 3 <= wanted + 2 => &[1.0, 2.0, 5.0],
            count if count >= 2 => &[1.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let every = decades.clone().count().div_ceil(wanted).max(1) as i32;
        let ticks: Vec<f64> = (*decades.start() - 1..=*decades.end())
            .filter(|decade| decade.rem_euclid(every) == 0)
            .flat_map(|decade| per_decade.iter().map(move |stop| power_of_ten(decade) * stop))
            .filter(|tick| self.covers(*tick) && *tick > 0.0)
            .collect();
        if ticks.len() < 2 { self.linear_ticks(3) } else { ticks }
    }

    /// Powers of two within the range, as many as are wanted.
    pub(super) fn doublings(&self, wanted: usize) -> Vec<f64> {
        let (from, to) = ((self.low.log2() - 1e-9).ceil() as i32, (self.high.log2() + 1e-9).floor() as i32);
        let every = ((to - from).max(0) as usize / wanted.max(1) + 1) as i32;
        (from..=to).filter(|power| power % every == 0).map(f64::from).map(f64::exp2).collect()
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<f64> {
        let step = Self { kind: Kind::Linear, ..*self }.step(wanted);
        let first = (self.low / step - 1e-9).ceil();
        (0..=3 * wanted)
            .map(|i| (first + i as f64) * step)
            .map(|tick| if tick.abs() < step * 1e-6 { 0.0 } else { tick })
            .take_while(|tick| *tick <= self.high + step * 1e-9)
            .filter(|tick| self.covers(*tick))
            .collect()
    }
}

/// Exact where floating point allows it: 10_f64.powi(-3) is not 0.001.
fn power_of_ten(exponent: i32) -> f64 {
    format!("1e{exponent}").parse().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(low: f64, high: f64) -> Scale {
        Scale { kind: Kind::Linear, low, high }
    }

    fn log(low: f64, high: f64) -> Scale {
        Scale { kind: Kind::Log, low, high }
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(linear(0.0, 10.0).ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(linear(-1.0, 1.0).ticks(4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(log(1.0, 1000.0).ticks(5), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(log(0.001, 1.0).ticks(5), [0.001, 0.01, 0.1, 1.0]);
        assert_eq!(log(1.0, 100.0).ticks(8), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert_eq!(log(1.0, 1024.0).doublings(6), [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0]);
        assert_eq!(log(1.0, 1e12).ticks(6), [1.0, 1e3, 1e6, 1e9, 1e12]);
    }

    #[test]
    fn every_range_has_a_few_ticks_inside_it() {
        for (low, high) in [(0.0, 1e-300), (1e149, 1e150), (1.0, 1.0 + 1e-8), (-1e150, 1e150), (3.1, 3.2), (7.0, 11.0)]
        {
            for scale in [linear(low, high), log(f64::max(low, high * 1e-150).max(1e-150), high.max(1e-149))] {
                let ticks = scale.ticks(6);
                assert!((1..=20).contains(&ticks.len()), "{scale:?} {ticks:?}");
                assert!(ticks.iter().all(|tick| scale.covers(*tick)), "{scale:?} {ticks:?}");
            }
        }
    }

    #[test]
    fn no_data_and_equal_data_still_make_a_range() {
        for kind in [Kind::Linear, Kind::Log] {
            for values in [vec![], vec![f64::NAN], vec![-1.0], vec![0.0], vec![5.0, 5.0], vec![1e150, 1e150]] {
                let scale = Scale::around(kind, values.clone());
                assert!(scale.low < scale.high, "{kind:?} {values:?} {scale:?}");
                assert!(scale.rounded(5).low < scale.rounded(5).high);
            }
        }
    }

    #[test]
    fn places_and_values_are_inverse() {
        for scale in [linear(-3.0, 17.0), log(0.02, 5e6)] {
            for share in [0.0, 0.1, 0.5, 1.0] {
                assert!((scale.place(scale.value(share)) - share).abs() < 1e-9);
            }
        }
    }
}
