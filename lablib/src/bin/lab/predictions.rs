//! That a notebook's predictions come before what they are compared with: read from its code, because a bare number does not
//! know when it was measured. What does know, [`lablib::lab::Samples`], is checked by the claim itself as well.

use std::collections::HashMap;

use crate::cells::{Cells, source, tokens};

/// A cell's number and a token in it: where something stands, in the order in which it runs.
type Place = (usize, usize);

/// Claims whose prediction was not made by `lab.predict`, in an earlier cell, before what it is compared with.
pub fn too_late(cells: &Cells) -> Vec<String> {
    let code: Vec<(usize, String)> = cells.code().map(|(number, cell)| (number, source(cell))).collect();
    let code: Vec<(usize, Vec<&str>)> = code
        .iter()
        .map(|(number, code)| (*number, tokens(code).into_iter().map(|(_, token)| token).collect()))
        .collect();
    let mut bound: HashMap<&str, Place> = HashMap::new();
    let mut predicted: HashMap<&str, Place> = HashMap::new();
    let mut faults = Vec::new();
    for (number, tokens) in &code {
        for start in 0..tokens.len() {
            if tokens[start] == "let" {
                let (names, value) = binding(&tokens[start..]);
                let predicts = value.windows(2).any(|pair| pair == [".", "predict"]);
                for name in names {
                    bound.insert(name, (*number, start));
                    match predicts {
                        true => predicted.insert(name, (*number, start)),
                        false => predicted.remove(name),
                    };
                }
            }
            if tokens[start..].starts_with(&["lab", ".", "claim"]) {
                let claim = until(&tokens[start..], ";");
                faults.extend(
                    fault(claim, *number, &bound, &predicted).map(|text| format!("code cell {number}: {text}")),
                );
            }
        }
    }
    faults
}

fn fault(
    claim: &[&str],
    cell: usize,
    bound: &HashMap<&str, Place>,
    predicted: &HashMap<&str, Place>,
) -> Option<String> {
    let prediction = argument(claim, "predicted")?;
    let name = prediction.first().copied().unwrap_or_default();
    let Some(&made) = predicted.get(name) else {
        return Some(format!("a claim's prediction is {}, which `lab.predict` has not made", prediction.concat()));
    };
    if made.0 == cell {
        return Some(format!("{name} is predicted in the cell that claims it: predict in an earlier one"));
    }
    let measured = argument(claim, "measured")?;
    let newest = measured.iter().filter_map(|token| bound.get(token).map(|place| (place, token))).max()?;
    (*newest.0 < made)
        .then(|| format!("{name} is predicted after {}, which it is compared with, was measured", newest.1))
}

/// The names that a `let` binds, and its value.
fn binding<'a, 'b>(tokens: &'b [&'a str]) -> (Vec<&'a str>, &'b [&'a str]) {
    let statement = until(tokens, ";");
    let equals = statement.iter().position(|token| *token == "=").unwrap_or(statement.len());
    let pattern = &statement[1.min(equals)..equals];
    let typed = pattern.iter().position(|token| *token == ":").unwrap_or(pattern.len());
    let names = pattern[..typed].iter().filter(|token| is_name(token) && **token != "mut").copied().collect();
    (names, &statement[equals..])
}

/// What stands in the brackets of `.method(…)`.
fn argument<'a, 'b>(tokens: &'b [&'a str], method: &str) -> Option<&'b [&'a str]> {
    let at = tokens.windows(3).position(|three| three == [".", method, "("])?;
    Some(until(&tokens[at + 3..], ")"))
}

/// The tokens up to this one, outside of brackets that open on the way.
fn until<'a, 'b>(tokens: &'b [&'a str], end: &str) -> &'b [&'a str] {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        match *token {
            token if depth == 0 && token == end => return &tokens[..index],
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(cells: &[&str]) -> Vec<String> {
        let cells: Vec<_> = cells.iter().map(|code| serde_json::json!({"cell_type": "code", "source": code})).collect();
        too_late(&Cells::of(serde_json::json!({ "cells": cells })))
    }

    #[test]
    fn a_prediction_before_its_measurement_is_fine() {
        for cells in [
            [
                "let p = lab.predict(\"x\", 5.0, 1.0);",
                "let ring = run(); lab.claim(\"a; b\").predicted(p).measured(&ring.left).exactly(5);",
            ],
            [
                "let (p, mut q) = (lab.predict(\"x\", 5.0, 1.0), 2);",
                "lab.claim(\"a\").predicted(p).measured(run()).exactly(5);",
            ],
            [
                "let old = 3; let p = lab.predict(\"x\", f(old), 1.0); let ring = run(old);",
                "lab.claim(\"a\").predicted(p).measured(ring / old).exactly(5);",
            ],
            ["let n = 5;", "lab.claim(\"a\").measured(n).exactly(5); chart.predicted(\"ring\", 5.0);"],
        ] {
            assert_eq!(faults(&cells), Vec::<String>::new(), "{cells:?}");
        }
    }

    #[test]
    fn a_prediction_that_knew_the_answer_is_not() {
        for (cells, reason) in [
            (
                ["let ring = run();", "lab.claim(\"a\").predicted(5.0).measured(ring).exactly(5);"],
                "`lab.predict` has not made",
            ),
            (
                ["let ring = run();", "lab.claim(\"a\").predicted(ring.left).measured(ring.gone).exactly(5);"],
                "`lab.predict` has not made",
            ),
            (
                [
                    "let ring = run();\nlet p = lab.predict(\"x\", 5.0, 1.0);",
                    "lab.claim(\"a\").predicted(p).measured(&ring.left).exactly(5);",
                ],
                "p is predicted after ring",
            ),
            (
                [
                    "let ring = 1;",
                    "let p = lab.predict(\"x\", 5.0, 1.0);\nlab.claim(\"a\").predicted(p).measured(run()).exactly(5);",
                ],
                "in the cell that claims it",
            ),
            (
                [
                    "let p = lab.predict(\"x\", 5.0, 1.0); let p = run();",
                    "lab.claim(\"a\").predicted(p).measured(run()).exactly(5);",
                ],
                "`lab.predict` has not made",
            ),
        ] {
            let found = faults(&cells);
            assert!(found.len() == 1 && found[0].contains(reason), "{cells:?}: {found:?}");
        }
    }
}
