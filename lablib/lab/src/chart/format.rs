//! Numbers as people read them: 1,234,567, 4.95 %, 12 µs, 3.4 MB, 2×10⁻⁷.

pub(super) use crate::number::{GAP, fixed, power_of_ten, three_digits, time, time_unit};

/// What the numbers of an axis mean.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Unit {
    #[default]
    None,
    Percent,
    Times,
    /// Holds the seconds in one unit, so that `ms` and `ns` are both shown as people say them.
    Time(f64),
    /// Holds the bytes in one unit.
    Bytes(f64),
    /// Anything else stands beside the axis, not at every number.
    Other(String),
}

impl Unit {
    pub(super) fn parse(text: &str) -> Self {
        match text.trim() {
            "" => Unit::None,
            "%" => Unit::Percent,
            "×" | "x" | "times" => Unit::Times,
            "s" | "seconds" => Unit::Time(1.0),
            "ms" => Unit::Time(1e-3),
            "µs" | "μs" | "us" => Unit::Time(1e-6),
            "ns" => Unit::Time(1e-9),
            "B" | "bytes" => Unit::Bytes(1.0),
            "kB" | "KB" => Unit::Bytes(1e3),
            "MB" => Unit::Bytes(1e6),
            "GB" => Unit::Bytes(1e9),
            other => Unit::Other(other.to_string()),
        }
    }

    /// What the axis label adds in brackets; empty where every tick already says it.
    pub(super) fn in_label(&self) -> &str {
        match self {
            Unit::Other(unit) => unit,
            _ => "",
        }
    }

    /// As it was given.
    pub(super) fn symbol(&self) -> &str {
        let of = |factor: f64, symbols: &'static [(f64, &'static str)]| {
            symbols.iter().find(|(known, _)| *known == factor).map_or("", |(_, symbol)| symbol)
        };
        match self {
            Unit::None => "",
            Unit::Percent => "%",
            Unit::Times => "×",
            Unit::Time(seconds) => of(*seconds, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]),
            Unit::Bytes(bytes) => of(*bytes, &[(1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")]),
            Unit::Other(unit) => unit,
        }
    }

    /// One value on its own, to three digits.
    pub(super) fn show(&self, value: f64) -> String {
        match self {
            Unit::None | Unit::Other(_) => plain(value),
            Unit::Percent => format!("{}{GAP}%", plain(value)),
            Unit::Times => format!("{}×", plain(value)),
            Unit::Time(seconds) => time(value * seconds),
            Unit::Bytes(bytes) => bytes_of(value * bytes),
        }
    }

    /// One value with its unit, wherever it comes from.
    pub(super) fn show_with_unit(&self, value: f64) -> String {
        match self {
            Unit::Other(unit) => format!("{}{GAP}{unit}", plain(value)),
            _ => self.show(value),
        }
    }

    /// Labels of an axis: one prefix and one number of decimals for all, unless it is logarithmic.
    pub(super) fn ticks(&self, ticks: &[f64], log: bool) -> Vec<String> {
        let largest = ticks.iter().fold(0.0_f64, |largest, tick| largest.max(tick.abs()));
        let step = ticks.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(f64::INFINITY, f64::min);
        if log {
            return ticks.iter().map(|tick| self.show(*tick)).collect();
        }
        let (factor, suffix) = match self {
            Unit::None | Unit::Other(_) => prefix(largest, 1e6),
            Unit::Percent => (1.0, format!("{GAP}%")),
            Unit::Times => (1.0, "×".to_string()),
            Unit::Time(seconds) => {
                let (factor, unit) = time_unit(largest * seconds);
                (factor / seconds, format!("{GAP}{unit}"))
            }
            Unit::Bytes(bytes) => {
                let (factor, unit) = prefix(largest * bytes, 1e3);
                (factor / bytes, if unit.is_empty() { format!("{GAP}B") } else { format!("{unit}B") })
            }
        };
        if largest / factor >= 1e15 || (step.is_finite() && step / factor < 1e-6) {
            return ticks.iter().map(|tick| self.show(*tick)).collect();
        }
        let decimals = decimals_of(step / factor);
        let label = |tick: &f64| {
            let number = fixed(tick / factor, decimals);
            // A bare zero, as long as it is not the only thing that says what is counted.
            if *tick == 0.0 && ticks.len() > 1 { "0".to_string() } else { format!("{number}{suffix}") }
        };
        ticks.iter().map(label).collect()
    }
}

