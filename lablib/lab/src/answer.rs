//! The answer to a notebook's question: sentences with this run's figures, a rule of choice, and the limits of both.
//!
//! Its text may be **bold**, and link to the sections of its notebook as Jupyter names them: `[4.95 %](#1.-What-moves?)`. Anything
//! else that looks like markup stays text.

use serde::{Deserialize, Serialize};

use crate::display::escape;
use crate::{Error, Experiment, OrFail, Result};

/// What a reader takes home; made by [`Experiment::answer`]. Its texts are as written, [`html`] shows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer in two or three sentences, with figures.
    pub text: String,
    /// What to choose when.
    pub rule: String,
    /// Where neither holds.
    pub limits: String,
}

impl Answer {
    pub(crate) fn card(&self) -> String {
        format!(
            "<div class=\"lab-answer\"><p>{}</p><p><strong>Rule:</strong> {}</p><p><strong>Limits:</strong> {}</p></div>",
            html(&self.text, ""),
            html(&self.rule, ""),
            html(&self.limits, "")
        )
    }

    pub(crate) fn plain(&self) -> String {
        format!("Answer: {}\nRule: {}\nLimits: {}", plain(&self.text), plain(&self.rule), plain(&self.limits))
    }
}

/// An answer in the making: its rule, then its limits, which end it.
#[must_use = "an answer is complete with its limits: .limits(\"…\")"]
#[derive(Debug)]
pub struct Answering<'a> {
    lab: &'a mut Experiment,
    answer: Answer,
}

impl<'a> Answering<'a> {
    pub(crate) fn new(lab: &'a mut Experiment, text: String) -> Self {
        Self { lab, answer: Answer { text, rule: String::new(), limits: String::new() } }
    }

    /// What to choose when, for somebody who has to decide today.
    pub fn rule(mut self, rule: impl std::fmt::Display) -> Self {
        self.answer.rule = rule.to_string();
        self
    }

    /// Where the answer and its rule do not hold. Shows the answer, and ends the cell where a part of it is empty.
    pub fn limits(mut self, limits: impl std::fmt::Display) {
        self.answer.limits = limits.to_string();
        complete(&self.answer).or_fail();
        self.lab.answered(self.answer);
    }
}

fn complete(answer: &Answer) -> Result<()> {
    let parts = [("text", &answer.text), ("rule", &answer.rule), ("limits", &answer.limits)];
    match parts.iter().find(|(_, part)| part.trim().is_empty()) {
        None => Ok(()),
        Some((part, _)) => Err(Error::new("answer", format!("the answer has no {part}"))
            .remedy("lab.answer(\"…\").rule(\"…\").limits(\"…\")")),
    }
}

/// The text as HTML. Links lead to sections of `page`, which is empty on the notebook's own page.
///
/// ```
/// use lab::answer::html;
///
/// assert_eq!(
///     html("**Few**: [5 %](#1.-What-moves?) of R&D", "01.html"),
///     "<strong>Few</strong>: <a href=\"01.html#1.-What-moves?\">5 %</a> of R&amp;D"
/// );
/// ```
pub fn html(text: &str, page: &str) -> String {
    let piece = |piece| match piece {
        Piece::Text(text) => escape(text),
        Piece::Bold(text) => format!("<strong>{}</strong>", html(text, page)),
        Piece::Link(text, anchor) => {
            format!("<a href=\"{}#{}\">{}</a>", escape(page), escape(anchor), html(text, page))
        }
    };
    pieces(text).into_iter().map(piece).collect()
}

fn plain(text: &str) -> String {
    let piece = |piece| match piece {
        Piece::Text(text) => text.to_string(),
        Piece::Bold(text) | Piece::Link(text, _) => plain(text),
    };
    pieces(text).into_iter().map(piece).collect()
}

