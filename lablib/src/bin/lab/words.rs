//! What a notebook's code says in the workbench's words: its knobs, its answer, and the chart that shows it.

use std::path::PathBuf;

use lablib::lab::{Result, answer, knob};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprMethodCall, Lit, LitStr, Macro, Token};

use crate::cells::{Cells, source};

/// The words of a notebook.
#[derive(Debug, Default, PartialEq)]
struct Words {
    /// The names of its knobs, in order.
    knobs: Vec<String>,
    /// How often it answers.
    answers: usize,
    /// The sections that its answers link to.
    links: Vec<String>,
    /// How many of its charts answer.
    deciding: usize,
}

impl Words {
    fn of(cells: &Cells) -> Self {
        let mut words = Self::default();
        for (_, cell) in cells.code() {
            let code: Vec<String> =
                source(cell).lines().filter(|line| !line.starts_with(':')).map(String::from).collect();
            // What is no Rust is found by who reads its predictions.
            if let Ok(block) = syn::parse_str::<Block>(&format!("{{{}\n}}", code.join("\n"))) {
                words.visit_block(&block);
            }
        }
        words
    }
}

impl Visit<'_> for Words {
    fn visit_expr_method_call(&mut self, call: &ExprMethodCall) {
        // From its root on, so that names come in the order in which they are written.
        visit::visit_expr_method_call(self, call);
        let of_lab = root_of(call).is_some_and(|root| root == "lab");
        match call.method.to_string().as_str() {
            "knob" if of_lab => self.knobs.extend(call.args.first().and_then(text_of)),
            "answers" if call.args.is_empty() => self.deciding += 1,
            word @ ("answer" | "rule" | "limits") if of_lab => {
                self.answers += usize::from(word == "answer");
                for text in call.args.iter().flat_map(texts_in) {
                    self.links.extend(answer::links(&text).into_iter().map(String::from));
                }
            }
            _ => {}
        }
    }

    fn visit_macro(&mut self, call: &Macro) {
        arguments(call).iter().for_each(|argument| self.visit_expr(argument));
    }
}

/// What a macro is given, where that is expressions.
fn arguments(call: &Macro) -> Vec<Expr> {
    let given = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
    given.into_iter().flatten().collect()
}

/// The variable at which a chain of calls begins.
fn root_of(call: &ExprMethodCall) -> Option<String> {
    match &*call.receiver {
        Expr::MethodCall(before) => root_of(before),
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        _ => None,
    }
}

fn text_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The literal texts in an expression, those in `format!("…")` included.
fn texts_in(expression: &Expr) -> Vec<String> {
    struct Texts(Vec<String>);
    impl Visit<'_> for Texts {
        fn visit_lit_str(&mut self, text: &LitStr) {
            self.0.push(text.value());
        }
        fn visit_macro(&mut self, call: &Macro) {
            arguments(call).iter().for_each(|argument| self.visit_expr(argument));
        }
    }
    let mut texts = Texts(Vec::new());
    texts.visit_expr(expression);
    texts.0
}

/// Refuses to set a knob that one of the notebooks does not have, before anything is run.
pub fn refuse_unknown(notebooks: &[PathBuf], asked: &[(String, String)]) -> Result<()> {
    for notebook in notebooks.iter().filter(|_| !asked.is_empty()) {
        let words = Words::of(&Cells::read(notebook)?);
        let knobs: Vec<&str> = words.knobs.iter().map(String::as_str).collect();
        knob::known(asked, &knobs).map_err(|error| error.at(crate::report::stem(notebook)))?;
    }
    Ok(())
}

