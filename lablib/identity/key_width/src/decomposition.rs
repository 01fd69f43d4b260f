//! Two things changed at once: how much of the difference is whose?

use lab::{Error, Result};

/// What something costs for keys that are narrow or wide, in order or out of order; and so what each of the two costs.
///
/// A cost is a product: going from narrow and in order to wide and out of order multiplies it by [`total`](Self::total).
/// There are two ways to get there, over either corner, and a factor is the geometric mean of what it does on both.
///
/// ```
/// use key_width::Decomposition;
///
/// let bytes = Decomposition::of([14.0, 26.0, 20.0, 38.0]).unwrap();
/// assert!((bytes.width() * bytes.order() - bytes.total()).abs() < 1e-12);
/// assert!(bytes.width() > bytes.order());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decomposition {
    /// Narrow keys in order.
    pub narrow: f64,
    /// Wide keys in order.
    pub wide: f64,
    /// Narrow keys out of order.
    pub narrow_random: f64,
    /// Wide keys out of order.
    pub wide_random: f64,
}

impl Decomposition {
    /// Of four costs, all above zero: narrow and wide in order, narrow and wide out of order, as the [two by two](crate::Arm::two_by_two).
    pub fn of(costs: [f64; 4]) -> Result<Self> {
        let [narrow, wide, narrow_random, wide_random] = costs;
        if costs.iter().any(|cost| !cost.is_finite() || *cost <= 0.0) {
            return Err(Error::new("take a cost apart", format!("{costs:?} are not four numbers above zero")));
        }
        Ok(Self { narrow, wide, narrow_random, wide_random })
    }

    /// How many times as much wide keys out of order cost as narrow ones in order.
    pub fn total(&self) -> f64 {
        self.wide_random / self.narrow
    }

    /// What width multiplies the cost by: in order, and out of order.
    pub fn widths(&self) -> (f64, f64) {
        (self.wide / self.narrow, self.wide_random / self.narrow_random)
    }

    /// What disorder multiplies the cost by: of narrow keys, and of wide ones.
    pub fn orders(&self) -> (f64, f64) {
        (self.narrow_random / self.narrow, self.wide_random / self.wide)
    }

    /// What width multiplies the cost by.
    pub fn width(&self) -> f64 {
        let (first, last) = self.widths();
        (first * last).sqrt()
    }

    /// What disorder multiplies the cost by.
    pub fn order(&self) -> f64 {
        let (first, last) = self.orders();
        (first * last).sqrt()
    }

    /// The share of the whole factor that is width's, in per cent of its logarithm; the rest is order's.
    pub fn width_share(&self) -> f64 {
        100.0 * self.width().ln() / self.total().ln()
    }
}
