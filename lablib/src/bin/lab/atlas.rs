//! The index of all pages: an atlas of the questions, by chapter, each with its answer in a line and the chart that shows it.
//!
//! It is made of the pages that are there, whenever they were written: each says in itself what it is [about](Entry). So a report of
//! one notebook leaves the others in it, and links between pages are set right each time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use lablib::lab::display::{FACE, escape};
use lablib::lab::{Doing, Machine, Result, STYLE, answer, paths};
use serde::{Deserialize, Serialize};

use crate::cells::Cells;
use crate::notebook::Outcome;
use crate::page;
use crate::report::all_names;

/// What the atlas says of a notebook.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub title: String,
    question: String,
    /// The room whose sources it links to.
    chapter: String,
    /// The first sentence of its answer, with its marks; empty where it has none.
    answer: String,
    /// What its verdict says, or why there is none.
    pub verdict: String,
    pub holds: bool,
    /// Why the run does not count.
    reasons: Vec<String>,
    scale: String,
    seconds: f64,
    /// The chart that answers.
    chart: Option<String>,
    /// That chart as the index shows it.
    #[serde(skip)]
    drawing: String,
    /// Whether it has a page.
    #[serde(skip)]
    page: bool,
}

impl Entry {
    pub fn of(outcome: &Outcome) -> Self {
        let verdict = outcome.verdict.as_ref();
        let said = verdict.filter(|verdict| outcome.passed() || !verdict.holds).map(|verdict| verdict.headline());
        Self {
            name: outcome.name.clone(),
            title: outcome.title.clone(),
            question: outcome.question.clone(),
            chapter: outcome.chapter.to_string(),
            answer: verdict
                .and_then(|verdict| verdict.answer.as_ref())
                .map(|answer| first_sentence(&answer.text))
                .unwrap_or_default(),
            verdict: said.or_else(|| outcome.reasons.first().cloned()).unwrap_or_default(),
            holds: outcome.passed(),
            reasons: outcome.reasons.clone(),
            scale: verdict.map(|verdict| verdict.scale.clone()).unwrap_or_default(),
            seconds: verdict.map_or(outcome.seconds, |verdict| verdict.seconds),
            chart: outcome.deciding().map(str::to_string),
            ..Self::default()
        }
    }

    /// What a page says of itself.
    fn on(page: &str) -> Option<Self> {
        let (_, rest) = page.split_once("<script id=\"about\" type=\"application/json\">")?;
        let entry: Self = serde_json::from_str(rest.split_once("</script>")?.0).ok()?;
        let drawing = entry.chart.as_ref().and_then(|chart| card(page, chart)).unwrap_or_default();
        Some(Self { drawing, page: true, ..entry })
    }
}

/// A text up to the end of its first sentence; what is bold there ends there.
fn first_sentence(text: &str) -> String {
    let end = text.match_indices(". ").find(|(at, _)| {
        let next = text[at + 2..].trim_start_matches(['*', '[']).chars().next();
        next.is_some_and(char::is_uppercase)
    });
    let sentence = end.map_or(text, |(at, _)| &text[..=at]);
    format!("{sentence}{}", if sentence.matches("**").count() % 2 == 1 { "**" } else { "" })
}

/// The rooms of the library, and what each is about.
const CHAPTERS: [(&str, &str); 9] = [
    ("", "How does the lab work?"),
    ("placing", "Where does a piece of data live?"),
    ("identity", "Who numbers things, and how?"),
    ("sql", "What does a table promise, and what does it cost?"),
    ("storage", "How do bytes get onto a disk, and back?"),
    ("coordination", "Who goes first where only one may?"),
    ("streams", "What to do with what never ends?"),
    ("realtime", "How does everybody hear of it at once?"),
    ("edge", "How much gets in, and what if it is too much?"),
];

/// The room that a notebook is about: where the last link to sources leads.
pub fn chapter(cells: &Cells) -> &'static str {
    let links = cells.links();
    let rooms = links.iter().rev().filter_map(|link| link.strip_prefix("../lablib/")?.split('/').next());
    let known = |room: &str| CHAPTERS.iter().map(|(name, _)| *name).find(|name| *name == room);
    rooms.filter_map(known).next().unwrap_or_default()
}