/// How many decimals tell two neighbours on an axis apart.
fn decimals_of(step: f64) -> usize {
    if !step.is_finite() || step <= 0.0 {
        return 0;
    }
    (0..7).find(|decimals| ((step * 10_f64.powi(*decimals)).fract() + 1e-6).fract() < 2e-6).unwrap_or(6) as usize
}

/// The prefix for values up to `largest`, none below `from`; with its factor.
fn prefix(largest: f64, from: f64) -> (f64, String) {
    if largest < from * 0.999_5 {
        return (1.0, String::new());
    }
    [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .iter()
        .find(|(factor, _)| largest >= factor * 0.999_5)
        .map_or((1.0, String::new()), |(factor, name)| (*factor, format!("{GAP}{name}")))
}

fn bytes_of(bytes: f64) -> String {
    let (factor, unit) = prefix(bytes.abs(), 1e3);
    if unit.is_empty() { format!("{}{GAP}B", plain(bytes)) } else { format!("{}{unit}B", plain(bytes / factor)) }
}

/// A number to three digits; from a million on with a prefix.
pub(super) fn plain(value: f64) -> String {
    if (999_999.5..0.999_5e15).contains(&value.abs()) {
        let (factor, name) = prefix(value.abs(), 1e6);
        format!("{}{name}", three_digits(value / factor))
    } else {
        three_digits(value)
    }
}

/// "3 points", "1 point".
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", fixed(number as f64, 0), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn narrow(text: String) -> String {
        text.replace(GAP, " ")
    }

    #[test]
    fn single_values_read_well() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-1.5, "−1.5"),
            (4.95, "4.95"),
            (12.345, "12.3"),
            (999.96, "1,000"),
            (1234.0, "1,234"),
            (999_999.0, "999,999"),
            (999_999.7, "1 M"),
            (1_234_567.0, "1.23 M"),
            (2.5e10, "25 G"),
            (1e15, "10¹⁵"),
            (-3.2e-7, "−3.2×10⁻⁷"),
            (0.000_1, "0.0001"),
            (f64::NAN, "no value"),
            (f64::NEG_INFINITY, "−∞"),
        ];
        for (value, text) in cases {
            assert_eq!(narrow(plain(value)), text, "{value}");
        }
    }

    #[test]
    fn units_are_shown_as_people_say_them() {
        let cases = [
            ("s", 0.000_012, "12 µs"),
            ("ns", 1_500_000.0, "1.5 ms"),
            ("ms", 2_500.0, "2.5 s"),
            ("ns", 0.3, "0.3 ns"),
            ("s", 999.9e-6, "1 ms"),
            ("B", 1536.0, "1.54 kB"),
            ("MB", 2_000.0, "2 GB"),
            ("%", 4.95, "4.95 %"),
            ("×", 1.25, "1.25×"),
            ("keys", 1234.0, "1,234"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(narrow(Unit::parse(unit).show(value)), text);
        }
        assert_eq!(narrow(Unit::parse("keys").show_with_unit(12.0)), "12 keys");
        for symbol in ["", "%", "×", "s", "ms", "µs", "ns", "B", "kB", "MB", "GB", "keys"] {
            assert_eq!(Unit::parse(symbol).symbol(), symbol);
        }
    }

    #[test]
    fn ticks_of_one_axis_agree_with_each_other() {
        let cases: [(&str, &[f64], &[&str]); 7] = [
            ("", &[0.0, 0.5, 1.0], &["0", "0.5", "1.0"]),
            ("", &[0.0, 2_500.0, 5_000.0], &["0", "2,500", "5,000"]),
            ("", &[0.0, 500_000.0, 1_000_000.0], &["0", "0.5 M", "1.0 M"]),
            ("%", &[0.0, 2.5, 5.0], &["0", "2.5 %", "5.0 %"]),
            ("ns", &[0.0, 250.0, 500.0], &["0", "250 ns", "500 ns"]),
            ("ns", &[0.0, 2_500.0, 5_000.0], &["0", "2.5 µs", "5.0 µs"]),
            ("B", &[0.0, 512.0, 1024.0], &["0", "0.512 kB", "1.024 kB"]),
        ];
        for (unit, ticks, labels) in cases {
            let shown: Vec<String> = Unit::parse(unit).ticks(ticks, false).into_iter().map(narrow).collect();
            assert_eq!(shown, labels);
        }
        assert_eq!(Unit::None.ticks(&[1.0, 10.0, 1000.0], true), ["1", "10", "1,000"]);
        assert_eq!(Unit::None.ticks(&[], false), Vec::<String>::new());
    }
}
