//! What was measured, as data: columns that know their units, over a polars data frame.
//!
//! - A result is *tidy*: one row an observation, with the arm, the round or the x, the figure's name, its unit, its value. Charts,
//!   claims, files and a reader's own questions all speak these few words.
//! - Nothing is dropped silently: a column that is not there ends the cell with the list of those that are, columns of unequal
//!   lengths are refused, a value that is missing shows as `–`. A file knows no empty word: it comes back as missing.
//! - A unit stays with its column through every operation, into the table's header and into the file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use polars::prelude::{
    AnyValue, BooleanChunked, Column, DataFrame, DataType, IdxCa, IdxSize, NewChunkedArray, SortMultipleOptions,
};

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Doing, Error, Latency, OrFail, Result, Samples, Show, Table};

/// Data in columns; see the [module's words](self) on how results are laid out.
///
/// ```
/// use lab::Frame;
///
/// let frame = Frame::new()
///     .text("arm", ["ring", "modulo", "ring", "modulo"])
///     .numbers("moved", "%", [4.9, 94.9, 5.1, 95.1]);
/// let by_arm = frame.group(["arm"]).median("moved");
/// assert_eq!(by_arm.filter("arm", "ring").samples("moved").median(), 5.0);
/// assert_eq!(by_arm.unit("moved"), "%");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Frame {
    data: DataFrame,
    units: BTreeMap<String, String>,
    /// When its first value was measured: a prediction has to be older.
    taken: Option<Instant>,
}

/// What one cell of a frame is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A number; counts and flags (1 for true) are numbers too.
    Number(f64),
    /// Nothing.
    Missing,
}

/// One row of a frame, for a question that has no word of its own.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    frame: &'a Frame,
    index: usize,
}

/// Rows with the same keys, about to become one row each.
#[derive(Debug)]
pub struct Grouped<'a> {
    frame: &'a Frame,
    keys: Vec<String>,
    /// The rows of each group, groups in the order in which they first appear.
    groups: Vec<Vec<IdxSize>>,
}

impl Frame {
    /// Without columns; they come from left to right.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more column, of words.
    pub fn text<T: ToString>(self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        self.with(Column::new(name.into(), values), "").or_fail()
    }

    /// One more column, of numbers in one unit; `""` where they have none.
    pub fn numbers(self, name: &str, unit: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        self.with(Column::new(name.into(), values), unit).or_fail()
    }

    /// One more column, of counts in one unit; `""` where they have none.
    pub fn counts(self, name: &str, unit: &str, values: impl IntoIterator<Item = u64>) -> Self {
        let values: Vec<u64> = values.into_iter().collect();
        // Its values are numbers, of which not all whole ones beyond this are told apart.
        let largest = values.iter().max().filter(|largest| **largest > 1 << 53);
        let fits = largest.map_or(Ok(()), |largest| {
            let cause = format!("{largest} is more than 2^53, where counts run into each other");
            Err(Error::new(format!("add the column {name:?}"), cause).remedy("add it as text"))
        });
        fits.and_then(|()| self.with(Column::new(name.into(), values), unit)).or_fail()
    }

    /// One more column, of numbers in one unit, where some are missing.
    pub fn numbers_or_missing(self, name: &str, unit: &str, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let values: Vec<Option<f64>> = values.into_iter().collect();
        self.with(Column::new(name.into(), values), unit).or_fail()
    }

    /// One more column, the same word or number in every row: which of several frames a row is from, when they are stacked.
    pub fn everywhere(self, name: &str, unit: &str, value: impl Into<Value>) -> Self {
        let values = vec![value.into(); self.height()];
        self.with(column_of(name, &values), unit).or_fail()
    }

    /// One more column, of whatever it is.
    pub(crate) fn values_in(self, name: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.with(column_of(name, &values.into_iter().collect::<Vec<_>>()), "").or_fail()
    }

