//! Arms of one experiment that take turns over rounds, and what each of them measured.
//!
//! - Turns alternate: every other round runs backwards, so that no arm always profits from what its neighbour left behind. The first
//!   round warms up: it is kept in the frame as round 0 and counts in no figure but a [`total`](Trial::total).
//! - Arms do equal work, or there is no result: what [`counting`](Plan::counting) counts, or a turn says of its
//!   [`work`](Figures::work), must be said in every turn, and be the same; a counter that never moves counts nothing.
//! - A turn measures a figure once, in the same unit as every other turn; arms are compared round by round.
//! - A round that fails ends the trial with its error; every state that was opened is closed all the same.
//! - Arms stay typed; figures are named. A wrong name ends the cell with the list of the right ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Instant;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chart::{Bars, Chart, Latencies};
use crate::{Error, Frame, Latency, OrFail, Progress, Result, Samples, Table, Value};

/// A trial that is being planned; [`run`](Plan::run) runs it.
pub struct Plan<'a, A, S = A> {
    arms: Vec<A>,
    rounds: usize,
    title: Option<String>,
    open: Open<'a, A, S>,
    close: Box<dyn FnMut(S) -> Result<()> + 'a>,
    each_turn_anew: bool,
    work: Vec<Work<'a>>,
    columns: Vec<(String, Of<'a, A>)>,
}

/// What makes an arm's state.
type Open<'a, A, S> = Box<dyn FnMut(&A) -> Result<S> + 'a>;
/// What is said of an arm.
type Of<'a, A> = Box<dyn Fn(&A) -> Value + 'a>;

struct Work<'a> {
    name: String,
    read: Box<dyn FnMut() -> Result<u64> + 'a>,
}

/// What one turn measures, by name.
#[derive(Debug)]
pub struct Figures {
    round: usize,
    taken: Vec<(String, String, f64)>,
    latencies: Vec<(String, Latency)>,
    work: Vec<(String, u64)>,
}

/// What all arms measured in all rounds.
#[derive(Debug, Clone)]
pub struct Trial<A> {
    arms: Vec<A>,
    frame: Frame,
    latencies: BTreeMap<(String, String), Latency>,
}

impl<A: Serialize> Serialize for Trial<A> {
    /// For a process of an experiment that hands over what it has measured.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let latencies: Vec<_> = self.latencies.iter().collect();
        (&self.arms, &self.frame, latencies).serialize(serializer)
    }
}

impl<'de, A: Deserialize<'de>> Deserialize<'de> for Trial<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (arms, frame, latencies) = <(Vec<A>, Frame, Vec<_>)>::deserialize(deserializer)?;
        Ok(Self { arms, frame, latencies: latencies.into_iter().collect() })
    }
}

/// How one arm stands against the best of the others by one figure, the smaller the better.
#[derive(Debug, Clone, Copy)]
pub struct Standing<A> {
    /// The best of the others, by its median.
    pub best: A,
    /// Its median over theirs.
    pub ratio: f64,
    /// Its median over theirs plus the spread of the rounds, the larger standard deviation of the two.
    pub beyond_spread: f64,
    /// The worst other's median over its.
    pub worst: f64,
}

impl<A: Clone + Display + PartialEq> Trial<A> {
    /// Plans a trial of these arms over so many rounds, and one that warms up.
    ///
    /// ```
    /// use lab::Trial;
    ///
    /// let numbers: Vec<u64> = (0..10_000).collect();
    /// let trial = Trial::over(["sum", "fold"], 5)
    ///     .run(|arm, _, figures| {
    ///         let total = match *arm {
    ///             "sum" => numbers.iter().sum::<u64>(),
    ///             _ => numbers.iter().fold(0, |total, number| total + number),
    ///         };
    ///         figures.push("total", "", total as f64);
    ///         Ok(())
    ///     })
    ///     .unwrap();
    /// assert_eq!(trial.ratio("seconds", &"fold", &"sum").len(), 5);
    /// assert_eq!(trial.samples(&"sum", "total").median(), 49_995_000.0);
    /// ```
    pub fn over<'a>(arms: impl IntoIterator<Item = A>, rounds: usize) -> Plan<'a, A> {
        let (open, close) = (Box::new(|arm: &A| Ok(arm.clone())), Box::new(|_| Ok(())));
        let arms = arms.into_iter().collect();
        Plan { arms, rounds, title: None, open, close, each_turn_anew: false, work: Vec::new(), columns: Vec::new() }
    }

