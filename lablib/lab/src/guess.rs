//! What the reader expects, asked before it is measured.
//!
//! * In JupyterLab the reader types a number: the interactive kernel says with `LAB_ASK` that somebody is there. Anywhere else
//!   nobody is asked, nothing waits, and standard input is not read.
//! * `LAB_GUESSES=FILE` answers in the reader's place: a line `question = number` for each; lines that begin with `#` are notes.
//! * `LAB_GUESSES_TO=FOLDER` keeps what a class guesses: a file for each student, `STUDENT.jsonl`, a line for each guess. A student
//!   is `LAB_STUDENT`, or else the user and the machine. [`Experiment::guesses`](crate::Experiment::guesses) reads them all.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::display::escape;
use crate::number::{GAP, significant};
use crate::{Doing, Error, Frame, Result, paths, session};

/// What the reader said to a question, if anything; made by [`Experiment::guess`](crate::Experiment::guess).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    question: String,
    unit: String,
    value: Option<f64>,
}

impl Guess {
    pub(crate) fn new(question: &str, unit: &str, value: Option<f64>) -> Self {
        Self { question: question.to_string(), unit: unit.to_string(), value }
    }

    /// The number; none where nobody was asked, or the reader had no guess.
    pub fn value(&self) -> Option<f64> {
        self.value
    }

    /// What was asked.
    pub fn question(&self) -> &str {
        &self.question
    }

    /// The unit of the number.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// "30 %".
    pub(crate) fn said(&self) -> Option<String> {
        let gap = if self.unit.is_empty() { String::new() } else { GAP.to_string() };
        Some(format!("{}{gap}{}", significant(self.value?), self.unit))
    }

    pub(crate) fn card(&self) -> String {
        let said = match self.said() {
            Some(said) => format!("Your guess: <strong>{}</strong>", escape(&said)),
            None if self.unit.is_empty() => "Guess before you read on".to_string(),
            None => format!("Guess before you read on, in {}", escape(&self.unit)),
        };
        format!("<p class=\"lab-guess\">{}<br>{said}.</p>", escape(&self.question))
    }

    pub(crate) fn plain(&self) -> String {
        format!("Guess: {} {}", self.question, self.said().unwrap_or_else(|| "(nobody was asked, or no guess)".into()))
    }
}

/// Asks whoever is there to be asked.
pub(crate) fn ask(question: &str, unit: &str) -> Result<Guess> {
    if question.trim().is_empty() {
        return Err(Error::new("ask for a guess", "there is no question"));
    }
    let value = if let Some(file) = path_in("LAB_GUESSES") {
        let doing = || format!("read the guesses in {}", file.display());
        answer_in(&std::fs::read_to_string(&file).doing(doing())?, question)
            .map_err(|cause| Error::new(doing(), cause).remedy("write a line `question = number` for each guess"))?
    } else if session::in_notebook() && path_in("LAB_ASK").is_some() {
        asked(question, unit, typed)
    } else {
        None
    };
    Ok(Guess::new(question, unit, value))
}

/// Where this variable leads, if it is set.
pub(crate) fn path_in(variable: &str) -> Option<std::path::PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(Into::into)
}

/// What a file of guesses says to this question.
fn answer_in(text: &str, question: &str) -> std::result::Result<Option<f64>, String> {
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (asked, value) = line.rsplit_once('=').ok_or_else(|| format!("the line {line:?} answers nothing"))?;
        let value = number_in(value, "").ok_or_else(|| format!("in the line {line:?}, {value:?} is no number"))?;
        if asked.trim() == question {
            found = Some(value);
        }
    }
    Ok(found)
}

/// Asks the reader, and once more after an answer that is no number. An empty line is no guess, and so is a second answer like that.
fn asked(question: &str, unit: &str, mut typed: impl FnMut(&str) -> Option<String>) -> Option<f64> {
    let wanted = if unit.is_empty() { "a number".to_string() } else { format!("a number, in {unit}") };
    let answer = typed(&format!("{question} Your guess, {wanted}; or nothing"))?;
    if answer.trim().is_empty() {
        return None;
    }
    number_in(&answer, unit).or_else(|| {
        let again = typed(&format!("{:?} is no number. {question} Your guess, {wanted}; or nothing", answer.trim()))?;
        number_in(&again, unit)
    })
}