    /// One more column, computed from each row.
    pub fn computed(self, name: &str, unit: &str, value: impl Fn(Row<'_>) -> f64) -> Self {
        let values: Vec<f64> = self.rows().map(value).collect();
        self.numbers(name, unit, values)
    }

    fn with(mut self, column: Column, unit: &str) -> Result<Self> {
        let (name, length) = (column.name().to_string(), column.len());
        let doing = || format!("add the column {name:?}");
        if self.data.width() > 0 && length != self.height() {
            return Err(Error::new(
                doing(),
                format!("it has {length} values where the frame has {} rows", self.height()),
            ));
        }
        if self.units.contains_key(&name) {
            return Err(Error::new(doing(), "there is one of this name already"));
        }
        let mut columns = self.data.columns().to_vec();
        columns.push(column);
        self.data = DataFrame::new(length, columns).doing(doing())?;
        self.units.insert(name, unit.to_string());
        if length > 0 {
            self.taken.get_or_insert_with(Instant::now);
        }
        Ok(self)
    }

    /// The same values, known to be in this unit.
    pub(crate) fn in_unit(mut self, column: &str, unit: &str) -> Self {
        self.units.insert(column.to_string(), unit.to_string());
        self
    }

    /// As if its first value was measured at this moment.
    pub(crate) fn taken_at(mut self, moment: Option<Instant>) -> Self {
        self.taken = moment;
        self
    }

    /// When its first value was measured.
    pub(crate) fn taken(&self) -> Option<Instant> {
        self.taken
    }

    /// Other rows of the same columns.
    fn of(&self, data: DataFrame) -> Self {
        Self { data, units: self.units.clone(), taken: self.taken }
    }

    /// How many rows it has.
    pub fn height(&self) -> usize {
        self.data.height()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.height() == 0
    }

    /// The columns' names, from left to right.
    pub fn columns(&self) -> Vec<String> {
        self.data.columns().iter().map(|column| column.name().to_string()).collect()
    }

    /// A column's unit; `""` where it has none.
    pub fn unit(&self, column: &str) -> &str {
        self.units.get(column).map_or("", String::as_str)
    }

    /// A column as measurements, missing ones left out; ends the cell where there is no such column, or no numbers in it.
    pub fn samples(&self, column: &str) -> Samples {
        self.samples_of(column).or_fail()
    }

    fn samples_of(&self, column: &str) -> Result<Samples> {
        let values: Vec<f64> = self.numbers_of(column)?.into_iter().flatten().collect();
        Ok(Samples::from(values).taken_at(self.taken))
    }

    /// A column of durations as a distribution; ends the cell where its unit is none of time.
    pub fn latency(&self, column: &str) -> Latency {
        self.latency_of(column).or_fail()
    }

    fn latency_of(&self, column: &str) -> Result<Latency> {
        let doing = || format!("read durations from {column:?}");
        let seconds = match self.unit(column) {
            "s" => 1.0,
            "ms" => 1e-3,
            "µs" => 1e-6,
            "ns" => 1e-9,
            unit => return Err(Error::new(doing(), format!("its unit is {unit:?}, and none of s, ms, µs, ns"))),
        };
        let mut latency = Latency::new();
        for value in self.numbers_of(column)?.into_iter().flatten() {
            latency.record(Duration::try_from_secs_f64(value * seconds).doing(doing())?);
        }
        Ok(latency)
    }

    /// The one number in a column of one row; ends the cell where there are more, or none.
    pub fn number(&self, column: &str) -> f64 {
        self.one(column).or_fail()
    }

    fn one(&self, column: &str) -> Result<f64> {
        match self.numbers_of(column)?.as_slice() {
            [Some(number)] => Ok(*number),
            numbers => {
                let cause = format!("it has {} rows and {} numbers", numbers.len(), numbers.iter().flatten().count());
                Err(Error::new(format!("read the one number in {column:?}"), cause).remedy("filter until one is left"))
            }
        }
    }

    /// Two columns as the points of a line, where both have a number.
    pub fn points(&self, x: &str, y: &str) -> Vec<(f64, f64)> {
        let (x, y) = (self.numbers_of(x).or_fail(), self.numbers_of(y).or_fail());
        x.into_iter().zip(y).filter_map(|(x, y)| Some((x?, y?))).collect()
    }

    /// A column as words; ends the cell where there is no such column.
    pub fn texts(&self, column: &str) -> Vec<String> {
        let column = self.column(column).or_fail();
        (0..self.height()).map(|row| value_at(column, row).to_string()).collect()
    }

    /// What is in a column, each once, in the order in which it first appears.
    pub fn distinct(&self, column: &str) -> Vec<String> {
        let mut seen = BTreeSet::new();
        self.texts(column).into_iter().filter(|text| seen.insert(text.clone())).collect()
    }

    /// The rows, one by one.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.height()).map(|index| Row { frame: self, index })
    }

    /// The rows that have this in that column.
    pub fn filter(&self, column: &str, value: impl Into<Value>) -> Self {
        let (column, value) = (self.column(column).or_fail(), value.into());
        self.retain(|row| value_at(column, row).is(&value))
    }

    /// The rows that have anything else in that column.
    pub fn except(&self, column: &str, value: impl Into<Value>) -> Self {
        let (column, value) = (self.column(column).or_fail(), value.into());
        self.retain(|row| !value_at(column, row).is(&value))
    }