/// What to read first, by their numbers.
const PATHS: [(&str, &[&str]); 6] = [
    ("New here, with five minutes", &["00", "01"]),
    ("Choosing how to shard", &["01", "04", "02", "03"]),
    ("Choosing an id", &["05", "06", "07"]),
    ("A database that is too slow", &["08", "10", "09", "11"]),
    ("A class of 45 minutes: guess, run, break", &["01", "12", "11"]),
    ("What breaks at night", &["13", "12", "41"]),
];

/// Writes the index of the pages that are there and of these runs, and sets the links between the pages right.
pub fn write(outcomes: &[&Outcome]) -> Result<()> {
    let reports = paths::reports();
    let pages = pages(&reports)?;
    let on_pages = pages.iter().filter_map(|(name, html)| Some((name.clone(), Entry::on(html)?)));
    let mut entries: BTreeMap<String, Entry> = on_pages.collect();
    // A run that left no page has something to say as well.
    for outcome in outcomes.iter().filter(|outcome| outcome.page.is_none()) {
        entries.insert(outcome.name.clone(), Entry::of(outcome));
    }
    let there: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    let known = all_names()?;
    for (name, html) in &pages {
        let linked = relinked(html, &known, &there);
        if linked != *html {
            let path = reports.join(format!("{name}.html"));
            paths::write_whole(&path, linked).doing(format!("write {}", path.display()))?;
        }
    }
    let path = reports.join("index.html");
    let entries: Vec<Entry> = entries.into_values().collect();
    paths::write_whole(&path, index(&entries)?).doing(format!("write {}", path.display()))
}

/// The pages of notebooks, by name.
fn pages(reports: &Path) -> Result<Vec<(String, String)>> {
    let doing = || format!("read the pages in {}", reports.display());
    fs::create_dir_all(reports).doing(doing())?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(reports).doing(doing())?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "html") && !path.ends_with("index.html") {
            pages.push((crate::report::stem(&path), fs::read_to_string(&path).doing(doing())?));
        }
    }
    pages.sort();
    Ok(pages)
}

/// A page whose links to other notebooks lead to the pages that are there; to those that are not, they are text.
fn relinked(page: &str, known: &[String], there: &[&str]) -> String {
    known.iter().fold(page.to_string(), |page, name| {
        let (link, text) = (format!(" href=\"{name}.html"), format!(" data-href=\"{name}.html"));
        if there.contains(&name.as_str()) { page.replace(&text, &link) } else { page.replace(&link, &text) }
    })
}

/// The room for drawings that stand in the index itself, in bytes: it stays below a megabyte.
const ROOM: usize = 750_000;

/// A chart from its page for the index: drawn for a telephone.
fn card(page: &str, chart: &str) -> Option<String> {
    let figure = page::figure(page, chart)?;
    let narrow = figure.split_once("<div class=\"lab-narrow\"").map_or(figure.as_str(), |(_, narrow)| narrow);
    let start = narrow.find("<svg")?;
    Some(narrow[start..narrow.find("</svg>")? + "</svg>".len()].to_string())
}

/// What is true of every chart on the index: those that were not measured say so themselves, in their small print.
const CHARTS: &str = "Each chart was made by the code behind it, when its notebook ran: measured, unless its small print says \
                      that it was computed or simulated";

fn index(entries: &[Entry]) -> Result<String> {
    let mut room = ROOM;
    let mut html = format!(
        "<main id=\"main\" class=\"atlas\"><h1>System design lab</h1><p>Questions about systems, answered by running them. {CHARTS}; here on {}.</p>",
        escape(&Machine::this().to_string())
    );
    html.push_str(&paths_of(entries));
    let _ = write!(
        html,
        "<p class=\"filter controls\" hidden><label for=\"filter\">Filter</label><input id=\"filter\" type=\"search\" \
         placeholder=\"words: shard, lock, timeout\"><span id=\"found\" role=\"status\"></span></p>"
    );
    for (chapter, about) in CHAPTERS {
        let of_it: String =
            entries.iter().filter(|entry| entry.chapter == chapter).map(|entry| article(entry, &mut room)).collect();
        if !of_it.is_empty() {
            let name = if chapter.is_empty() { String::new() } else { format!("<small>{chapter}</small> ") };
            let _ = write!(
                html,
                "<section class=\"chapter\"><h2>{name}{}</h2><div class=\"cards\">{of_it}</div></section>",
                escape(about)
            );
        }
    }
    html.push_str("</main>");
    page("System design lab", "", "", &html)
}