/// What is wrong with a notebook's words: a knob of which nobody knows which one is set, an answer without exactly one chart that
/// shows it, or a link that leads nowhere.
pub fn faults(cells: &Cells) -> Vec<String> {
    let (words, anchors) = (Words::of(cells), cells.anchors());
    let mut faults = Vec::new();
    for (index, name) in words.knobs.iter().enumerate() {
        if words.knobs[..index].contains(name) {
            faults.push(format!("two knobs are called {name:?}"));
        }
    }
    match (words.answers, words.deciding) {
        (0, 0) | (1, 1) => {}
        (0, _) => faults.push("a chart says .answers(), and no cell says lab.answer(…)".into()),
        (1, 0) => faults.push("no chart says .answers(), which shows what lab.answer(…) says".into()),
        (1, charts) => faults.push(format!("{charts} charts say .answers(): which of them answers the question?")),
        (answers, _) => faults.push(format!("it answers {answers} times")),
    }
    let lost = words.links.iter().filter(|link| !anchors.contains(link));
    faults.extend(lost.map(|link| format!("the answer links to #{link}, and no heading is called that")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(markdown: &str, code: &[&str]) -> Cells {
        let mut cells = vec![serde_json::json!({"cell_type": "markdown", "source": markdown})];
        cells.extend(code.iter().map(|code| serde_json::json!({"cell_type": "code", "source": code})));
        Cells::of(serde_json::json!({ "cells": cells }))
    }

    #[test]
    fn knobs_are_found_wherever_they_are_turned() {
        let code = [
            ":dep nothing = \"1\"\nlet ages: u32 = lab.knob(\"ages\", 4, 20);",
            "let spec = Spec { rows: lab.knob(\"rows\", 1, 2), ..of(lab.knob(\"pool\", 6, 48)) }; other.knob(\"none\", 1, 2);",
        ];
        assert_eq!(Words::of(&cells("", &code)).knobs, ["ages", "rows", "pool"]);
        assert_eq!(faults(&cells("", &code)), Vec::<String>::new());
        assert_eq!(
            faults(&cells("", &["lab.knob(\"a\", 1, 2);", "lab.knob(\"a\", 1, 2);"])),
            ["two knobs are called \"a\""]
        );
    }

    #[test]
    fn an_answer_has_one_chart_and_links_that_lead_somewhere() {
        let headings = "# Title\n\n## 1. What `moves`, *really* (all)?\n\n```\n## no heading\n```\n#no heading";
        let answer = |link: &str| {
            format!(
                "lab.answer(format!(\"**{{}}**, [{{:.1}} %](#{link})\", a, b)).rule(\"r\").limits(\"[l](#Title)\");"
            )
        };
        let chart = "Chart::bars(\"t\").bar(\"a\", 1).answers().show();";
        let good = answer("1.-What-moves,-really-(all)?");
        assert_eq!(faults(&cells(headings, &[chart, &good])), Vec::<String>::new());
        for (code, reason) in [
            (vec![good.as_str()], "no chart says .answers()"),
            (vec![chart], "no cell says lab.answer(…)"),
            (vec![chart, &good, chart], "2 charts say .answers()"),
            (vec![chart, &good, &good], "it answers 2 times"),
            (vec![chart, &answer("no-heading")], "links to #no-heading, and no heading"),
            (vec![chart, &answer("1.-what-moves,-really-(all)?")], "and no heading is called that"),
        ] {
            let found = faults(&cells(headings, &code));
            assert!(found.len() == 1 && found[0].contains(reason), "{code:?}: {found:?}");
        }
    }

    #[test]
    fn a_knob_that_a_notebook_does_not_have_is_refused_with_those_it_has() {
        let notebook = std::env::temp_dir().join(format!("07-words-{}.ipynb", std::process::id()));
        let code =
            serde_json::json!({"cell_type": "code", "source": "lab.knob(\"ages\", 4, 20); lab.knob(\"rows\", 1, 2);"});
        let text = serde_json::json!({ "cells": [code] }).to_string();
        std::fs::write(&notebook, text).unwrap_or_default();
        let set = |name: &str| refuse_unknown(std::slice::from_ref(&notebook), &[(name.to_string(), "9".to_string())]);
        assert_eq!(set("rows"), Ok(()));
        let refused = set("row").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("the notebook has no knob \"row\"; its knobs are ages, rows"), "{refused}");
        assert_eq!(refuse_unknown(&[PathBuf::from("/nonexistent")], &[]), Ok(()));
        let _ = std::fs::remove_file(&notebook);
    }
}