    /// The rows that `condition` takes.
    pub fn filter_by(&self, condition: impl Fn(Row<'_>) -> bool) -> Self {
        self.retain(|index| condition(Row { frame: self, index }))
    }

    /// The rows that have anything at all in that column.
    pub fn having(&self, column: &str) -> Self {
        self.except(column, Value::Missing)
    }

    /// The rows whose number in that column is in the range: `frame.within("at", 1.0..2.5)`.
    pub fn within(&self, column: &str, range: Range<f64>) -> Self {
        let numbers = self.numbers_of(column).or_fail();
        self.retain(|row| numbers[row].is_some_and(|number| range.contains(&number)))
    }

    fn retain(&self, condition: impl FnMut(usize) -> bool) -> Self {
        let mask: Vec<bool> = (0..self.height()).map(condition).collect();
        self.of(self.data.filter(&BooleanChunked::from_slice("".into(), &mask)).doing("filter the frame").or_fail())
    }

    /// These columns, in this order.
    pub fn select<const N: usize>(&self, columns: [&str; N]) -> Self {
        self.try_select(&columns).or_fail()
    }

    fn try_select(&self, columns: &[&str]) -> Result<Self> {
        let none = Self::new().taken_at(self.taken);
        columns.iter().try_fold(none, |frame, name| frame.with(self.column(name)?.clone(), self.unit(name)))
    }

    /// The same under another name.
    pub fn rename(&self, column: &str, name: &str) -> Self {
        let pick = |frame: Self, old: &String| {
            let mut values = self.column(old)?.clone();
            let new = if old == column { name } else { old };
            values.rename(new.into());
            frame.with(values, self.unit(old))
        };
        let none = Self::new().taken_at(self.taken);
        self.column(column).and_then(|_| self.columns().iter().try_fold(none, pick)).or_fail()
    }

    /// The smallest first.
    pub fn sort(&self, column: &str) -> Self {
        self.sorted(column, false).or_fail()
    }

    /// The largest first.
    pub fn sort_descending(&self, column: &str) -> Self {
        self.sorted(column, true).or_fail()
    }

    fn sorted(&self, column: &str, descending: bool) -> Result<Self> {
        self.column(column)?;
        let how = SortMultipleOptions::default().with_order_descending(descending).with_maintain_order(true);
        Ok(self.of(self.data.sort([column], how).doing(format!("sort by {column:?}"))?))
    }

    /// The first rows.
    pub fn head(&self, rows: usize) -> Self {
        self.of(self.data.head(Some(rows)))
    }

    /// The rows of both, below each other; columns that only one has are missing in the other's rows.
    pub fn stack(&self, other: &Self) -> Self {
        self.stacked(other).or_fail()
    }

    pub(crate) fn stacked(&self, other: &Self) -> Result<Self> {
        let none = Self::new().taken_at(self.taken.into_iter().chain(other.taken).min());
        let mut names = self.columns();
        names.extend(other.columns().into_iter().filter(|name| !self.units.contains_key(name)));
        names.iter().try_fold(none, |frame, name| {
            let values: Vec<Value> = [self, other].into_iter().flat_map(|part| part.values(name)).collect();
            let unit = if self.units.contains_key(name) { self.unit(name) } else { other.unit(name) };
            if self.units.contains_key(name) && other.units.contains_key(name) && self.unit(name) != other.unit(name) {
                let cause = format!("{name:?} is in {:?} here and in {:?} there", self.unit(name), other.unit(name));
                return Err(Error::new("stack two frames", cause));
            }
            frame.with(column_of(name, &values), unit)
        })
    }

    /// Groups of rows that have the same in these columns.
    pub fn group<const N: usize>(&self, keys: [&str; N]) -> Grouped<'_> {
        self.try_group(&keys).or_fail()
    }

