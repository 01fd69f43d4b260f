//! What a chart accepts as a number, a point, a spread; so that a cell needs no `as f64`.

use std::time::Duration;

/// Anything that a chart can place on an axis.
pub trait Number {
    /// As a floating-point number.
    fn value(self) -> f64;
}

macro_rules! number {
    ($($kind:ty)*) => {$(
        impl Number for $kind {
            fn value(self) -> f64 {
                self as f64
            }
        }
    )*};
}

number!(f64 f32 u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

impl<N: Number + Copy> Number for &N {
    fn value(self) -> f64 {
        (*self).value()
    }
}

/// A span of time: a [`Duration`], or seconds.
///
/// Not implemented for whole numbers, so that nanoseconds are not taken for seconds.
pub trait Time {
    /// As seconds.
    fn seconds(self) -> f64;
}

impl Time for f64 {
    fn seconds(self) -> f64 {
        self
    }
}

impl Time for Duration {
    fn seconds(self) -> f64 {
        self.as_secs_f64()
    }
}

/// A point of a line: `(x, y)`, or a reference to one.
pub trait Point {
    /// The two coordinates.
    fn xy(self) -> (f64, f64);
}

impl<X: Number, Y: Number> Point for (X, Y) {
    fn xy(self) -> (f64, f64) {
        (self.0.value(), self.1.value())
    }
}

impl<P: Point + Copy> Point for &P {
    fn xy(self) -> (f64, f64) {
        (*self).xy()
    }
}

/// A value measured several times: the median, the lowest and the highest.
///
/// Made from the runs themselves or, when they are summarised already, from `(mid, low, high)`:
///
/// ```
/// use lab::chart::Spread;
///
/// let spread = Spread::from([4.8, 5.3, 4.9, 5.0, 5.1]);
/// assert_eq!((spread.mid, spread.low, spread.high), (5.0, 4.8, 5.3));
/// assert_eq!(Spread::from((5.0, 4.8, 5.3)).mid, 5.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub mid: f64,
    /// The lowest run.
    pub low: f64,
    /// The highest run.
    pub high: f64,
    pub(super) runs: usize,
    pub(super) left_out: usize,
}

impl Spread {
    pub(super) fn exact(value: f64) -> Self {
        Self { mid: value, low: value, high: value, runs: 1, left_out: 0 }
    }

    pub(super) fn is_wide(&self) -> bool {
        self.low < self.high
    }
}

impl<N: Number> From<(N, N, N)> for Spread {
    fn from((mid, low, high): (N, N, N)) -> Self {
        let (low, high) = (low.value(), high.value());
        Self { mid: mid.value(), low: low.min(high), high: high.max(low), runs: 0, left_out: 0 }
    }
}

impl From<&crate::Samples> for Spread {
    fn from(samples: &crate::Samples) -> Self {
        samples.values().into()
    }
}

impl From<crate::Samples> for Spread {
    fn from(samples: crate::Samples) -> Self {
        samples.values().into()
    }
}

impl<N: Number + Copy> From<&[N]> for Spread {
    fn from(samples: &[N]) -> Self {
        let mut usable: Vec<f64> = samples.iter().map(Number::value).filter(|value| value.is_finite()).collect();
        usable.sort_by(f64::total_cmp);
        let left_out = samples.len() - usable.len();
        let (Some(low), Some(high)) = (usable.first(), usable.last()) else {
            return Self { mid: f64::NAN, low: f64::NAN, high: f64::NAN, runs: 0, left_out };
        };
        let middle = usable.len() / 2;
        let mid = if usable.len() % 2 == 1 { usable[middle] } else { usable[middle - 1] / 2.0 + usable[middle] / 2.0 };
        Self { mid, low: *low, high: *high, runs: usable.len(), left_out }
    }
}

impl<N: Number + Copy> From<&Vec<N>> for Spread {
    fn from(samples: &Vec<N>) -> Self {
        samples.as_slice().into()
    }
}

impl<N: Number + Copy> From<Vec<N>> for Spread {
    fn from(samples: Vec<N>) -> Self {
        samples.as_slice().into()
    }
}

impl<N: Number + Copy, const COUNT: usize> From<[N; COUNT]> for Spread {
    fn from(samples: [N; COUNT]) -> Self {
        samples.as_slice().into()
    }
}

impl<N: Number + Copy, const COUNT: usize> From<&[N; COUNT]> for Spread {
    fn from(samples: &[N; COUNT]) -> Self {
        samples.as_slice().into()
    }
}

/// A point with its spread: `(x, mid, low, high)`, or `(x, samples)`.
pub trait SpreadPoint {
    /// Where it is and what was measured there.
    fn at(self) -> (f64, Spread);
}

impl<X: Number, Y: Number> SpreadPoint for (X, Y, Y, Y) {
    fn at(self) -> (f64, Spread) {
        (self.0.value(), Spread::from((self.1, self.2, self.3)))
    }
}

impl<X: Number, S: Into<Spread>> SpreadPoint for (X, S) {
    fn at(self) -> (f64, Spread) {
        (self.0.value(), self.1.into())
    }
}

impl<P: SpreadPoint + Clone> SpreadPoint for &P {
    fn at(self) -> (f64, Spread) {
        self.clone().at()
    }
}

/// Whether a value can be drawn at all. Beyond 10^150 even differences of two values overflow.
pub(super) fn drawable(value: f64) -> bool {
    value.is_finite() && value.abs() <= 1e150
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_runs_is_between() {
        assert_eq!(Spread::from(vec![4, 1, 3, 2]).mid, 2.5);
        let spread = Spread::from([f64::NAN, 3.0, f64::INFINITY]);
        assert_eq!((spread.mid, spread.runs, spread.left_out), (3.0, 1, 2));
        assert!(Spread::from([f64::NAN]).mid.is_nan());
        assert!(Spread::from(Vec::<f64>::new()).mid.is_nan());
    }

    #[test]
    fn points_come_in_every_shape() {
        assert_eq!((1_u64, 2.5).xy(), (1.0, 2.5));
        assert_eq!((&(1, 2)).xy(), (1.0, 2.0));
        assert_eq!((10, 2.0, 3.0, 1.0).at(), (10.0, Spread::from((2.0, 1.0, 3.0))));
        assert_eq!((&(10, vec![1.0, 2.0, 3.0])).at().1.mid, 2.0);
    }
}
