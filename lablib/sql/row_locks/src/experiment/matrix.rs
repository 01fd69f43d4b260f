//! All of Hermitage's schedules at all settings, each judged by the history checker.

use std::fmt::Write as _;

use crate::hermitage::{self, Trap};
use crate::{Play, Setting, Stage};
use lab::display::escape;
use lab::service::MariaDb;
use lab::{Drawing, Error, Frame, Progress, Result};

/// Plays every schedule at every setting, `repeats` times. A row for each schedule, by `code` and `name`, at each `setting`: what became
/// of it in a word or two (`outcome`), and what the checker says against it (`evidence`); in how many plays the history was that of no
/// serial order (`through`); whether all plays did what was expected, the anomaly, another one in its place, or none (`as expected`, 1);
/// and how many steps the first play was refused with error `1213` and with `1020`.
pub fn matrix(server: &MariaDb, repeats: usize) -> Result<Frame> {
    let (traps, settings) = (hermitage::all(), Setting::all(server.dialect()));
    let sessions = traps.iter().map(|trap| trap.schedule.sessions()).max().unwrap_or(1);
    let mut stage = Stage::open(server, sessions)?;
    let mut progress = Progress::new("schedules at all levels", (traps.len() * settings.len()) as u64);
    let mut matrix = Frame::new();
    for trap in &traps {
        for &setting in &settings {
            let plays = (0..repeats).map(|_| stage.play(&trap.schedule, setting)).collect::<Result<Vec<Play>>>()?;
            matrix = matrix.stack(&cell(trap, setting, &plays)?);
            progress.step();
        }
    }
    Ok(matrix)
}

fn cell(trap: &Trap, setting: Setting, plays: &[Play]) -> Result<Frame> {
    let Some(first) = plays.first() else {
        return Err(Error::new("play the matrix", "it takes at least one repeat"));
    };
    let count = |what: &dyn Fn(&Play) -> bool| plays.iter().filter(|play| what(play)).count();
    let all = |yes: bool| if yes { plays.len() } else { 0 };
    let (anomalies, through) = (count(&|play| play.shows(trap.anomaly)), count(&|play| !play.serializable()));
    let as_expected = anomalies == all(trap.expected_at(setting)) && through == all(trap.spoilt_at(setting));
    let outcome = if anomalies > 0 && through > 0 {
        "gets through".into()
    } else if through > 0 {
        let other = first.report().anomalies.first().map_or("another", |anomaly| anomaly.kind.code());
        format!("{other} instead")
    } else if first.refused(1213) > 0 {
        "deadlock 1213".into()
    } else if first.refused(1020) > 0 {
        "error 1020".into()
    } else if first.waited() > 0 {
        "waits".into()
    } else {
        "does not see it".into()
    };
    let evidence = plays.iter().find(|play| !play.serializable()).unwrap_or(first).evidence();
    Ok(Frame::new()
        .text("code", [trap.schedule.code()])
        .text("name", [trap.schedule.name()])
        .text("setting", [setting])
        .text("outcome", [outcome])
        .text("evidence", [evidence])
        .counts("through", "", [through as u64])
        .counts("as expected", "", [as_expected.into()])
        .counts("1213", "", [first.refused(1213)])
        .counts("1020", "", [first.refused(1020)]))
}

/// The matrix, a row for each schedule, a column for each setting: what gets through is filled, with the strongest colour.
pub fn draw_matrix(matrix: &Frame, title: &str) -> Drawing {
    let (left, wide, high, top) = (250.0, 114.0, 30.0, 62.0);
    let (codes, settings) = (matrix.distinct("code"), matrix.distinct("setting"));
    let (mut svg, mut plain) = (String::new(), String::new());
    for (column, name) in settings.iter().enumerate() {
        let x = left + wide * (column as f64 + 0.5);
        let (first, second) = name.split_once(['+', ',']).unwrap_or((name, ""));
        for (line, words) in [first, second].into_iter().enumerate() {
            let _ = write!(
                svg,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#1f2933\">{}</text>",
                24.0 + 15.0 * line as f64,
                escape(words.trim())
            );
        }
    }
    for (row, code) in codes.iter().enumerate() {
        let y = top + high * row as f64;
        let cells = matrix.filter("code", code);
        let name = cells.distinct("name").join(" ");
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{0}\" font-weight=\"600\" fill=\"#1f2933\">{code}</text>\
             <text x=\"72\" y=\"{0}\" font-size=\"11\" fill=\"#52606d\">{1}</text>",
            y + 19.0,
            escape(&name)
        );
        let _ = write!(plain, "{code} ({name})");
        for (column, cell) in cells.rows().enumerate() {
            let (x, outcome) = (left + wide * column as f64, cell.text("outcome"));
            let through = cell.number("through") > 0.0;
            let (fill, ink) = if through { (Drawing::colour(1), "#fff") } else { ("#e8f2ee", "#1f2933") };
            let surprise = if cell.number("as expected") == 1.0 { "" } else { " !" };
            let _ = write!(
                svg,
                "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"4\" fill=\"{fill}\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\" fill=\"{ink}\">{outcome}{surprise}</text>",
                x + 1.5,
                wide - 3.0,
                high - 3.0,
                x + wide / 2.0,
                y + 18.0,
            );
            let _ = write!(plain, "{} {}: {outcome}", if column == 0 { ":" } else { ";" }, cell.text("setting"));
        }
        plain.push('\n');
    }
    let size = (left + wide * settings.len() as f64 + 4.0, top + high * codes.len() as f64 + 4.0);
    Drawing::new(title, size, &svg, &plain)
}