    fn try_group(&self, keys: &[&str]) -> Result<Grouped<'_>> {
        let columns = keys.iter().map(|key| self.column(key)).collect::<Result<Vec<_>>>()?;
        let mut places: HashMap<Vec<String>, usize> = HashMap::new();
        let mut groups: Vec<Vec<IdxSize>> = Vec::new();
        for row in 0..self.height() {
            let key = columns.iter().map(|column| format!("{:?}", value_at(column, row))).collect();
            let place = *places.entry(key).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[place].push(row as IdxSize);
        }
        Ok(Grouped { frame: self, keys: keys.iter().map(|key| key.to_string()).collect(), groups })
    }

    /// The rows of both that have the same in these columns, side by side; who has no partner is left out.
    pub fn join<const N: usize>(&self, other: &Self, on: [&str; N]) -> Self {
        self.try_join(other, &on).or_fail()
    }

    fn try_join(&self, other: &Self, on: &[&str]) -> Result<Self> {
        // Nothing where a part is missing: what is not known is not the same.
        let key_of = |frame: &Self, row: usize| -> Result<Option<Vec<String>>> {
            let parts = on.iter().map(|key| frame.column(key).map(|column| value_at(column, row)));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let known = !parts.contains(&Value::Missing);
            Ok(known.then(|| parts.iter().map(|part| format!("{part:?}")).collect()))
        };
        if let Some(key) = on.iter().find(|key| self.unit(key) != other.unit(key)) {
            let cause = format!("{key:?} is in {:?} here and in {:?} there", self.unit(key), other.unit(key));
            return Err(Error::new("join two frames", cause));
        }
        let mut partners: HashMap<Vec<String>, Vec<IdxSize>> = HashMap::new();
        for row in 0..other.height() {
            if let Some(key) = key_of(other, row)? {
                partners.entry(key).or_default().push(row as IdxSize);
            }
        }
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for row in 0..self.height() {
            for &partner in key_of(self, row)?.and_then(|key| partners.get(&key)).into_iter().flatten() {
                left.push(row as IdxSize);
                right.push(partner);
            }
        }
        let rest: Vec<String> = other.columns().into_iter().filter(|name| !on.contains(&name.as_str())).collect();
        let taken = self.taken.into_iter().chain(other.taken).min();
        let (mine, theirs) = (self.take(&left)?.taken_at(taken), other.take(&right)?);
        rest.iter().try_fold(mine, |frame, name| {
            let mut column = theirs.column(name)?.clone();
            let taken = frame.units.contains_key(name);
            if taken {
                column.rename(format!("{name} of the other").into());
            }
            frame.with(column, other.unit(name))
        })
    }

    /// A row for each of `rows`, a column for each of `columns`, and in between the median of `values`.
    pub fn pivot(&self, rows: &str, columns: &str, values: &str) -> Self {
        let medians = self.try_group(&[rows, columns]).or_fail().median(values);
        let (down, across) = (medians.distinct(rows), medians.distinct(columns));
        let cells: HashMap<(String, String), Value> =
            medians.rows().map(|row| ((row.text(rows), row.text(columns)), row.value(values))).collect();
        let first = self.try_group(&[rows]).or_fail().keys().try_select(&[rows]).or_fail();
        across
            .iter()
            .try_fold(first, |frame, name| {
                let cell = |row: &String| cells.get(&(row.clone(), name.clone())).cloned().unwrap_or(Value::Missing);
                frame.with(column_of(name, &down.iter().map(cell).collect::<Vec<_>>()), self.unit(values))
            })
            .or_fail()
    }

    /// How often something happened: rows a second in steps of so many seconds, for each of what `by` holds, also where it is
    /// nothing. `at` holds seconds; the steps begin at 0, and one that the last row does not fill is left out.
    pub fn rates(&self, at: &str, step: f64, by: &str) -> Self {
        let (moments, kinds) = (self.numbers_of(at).or_fail(), self.texts(by));
        let steps = (moments.iter().flatten().copied().fold(0.0, f64::max) / step).floor() as usize;
        let names = self.distinct(by);
        let mut counts: BTreeMap<&str, Vec<u64>> = names.iter().map(|name| (name.as_str(), vec![0; steps])).collect();
        for (moment, kind) in moments.iter().zip(&kinds) {
            let counts = counts.get_mut(kind.as_str());
            let place = moment.filter(|moment| *moment >= 0.0).map(|moment| (moment / step) as usize);
            if let Some(count) = place.and_then(|place| counts?.get_mut(place)) {
                *count += 1;
            }
        }
        let rate = |name: &String| counts[name.as_str()].iter().map(|count| *count as f64 / step).collect::<Vec<f64>>();
        let middle = |_: &String| (0..steps).map(|index| (index as f64 + 0.5) * step).collect::<Vec<f64>>();
        Self::new()
            .text(by, names.iter().flat_map(|name| vec![name; steps]))
            .numbers(at, self.unit(at), names.iter().flat_map(middle))
            .numbers("rate", "1/s", names.iter().flat_map(rate))
            .taken_at(self.taken)
    }

    /// Each column of numbers in figures: how many, mean, standard deviation, minimum, quartiles, maximum.
    pub fn describe(&self) -> Self {
        let numeric: Vec<String> = self.columns().into_iter().filter(|name| self.numbers_of(name).is_ok()).collect();
        let of: Vec<Samples> = numeric.iter().map(|name| self.samples(name)).collect();
        let figure = |f: &dyn Fn(&Samples) -> f64| of.iter().map(f).collect::<Vec<_>>();
        Self::new()
            .text("column", &numeric)
            .text("unit", numeric.iter().map(|name| self.unit(name)))
            .counts("count", "", of.iter().map(|samples| samples.len() as u64))
            .numbers("mean", "", figure(&Samples::mean))
            .numbers("standard deviation", "", figure(&Samples::standard_deviation))
            .numbers("minimum", "", figure(&Samples::min))
            .numbers("lower quartile", "", figure(&|samples| samples.quantile(0.25)))
            .numbers("median", "", figure(&Samples::median))
            .numbers("upper quartile", "", figure(&|samples| samples.quantile(0.75)))
            .numbers("maximum", "", figure(&Samples::max))
            .taken_at(self.taken)
    }

    /// As a table with a title.
    pub fn table(&self, title: &str) -> Table {
        Table::of(title, self.clone())
    }

    /// Comma-separated values (RFC 4180); a column's unit stands in brackets behind its name.
    pub fn to_csv(&self) -> Result<String> {
        let doing = "write a frame as CSV";
        let columns = self.columns();
        let mut writer = csv::Writer::from_writer(Vec::new());
        // A name in brackets is not to be read as a unit.
        let head = |name: &String| match self.unit(name) {
            "" if name.ends_with(')') => format!("{name} ()"),
            unit => headed(name, unit),
        };
        writer.write_record(columns.iter().map(head)).doing(doing)?;
        let values: Vec<Vec<Value>> = columns.iter().map(|name| self.values(name)).collect();
        let written = |value: &Value| if *value == Value::Missing { String::new() } else { value.to_string() };
        for row in 0..self.height() {
            writer.write_record(values.iter().map(|column| written(&column[row]))).doing(doing)?;
        }
        String::from_utf8(writer.into_inner().doing(doing)?).doing(doing)
    }

    /// What [`to_csv`](Self::to_csv) wrote. A column in which every value reads as a number is one of numbers.
    pub fn from_csv(text: &str) -> Result<Self> {
        let doing = "read a frame from CSV";
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let headers = reader.headers().doing(doing)?.clone();
        let rows = reader.records().collect::<std::result::Result<Vec<_>, _>>().doing(doing)?;
        headers.iter().enumerate().try_fold(Self::new(), |frame, (index, headed)| {
            let parts = headed.strip_suffix(')').and_then(|rest| rest.rsplit_once(" ("));
            let (name, unit) = parts.unwrap_or((headed, ""));
            let fields: Vec<&str> = rows.iter().map(|row| row.get(index).unwrap_or_default()).collect();
            let number = |field: &&str| if field.is_empty() { Some(None) } else { field.parse::<f64>().ok().map(Some) };
            let numbers: Option<Vec<Option<f64>>> = fields.iter().map(number).collect();
            let column = match numbers {
                Some(numbers) => Column::new(name.into(), numbers),
                None => {
                    Column::new(name.into(), fields.iter().map(|f| (!f.is_empty()).then_some(*f)).collect::<Vec<_>>())
                }
            };
            frame.with(column, unit)
        })
    }

    fn column(&self, name: &str) -> Result<&Column> {
        self.data.column(name).map_err(|_| {
            let there = self.columns();
            let there = if there.is_empty() { "no column at all".to_string() } else { there.join(", ") };
            Error::new(format!("read the column {name:?}"), format!("there is {there}"))
        })
    }

    fn values(&self, name: &str) -> Vec<Value> {
        let column = self.column(name).ok();
        (0..self.height()).map(|row| column.map_or(Value::Missing, |column| value_at(column, row))).collect()
    }

    fn numbers_of(&self, name: &str) -> Result<Vec<Option<f64>>> {
        let column = self.column(name)?;
        let number = |row| match value_at(column, row) {
            Value::Number(number) => Ok(Some(number)),
            Value::Missing => Ok(None),
            Value::Text(text) => Err(Error::new(format!("read numbers from {name:?}"), format!("{text:?} is none"))),
        };
        (0..self.height()).map(number).collect()
    }

    fn take(&self, rows: &[IdxSize]) -> Result<Self> {
        Ok(self.of(self.data.take(&IdxCa::from_slice("".into(), rows)).doing("take rows of a frame")?))
    }
}