    /// The arms, in the order in which they were given.
    pub fn arms(&self) -> &[A] {
        &self.arms
    }

    /// All observations: arm, round (0 warms up), figure, unit, value.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// All observations of one figure, their value in its unit, the warming round's, too; ends the cell where it was not measured.
    pub fn figure(&self, figure: &str) -> Frame {
        self.all_of(figure).or_fail()
    }

    fn all_of(&self, figure: &str) -> Result<Frame> {
        let found = self.frame.filter("figure", figure);
        match found.distinct("unit").pop() {
            Some(unit) => Ok(found.in_unit("value", &unit)),
            None => Err(not_there(figure, self.frame.distinct("figure").iter().map(String::as_str))),
        }
    }

    /// One figure of one arm, one sample a round; ends the cell where it was not measured.
    pub fn samples(&self, arm: &A, figure: &str) -> Samples {
        self.find(arm, figure).or_fail().filter_by(|row| row.number("round") > 0.0).samples("value")
    }

    /// One figure of one arm, added up over all rounds, the warming one too: for what must not be lost in any.
    pub fn total(&self, arm: &A, figure: &str) -> f64 {
        self.find(arm, figure).or_fail().samples("value").values().iter().sum()
    }

    /// How many times as much one arm's figure is as another's, round by round.
    pub fn ratio(&self, figure: &str, over: &A, under: &A) -> Samples {
        let rounds = |arm: &A| self.find(arm, figure).or_fail().select(["round", "value"]).except("round", 0);
        let both = rounds(over).join(&rounds(under), ["round"]);
        both.samples("value").over(&both.samples("value of the other"))
    }

    /// Every single duration that one arm measured under this name, the warming round's left out.
    pub fn latency(&self, arm: &A, name: &str) -> Latency {
        let found = self.latencies.get(&(arm.to_string(), name.to_string())).cloned();
        let arm = arm.to_string();
        let known = || self.latencies.keys().filter(|known| known.0 == arm).map(|(_, name)| name.as_str());
        found.ok_or_else(|| self.no_arm(&arm).unwrap_or_else(|| not_there(name, known()))).or_fail()
    }

    /// The error, where there is no such arm.
    fn no_arm(&self, arm: &str) -> Option<Error> {
        let arms: Vec<String> = self.arms.iter().map(A::to_string).collect();
        let there = format!("there is {}", arms.join(", "));
        (!arms.iter().any(|known| known == arm)).then(|| Error::new(format!("read the arm {arm}"), there))
    }

    /// How an arm stands against the best of the others.
    pub fn against_best(&self, arm: &A, figure: &str) -> Standing<A> {
        let mine = self.samples(arm, figure);
        let others: Vec<(&A, Samples)> =
            self.arms.iter().filter(|other| *other != arm).map(|other| (other, self.samples(other, figure))).collect();
        let best = others.iter().min_by(|a, b| a.1.median().total_cmp(&b.1.median()));
        let (best, theirs) = best.ok_or_else(|| Error::new(format!("compare {arm}"), "it is the only arm")).or_fail();
        let spread = mine.standard_deviation().max(theirs.standard_deviation());
        let worst = others.iter().map(|(_, other)| other.median()).fold(f64::NAN, f64::max);
        let (mine, theirs) = (mine.median(), theirs.median());
        Standing {
            best: (*best).clone(),
            ratio: mine / theirs,
            beyond_spread: mine / (theirs + spread),
            worst: worst / mine,
        }
    }

    /// A bar for each arm that measured this figure, with the spread of its rounds.
    pub fn bars(&self, figure: &str, title: &str) -> Bars {
        let observed = self.figure(figure);
        self.having(figure).fold(Chart::bars(title).y(figure, observed.unit("value")), |chart, arm| {
            chart.bar_with_spread(arm, self.samples(arm, figure))
        })
    }

