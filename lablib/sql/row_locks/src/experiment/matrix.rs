//! All of Hermitage's schedules at all settings, each judged by the history checker.

use std::fmt::Write as _;

use crate::hermitage::{self, Trap};
use crate::{Play, Setting, Stage};
use lab::display::escape;
use lab::service::MariaDb;
use lab::{Drawing, Error, OrFail, Progress, Result, Table};

/// One schedule at one setting, played once or more.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Every time that it was played.
    pub plays: Vec<Play>,
    /// In how many of them the anomaly got through.
    pub anomalies: u64,
    /// In how many of them the history was not that of a serial order.
    pub unserializable: u64,
    /// Whether the anomaly was expected.
    pub expected: bool,
    /// Whether some anomaly was expected.
    pub spoilt: bool,
}

/// The whole matrix: a row for each schedule, a column for each setting.
#[derive(Debug, Clone)]
pub struct Matrix {
    pub traps: Vec<Trap>,
    pub settings: Vec<Setting>,
    pub cells: Vec<Vec<Cell>>,
}

/// Plays every schedule at every setting, `repeats` times.
pub fn matrix(server: &MariaDb, repeats: usize) -> Result<Matrix> {
    if repeats == 0 {
        return Err(Error::new("play the matrix", "it takes at least one repeat"));
    }
    let traps = hermitage::all();
    let settings = Setting::all(server.dialect());
    let sessions = traps.iter().map(|trap| trap.schedule.sessions()).max().unwrap_or(1);
    let mut stage = Stage::open(server, sessions)?;
    let mut progress = Progress::new("schedules at all levels", (traps.len() * settings.len()) as u64);
    let mut cells = Vec::new();
    for trap in &traps {
        let mut row = Vec::new();
        for &setting in &settings {
            let plays = (0..repeats).map(|_| stage.play(&trap.schedule, setting)).collect::<Result<Vec<Play>>>()?;
            let count = |what: &dyn Fn(&Play) -> bool| plays.iter().filter(|play| what(play)).count() as u64;
            let anomalies = count(&|play| play.shows(trap.anomaly));
            let unserializable = count(&|play| !play.serializable());
            let (expected, spoilt) = (trap.expected_at(setting), trap.spoilt_at(setting));
            row.push(Cell { plays, anomalies, unserializable, expected, spoilt });
            progress.step();
        }
        cells.push(row);
    }
    Ok(Matrix { traps, settings, cells })
}

impl Cell {
    fn played(&self) -> u64 {
        self.plays.len() as u64
    }

    /// Every play did what was expected: the anomaly, another one in its place, or none.
    pub fn as_expected(&self) -> bool {
        let all = |yes: bool| if yes { self.played() } else { 0 };
        self.anomalies == all(self.expected) && self.unserializable == all(self.spoilt)
    }

    /// What became of it, in a word or two.
    pub fn outcome(&self) -> String {
        let Some(play) = self.plays.first() else { return String::new() };
        if self.unserializable > 0 {
            let first = || play.report().anomalies.first().map_or("another", |anomaly| anomaly.kind.code());
            return if self.anomalies > 0 { "gets through".into() } else { format!("{} instead", first()) };
        }
        for (code, words) in [(1213, "deadlock 1213"), (1020, "error 1020")] {
            if play.refused(code) > 0 {
                return words.into();
            }
        }
        if play.waited() > 0 { "waits".into() } else { "does not see it".into() }
    }
}

impl Matrix {
    /// Cells in all.
    pub fn size(&self) -> u64 {
        (self.traps.len() * self.settings.len()) as u64
    }

    /// Cells that did what was expected, in every play.
    pub fn as_expected(&self) -> u64 {
        self.cells.iter().flatten().filter(|cell| cell.as_expected()).count() as u64
    }

    /// Schedules at a setting whose history was that of no serial order.
    pub fn anomalies_at(&self, setting: Setting) -> u64 {
        self.column(setting).iter().filter(|cell| cell.unserializable > 0).count() as u64
    }