impl Row<'_> {
    /// What is in a column; ends the cell where there is no such column.
    pub fn value(&self, column: &str) -> Value {
        value_at(self.frame.column(column).or_fail(), self.index)
    }

    /// A number; NaN where there is none.
    pub fn number(&self, column: &str) -> f64 {
        match self.value(column) {
            Value::Number(number) => number,
            _ => f64::NAN,
        }
    }

    /// Words.
    pub fn text(&self, column: &str) -> String {
        self.value(column).to_string()
    }
}

impl Grouped<'_> {
    /// The middle value of each group.
    pub fn median(&self, column: &str) -> Frame {
        self.each(column, Samples::median)
    }

    /// The mean of each group.
    pub fn mean(&self, column: &str) -> Frame {
        self.each(column, Samples::mean)
    }

    /// The smallest of each group.
    pub fn min(&self, column: &str) -> Frame {
        self.each(column, Samples::min)
    }

    /// The largest of each group.
    pub fn max(&self, column: &str) -> Frame {
        self.each(column, Samples::max)
    }

    /// The sum of each group.
    pub fn sum(&self, column: &str) -> Frame {
        self.each(column, |samples| samples.values().iter().sum())
    }

    /// The standard deviation of each group.
    pub fn standard_deviation(&self, column: &str) -> Frame {
        self.each(column, Samples::standard_deviation)
    }

    /// The value below which the share `q` (0 to 1) of each group lies.
    pub fn quantile(&self, column: &str, q: f64) -> Frame {
        self.each(column, |samples| samples.quantile(q))
    }

    /// How many rows each group has, as the column `count`.
    pub fn count(&self) -> Frame {
        self.keys().counts("count", "", self.groups.iter().map(|rows| rows.len() as u64))
    }

    /// Per cent of all rows that are in each group, as the column `share`.
    pub fn shares(&self) -> Frame {
        let all = self.frame.height() as f64;
        self.keys().numbers("share", "%", self.groups.iter().map(|rows| 100.0 * rows.len() as f64 / all))
    }

    /// Any figure of each group, in the column's own name and unit; missing where a group has no number.
    pub fn each(&self, column: &str, figure: impl Fn(&Samples) -> f64) -> Frame {
        let numbers = self.frame.numbers_of(column).or_fail();
        let of = |rows: &Vec<IdxSize>| {
            let values: Vec<f64> = rows.iter().filter_map(|&row| numbers[row as usize]).collect();
            (!values.is_empty()).then(|| figure(&Samples::from(values)))
        };
        self.keys().numbers_or_missing(column, self.frame.unit(column), self.groups.iter().map(of))
    }

    fn keys(&self) -> Frame {
        let firsts: Vec<IdxSize> = self.groups.iter().filter_map(|rows| rows.first().copied()).collect();
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        self.frame.take(&firsts).and_then(|frame| frame.try_select(&keys)).or_fail()
    }
}

fn value_at(column: &Column, row: usize) -> Value {
    match column.get(row) {
        Ok(AnyValue::Null) | Err(_) => Value::Missing,
        Ok(AnyValue::String(text)) => Value::Text(text.to_string()),
        Ok(AnyValue::StringOwned(text)) => Value::Text(text.to_string()),
        Ok(AnyValue::Boolean(flag)) => Value::Number(f64::from(u8::from(flag))),
        Ok(other) => other.extract::<f64>().map_or_else(|| Value::Text(other.to_string()), Value::Number),
    }
}

/// A column of words where there is a word among the values, else of numbers.
fn column_of(name: &str, values: &[Value]) -> Column {
    match values.iter().any(|value| matches!(value, Value::Text(_))) {
        true => {
            let text = |value: &Value| (*value != Value::Missing).then(|| value.to_string());
            Column::new(name.into(), values.iter().map(text).collect::<Vec<_>>())
        }
        false => {
            let number = |value: &Value| if let Value::Number(number) = value { Some(*number) } else { None };
            Column::new(name.into(), values.iter().map(number).collect::<Vec<_>>())
        }
    }
}

