//! Numbers as a person reads them: 1,234,567, 4.95, 12 µs, 6.96×10⁻⁷. Claims, tables, charts and errors all write them so.

use std::time::Duration;

/// Between a number and its unit: narrow, and never broken over two lines.
pub(crate) const GAP: char = '\u{202f}';

/// A number as a claim or a table says it: to three digits, and no fewer decimals than two below a hundred and one below a thousand;
/// whole ones in full.
pub fn significant(value: f64) -> String {
    let size = value.abs();
    written(value, if size < 100.0 { 2 } else { i32::from(size < 1_000.0) })
}

/// A number to three digits, as a chart says it; whole ones in full.
pub(crate) fn three_digits(value: f64) -> String {
    written(value, 0)
}

/// To three digits, and so many decimals at least, without zeros at the end; very small and very large ones as powers of ten.
fn written(value: f64, decimals: i32) -> String {
    let size = value.abs();
    if value.is_nan() {
        "no value".to_string()
    } else if value.is_infinite() {
        if value > 0.0 { "∞".to_string() } else { "−∞".to_string() }
    } else if size == 0.0 {
        "0".to_string()
    } else if !(0.999_5e-4..0.999_5e15).contains(&size) {
        power_of_ten(value)
    } else {
        let text = fixed(value, (2 - size.log10().floor() as i32).clamp(decimals, 8) as usize);
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
    }
}

/// A fixed number of decimals, with thousands separated and a real minus sign.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let negative = value < 0.0 && text.bytes().any(|b| (b'1'..=b'9').contains(&b));
    let mut out = String::from(if negative { "−" } else { "" });
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// What no row of zeros would say: 6.96×10⁻⁷.
pub(crate) fn power_of_ten(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let raised = |c: char| match c {
        '-' => '⁻',
        digit => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit.to_digit(10).unwrap_or(0) as usize],
    };
    let exponent: String = exponent.chars().map(raised).collect();
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.').replace('-', "−");
    match mantissa.as_str() {
        "1" => format!("10{exponent}"),
        "−1" => format!("−10{exponent}"),
        _ => format!("{mantissa}×10{exponent}"),
    }
}

pub(crate) fn time_unit(seconds: f64) -> (f64, &'static str) {
    let seconds = seconds.abs();
    [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]
        .into_iter()
        .find(|(factor, _)| seconds >= factor * 0.999_5)
        .unwrap_or((1e-9, "ns"))
}

/// A duration in the unit that keeps it between 1 and 1,000.
pub(crate) fn time(seconds: f64) -> String {
    if seconds == 0.0 {
        return format!("0{GAP}s");
    }
    let (factor, unit) = time_unit(seconds);
    format!("{}{GAP}{unit}", three_digits(seconds / factor))
}

/// The same, for a sentence.
pub fn readable(duration: Duration) -> String {
    time(duration.as_secs_f64()).replace(GAP, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (4.951, "4.95"),
            (94.96, "94.96"),
            (10.0, "10"),
            (0.0123, "0.0123"),
            (-0.5, "−0.5"),
            (1234567.0, "1,234,567"),
            (-1234.5, "−1,234"),
            (100.0, "100"),
            (123.4, "123.4"),
            (0.000_696, "0.000696"),
            (0.000_01, "10⁻⁵"),
            (6.96e-7, "6.96×10⁻⁷"),
            (-2e-9, "−2×10⁻⁹"),
            (1e18, "10¹⁸"),
            (f64::NAN, "no value"),
            (f64::INFINITY, "∞"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
        assert_eq!([94.96, 123.4, 4.95].map(three_digits), ["95", "123", "4.95"]);
    }

    #[test]
    fn durations_read_well() {
        for (nanoseconds, text) in
            [(7, "7 ns"), (1_234, "1.23 µs"), (45_600, "45.6 µs"), (789_000_000, "789 ms"), (2_500_000_000, "2.5 s")]
        {
            assert_eq!(readable(Duration::from_nanos(nanoseconds)), text);
        }
    }
}