    /// A setting that was not played has not let nothing through.
    fn column(&self, setting: Setting) -> Vec<&Cell> {
        let at = self.settings.iter().position(|known| *known == setting);
        let at = at.ok_or_else(|| Error::new("find a column", format!("nothing was played at {setting}"))).or_fail();
        self.cells.iter().filter_map(|row| row.get(at)).collect()
    }

    /// The first play of a schedule at a setting.
    pub fn play(&self, code: &str, setting: Setting) -> Play {
        let row = self.traps.iter().position(|trap| trap.schedule.code() == code);
        let column = self.settings.iter().position(|known| *known == setting);
        let found = row.zip(column).and_then(|(row, column)| self.cells[row][column].plays.first().cloned());
        found.ok_or_else(|| Error::new("find a play", format!("{code} was not played at {setting}"))).or_fail()
    }

    /// The sentences of the checker for what got through at a setting.
    pub fn evidence(&self, setting: Setting) -> Table {
        let bad = || self.column(setting).into_iter().zip(&self.traps).filter(|(cell, _)| cell.unserializable > 0);
        let first = |cell: &Cell| cell.plays.iter().find(|play| !play.serializable()).map(Play::evidence);
        Table::new(&format!("What the checker says at {setting}"))
            .text("schedule", bad().map(|(_, trap)| trap.schedule.code().to_string()))
            .text("evidence", bad().map(|(cell, _)| first(cell).unwrap_or_default()))
    }

    /// The matrix: what gets through is filled, with the strongest colour.
    pub fn drawing(&self, title: &str) -> Drawing {
        let (left, wide, high, top) = (250.0, 114.0, 30.0, 62.0);
        let width = left + wide * self.settings.len() as f64 + 4.0;
        let mut svg = String::new();
        let mut plain = String::new();
        for (column, setting) in self.settings.iter().enumerate() {
            let x = left + wide * (column as f64 + 0.5);
            let name = setting.to_string();
            let (first, second) = name.split_once(['+', ',']).unwrap_or((&name, ""));
            for (line, words) in [first, second].into_iter().enumerate() {
                let _ = write!(
                    svg,
                    "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#1f2933\">{}</text>",
                    24.0 + 15.0 * line as f64,
                    escape(words.trim())
                );
            }
        }
        for (row, (trap, cells)) in self.traps.iter().zip(&self.cells).enumerate() {
            let y = top + high * row as f64;
            let (code, name) = (trap.schedule.code(), trap.schedule.name());
            let _ = write!(
                svg,
                "<text x=\"0\" y=\"{0}\" font-weight=\"600\" fill=\"#1f2933\">{code}</text>\
                 <text x=\"72\" y=\"{0}\" font-size=\"11\" fill=\"#52606d\">{1}</text>",
                y + 19.0,
                escape(name)
            );
            for (column, cell) in cells.iter().enumerate() {
                let x = left + wide * column as f64;
                let through = cell.unserializable > 0;
                let (fill, ink) = if through { (Drawing::colour(1), "#fff") } else { ("#e8f2ee", "#1f2933") };
                let surprise = if cell.as_expected() { "" } else { " !" };
                let _ = write!(
                    svg,
                    "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{fill}\"/>\
                     <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{ink}\">{}{surprise}</text>",
                    x + 1.5,
                    wide - 3.0,
                    high - 3.0,
                    x + wide / 2.0,
                    y + 18.0,
                    cell.outcome()
                );
            }
            let words: Vec<String> = cells
                .iter()
                .zip(&self.settings)
                .map(|(cell, setting)| format!("{setting}: {}", cell.outcome()))
                .collect();
            let _ = writeln!(plain, "{code} ({name}): {}", words.join("; "));
        }
        Drawing::new(title, (width, top + high * self.traps.len() as f64 + 4.0), &svg, &plain)
    }
}