/// The sections that a text links to, as their anchors without `#`.
pub fn links(text: &str) -> Vec<&str> {
    let inside = |piece| match piece {
        Piece::Text(_) => Vec::new(),
        Piece::Bold(text) => links(text),
        Piece::Link(_, anchor) => vec![anchor],
    };
    pieces(text).into_iter().flat_map(inside).collect()
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    Bold(&'a str),
    /// What it says, and the anchor that it leads to.
    Link(&'a str, &'a str),
}

fn pieces(mut text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while !text.is_empty() {
        let marked =
            text.char_indices().find_map(|(at, _)| Some((at, bold(&text[at..]).or_else(|| link(&text[at..]))?)));
        let Some((at, (piece, length))) = marked else {
            pieces.push(Piece::Text(text));
            break;
        };
        if at > 0 {
            pieces.push(Piece::Text(&text[..at]));
        }
        pieces.push(piece);
        text = &text[at + length..];
    }
    pieces
}

/// `**bold**` at the beginning of a text, and how long that is.
fn bold(text: &str) -> Option<(Piece<'_>, usize)> {
    let inside = text.strip_prefix("**")?;
    let length = inside.find("**").filter(|&length| length > 0)?;
    Some((Piece::Bold(&inside[..length]), length + 4))
}

/// `[a link](#to-a-section)` at the beginning of a text, and how long that is. A heading may have brackets of its own.
fn link(text: &str) -> Option<(Piece<'_>, usize)> {
    let (said, rest) = text.strip_prefix('[')?.split_once("](#")?;
    if said.contains(['[', ']']) {
        return None;
    }
    let mut open = 1;
    let end = rest.find(|letter: char| {
        open += i32::from(letter == '(') - i32::from(letter == ')');
        open == 0
    })?;
    Some((Piece::Link(said, &rest[..end]), said.len() + end + "[](#)".len()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bold_and_links_to_sections_are_markup_and_nothing_else_is() {
        for (text, expected) in [
            ("**a** b", "<strong>a</strong> b"),
            ("**[a](#b)**", "<strong><a href=\"#b\">a</a></strong>"),
            ("[**a**](#b)", "<a href=\"#b\"><strong>a</strong></a>"),
            (
                "[5 %](#2.-What-(really)-moves?), [6](#c)",
                "<a href=\"#2.-What-(really)-moves?\">5 %</a>, <a href=\"#c\">6</a>",
            ),
            ("a[1] ≤ [b](#c)", "a[1] ≤ <a href=\"#c\">b</a>"),
            // No markup.
            ("<b>R&D</b>", "&lt;b&gt;R&amp;D&lt;/b&gt;"),
            ("2 ** 3", "2 ** 3"),
            ("****", "****"),
            ("[a](https://b)", "[a](https://b)"),
            ("[a](#b", "[a](#b"),
            ("[a](#\"onclick=x)", "<a href=\"#&quot;onclick=x\">a</a>"),
            ("", ""),
        ] {
            assert_eq!(html(text, ""), expected, "{text}");
        }
        assert_eq!(plain("**Few**: [5 %](#a) <b>"), "Few: 5 % <b>");
        assert_eq!(links("**[a](#b)** [c](#d (e)) [f](https://g)"), ["b", "d (e)"]);
    }

    #[test]
    fn an_answer_stands_in_the_verdict_and_the_last_one_counts() {
        let mut lab = Experiment::rehearsal("test");
        assert_eq!(lab.judged().answer, None);
        lab.answer("first").rule("r").limits("l");
        lab.answer(format!("**{} %**", 5)).rule("few").limits("loopback");
        let answer = lab.judged().answer.unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.rule.as_str(), answer.limits.as_str()),
            ("**5 %**", "few", "loopback")
        );
        assert!(answer.card().contains("<p><strong>5 %</strong></p>"), "{}", answer.card());
    }

    #[test]
    fn half_an_answer_is_refused() {
        for (text, rule, limits, missing) in [("", "r", "l", "text"), ("t", " ", "l", "rule"), ("t", "r", "", "limits")]
        {
            let answer = Answer { text: text.into(), rule: rule.into(), limits: limits.into() };
            let refused = complete(&answer).unwrap_err().to_string();
            assert!(refused.contains(&format!("the answer has no {missing}")), "{refused}");
        }
    }
}