    /// The same as multiples of what one arm's is in the same round.
    pub fn bars_over(&self, figure: &str, base: &A, title: &str) -> Bars {
        self.having(figure).fold(Chart::bars(title).y(figure, "×"), |chart, arm| {
            chart.bar_with_spread(arm, self.ratio(figure, arm, base))
        })
    }

    /// The distribution of a duration, a row for each arm that measured it.
    pub fn latencies(&self, name: &str, title: &str) -> Latencies {
        let has = |arm: &&A| self.latencies.contains_key(&(arm.to_string(), name.to_string()));
        let measured: Vec<&A> = self.arms.iter().filter(has).collect();
        if measured.is_empty() {
            let known: BTreeSet<&str> = self.latencies.keys().map(|(_, name)| name.as_str()).collect();
            return Err(not_there(name, known.into_iter())).or_fail();
        }
        self.latencies_of(measured, name, title)
    }

    /// The same, of these arms alone.
    pub fn latencies_of<'b>(&self, arms: impl IntoIterator<Item = &'b A>, name: &str, title: &str) -> Latencies
    where
        A: 'b,
    {
        arms.into_iter().fold(Chart::latencies(title), |chart, arm| chart.latency(arm, &self.latency(arm, name)))
    }

    /// A row for each arm, a column for each figure: its mean over the rounds.
    pub fn table<const N: usize>(&self, title: &str, figures: [&str; N]) -> Table {
        let arms = Frame::new().text("", &self.arms);
        let frame = figures.into_iter().fold(arms, |frame, figure| {
            let means: Vec<f64> = self.arms.iter().map(|arm| self.samples(arm, figure).mean()).collect();
            frame.numbers(figure, self.figure(figure).unit("value"), means)
        });
        frame.taken_at(self.frame.taken()).table(title)
    }

    fn having(&self, figure: &str) -> impl Iterator<Item = &A> {
        let names = self.figure(figure).distinct("arm");
        self.arms.iter().filter(move |arm| names.contains(&arm.to_string()))
    }

    fn find(&self, arm: &A, figure: &str) -> Result<Frame> {
        let of_arm = self.frame.filter("arm", arm);
        if let Some(error) = self.no_arm(&arm.to_string()) {
            return Err(error);
        }
        let found = of_arm.filter("figure", figure);
        match found.is_empty() {
            true => Err(not_there(figure, of_arm.distinct("figure").iter().map(String::as_str))),
            false => Ok(found),
        }
    }
}

fn not_there<'a>(figure: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.collect();
    Error::new(format!("read the figure {figure:?}"), format!("what was measured is {}", known.join(", ")))
}

