//! That a notebook's predictions and its reader's guesses come before what they are compared with: read from its code, because a
//! bare number does not know when it was measured. What does know, [`lablib::lab::Samples`], is checked by the claim itself as well.
//!
//! Each value has an age: when what it stands on was measured. A `let`, a pattern or an assignment hands it on to whatever is
//! derived from it, so `let left = ring.left;` behind a prediction does not make `ring` any younger. See [`Reader::value`] for
//! what counts as measuring.

use std::collections::HashMap;

use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{BinOp, Block, Expr, ExprCall, ExprMethodCall, Pat, Stmt, Token};

use crate::cells::{Cells, source};

/// A cell's number and a moment in it: values in the order in which they come to be.
type Moment = (usize, u64);

/// Claims whose prediction was not made by `lab.predict`, or whose guess not by `lab.guess`, in an earlier cell, before what it is
/// compared with.
pub fn too_late(cells: &Cells) -> Vec<String> {
    let mut reader = Reader { scopes: vec![HashMap::new()], now: (0, 0), faults: Vec::new() };
    for (number, cell) in cells.code() {
        reader.now = (number, 0);
        // A line such as `:dep` speaks to the kernel.
        let code: Vec<String> = source(cell).lines().filter(|line| !line.starts_with(':')).map(String::from).collect();
        match syn::parse_str::<Block>(&format!("{{{}\n}}", code.join("\n"))) {
            // Not a scope of its own: the next cells know its variables.
            Ok(block) => drop(reader.statements(&block.stmts)),
            Err(error) => reader.faults.push(format!("code cell {number} is no Rust that can be read: {error}")),
        }
    }
    reader.faults
}

/// What is known of a value.
#[derive(Debug, Clone, Default, PartialEq)]
struct Value {
    /// When the newest that it stands on was measured, and the variable that held it; none where it stands on nothing measured.
    measured: Option<(Moment, String)>,
    /// When `lab.predict` or `lab.guess` made it, or what it was taken from.
    predicted: Option<Moment>,
}

impl Value {
    /// Of a value that stands on both.
    fn and(self, other: Self) -> Self {
        let measured = match (self.measured, other.measured) {
            (Some(one), Some(other)) => Some(if other.0 > one.0 { other } else { one }),
            (one, other) => one.or(other),
        };
        Self { measured, predicted: self.predicted.max(other.predicted) }
    }
}

struct Reader {
    /// The variables in sight, innermost last.
    scopes: Vec<HashMap<String, Value>>,
    now: Moment,
    faults: Vec<String>,
}

impl Reader {
    /// Of an expression: it is as old as the newest that it is derived from, by whatever fields, operators and methods. New is
    /// what a function returns (it may measure, on a server that it is given), and what a method makes of nothing measured:
    /// `run(&server)`, `spec.run()`. Names that begin with a capital letter are types, whose functions only convert
    /// (`Samples::from`); `lab` hands out knobs and servers.
    fn value(&mut self, expression: &Expr) -> Value {
        match expression {
            Expr::Path(path) => path.path.get_ident().map(|name| self.variable(&name.to_string())).unwrap_or_default(),
            Expr::Call(call) => self.call(call),
            Expr::MethodCall(call) => self.chain(call),
            Expr::Macro(call) => {
                let arguments = call.mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
                self.all(arguments.iter().flatten())
            }
            Expr::Block(block) => self.scope(&block.block),
            Expr::Unsafe(block) => self.scope(&block.block),
            Expr::Async(block) => self.scope(&block.block),
            Expr::Closure(closure) => {
                // What its parameters are given, only its caller knows; it hides what has the same names.
                self.scoped(|reader| {
                    closure.inputs.iter().for_each(|input| reader.bind(input, &Value::default()));
                    reader.value(&closure.body)
                })
            }
            Expr::Let(condition) => {
                let value = self.value(&condition.expr);
                self.bind(&condition.pat, &value);
                value
            }
            Expr::If(branch) => self.scoped(|reader| {
                let decides = reader.value(&branch.cond);
                let then = reader.scope(&branch.then_branch);
                let other = branch.else_branch.as_ref().map(|(_, other)| reader.value(other)).unwrap_or_default();
                decides.and(then).and(other)
            }),
            Expr::Match(choice) => {
                let value = self.value(&choice.expr);
                choice.arms.iter().fold(value.clone(), |so_far, arm| {
                    so_far.and(self.scoped(|reader| {
                        reader.bind(&arm.pat, &value);
                        reader.value(&arm.body)
                    }))
                })
            }
            Expr::While(repeat) => self.scoped(|reader| {
                reader.value(&repeat.cond);
                reader.scope(&repeat.body)
            }),
            Expr::ForLoop(repeat) => self.scoped(|reader| {
                let value = reader.value(&repeat.expr);
                reader.bind(&repeat.pat, &value);
                reader.scope(&repeat.body)
            }),
            Expr::Loop(repeat) => self.scope(&repeat.body),
            Expr::Assign(assign) => {
                let value = self.value(&assign.right);
                match &*assign.left {
                    Expr::Path(_) => self.change(&assign.left, |_| value),
                    part => self.change(part, |whole| whole.and(value)),
                }
                Value::default()
            }
            Expr::Binary(both) => {
                let value = self.value(&both.left).and(self.value(&both.right));
                if is_assignment(&both.op) {
                    self.change(&both.left, |_| value.clone());
                }
                value
            }
            // Whoever is lent it may write into it.
            Expr::Reference(lent) if lent.mutability.is_some() => {
                let now = self.tick();
                let name = name_of(&lent.expr).unwrap_or_default();
                self.change(&lent.expr, |value| Value { measured: Some((now, name)), ..value });
                self.value(&lent.expr)
            }
            _ => self.parts(expression),
        }
    }

