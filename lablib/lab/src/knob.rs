//! A notebook's knobs: its parameters, which may be set from outside.
//!
//! `lab.knob("ages", 4, 20)` is 4 at quick scale and 20 at full, unless `LAB_SET="ages=10000,clients=8"` says otherwise, or
//! `ci/lab report 07 --set ages=10000`. Whatever was set stands in the verdict and in what the run keeps; a name that no knob has,
//! and a value that its knob cannot have, are refused with what would be possible.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Scale};

/// A type that a knob can have: whole numbers, decimal ones, durations (`250ms`), words, and lists of these (`10 100 1000`).
pub trait Knob: Clone {
    /// "a whole number from 0 to 255", for whoever gave something else.
    fn kind() -> String;

    /// Reads what somebody typed.
    fn read(text: &str) -> Option<Self>;

    /// Writes it so that it can be read back.
    fn written(&self) -> String;

    /// Whether it is more than zero, where that means something.
    fn is_positive(&self) -> bool;
}

macro_rules! whole {
    ($($number:ty),*) => { $(
        impl Knob for $number {
            fn kind() -> String {
                format!("a whole number from {} to {}", Self::MIN, Self::MAX)
            }

            fn read(text: &str) -> Option<Self> {
                text.replace('_', "").parse().ok()
            }

            fn written(&self) -> String {
                self.to_string()
            }

            fn is_positive(&self) -> bool {
                *self > 0
            }
        }
    )* };
}

whole!(u8, u16, u32, u64, usize, i32, i64);

impl Knob for f64 {
    fn kind() -> String {
        "a number".into()
    }

    fn read(text: &str) -> Option<Self> {
        text.replace('_', "").parse().ok().filter(|value: &f64| value.is_finite())
    }

    fn written(&self) -> String {
        self.to_string()
    }

    fn is_positive(&self) -> bool {
        *self > 0.0
    }
}

impl Knob for Duration {
    fn kind() -> String {
        "a duration, such as 250ms or 1.5s".into()
    }

    fn read(text: &str) -> Option<Self> {
        let units = [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("min", 60.0), ("s", 1.0)];
        let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
        Duration::try_from_secs_f64(f64::read(number.trim_end())? * factor).ok()
    }

    fn written(&self) -> String {
        format!("{self:?}")
    }

    fn is_positive(&self) -> bool {
        !self.is_zero()
    }
}

/// A word, such as a size in a server's own language: `"128M"`.
impl Knob for &'static str {
    fn kind() -> String {
        "a word".into()
    }

    fn read(text: &str) -> Option<Self> {
        // Lives as long as the literals that it takes the place of.
        Some(String::leak(text.to_string()))
    }

    fn written(&self) -> String {
        self.to_string()
    }

    fn is_positive(&self) -> bool {
        false
    }
}

impl<T: Knob> Knob for Vec<T> {
    fn kind() -> String {
        format!("a list with spaces between its items, each {}", T::kind())
    }

    fn read(text: &str) -> Option<Self> {
        text.split_whitespace().map(T::read).collect()
    }

    fn written(&self) -> String {
        self.iter().map(T::written).collect::<Vec<_>>().join(" ")
    }

    fn is_positive(&self) -> bool {
        self.iter().all(T::is_positive)
    }
}

/// A knob as it stood in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it stood at.
    pub value: String,
    /// What it is at quick scale.
    pub quick: String,
    /// What it is at full scale.
    pub full: String,
    /// Whether somebody set it.
    pub set: bool,
}

/// The knobs that a run has had so far, and what was asked to be set.
#[derive(Debug, Default)]
pub(crate) struct Knobs {
    asked: Vec<(String, String)>,
    settings: Vec<Setting>,
}

impl Knobs {
    /// Reads `LAB_SET`.
    pub(crate) fn from_env() -> Result<Self> {
        Self::asked(&std::env::var("LAB_SET").unwrap_or_default())
    }

    fn asked(text: &str) -> Result<Self> {
        Ok(Self { asked: assignments(text)?, settings: Vec::new() })
    }