impl<'a, A: Clone + Display + PartialEq, S> Plan<'a, A, S> {
    /// What an arm works on in all of its rounds: opened before the first, closed after the last.
    pub fn open<T>(self, open: impl FnMut(&A) -> Result<T> + 'a) -> Plan<'a, A, T> {
        let Self { arms, rounds, title, each_turn_anew, work, columns, .. } = self;
        Plan { arms, rounds, title, each_turn_anew, work, columns, open: Box::new(open), close: Box::new(|_| Ok(())) }
    }

    /// How that is closed, where dropping it is not enough.
    pub fn close(mut self, close: impl FnMut(S) -> Result<()> + 'a) -> Self {
        self.close = Box::new(close);
        self
    }

    /// Opens and closes in every turn instead: for what the arms could not hold at the same time.
    pub fn each_turn_anew(mut self) -> Self {
        self.each_turn_anew = true;
        self
    }

    /// Equal work: a counter that is read before and after each turn, and must grow by the same in all of them. What it grew by
    /// is a figure of this name.
    pub fn counting(mut self, name: &str, read: impl FnMut() -> Result<u64> + 'a) -> Self {
        self.work.push(Work { name: name.to_string(), read: Box::new(read) });
        self
    }

    /// One more column of the frame, which says something of each arm: how many rows, which size. So arms that are pairs can be
    /// filtered and drawn by either half.
    pub fn column<V: Into<Value>>(mut self, name: &str, of: impl Fn(&A) -> V + 'a) -> Self {
        self.columns.push((name.to_string(), Box::new(move |arm| of(arm).into())));
        self
    }

    /// Shows a bar with this title while it runs.
    pub fn titled(mut self, title: &str) -> Self {
        self.title = Some(title.to_string());
        self
    }

    /// Runs all rounds. How long a turn took is the figure `seconds`.
    pub fn run(mut self, mut turn: impl FnMut(&A, &mut S, &mut Figures) -> Result<()>) -> Result<Trial<A>> {
        if self.arms.is_empty() || self.rounds == 0 {
            return Err(Error::new("run the trial", "it needs an arm and a round"));
        }
        let names: BTreeSet<String> = self.arms.iter().map(A::to_string).collect();
        if names.len() < self.arms.len() {
            return Err(Error::new("run the trial", "two of its arms have the same name"));
        }
        for (index, (name, _)) in self.columns.iter().enumerate() {
            let before = self.columns.iter().take(index).map(|(name, _)| name.as_str());
            if OWN.into_iter().chain(before).any(|own| own == name) {
                let cause = format!("it has {} of its own, and no name twice", OWN.join(", "));
                return Err(Error::new(format!("add the column {name:?} to the trial"), cause));
            }
        }
        let mut states: Vec<Option<S>> = self.arms.iter().map(|_| None).collect();
        let ran = self.rounds_of(&mut states, &mut turn);
        // Also after a failure; the first error is the one that tells.
        let closed = states.into_iter().flatten().map(|state| (self.close)(state)).fold(Ok(()), Result::and);
        ran.and_then(|trial| closed.map(|()| trial))
    }

    fn rounds_of(
        &mut self,
        states: &mut [Option<S>],
        turn: &mut impl FnMut(&A, &mut S, &mut Figures) -> Result<()>,
    ) -> Result<Trial<A>> {
        let mut progress = self.title.as_ref().map(|title| Progress::new(title, self.rounds as u64 + 1));
        let mut rows: Vec<(String, usize, String, String, f64)> = Vec::new();
        let started = Instant::now();
        let mut latencies: BTreeMap<(String, String), Latency> = BTreeMap::new();
        let mut expected: Option<BTreeMap<String, u64>> = None;
        let mut units: BTreeMap<String, String> = BTreeMap::new();
        for round in 0..=self.rounds {
            let mut order: Vec<usize> = (0..self.arms.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let arm = self.arms[at].clone();
                if states[at].is_none() {
                    states[at] = Some((self.open)(&arm)?);
                }
                let Some(state) = states[at].as_mut() else { continue };
                let mut figures = Figures { round, taken: Vec::new(), latencies: Vec::new(), work: Vec::new() };
                let before = self.work.iter_mut().map(|work| (work.read)()).collect::<Result<Vec<_>>>()?;
                let began = Instant::now();
                turn(&arm, state, &mut figures)?;
                figures.push("seconds", "s", began.elapsed().as_secs_f64());
                for (work, before) in self.work.iter_mut().zip(before) {
                    figures.work(&work.name, (work.read)()?.wrapping_sub(before));
                }
                let done: BTreeMap<String, u64> = figures.work.iter().cloned().collect();
                equal(&arm.to_string(), &done, expected.get_or_insert_with(|| done.clone()))?;
                if let Some(still) = self.work.iter().find(|work| done.get(&work.name) == Some(&0)) {
                    let cause = format!("{} did not grow in the turn of {arm}", still.name);
                    return Err(Error::new("compare the arms", cause).remedy("count what the turns do"));
                }
                figures.once_in_one_unit(&mut units).map_err(|error| error.at(&arm))?;
                let name = arm.to_string();
                rows.extend(
                    figures.taken.into_iter().map(|(figure, unit, value)| (name.clone(), round, figure, unit, value)),
                );
                for (figure, latency) in figures.latencies.iter().filter(|_| round > 0) {
                    latencies.entry((name.clone(), figure.clone())).or_default().merge(latency);
                }
                if self.each_turn_anew
                    && let Some(state) = states[at].take()
                {
                    (self.close)(state)?;
                }
            }
            if let Some(progress) = &mut progress {
                progress.step();
            }
        }
        let mut frame = Frame::new().text("arm", rows.iter().map(|row| &row.0));
        for (name, of) in &self.columns {
            let values: BTreeMap<String, Value> = self.arms.iter().map(|arm| (arm.to_string(), of(arm))).collect();
            frame = frame.values_in(name, rows.iter().map(|row| values.get(&row.0).cloned().unwrap_or(Value::Missing)));
        }
        let frame = frame
            .counts("round", "", rows.iter().map(|row| row.1 as u64))
            .text("figure", rows.iter().map(|row| &row.2))
            .text("unit", rows.iter().map(|row| &row.3))
            .numbers("value", "", rows.iter().map(|row| row.4))
            .taken_at(Some(started));
        Ok(Trial { arms: self.arms.clone(), frame, latencies })
    }
}

/// What a trial's frame says of each observation by itself.
const OWN: [&str; 5] = ["arm", "round", "figure", "unit", "value"];

/// That a turn has done what the first one did.
fn equal(arm: &str, done: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> Result<()> {
    let said = |work: &BTreeMap<String, u64>, name: &String| {
        work.get(name).map_or("nothing that it told of".to_string(), u64::to_string)
    };
    match expected.keys().chain(done.keys()).find(|name| expected.get(*name) != done.get(*name)) {
        None => Ok(()),
        Some(name) => {
            let (done, expected) = (said(done, name), said(expected, name));
            let cause = format!("{name}: {arm} did {done} where {expected} was expected");
            Err(Error::new("compare the arms", cause).remedy("give every arm equal work"))
        }
    }
}

impl Figures {
    /// That no figure is there twice, and each is in the unit that it had in every turn before.
    fn once_in_one_unit(&self, units: &mut BTreeMap<String, String>) -> Result<()> {
        let mut seen = BTreeSet::new();
        for (figure, unit, _) in &self.taken {
            let doing = || format!("measure {figure:?}");
            if !seen.insert(figure) {
                return Err(Error::new(doing(), "a turn has measured it twice"));
            }
            let known = units.entry(figure.clone()).or_insert_with(|| unit.clone());
            if known != unit {
                return Err(Error::new(doing(), format!("it is in {unit:?}, and was in {known:?} before")));
            }
        }
        Ok(())
    }

    /// The number of the round; 0 warms up.
    pub fn round(&self) -> usize {
        self.round
    }

    /// One figure of this turn.
    pub fn push(&mut self, figure: &str, unit: &str, value: f64) {
        self.taken.push((figure.to_string(), unit.to_string(), value));
    }

    /// Equal work, as this turn has counted it: rows read, keys found, a checksum of them. Whoever does another amount ends the
    /// trial; it is a figure, too.
    pub fn work(&mut self, name: &str, done: u64) {
        self.push(name, "", done as f64);
        self.work.push((name.to_string(), done));
    }

    /// Many durations: their `p50`, `p99` and `max` become figures in milliseconds, and all of them stay together for a chart.
    pub fn latency(&mut self, name: &str, latency: &Latency) {
        for (figure, value) in [("p50", latency.p50()), ("p99", latency.p99()), ("max", latency.max())] {
            self.push(&format!("{name} {figure}"), "ms", value.as_secs_f64() * 1e3);
        }
        self.latencies.push((name.to_string(), latency.clone()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::*;
    use crate::chart::Figure;

    #[test]
    fn arms_take_turns_in_both_directions_after_a_warm_up() {
        let order = RefCell::new(String::new());
        let trial = Trial::over(["a", "b"], 3)
            .run(|arm, _, figures| {
                order.borrow_mut().push_str(arm);
                figures.push("round", "", figures.round() as f64);
                Ok(())
            })
            .unwrap();
        assert_eq!(order.into_inner(), "abbaabba");
        assert_eq!(trial.samples(&"a", "round").values(), [1.0, 2.0, 3.0], "the warming round does not count");
        assert_eq!((trial.samples(&"b", "seconds").len(), trial.frame().height()), (3, 16));
    }

    #[test]
    fn a_trial_that_another_process_hands_over_is_the_same() {
        let trial = Trial::over(["a".to_string(), "b".to_string()], 2)
            .run(|arm, _, figures| {
                figures.latency("wait", &Latency::measure(7, || arm.len()));
                Ok(())
            })
            .unwrap();
        let back: Trial<String> = serde_json::from_str(&serde_json::to_string(&trial).unwrap()).unwrap();
        assert_eq!(back.arms(), trial.arms());
        assert_eq!(back.latency(&back.arms()[1], "wait").count(), 14);
        let seconds = |trial: &Trial<String>| trial.samples(&trial.arms()[0], "seconds").values().to_vec();
        assert_eq!(seconds(&back), seconds(&trial));
    }

    #[test]
    fn what_was_opened_is_closed_also_after_a_failure() {
        let (opened, closed) = (Cell::new(0), Cell::new(0));
        let plan = || {
            Trial::over(["a", "b"], 2)
                .open(|arm| {
                    opened.set(opened.get() + 1);
                    Ok(arm.len())
                })
                .close(|_| {
                    closed.set(closed.get() + 1);
                    Ok(())
                })
        };
        plan().run(|_, _, _| Ok(())).unwrap();
        assert_eq!((opened.get(), closed.get()), (2, 2));
        plan().each_turn_anew().run(|_, _, _| Ok(())).unwrap();
        assert_eq!((opened.get(), closed.get()), (8, 8));
        let failed = plan().run(|arm, _, _| if *arm == "b" { Err(Error::new("work", "no")) } else { Ok(()) });
        assert_eq!(failed.unwrap_err().cause(), "no");
        assert_eq!((opened.get(), closed.get()), (10, 10));
    }

    #[test]
    fn work_that_is_not_told_of_and_a_counter_that_stands_still_are_no_trial() {
        let silent = Trial::over(["a", "b"], 1).run(|arm, _, figures| {
            if *arm == "a" {
                figures.work("rows", 3);
            }
            Ok(())
        });
        assert!(silent.unwrap_err().cause().contains("rows: b did nothing that it told of where 3"));
        let still = Trial::over(["a", "b"], 1).counting("rows", || Ok(7)).run(|_, _, _| Ok(()));
        assert!(still.unwrap_err().cause().contains("rows did not grow"));
    }

    #[test]
    fn a_turn_measures_a_figure_once_in_one_unit_and_rounds_are_compared_with_themselves() {
        let twice = Trial::over(["a"], 1).run(|_, _, figures| {
            figures.push("seconds", "s", 1.0);
            Ok(())
        });
        assert!(twice.unwrap_err().cause().contains("measured it twice"));
        let units = Trial::over(["a", "b"], 1).run(|arm, _, figures| {
            figures.push("wait", if *arm == "a" { "ms" } else { "s" }, 1.0);
            Ok(())
        });
        assert!(units.unwrap_err().cause().contains(r#"it is in "s", and was in "ms""#));
        // Each arm lacks the figure in another round.
        let trial = Trial::over([1, 2], 4).run(|arm, _, figures| {
            if figures.round() as u64 != *arm {
                figures.push("size", "", (arm * 10_u64.pow(figures.round() as u32)) as f64);
            }
            Ok(())
        });
        assert_eq!(trial.unwrap().ratio("size", &2, &1).values(), [2.0, 2.0]);
        let column = Trial::over(["a"], 1).column("round", |_| 1_u64).run(|_, _, _| Ok(()));
        assert!(column.unwrap_err().cause().contains("arm, round, figure"));
    }

    #[test]
    fn unequal_work_is_no_trial() {
        let done = Cell::new(0);
        let trial = |second: u64| {
            Trial::over(["one", "other"], 2).counting("rows", || Ok(done.get())).run(|arm, _, _| {
                done.set(done.get() + if *arm == "one" { 1 } else { second });
                Ok(())
            })
        };
        assert_eq!(trial(1).unwrap().samples(&"other", "rows").values(), [1.0, 1.0]);
        let error = trial(1_000).unwrap_err().to_string();
        assert!(error.contains("rows: other did 1000 where 1 was expected"), "{error}");
        let said = |second: u64| {
            Trial::over(["one", "other"], 1).run(|arm, _, figures| {
                figures.work("checksum", if *arm == "one" { u64::MAX } else { second });
                Ok(())
            })
        };
        assert!(said(u64::MAX).is_ok() && said(u64::MAX - 1).is_err(), "counted without rounding");
    }

    #[test]
    fn ours_against_the_best_of_the_others() {
        let trial = Trial::over(["ours", "good", "bad"], 3)
            .run(|arm, _, figures| {
                let noise = figures.round() as f64;
                figures.push(
                    "wait",
                    "ms",
                    match *arm {
                        "ours" => 10.0,
                        "good" => 8.0,
                        _ => 40.0,
                    } + noise,
                );
                Ok(())
            })
            .unwrap();
        let standing = trial.against_best(&"ours", "wait");
        assert_eq!((standing.best, standing.ratio, standing.worst), ("good", 1.2, 42.0 / 12.0));
        assert!((standing.beyond_spread - 12.0 / 11.0).abs() < 1e-12);
        assert_eq!(trial.ratio("wait", &"bad", &"good").values(), [41.0 / 9.0, 42.0 / 10.0, 43.0 / 11.0]);
        assert_eq!(trial.total(&"ours", "wait"), 46.0, "the warming round included");
        let over = trial.bars_over("wait", &"good", "x").frame().filter("name", "bad");
        assert_eq!(over.samples("value").values(), [42.0 / 10.0]);
    }

    #[test]
    fn arms_that_are_pairs_can_be_asked_by_either_half() {
        let arms = [("lock", 1_u64), ("lock", 4), ("none", 4)].map(|(way, rows)| Pair { way, rows });
        let trial = Trial::over(arms, 2)
            .column("way", |pair: &Pair| pair.way.to_string())
            .column("rows", |pair| pair.rows)
            .run(|pair, _, figures| {
                figures.push("done", "", pair.rows as f64);
                Ok(())
            })
            .unwrap();
        let done = trial.frame().filter("figure", "done").filter("way", "lock");
        assert_eq!(done.filter("rows", 4).samples("value").values(), [4.0; 3]);
        assert_eq!(done.group(["rows"]).count().samples("count").values(), [3.0, 3.0]);
    }

    #[derive(Clone, PartialEq)]
    struct Pair {
        way: &'static str,
        rows: u64,
    }

    impl Display for Pair {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}, {} rows", self.way, self.rows)
        }
    }

    #[test]
    fn durations_are_figures_and_a_distribution() {
        let trial = Trial::over(["a"], 2)
            .run(|_, _, figures| {
                let mut waits = Latency::new();
                waits.record(Duration::from_millis(5));
                figures.latency("wait", &waits);
                Ok(())
            })
            .unwrap();
        assert_eq!(trial.latency(&"a", "wait").count(), 2);
        assert!((trial.samples(&"a", "wait p99").median() - 5.0).abs() < 0.01);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let trial = Trial::over(["ring"], 1).run(|_, _, figures| {
            figures.push("moved", "%", 5.0);
            Ok(())
        });
        let trial = trial.unwrap();
        let error = trial.find(&"ring", "mvoed").unwrap_err().to_string();
        assert_eq!(error, "could not read the figure \"mvoed\": what was measured is moved, seconds");
        let moved = trial.figure("moved");
        assert_eq!(moved.samples("value").values(), [5.0, 5.0], "the warming round, too");
        assert_eq!(moved.unit("value"), "%");
        assert!(trial.all_of("mvoed").unwrap_err().to_string().ends_with("what was measured is moved, seconds"));
        assert!(trial.find(&"modulo", "moved").unwrap_err().to_string().contains("there is ring"));
        assert!(Trial::over(["a"; 0], 1).run(|_, _, _| Ok(())).is_err());
        assert!(Trial::over(["a", "a"], 1).run(|_, _, _| Ok(())).is_err());
    }
}