/// A column's name with its unit.
pub(crate) fn headed(name: &str, unit: &str) -> String {
    if unit.is_empty() { name.to_string() } else { format!("{name} ({unit})") }
}

impl Value {
    /// Whether a reader would call them the same: a number may be asked for by what it is written as, as a typed arm is.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(text), Self::Number(number)) | (Self::Number(number), Self::Text(text)) => {
                text.parse() == Ok(*number)
            }
            (one, other) => one == other,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Missing => f.write_str("–"),
        }
    }
}

impl<T: std::fmt::Display + ?Sized> From<&T> for Value {
    /// Words, or whatever is written in words: a typed arm is found by its name.
    fn from(text: &T) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Number(f64::from(number))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number as f64)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as f64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Number(f64::from(u8::from(flag)))
    }
}

impl Serialize for Frame {
    /// As its CSV, and when its first value was measured: for a process of an experiment that hands over what it has measured.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let taken = self.taken.and_then(|taken| SystemTime::now().checked_sub(taken.elapsed()));
        // Without a column there is no head either.
        let csv = if self.units.is_empty() { Ok(String::new()) } else { self.to_csv() };
        (csv.map_err(S::Error::custom)?, taken).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let (csv, taken) = <(String, Option<SystemTime>)>::deserialize(deserializer)?;
        let frame = Self::from_csv(&csv).map_err(D::Error::custom)?;
        // What was measured elsewhere is no younger for being read here, whenever that is.
        let age = taken.map(|taken| taken.elapsed().unwrap_or_default());
        Ok(frame.taken_at(age.and_then(|age| Instant::now().checked_sub(age))))
    }
}

/// [Stacked](Frame::stack): so frames, results of frames and pairs of them are collected.
///
/// ```
/// use lab::{Frame, Result};
///
/// let load = |clients: u64| -> Result<(Frame, Frame)> {
///     let clients = Frame::new().counts("clients", "", [clients]);
///     Ok((clients.clone(), clients.everywhere("figure", "", "waits")))
/// };
/// let (loads, waits) = [1, 2, 4].map(load).into_iter().collect::<Result<(Frame, Frame)>>().unwrap();
/// assert_eq!((loads.height(), waits.height()), (3, 3));
/// ```
impl FromIterator<Frame> for Frame {
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Self {
        frames.into_iter().reduce(|all, one| all.stack(&one)).unwrap_or_default()
    }
}

impl Extend<Frame> for Frame {
    fn extend<I: IntoIterator<Item = Frame>>(&mut self, frames: I) {
        for one in frames {
            *self = self.stack(&one);
        }
    }
}

impl From<Frame> for DataFrame {
    /// For whatever polars can do with it.
    fn from(frame: Frame) -> Self {
        frame.data
    }
}

impl From<&Frame> for DataFrame {
    fn from(frame: &Frame) -> Self {
        frame.data.clone()
    }
}

impl From<DataFrame> for Frame {
    fn from(data: DataFrame) -> Self {
        let units = data.columns().iter().map(|column| (column.name().to_string(), String::new())).collect();
        let taken = (data.height() > 0).then(Instant::now);
        Self { data, units, taken }
    }
}

impl Show for Frame {
    fn to_html(&self) -> String {
        self.table("").to_html()
    }

    fn to_plain(&self) -> String {
        self.table("").to_plain()
    }

    fn show(&self) {
        self.table("").show();
    }
}

impl Show for DataFrame {
    fn to_html(&self) -> String {
        Frame::from(self.clone()).to_html()
    }

    fn to_plain(&self) -> String {
        Frame::from(self.clone()).to_plain()
    }

    fn show(&self) {
        Frame::from(self.clone()).show();
    }
}

impl Frame {
    /// Whether a column holds numbers, which stand to the right.
    pub(crate) fn is_numeric(&self, column: &str) -> bool {
        self.column(column)
            .is_ok_and(|column| column.dtype().is_primitive_numeric() || *column.dtype() == DataType::Boolean)
    }