    /// Of an expression that has no scope of its own: whatever is in it.
    fn parts(&mut self, expression: &Expr) -> Value {
        struct Parts<'a>(&'a mut Reader, Value);
        impl<'ast> Visit<'ast> for Parts<'_> {
            fn visit_expr(&mut self, part: &'ast Expr) {
                let value = self.0.value(part);
                self.1 = std::mem::take(&mut self.1).and(value);
            }
        }
        let mut parts = Parts(self, Value::default());
        visit::visit_expr(&mut parts, expression);
        parts.1
    }

    fn all<'a>(&mut self, expressions: impl IntoIterator<Item = &'a Expr>) -> Value {
        expressions.into_iter().fold(Value::default(), |so_far, expression| so_far.and(self.value(expression)))
    }

    fn call(&mut self, call: &ExprCall) -> Value {
        let given = self.all(&call.args);
        let path = match &*call.func {
            Expr::Path(path) => path.path.segments.iter().map(|segment| segment.ident.to_string()).collect(),
            computed => {
                self.value(computed);
                Vec::new()
            }
        };
        let of_a_type = path.iter().any(|name| name.starts_with(char::is_uppercase));
        let converts = of_a_type || path.first().is_some_and(|first| PRIMITIVE.contains(&first.as_str()));
        match converts || path.first().is_some_and(|first| first == "lab") {
            true => given,
            false => Value { measured: Some((self.tick(), String::new())), ..given },
        }
    }

    /// Of a chain of methods, `lab.claim("…").predicted(p).measured(&ring.left)`, read from its root on.
    fn chain(&mut self, last: &ExprMethodCall) -> Value {
        let (mut calls, mut root) = (vec![last], &*last.receiver);
        while let Expr::MethodCall(call) = root {
            calls.push(call);
            root = &call.receiver;
        }
        let mut value = self.value(root);
        let is_knob = is_lab(root) || is_literal(root);
        let (mut said, mut measured) = (Vec::new(), None);
        for call in calls.into_iter().rev() {
            let given = self.all(&call.args);
            match (call.method.to_string().as_str(), call.args.first()) {
                ("predict", _) => value = Value { measured: None, predicted: Some(self.tick()) },
                ("guess", _) if is_lab(root) => value = Value { measured: None, predicted: Some(self.tick()) },
                // A chart's has a label, too.
                ("predicted", Some(it)) if call.args.len() == 1 => said.push((PREDICT, it, given.predicted)),
                ("guessed", Some(it)) => said.push((GUESS, it, given.predicted)),
                ("measured", Some(_)) => measured = Some(given.clone()),
                // What was begun in the background is known when it has ended.
                ("finish", None) => value = Value { measured: Some((self.tick(), String::new())), ..value },
                _ => {}
            }
            value = value.and(given);
        }
        for (words, it, made) in said {
            let fault = fault(words, it, made, measured.clone(), self.now.0);
            self.faults.extend(fault.map(|fault| format!("code cell {}: {fault}", self.now.0)));
        }
        if value == Value::default() && !is_knob {
            value.measured = Some((self.tick(), String::new()));
        }
        value
    }

    fn statements(&mut self, statements: &[Stmt]) -> Value {
        let mut last = Value::default();
        for statement in statements {
            last = match statement {
                Stmt::Local(local) => {
                    match &local.init {
                        Some(init) => {
                            if let Some((_, otherwise)) = &init.diverge {
                                self.value(otherwise);
                            }
                            self.bind_to(&local.pat, &init.expr);
                        }
                        None => self.bind(&local.pat, &Value::default()),
                    }
                    Value::default()
                }
                Stmt::Expr(expression, _) => {
                    let value = self.value(expression);
                    // `found.push(run());`
                    if let (Expr::MethodCall(call), true) = (expression, value.measured.is_some()) {
                        self.change(&call.receiver, |whole| whole.and(value.clone()));
                    }
                    value
                }
                Stmt::Macro(call) => {
                    let arguments = call.mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
                    self.all(arguments.iter().flatten())
                }
                Stmt::Item(_) => Value::default(),
            };
        }
        last
    }

    /// A block with its own names.
    fn scope(&mut self, block: &Block) -> Value {
        self.scoped(|reader| reader.statements(&block.stmts))
    }

    fn scoped(&mut self, body: impl FnOnce(&mut Self) -> Value) -> Value {
        self.scopes.push(HashMap::new());
        let value = body(self);
        self.scopes.pop();
        value
    }

    /// Binds a `let`'s pattern, part by part where the value is taken apart as it stands: `let (p, n) = (lab.predict(…), 2);`.
    fn bind_to(&mut self, pattern: &Pat, expression: &Expr) {
        let (patterns, expressions) = match (pattern, expression) {
            (Pat::Type(typed), _) => return self.bind_to(&typed.pat, expression),
            (Pat::Tuple(pattern), Expr::Tuple(expression)) => (&pattern.elems, &expression.elems),
            (Pat::Slice(pattern), Expr::Array(expression)) => (&pattern.elems, &expression.elems),
            _ => {
                let value = self.value(expression);
                return self.bind(pattern, &value);
            }
        };
        if patterns.len() != expressions.len() || patterns.iter().any(|pattern| matches!(pattern, Pat::Rest(_))) {
            let value = self.all(expressions);
            return self.bind(pattern, &value);
        }
        // All are there before the first name is bound: `let (a, b) = (b, a);`.
        let bound: Vec<HashMap<String, Value>> = (patterns.iter().zip(expressions))
            .map(|(pattern, expression)| {
                self.scopes.push(HashMap::new());
                self.bind_to(pattern, expression);
                self.scopes.pop().unwrap_or_default()
            })
            .collect();
        if let Some(scope) = self.scopes.last_mut() {
            scope.extend(bound.into_iter().flatten());
        }
    }

    /// Gives each name of a pattern this value, and a name to what has none yet.
    fn bind(&mut self, pattern: &Pat, value: &Value) {
        struct Names<'a>(&'a mut Reader, &'a Value);
        impl<'ast> Visit<'ast> for Names<'_> {
            fn visit_pat_ident(&mut self, name: &'ast syn::PatIdent) {
                let mut value = self.1.clone();
                if let Some((_, known_as)) = value.measured.as_mut().filter(|(_, known_as)| known_as.is_empty()) {
                    *known_as = name.ident.to_string();
                }
                if let Some(scope) = self.0.scopes.last_mut() {
                    scope.insert(name.ident.to_string(), value);
                }
                visit::visit_pat_ident(self, name);
            }
            // A guard reads the names of its pattern, which stand before it.
            fn visit_expr(&mut self, expression: &'ast Expr) {
                self.0.value(expression);
            }
        }
        Names(self, value).visit_pat(pattern);
    }

    fn variable(&self, name: &str) -> Value {
        if name == "lab" {
            return Value::default();
        }
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).cloned().unwrap_or_default()
    }

    /// Changes the variable that this is, or is a part of.
    fn change(&mut self, place: &Expr, change: impl FnOnce(Value) -> Value) {
        let Some(name) = name_of(place) else { return };
        if let Some(value) = self.scopes.iter_mut().rev().find_map(|scope| scope.get_mut(&name)) {
            let mut changed = change(std::mem::take(value));
            if let Some((_, known_as)) = changed.measured.as_mut().filter(|(_, known_as)| known_as.is_empty()) {
                *known_as = name;
            }
            *value = changed;
        }
    }

    fn tick(&mut self) -> Moment {
        self.now.1 += 1;
        self.now
    }
}