    pub(crate) fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The value of a knob: what was set, else that of the scale. A cell that runs again has the same knobs.
    pub(crate) fn turn<T: Knob>(&mut self, name: &str, quick: T, full: T, scale: Scale) -> Result<T> {
        let doing = || format!("set the knob {name:?}");
        check_name(name)?;
        let given = self.asked.iter().find(|(asked, _)| asked == name).map(|(_, given)| given);
        let value = match given {
            None => scale.pick(quick.clone(), full.clone()),
            Some(given) => {
                let defaults = format!("it is {} at quick scale and {} at full", quick.written(), full.written());
                let refuse = |cause: String| Error::new(doing(), cause).remedy(&defaults);
                let value = T::read(given).ok_or_else(|| refuse(format!("{given:?} is not {}", T::kind())))?;
                if quick.is_positive() && full.is_positive() && !value.is_positive() {
                    return Err(refuse(format!("{given:?} is not more than zero, and the knob is {}", T::kind())));
                }
                value
            }
        };
        let setting = Setting {
            name: name.to_string(),
            value: value.written(),
            quick: quick.written(),
            full: full.written(),
            set: given.is_some(),
        };
        match self.settings.iter_mut().find(|other| other.name == name) {
            Some(other) => *other = setting,
            None => self.settings.push(setting),
        }
        Ok(value)
    }

    /// Refuses what was asked of a knob that the run has not had.
    pub(crate) fn refuse_unknown(&self) -> Result<()> {
        let names: Vec<&str> = self.settings.iter().map(|setting| setting.name.as_str()).collect();
        known(&self.asked, &names)
    }

    /// What was set, as `LAB_SET` says it; empty where nothing was.
    pub(crate) fn set(&self) -> String {
        set_in(&self.settings)
    }
}

/// What was set, as `LAB_SET` says it; empty where nothing was.
pub(crate) fn set_in(settings: &[Setting]) -> String {
    let set = settings.iter().filter(|setting| setting.set);
    set.map(|setting| format!("{}={}", setting.name, setting.value)).collect::<Vec<_>>().join(",")
}

/// Reads `ages=10000,clients=8`.
pub fn assignments(text: &str) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    let refuse = |cause: String| Err(Error::new("set the knobs", cause).remedy("write KNOB=VALUE,KNOB=VALUE"));
    for part in text.split(',').filter(|_| !text.trim().is_empty()) {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() && !value.trim().is_empty() => (name.trim(), value.trim()),
            _ => return refuse(format!("{part:?} sets nothing")),
        };
        if all.iter().any(|(other, _)| other == name) {
            return refuse(format!("it sets {name} twice"));
        }
        all.push((name.to_string(), value.to_string()));
    }
    Ok(all)
}

/// Refuses to set what is not among these knobs.
pub fn known(asked: &[(String, String)], knobs: &[&str]) -> Result<()> {
    let Some((name, value)) = asked.iter().find(|(name, _)| !knobs.contains(&name.as_str())) else { return Ok(()) };
    let there = match knobs {
        [] => "the notebook has no knobs".to_string(),
        knobs => format!("its knobs are {}", knobs.join(", ")),
    };
    Err(Error::new(format!("set {name}={value}"), format!("the notebook has no knob {name:?}")).remedy(there))
}