/// What to read first, of what is there.
fn paths_of(entries: &[Entry]) -> String {
    let link = |number: &&str| {
        let entry = entries.iter().find(|entry| entry.page && entry.name.split('-').next() == Some(*number))?;
        Some(format!("<a href=\"{0}.html\">{1}</a>", escape(&entry.name), escape(&spoken(&entry.name))))
    };
    let path = |(who, numbers): &(&str, &[&str])| {
        let links: Vec<String> = numbers.iter().filter_map(link).collect();
        (!links.is_empty()).then(|| format!("<li><strong>{who}</strong> {}</li>", links.join(" → ")))
    };
    let paths: String = PATHS.iter().filter_map(path).collect();
    if paths.is_empty() { paths } else { format!("<h2>What to read first</h2><ul class=\"paths\">{paths}</ul>") }
}

/// `01-consistent-hashing` is 01 consistent hashing.
fn spoken(name: &str) -> String {
    name.replace('-', " ")
}

/// An entry's card. Where there is no room left for its chart, that is loaded when somebody sees it.
fn article(entry: &Entry, room: &mut usize) -> String {
    let chart = match (room.checked_sub(entry.drawing.len()), &entry.chart) {
        (None, Some(chart)) => {
            format!("<img loading=\"lazy\" src=\"{0}/{1}.svg\" alt=\"\">", escape(&entry.name), escape(chart))
        }
        (left, _) => {
            *room = left.unwrap_or(*room);
            entry.drawing.clone()
        }
    };
    let name = escape(&entry.name);
    let (class, mark, word) = if entry.holds { ("holds", "✓", "good") } else { ("fails", "✗", "bad") };
    let scale = if entry.scale.is_empty() { String::new() } else { format!(" at {} scale", escape(&entry.scale)) };
    let says = match entry.answer.as_str() {
        "" => escape(&entry.question),
        sentence => answer::html(sentence, &format!("{}.html", entry.name)),
    };
    let title = escape(&entry.title);
    let title = if entry.page { format!("<a href=\"{name}.html\">{title}</a>") } else { title };
    let more = entry.reasons.iter().filter(|reason| **reason != entry.verdict);
    let reasons: Vec<String> = more.map(|reason| format!("<li>{}</li>", escape(reason))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!("<ul>{}</ul>", reasons.concat()) };
    format!(
        "<article class=\"{class}\"><h3><small>{}</small>{title}</h3><p>{says}</p>{chart}\
         <p class=\"small\"><strong class=\"{word}\">{mark} Verdict:</strong> {}</p>{reasons}\
         <p class=\"small\">Time to run: {:.0} s{scale}</p></article>",
        escape(&spoken(&entry.name)),
        escape(&entry.verdict),
        entry.seconds.max(1.0),
    )
}