/// A number as people type it: `30`, `30 %`, `~1,200`, `2.5e6`, `1_000`.
fn number_in(text: &str, unit: &str) -> Option<f64> {
    let text = text.trim().trim_start_matches(['~', '≈']);
    let text = text.strip_suffix(unit).unwrap_or(text).trim();
    let mut groups = text.split(',').skip(1);
    // A comma parts thousands; where it does not, nobody knows what it means.
    let thousands = groups.all(|group| group.split('.').next().is_some_and(|digits| digits.len() == 3));
    let digits: String = text.chars().filter(|letter| !matches!(letter, ',' | '_' | ' ' | '\'')).collect();
    digits.parse().ok().filter(|value: &f64| thousands && value.is_finite())
}

/// Asks the kernel for a line of the reader's. The kernel looks for its request at the beginning of a line, and would wait for ever
/// for what it has not seen: so whatever the cell has printed without an end is ended first. A prompt ends at a colon.
fn typed(prompt: &str) -> Option<String> {
    let prompt = prompt.replace(':', " –").replace(['\n', '\r'], " ");
    {
        let mut out = std::io::stdout().lock();
        out.write_all(format!("\nEVCXR_INPUT_REQUEST:{prompt}\n").as_bytes()).ok()?;
        out.flush().ok()?;
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).ok().filter(|&length| length > 0)?;
    Some(line)
}

/// A line of a student's file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    notebook: String,
    question: String,
    unit: String,
    guess: f64,
}

/// Keeps a guess, if it is one, in a student's file.
pub(crate) fn keep(folder: &Path, student: &str, notebook: &str, guess: &Guess) -> Result<()> {
    let Some(value) = guess.value else { return Ok(()) };
    let file = folder.join(format!("{}.jsonl", paths::slug(student)));
    let doing = || format!("keep the guess in {}", file.display());
    let kept =
        Kept { notebook: notebook.into(), question: guess.question.clone(), unit: guess.unit.clone(), guess: value };
    let line = serde_json::to_string(&kept).doing(doing())? + "\n";
    std::fs::create_dir_all(folder).doing(doing())?;
    // At its end, in one write: a student may have two notebooks open.
    let mut file = std::fs::File::options().create(true).append(true).open(&file).doing(doing())?;
    file.write_all(line.as_bytes()).doing(doing())
}

/// Whose guesses these are.
pub(crate) fn student() -> String {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !paths::slug(value).is_empty());
    said("LAB_STUDENT").unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", said("USER").unwrap_or_else(|| "student".into()), host.trim())
    })
}