    /// The first so many values of a column.
    pub(crate) fn first_values(&self, column: &str, rows: usize) -> Vec<Value> {
        self.head(rows).values(column)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn moved() -> Frame {
        Frame::new()
            .text("arm", ["ring", "modulo", "ring", "modulo", "ring"])
            .counts("round", "", [1, 1, 2, 2, 3])
            .numbers("moved", "%", [4.0, 90.0, 6.0, 94.0, 5.0])
    }

    #[test]
    fn a_number_is_found_by_what_it_is_written_as() {
        let frame = Frame::new().counts("rows", "", [2, 10]).text("arm", ["2", "ten"]);
        // What is lent comes as words.
        let rows: &u64 = &10;
        assert_eq!(frame.filter("rows", rows).texts("arm"), ["ten"]);
        assert_eq!(frame.filter("rows", "2").height(), 1);
        assert_eq!(frame.except("rows", rows).texts("arm"), ["2"]);
        assert_eq!(frame.filter("arm", 2).height(), 1);
        let large = std::panic::catch_unwind(|| Frame::new().counts("id", "", [1 << 54]));
        assert!(large.is_err(), "ids that run into each other are refused");
    }

    #[test]
    fn a_file_keeps_what_is_missing_and_names_in_brackets() {
        let frame = Frame::new()
            .text("wait (mean)", ["a", "b"])
            .numbers_or_missing("never", "ms", [None, None])
            .values_in("word", [Value::Missing, Value::Text("x".into())]);
        let back = Frame::from_csv(&frame.to_csv().unwrap()).unwrap();
        assert_eq!((back.columns(), back.unit("never")), (frame.columns(), "ms"));
        assert!(back.samples("never").is_empty() && back.having("never").is_empty());
        assert_eq!(back.having("word").height(), 1);
        let other = Frame::new().text("wait (mean)", ["c"]).numbers("never", "ms", [3.0]);
        assert_eq!(back.stack(&other).samples("never").values(), [3.0], "a column without numbers spoils none");
    }

    #[test]
    fn what_is_missing_has_no_figure_and_no_partner() {
        let frame = Frame::new().text("arm", ["a", "b"]).numbers_or_missing("x", "s", [Some(1.0), None]);
        assert_eq!(frame.group(["arm"]).sum("x").samples("x").values(), [1.0]);
        assert_eq!(frame.group(["arm"]).median("x").samples("x").values(), [1.0]);
        let other = Frame::new().numbers_or_missing("x", "s", [Some(1.0), None]).text("y", ["p", "q"]);
        assert_eq!(frame.join(&other, ["x"]).texts("y"), ["p"]);
        let apart = Frame::new().numbers("x", "ms", [1.0]);
        assert!(frame.try_join(&apart, &["x"]).unwrap_err().cause().contains("in \"s\" here and in \"ms\""));
    }

    #[test]
    fn a_question_in_a_line() {
        let frame = moved();
        assert_eq!(frame.filter("arm", "ring").samples("moved").values(), [4.0, 6.0, 5.0]);
        assert_eq!(frame.filter("round", 2).except("arm", "ring").samples("moved").values(), [94.0]);
        assert_eq!(frame.filter_by(|row| row.number("moved") > 5.5).height(), 3);
        assert_eq!(frame.sort_descending("moved").head(1).texts("arm"), ["modulo"]);
        assert_eq!(frame.sort("moved").select(["moved", "arm"]).columns(), ["moved", "arm"]);
        assert_eq!(frame.computed("share", "", |row| row.number("moved") / 100.0).samples("share").max(), 0.94);
    }

    #[test]
    fn groups_keep_their_order_and_their_unit() {
        let frame = moved();
        let by_arm = frame.group(["arm"]);
        assert_eq!(by_arm.median("moved").texts("arm"), ["ring", "modulo"]);
        assert_eq!(by_arm.median("moved").samples("moved").values(), [5.0, 92.0]);
        assert_eq!(by_arm.mean("moved").unit("moved"), "%");
        assert_eq!(
            by_arm.quantile("moved", 1.0).samples("moved").values(),
            by_arm.max("moved").samples("moved").values()
        );
        assert_eq!(
            (by_arm.min("moved").samples("moved").min(), by_arm.sum("moved").samples("moved").max()),
            (4.0, 184.0)
        );
        assert_eq!(by_arm.count().samples("count").values(), [3.0, 2.0]);
        assert_eq!(frame.group(["arm", "round"]).count().height(), 5);
    }

    #[test]
    fn a_pivot_leaves_open_what_was_not_measured() {
        let wide = moved().pivot("round", "arm", "moved");
        assert_eq!(wide.columns(), ["round", "ring", "modulo"]);
        assert_eq!((wide.height(), wide.unit("modulo")), (3, "%"));
        assert_eq!(wide.samples("modulo").values(), [90.0, 94.0], "what is missing is no measurement");
        assert!(wide.to_plain().contains('–'), "{}", wide.to_plain());
    }

    #[test]
    fn a_join_takes_whoever_has_a_partner() {
        let names = Frame::new().text("arm", ["ring", "jump"]).text("by", ["Karger", "Lamping"]);
        let joined = moved().join(&names, ["arm"]);
        assert_eq!((joined.height(), joined.texts("by")[0].as_str()), (3, "Karger"));
        assert_eq!(moved().join(&moved(), ["arm", "round"]).columns(), ["arm", "round", "moved", "moved of the other"]);
    }

    #[test]
    fn stacked_frames_have_all_columns() {
        let both = moved().stack(&Frame::new().text("arm", ["jump"]).text("note", ["late"]));
        assert_eq!((both.height(), both.columns().len()), (6, 4));
        assert_eq!(both.filter("arm", "jump").texts("moved"), ["–"]);
        assert_eq!(both.samples("moved").len(), 5);
    }

    #[test]
    fn figures_of_every_column_of_numbers() {
        let described = moved().describe();
        assert_eq!(described.texts("column"), ["round", "moved"]);
        assert_eq!(described.filter("column", "moved").samples("median").values(), [6.0]);
        assert_eq!(described.filter("column", "moved").texts("unit"), ["%"]);
    }

    #[test]
    fn a_file_brings_everything_back() {
        let frame = moved();
        let text = frame.to_csv().unwrap();
        assert!(text.starts_with("arm,round,moved (%)\nring,1,4\n"), "{text}");
        let back = Frame::from_csv(&text).unwrap();
        assert_eq!((back.columns(), back.unit("moved")), (frame.columns(), "%"));
        assert_eq!(back.samples("moved"), frame.samples("moved"));
        let hard = Frame::new().text("a,\"b\"", ["line\nbreak", "c, d"]);
        assert_eq!(Frame::from_csv(&hard.to_csv().unwrap()).unwrap().texts("a,\"b\""), ["line\nbreak", "c, d"]);
        let gap = Frame::new().numbers_or_missing("x", "s", [Some(1.5), None]).text("word", ["", "a"]);
        let back = Frame::from_csv(&gap.to_csv().unwrap()).unwrap();
        // A file has no other way to say that there is nothing.
        assert_eq!(
            (back.samples("x").values(), back.texts("word")),
            ([1.5].as_slice(), vec!["–".to_string(), "a".into()])
        );
        for bad in ["a,b\n1,2,3\n", "a,a\n1,2\n"] {
            assert!(Frame::from_csv(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_frame_that_another_process_hands_over_is_the_same_and_as_old() {
        let frame = moved();
        let handed_over = serde_json::to_string(&frame).unwrap();
        std::thread::sleep(Duration::from_millis(400)); // nobody reads it at once
        let back: Frame = serde_json::from_str(&handed_over).unwrap();
        assert_eq!((back.texts("arm"), back.unit("moved")), (frame.texts("arm"), "%"));
        assert_eq!(back.samples("moved").values(), frame.samples("moved").values());
        let younger = back.taken().unwrap().saturating_duration_since(frame.taken().unwrap());
        assert!(younger < Duration::from_millis(200), "reading makes it no younger: {younger:?}");
        let none: Frame = serde_json::from_str(&serde_json::to_string(&Frame::new()).unwrap()).unwrap();
        assert!(none.columns().is_empty() && none.is_empty());
        assert!(serde_json::from_str::<Frame>(r#"["a,a\n1,2\n", null]"#).is_err());
    }

    #[test]
    fn a_frame_is_as_old_as_its_first_value_whatever_is_done_with_it() {
        let early = moved();
        let taken = early.samples("moved").taken();
        let late = Frame::new().text("arm", ["ring"]).numbers("moved", "%", [1.0]);
        assert!(taken.is_some() && taken < late.samples("moved").taken());
        for frame in [
            early.filter("arm", "ring"),
            early.select(["moved"]),
            early.rename("arm", "which"),
            early.sort("moved"),
            early.head(2),
            early.within("moved", 0.0..5.5),
            late.stack(&early),
            late.join(&early.rename("moved", "before"), ["arm"]),
            early.group(["arm"]).median("moved"),
            early.clone().everywhere("run", "", 7),
        ] {
            assert_eq!(frame.samples("moved").taken(), taken, "{frame:?}");
        }
    }

    #[test]
    fn what_happens_in_time_is_counted_in_steps() {
        let served = Frame::new().numbers("at", "s", [0.1, 0.2, 1.9, 2.0, 3.1]).text("by", ["a", "b", "b", "a", "b"]);
        let rates = served.rates("at", 1.0, "by");
        assert_eq!(rates.filter("by", "a").samples("rate").values(), [1.0, 0.0, 1.0]);
        assert_eq!(rates.filter("by", "b").samples("rate").values(), [1.0, 1.0, 0.0]);
        assert_eq!(rates.filter("by", "b").samples("at").values(), [0.5, 1.5, 2.5]);
        assert_eq!(served.within("at", 0.2..2.0).group(["by"]).shares().samples("share").values(), [100.0]);
        assert_eq!(served.group(["by"]).shares().samples("share").values(), [40.0, 60.0]);
    }

    #[test]
    fn durations_know_their_unit() {
        let frame = Frame::new().numbers("took", "ms", [5.0, 7.0]).numbers("share", "%", [1.0, 2.0]);
        assert_eq!(frame.latency("took").count(), 2);
        assert!((frame.latency("took").max().as_secs_f64() - 0.007).abs() < 1e-5);
        assert!(frame.latency_of("share").unwrap_err().to_string().contains("its unit is \"%\""));
        let negative = Frame::new().numbers("took", "s", [-1.0]);
        assert!(negative.latency_of("took").is_err(), "no time runs backwards");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_there() {
        let error = moved().column("mvoed").unwrap_err().to_string();
        assert_eq!(error, "could not read the column \"mvoed\": there is arm, round, moved");
        assert!(moved().numbers_of("arm").unwrap_err().to_string().contains("\"ring\" is none"));
        assert_eq!(moved().filter("round", 3).number("moved"), 5.0);
        let error = moved().one("moved").unwrap_err().to_string();
        assert!(error.contains("it has 5 rows and 5 numbers; filter until one is left"), "{error}");
        let gap = Frame::new().numbers_or_missing("x", "", [Some(1.0), None]).numbers("y", "", [2.0, 3.0]);
        assert_eq!(gap.points("x", "y"), [(1.0, 2.0)]);
        assert!(gap.filter("y", 3.0).one("x").is_err(), "a gap is no number");
        let error = moved().with(Column::new("x".into(), vec![1.0]), "").unwrap_err().to_string();
        assert_eq!(error, "could not add the column \"x\": it has 1 values where the frame has 5 rows");
        assert!(moved().with(Column::new("arm".into(), vec![1.0; 5]), "").is_err(), "twice the same name");
    }

    #[test]
    fn polars_is_one_word_away() {
        let data: DataFrame = moved().into();
        assert_eq!(data.shape(), (5, 3));
        assert!(data.to_plain().contains("ring"));
        assert_eq!(Frame::from(data).filter("arm", "ring").height(), 3);
    }
}