/// A page that is no notebook's. `home` leads to the index; the index has none.
pub fn page(title: &str, home: &str, contents: &str, main: &str) -> Result<String> {
    let read = |name: &str| {
        let path = paths::root().join("ci/report").join(name);
        fs::read_to_string(&path).doing(format!("read {}", path.display()))
    };
    let home = if home.is_empty() { String::new() } else { format!("<a href=\"{home}\">All experiments</a>") };
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{}</title>{FACE}{STYLE}<style>{}</style><script>{}</script></head><body>\
         <a class=\"skip\" href=\"#main\">Skip to the content</a><header class=\"bar\"><nav aria-label=\"Site\">{home}</nav>\
         <div class=\"controls\" hidden><button type=\"button\" data-theme-switch>Dark</button></div></header>\
         <div class=\"sheet\">{contents}{main}</div></body></html>\n",
        escape(title),
        read("page.css")?,
        read("page.js")?,
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use lablib::lab::{Chart, Figure};

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.into(),
            title: "T & U?".into(),
            chapter: "sql".into(),
            page: true,
            holds: true,
            ..Entry::default()
        }
    }

    /// The cards of the index are charts as they stand in their reports, small print included; that those of 02 and 07 say how
    /// they were made is tested where they are made.
    #[test]
    fn the_index_does_not_call_a_computed_chart_measured() {
        let drawing = Chart::bars("t").bar("a", 1).computed("by a rule").to_svg();
        let page = index(&[Entry { drawing, ..entry("08-x") }]).unwrap();
        assert!(page.contains("Computed, not measured: by a rule."), "{page}");
        assert!(page.contains("measured, unless its small print says that it was computed or simulated"), "{page}");
        assert!(!page.contains("Every figure was measured"), "{page}");
    }

    #[test]
    fn a_notebook_is_in_its_chapter_with_its_answer_and_what_went_wrong() {
        let failed = Entry { page: false, holds: false, reasons: vec!["a < b".into()], ..entry("09-y") };
        let page = index(&[Entry { answer: "**Yes**, [x](#1.-How?).".into(), ..entry("08-x-z") }, failed]).unwrap();
        assert!(page.contains("<small>sql</small> What does a table promise"), "{page}");
        assert!(page.contains("<strong>Yes</strong>, <a href=\"08-x-z.html#1.-How?\">x</a>."), "{page}");
        assert!(page.contains("<small>08 x z</small><a href=\"08-x-z.html\">T &amp; U?</a>"), "{page}");
        assert!(page.contains("<small>09 y</small>T &amp; U?</h3>") && page.contains("<li>a &lt; b</li>"), "{page}");
        assert!(
            page.contains("<a href=\"08-x-z.html\">08 x z</a>") && !page.contains("Choosing an id"),
            "only what is there"
        );
    }

    #[test]
    fn forty_four_notebooks_are_below_a_megabyte() {
        let with = |size: usize| {
            let drawing = format!("<svg>{}</svg>", " ".repeat(size));
            let (answer, verdict) = ("a".repeat(300), "v".repeat(100));
            let entry = |number: usize| Entry { chart: Some("c".into()), ..entry(&format!("{number:02}-x")) };
            let filled = |entry: Entry| Entry {
                answer: answer.clone(),
                verdict: verdict.clone(),
                drawing: drawing.clone(),
                ..entry
            };
            index(&(0..44).map(|number| filled(entry(number))).collect::<Vec<_>>()).unwrap()
        };
        for (size, inside) in [(16_000, 44), (100_000, 7)] {
            let page = with(size);
            assert!(page.len() < 1_000_000, "{}", page.len());
            assert_eq!(page.matches("<svg>").count(), inside);
            assert_eq!(page.matches("<img loading=\"lazy\" src=\"").count(), 44 - inside);
        }
    }

    #[test]
    fn a_card_shows_the_chart_as_it_is_drawn_for_a_telephone() {
        let page = "<figure class=\"lab-figure\" id=\"01-a\"><div class=\"lab-chart\"><div class=\"lab-wide\"><svg>w</svg></div>\
                    <div class=\"lab-narrow\" style=\"display:none\"><svg>n</svg></div></div><figcaption></figcaption></figure>";
        assert_eq!(card(page, "01-a").as_deref(), Some("<svg>n</svg>"));
        assert_eq!(card(&page.replace("lab-narrow", "x"), "01-a").as_deref(), Some("<svg>w</svg>"));
        assert_eq!(card(page, "02-b"), None);
    }

    #[test]
    fn a_link_to_a_page_that_is_not_there_is_text_until_it_comes() {
        let page =
            "<a href=\"07-a.html#x\">a</a> <a rel=\"next\" href=\"08-b.html\">b</a> <a href=\"07-ab.html\">c</a>";
        let known = ["07-a".to_string(), "08-b".to_string()];
        let without = relinked(page, &known, &["08-b"]);
        assert_eq!(without, page.replace("href=\"07-a.html", "data-href=\"07-a.html"));
        assert_eq!(relinked(&without, &known, &["07-a", "08-b"]), page);
    }

    #[test]
    fn the_first_sentence_ends_where_the_next_begins() {
        for (text, first) in [
            ("One. Two.", "One."),
            ("It is 4.95 %, e.g. here. **Two**", "It is 4.95 %, e.g. here."),
            ("**One. Two.**", "**One.**"),
            ("One. [Two](#x)", "One."),
            ("One", "One"),
        ] {
            assert_eq!(first_sentence(text), first);
        }
    }
}