fn check_name(name: &str) -> Result<()> {
    if !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '-' || letter == '_') {
        return Ok(());
    }
    Err(Error::new("make a knob", format!("{name:?} could not be set from outside"))
        .remedy("use letters, digits and dashes"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn turned<T: Knob>(set: &str, quick: T, full: T) -> std::result::Result<T, String> {
        Knobs::asked(set).unwrap().turn("k", quick, full, Scale::Quick).map_err(|error| error.to_string())
    }

    #[test]
    fn a_knob_is_its_default_or_what_was_set() {
        assert_eq!(turned("", 4_usize, 20), Ok(4));
        assert_eq!(Knobs::default().turn("k", 4_usize, 20, Scale::Full), Ok(20));
        assert_eq!(turned("k=10_000", 4_u64, 20), Ok(10_000));
        assert_eq!(turned("other=1, k = -3 ", 0, 20), Ok(-3));
        assert_eq!(turned("k=1e3", 0.5, 2.0), Ok(1_000.0));
        let second = Duration::from_secs(1);
        for (text, milliseconds) in [("250ms", 250), ("1.5s", 1_500), ("2 min", 120_000), ("900us", 0)] {
            assert_eq!(turned(&format!("k={text}"), second, second).unwrap().as_millis(), milliseconds, "{text}");
        }
        assert_eq!(turned("k=3G", "128M", "1G"), Ok("3G"));
        assert_eq!(turned("k=1 10  100", vec![1_u64], vec![1]), Ok(vec![1, 10, 100]));
    }

    #[test]
    fn what_a_knob_cannot_be_is_refused_in_one_sentence() {
        let second = Duration::from_secs(1);
        for (refused, given, kind) in [
            (turned("k=many", 4_usize, 20).err(), "many", "a whole number"),
            (turned("k=1.5", 4_usize, 20).err(), "1.5", "a whole number"),
            (turned("k=-3", 4_usize, 20).err(), "-3", "a whole number"),
            (turned("k=0", 4_usize, 20).err(), "0", "more than zero"),
            (turned("k=-3", 4_i64, 20).err(), "-3", "more than zero"),
            (turned("k=256", 4_u8, 20).err(), "256", "from 0 to 255"),
            (turned("k=99999999999999999999999", 4_u64, 20).err(), "99999999999999999999999", "from 0 to"),
            (turned("k=inf", 4.0, 20.0).err(), "inf", "a number"),
            (turned("k=nan", 4.0, 20.0).err(), "nan", "a number"),
            (turned("k=-0.1", 4.0, 20.0).err(), "-0.1", "more than zero"),
            (turned("k=5", second, second).err(), "5", "a duration"),
            (turned("k=-5s", second, second).err(), "-5s", "a duration"),
            (turned("k=1e300s", second, second).err(), "1e300s", "a duration"),
            (turned("k=0s", second, second).err(), "0s", "more than zero"),
            (turned("k=1 two", vec![1_u64], vec![4]).err(), "1 two", "a list"),
            (turned("k=1 0", vec![1_u64], vec![4]).err(), "1 0", "more than zero"),
        ] {
            let refused = refused.unwrap();
            let said = [&format!("could not set the knob \"k\": {given:?} is not"), kind, "at quick scale and"];
            assert!(said.iter().all(|part| refused.contains(*part)), "{refused}");
        }
        let refused = turned("k=0", 4_usize, 20).unwrap_err();
        assert!(refused.ends_with("; it is 4 at quick scale and 20 at full"), "{refused}");
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for text in ["ages", "ages=", "=4", ",", "a=1,,b=2", "a=1,a=2", "a=1,b"] {
            assert!(assignments(text).is_err(), "{text:?}");
        }
        assert_eq!(assignments(" "), Ok(Vec::new()));
        for name in ["", "a b", "a=b", "a,b"] {
            assert!(Knobs::default().turn(name, 1, 1, Scale::Quick).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_name_that_no_knob_has_is_refused_with_those_that_there_are() {
        let mut knobs = Knobs::asked("ages=1,agse=2").unwrap();
        assert_eq!(knobs.turn("ages", 4, 20, Scale::Quick), Ok(1));
        assert_eq!(knobs.turn("clients", 8, 8, Scale::Quick), Ok(8));
        assert_eq!(knobs.turn("ages", 4, 20, Scale::Quick), Ok(1), "a cell that runs again");
        let refused = knobs.refuse_unknown().unwrap_err().to_string();
        let said = "could not set agse=2: the notebook has no knob \"agse\"; its knobs are ages, clients";
        assert_eq!(refused, said);
        assert_eq!(knobs.set(), "ages=1");
        let set: Vec<(&str, bool)> = knobs.settings().iter().map(|knob| (knob.value.as_str(), knob.set)).collect();
        assert_eq!(set, [("1", true), ("8", false)]);
    }
}