/// What is said before a measurement: what that is called, what makes it, and what has become of it.
type Words = [&'static str; 3];

const PREDICT: Words = ["prediction", "predict", "predicted"];
const GUESS: Words = ["guess", "guess", "guessed"];

/// What is wrong with a claim in this cell, given its prediction or guess, when that was made, and what it is compared with.
fn fault(words: Words, said: &Expr, made: Option<Moment>, measured: Option<Value>, cell: usize) -> Option<String> {
    let [what, makes, done] = words;
    let Some(name) = name_of(said) else {
        return Some(format!("a claim's {what} is no variable: let `lab.{makes}` make it in an earlier cell"));
    };
    let Some(made) = made else {
        return Some(format!("a claim's {what} is {name}, which `lab.{makes}` has not made"));
    };
    if made.0 == cell {
        return Some(format!("{name} is {done} in the cell that claims it: {makes} in an earlier one"));
    }
    let Some(measured) = measured else {
        return Some(format!("{name} is compared with nothing: say `.measured(…)` in the same chain of calls"));
    };
    let (newest, holder) = measured.measured?;
    (newest < made).then(|| format!("{name} is {done} after {holder}, which it is compared with, was measured"))
}

/// Types whose functions only convert, in small letters.
const PRIMITIVE: [&str; 8] = ["f32", "f64", "i32", "i64", "u32", "u64", "usize", "std"];

fn is_lab(expression: &Expr) -> bool {
    matches!(expression, Expr::Path(path) if path.path.is_ident("lab"))
}

fn is_literal(expression: &Expr) -> bool {
    match expression {
        Expr::Lit(_) => true,
        Expr::Paren(inner) => is_literal(&inner.expr),
        Expr::Unary(inner) => is_literal(&inner.expr),
        Expr::Binary(both) => is_literal(&both.left) && is_literal(&both.right),
        _ => false,
    }
}

fn is_assignment(operator: &BinOp) -> bool {
    use BinOp::*;
    matches!(
        operator,
        AddAssign(_)
            | SubAssign(_)
            | MulAssign(_)
            | DivAssign(_)
            | RemAssign(_)
            | BitXorAssign(_)
            | BitAndAssign(_)
            | BitOrAssign(_)
            | ShlAssign(_)
            | ShrAssign(_)
    )
}

/// The variable that an expression is, or is a part of.
fn name_of(place: &Expr) -> Option<String> {
    match place {
        Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
        Expr::Field(part) => name_of(&part.base),
        Expr::Index(part) => name_of(&part.expr),
        Expr::Paren(inner) => name_of(&inner.expr),
        Expr::Unary(inner) => name_of(&inner.expr),
        Expr::Reference(lent) => name_of(&lent.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(cells: &[&str]) -> Vec<String> {
        let cells: Vec<_> = cells.iter().map(|code| serde_json::json!({"cell_type": "code", "source": code})).collect();
        too_late(&Cells::of(serde_json::json!({ "cells": cells })))
    }

    /// The cell that says what is expected, in front of those that measure.
    const PREDICT: &str = "let p = lab.predict(\"x\", 5.0, 1.0);";

    #[test]
    fn a_prediction_before_its_measurement_is_fine() {
        for cells in [
            &[PREDICT, "let ring = run(); lab.claim(\"a; b\").predicted(p).measured(&ring.left).exactly(5);"][..],
            &[PREDICT, "lab.claim(\"a\").measured(run().left).unit(\"%\").predicted(p).exactly(5);"],
            &[
                "let (p, mut q) = (lab.predict(\"x\", 5.0, 1.0), 2);",
                "lab.claim(\"a\").predicted(p).measured(run()).exactly(5);",
            ],
            &[
                "let old = 3; let p = lab.predict(\"x\", f(old), 1.0); let ring = run(old);",
                "lab.claim(\"a\").predicted(p).measured(ring / old).exactly(5);",
            ],
            &["let n = 5;", "lab.claim(\"a\").measured(n).exactly(5); chart.predicted(\"ring\", 5.0);"],
            // Knobs and servers are no measurements, whatever they are made of.
            &[
                "let redis = lab::redis(); let patience = Duration::from_millis(400); let keys = lab.pick(1, 2) * 10;",
                PREDICT,
                "let spec = Spec { keys, ..Spec::new(patience) }; let ring = spec.run(&redis);",
                "lab.claim(\"a\").predicted(p).measured(ring.left()).exactly(5);",
            ],
            &[
                "let mut lab = Experiment::new(\"x\"); note(&mut lab); let (alone, keys) = (run(), 2);",
                PREDICT,
                "let ring = spec.run(keys, lab.seed());",
                "lab.claim(\"a\").predicted(p).measured(ring).exactly(5);",
            ],
            // The reader's guess, and what the reader did not guess.
            &[
                "let keys = lab.knob(\"keys\", 1, 2); let g = lab.guess(\"x\", \"%\");",
                PREDICT,
                "let ring = run(keys); chart.guess(\"a\", &g).show();",
                "lab.claim(\"a\").guessed(&g).predicted(p).measured(ring).exactly(5);",
            ],
            // The newest decides: what was measured before may be a part of it.
            &[
                "let alone = run();",
                PREDICT,
                "let both = run(); let ratio = both.median() / alone.median();",
                "lab.claim(\"a\").predicted(p).measured(ratio).at_least(2.0);",
            ],
            // Begun before, known afterwards.
            &[
                "let mut queue = begin(&spec);",
                PREDICT,
                "let queues = queue.finish();",
                "if let Some((error, seconds)) = &queues.gave_up { lab.claim(\"a\").predicted(p).measured(*seconds).exactly(5); }",
            ],
            // Predictions in a list, and taken from it.
            &[
                "let all: [Prediction; 2] = skews.map(|skew| lab.predict(\"x\", f(skew), 1.0));",
                "let found = skews.map(|skew| run(skew));\nfor (said, got) in all.iter().zip(&found) {\n    \
                 lab.claim(\"a\").predicted(*said).measured(got).exactly(5);\n}\n\
                 lab.claim(\"b\").predicted(all[1]).measured(&found[1]).exactly(5);",
            ],
            // A name that means something else now.
            &[
                "let ring = run();",
                PREDICT,
                "let ring = run();",
                "lab.claim(\"a\").predicted(p).measured(ring).exactly(5);",
            ],
            &[
                "let mut ring = run();",
                PREDICT,
                "ring = run();",
                "lab.claim(\"a\").predicted(p).measured(ring).exactly(5);",
            ],
            &[
                "let mut found = Vec::new();",
                PREDICT,
                "for x in [1, 2] { found.push(run(x)); }",
                "lab.claim(\"a\").predicted(p).measured(found.len()).exactly(5);",
            ],
            &[
                "let ring = run();",
                PREDICT,
                "{ let ring = run(); let q = ring; }\n:dep nothing = \"1\"\nlet left = run();",
                "lab.claim(\"a\").predicted(p).measured(left.max(1)).exactly(5);",
            ],
        ] {
            assert_eq!(faults(cells), Vec::<String>::new(), "{cells:?}");
        }
    }

    #[test]
    fn a_prediction_that_knew_the_answer_is_not() {
        let claim = |measured: &str| format!("lab.claim(\"a\").predicted(p).measured({measured}).exactly(5);");
        let after_ring = "p is predicted after ring,";
        for (first, then, reason) in [
            // Not made by `lab.predict`, or not any more.
            (
                "",
                "let ring = run(); lab.claim(\"a\").predicted(5.0).measured(ring).exactly(5);".into(),
                "is no variable",
            ),
            (
                "let ring = run();",
                "lab.claim(\"a\").predicted(ring.left).measured(ring).exactly(5);".into(),
                "has not made",
            ),
            ("let p = lab.predict(\"x\", 5.0, 1.0); let p = run();", claim("run()"), "has not made"),
            ("let mut p = lab.predict(\"x\", 5.0, 1.0); p = run();", claim("run()"), "has not made"),
            // In the cell of the claim.
            ("let ring = 1;", format!("{PREDICT} {}", claim("run()")), "in the cell that claims it"),
            ("", format!("if true {{ {PREDICT} {} }}", claim("run()")), "in the cell that claims it"),
            // Behind what it is compared with: by itself, by a part of it, by what is made of it.
            ("let ring = run(); PREDICT", claim("&ring.left"), after_ring),
            ("let ring = spec.run(); PREDICT", claim("ring"), after_ring),
            ("let ring = run(); PREDICT let left = ring.left;", claim("left"), after_ring),
            ("let ring = run(); PREDICT let a = &ring; let b = a.left(); let c = 100.0 * b;", claim("c"), after_ring),
            (
                "let ring = run(); PREDICT",
                "let left = Samples::from(ring.left); ".to_string() + &claim("left.mean()"),
                after_ring,
            ),
            ("let ring = run(); PREDICT let text = format!(\"{}\", ring);", claim("text"), after_ring),
            (
                "let ring = run(); PREDICT let all = ring.iter().map(|one| one.left).sum::<f64>();",
                claim("all"),
                after_ring,
            ),
            ("let ring = run(); PREDICT", claim("{ let left = ring.left; left / 2.0 }"), after_ring),
            // By patterns.
            ("let (ring, n) = (run(), 2); PREDICT", claim("ring"), after_ring),
            ("let ring = run(); PREDICT let (a, b) = ring.both;", claim("b"), after_ring),
            ("let ring = run(); PREDICT let Both { left: a, right: [b, ..] } = ring;", claim("b"), after_ring),
            ("let ring = run(); PREDICT let Some(a) = ring.left else { panic!() };", claim("a"), after_ring),
            (
                "let ring = run(); PREDICT",
                format!("if let Some(left) = &ring.left {{ {} }}", claim("left")),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT",
                format!("if ok && let Some(left) = ring {{ {} }}", claim("left")),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT",
                format!("match ring {{ Some(left) => {{ {} }} None => {{}} }}", claim("left")),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT",
                format!("match ring {{ One(a) | Two(a, _) if a > 1 => {} _ => () }}", claim("a").replace(';', ",")),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT",
                format!("while let Some(left) = ring.next() {{ {} }}", claim("left")),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT",
                format!("for (n, left) in ring.iter().enumerate() {{ {} }}", claim("left")),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT let left = match ring { Ok(left) => left, Err(_) => 0 };",
                claim("left"),
                after_ring,
            ),
            (
                "let ring = run(); PREDICT let left = if let Ok(left) = ring { left } else { 0 };",
                claim("left"),
                after_ring,
            ),
            ("let ring = run(); PREDICT let (a, b) = (ring, 2); let (b, a) = (a, b);", claim("b"), after_ring),
            // By assignment.
            ("let ring = run(); PREDICT let mut left = 0; left = ring.left;", claim("left"), after_ring),
            ("let ring = run(); PREDICT let mut left = 0; left += ring.left;", claim("left"), after_ring),
            ("let ring = run(); PREDICT let mut at = [0, 0]; at[1] = ring.left;", claim("at[1]"), after_ring),
            (
                "let ring = run(); PREDICT let mut all = Vec::new(); all.push(ring.left);",
                claim("all.len()"),
                after_ring,
            ),
            ("let mut ring = Ring::default(); ring.left = run(); PREDICT", claim("ring.left"), after_ring),
            ("let mut ring = Ring::default(); fill(&mut ring); PREDICT", claim("ring.left"), after_ring),
            ("let ring = run(); PREDICT { let ring = run(); }", claim("ring"), after_ring),
            // Predictions that a list holds.
            (
                "let ring = run(); let all = [1, 2].map(|n| lab.predict(\"x\", n, 1.0)); let p = all[0];",
                claim("ring"),
                after_ring,
            ),
            (
                "let q = lab.predict(\"x\", 5.0, 1.0); let ring = run(); PREDICT let both = [q, p]; let p = both[1];",
                claim("ring"),
                after_ring,
            ),
            // Guesses.
            (
                "let ring = run(); let g = lab.guess(\"x\", \"%\");",
                "lab.claim(\"a\").guessed(&g).measured(ring).exactly(5);".into(),
                "g is guessed after ring,",
            ),
            (
                "let g = other.guess(\"x\");",
                "lab.claim(\"a\").guessed(&g).measured(run()).exactly(5);".into(),
                "which `lab.guess` has not made",
            ),
            (
                "",
                "let g = lab.guess(\"x\", \"%\"); lab.claim(\"a\").guessed(&g).measured(run()).exactly(5);".into(),
                "guessed in the cell that claims it",
            ),
            // What nobody can judge.
            (PREDICT, "let c = lab.claim(\"a\").predicted(p);".into(), "is compared with nothing"),
            (PREDICT, "let = 5;".into(), "is no Rust"),
        ] {
            let cells = [first.replace("PREDICT", PREDICT), then];
            let found = faults(&[&cells[0], &cells[1]]);
            assert!(found.len() == 1 && found[0].contains(reason), "{cells:?}: {found:?}");
        }
    }
}