/// What a class has guessed: of each student the last guess at each question.
pub(crate) fn kept(folder: &Path) -> Result<Frame> {
    let doing = || format!("read the guesses in {}", folder.display());
    let mut files: Vec<_> = std::fs::read_dir(folder).doing(doing())?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut rows: Vec<(String, Kept)> = Vec::new();
    for file in &files {
        let student = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(file).doing(doing())?.lines() {
            let kept: Kept = serde_json::from_str(line).doing(doing()).map_err(|error| error.at(file.display()))?;
            let same = |(other, row): &(String, Kept)| {
                *other == student && row.question == kept.question && row.notebook == kept.notebook
            };
            rows.retain(|row| !same(row));
            rows.push((student.clone(), kept));
        }
    }
    if rows.is_empty() {
        return Err(
            Error::new(doing(), "nobody has guessed there").remedy("set LAB_GUESSES_TO to it where students work")
        );
    }
    Ok(Frame::new()
        .text("student", rows.iter().map(|(student, _)| student))
        .text("question", rows.iter().map(|(_, row)| &row.question))
        .numbers("guess", "", rows.iter().map(|(_, row)| row.guess))
        .text("unit", rows.iter().map(|(_, row)| &row.unit))
        .text("notebook", rows.iter().map(|(_, row)| &row.notebook)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_type_them() {
        for (text, value) in [
            ("30", 30.0),
            (" 30 % ", 30.0),
            ("30%", 30.0),
            ("-4.5", -4.5),
            ("~1,200", 1_200.0),
            ("1,234,567.5", 1_234_567.5),
            ("1_000", 1_000.0),
            ("10 000", 10_000.0),
            ("2.5e6", 2_500_000.0),
        ] {
            assert_eq!(number_in(text, "%"), Some(value), "{text:?}");
        }
        for text in ["", "%", "many", "0,5", "1,2,3", "inf", "nan", "30 ms", "5 to 10", "1.2.3"] {
            assert_eq!(number_in(text, "%"), None, "{text:?}");
        }
    }

    /// What a reader types, in turn; the prompts that they saw.
    fn answers(typed: &[&str]) -> (Option<f64>, Vec<String>) {
        let (mut typed, mut prompts) = (typed.iter(), Vec::new());
        let value = asked("How many?", "%", |prompt| {
            prompts.push(prompt.to_string());
            typed.next().map(|line| format!("{line}\n"))
        });
        (value, prompts)
    }

    #[test]
    fn nonsense_is_asked_for_once_more_and_an_empty_line_is_no_guess() {
        for (typed, value, prompts) in [
            (&["30 %"][..], Some(30.0), 1),
            (&[""], None, 1),
            (&["  "], None, 1),
            (&["many", "30"], Some(30.0), 2),
            (&["many", ""], None, 2),
            (&["many", "very many", "30"], None, 2),
            (&[], None, 1),
            (&["many"], None, 2),
        ] {
            let (said, seen) = answers(typed);
            assert_eq!((said, seen.len()), (value, prompts), "{typed:?}: {seen:?}");
        }
        assert!(answers(&["many"]).1[1].starts_with("\"many\" is no number. How many?"));
    }

    #[test]
    fn a_file_answers_in_the_readers_place() {
        let text = "# a test's\n\nIs 1 = 1? = 30\nHow many? = 1,200\nHow many? = 7\n";
        assert_eq!(answer_in(text, "How many?"), Ok(Some(7.0)), "the last one counts");
        assert_eq!(answer_in(text, "Is 1 = 1?"), Ok(Some(30.0)));
        assert_eq!(answer_in(text, "How much?"), Ok(None));
        for text in ["How many?", "How many? =", "How many? = some"] {
            assert!(answer_in(text, "How many?").is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_is_asked_where_nobody_is() {
        // Were anything read here, the test would take somebody's input, or wait for it.
        assert_eq!(ask("How many?", "%"), Ok(Guess::new("How many?", "%", None)));
        assert!(ask(" ", "%").is_err());
    }

    #[test]
    fn a_class_is_a_frame_with_the_last_guess_of_each() {
        let folder = std::env::temp_dir().join(format!("lab-guesses-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        assert!(kept(&folder).is_err(), "no folder");
        let guess = |value| Guess::new("How many?", "%", value);
        keep(&folder, "Ada", "01-a", &guess(None)).unwrap();
        assert!(!folder.exists(), "no guess leaves nothing");
        for (student, notebook, value) in
            [("Ada", "01-a", 10.0), ("Bob", "01-a", 20.0), ("Ada", "02-b", 5.0), ("Ada", "01-a", 30.0)]
        {
            keep(&folder, student, notebook, &guess(Some(value))).unwrap();
        }
        let room = kept(&folder).unwrap();
        assert_eq!(room.columns(), ["student", "question", "guess", "unit", "notebook"]);
        let first = room.filter("notebook", "01-a").sort("student");
        assert_eq!(
            (first.texts("student"), first.samples("guess").values().to_vec()),
            (vec!["ada".into(), "bob".into()], vec![30.0, 20.0])
        );
        assert_eq!(room.height(), 3);
        std::fs::write(folder.join("eve.jsonl"), "{\"guess\": \"much\"}\n").unwrap();
        let refused = kept(&folder).unwrap_err().to_string();
        assert!(refused.contains("eve.jsonl"), "{refused}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
