//! Reading a notebook: its title and question, its code, and the `?` that its cells must not have.

use std::path::Path;

use lablib::lab::{Doing, Error, Result, service};
use serde_json::Value;

use crate::{predictions, words};

/// What JupyterLab and nbconvert call a heading: its text without marks, with dashes for spaces.
pub fn anchor(heading: &str) -> String {
    heading.trim().replace(['`', '*'], "").replace(' ', "-")
}

/// A notebook's file, parsed.
pub struct Cells(Value);

impl Cells {
    /// Reads a notebook.
    pub fn read(path: &Path) -> Result<Self> {
        let operation = || format!("read the notebook {}", path.display());
        let text = std::fs::read_to_string(path).doing(operation())?;
        let notebook: Value = serde_json::from_str(&text).doing(operation())?;
        match notebook["cells"].is_array() {
            true => Ok(Self(notebook)),
            false => Err(Error::new(operation(), "it has no cells")),
        }
    }

    /// A notebook that was read already.
    #[cfg(test)]
    pub fn of(json: Value) -> Self {
        Self(json)
    }

    /// The notebook as JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// The notebook as JSON, to change.
    pub fn json_mut(&mut self) -> &mut Value {
        &mut self.0
    }

    fn of_type(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0["cells"].as_array().into_iter().flatten().filter(move |cell| cell["cell_type"] == kind)
    }

    /// The code cells, from 1 as a reader counts them.
    pub fn code(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.of_type("code").enumerate().map(|(index, cell)| (index + 1, cell))
    }

    /// The first heading: the claim that the notebook is about.
    pub fn title(&self) -> String {
        let text = self.of_type("markdown").next().map(source).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("Untitled").trim().to_string()
    }

    /// The first paragraph below the heading: the question, in a sentence.
    pub fn question(&self) -> String {
        let text = self.of_type("markdown").next().map(source).unwrap_or_default();
        let below = text.lines().skip_while(|line| !line.starts_with("# ")).skip(1);
        let paragraph: Vec<&str> =
            below.skip_while(|line| line.trim().is_empty()).take_while(|line| !line.trim().is_empty()).collect();
        paragraph.join(" ").replace("**", "").trim().to_string()
    }

    /// The servers that it starts, as its metadata names them: they are fetched before its kernel is.
    pub fn servers(&self) -> Vec<String> {
        let named = self.0["metadata"]["lab"]["servers"].as_array().into_iter().flatten();
        named.filter_map(Value::as_str).map(str::to_string).collect()
    }

    /// What is wrong with the notebook as it stands in the repository under this name: outputs, another experiment's name
    /// (its figures and verdict would be filed elsewhere), a server that nobody can fetch, a `?` that would hide a failure, a prediction
    /// that knew the answer, or an answer without its chart.
    pub fn faults(&self, name: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let opening = format!("Experiment::new(\"{name}\")");
        if !self.code().any(|(_, cell)| source(cell).contains(&opening)) {
            faults.push(format!("no cell says {opening}"));
        }
        for (number, cell) in self.code() {
            if cell["outputs"].as_array().is_some_and(|outputs| !outputs.is_empty())
                || !cell["execution_count"].is_null()
            {
                faults.push(format!("code cell {number} has outputs: notebooks are committed without"));
            }
        }
        let strange = self.servers().into_iter().filter(|server| !service::KINDS.contains(&server.as_str()));
        faults.extend(strange.map(|server| {
            format!("its metadata (lab.servers) names {server:?}, and there is {}", service::KINDS.join(", "))
        }));
        faults.extend(self.hidden_failures());
        faults.extend(predictions::too_late(self));
        faults.extend(words::faults(self));
        faults
    }

    /// The headings, as links name them.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors = Vec::new();
        for text in self.of_type("markdown").map(source) {
            let mut in_code = false;
            for line in text.lines() {
                in_code ^= line.trim_start().starts_with("```");
                let heading = line.trim_start_matches('#');
                if !in_code && heading.len() < line.len() && heading.starts_with(' ') {
                    anchors.push(anchor(heading));
                }
            }
        }
        anchors
    }

    /// Links to files that are not there, seen from the folder in which the notebook lies.
    pub fn dead_links(&self, folder: &Path) -> Vec<String> {
        let links = self.links();
        let files = links.iter().filter_map(|link| link.split(['#', ' ']).next());
        files
            .filter(|file| !file.is_empty() && !file.contains("://") && !folder.join(file).exists())
            .map(|file| format!("a link leads to {file}, which is not there"))
            .collect()
    }

    /// Where the links in the text lead.
    pub fn links(&self) -> Vec<String> {
        let targets = |text: String| {
            let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            targets.map(str::to_string).collect::<Vec<_>>()
        };
        self.of_type("markdown").map(source).flat_map(targets).collect()
    }

    /// Cells whose failure the kernel would pass off as a success.
    pub fn hidden_failures(&self) -> Vec<String> {
        let line = |(number, cell)| {
            let line = top_level_question_mark(&source(cell))?;
            Some(format!("code cell {number} has a `?` at its top level ({line}): the kernel hides its failure"))
        };
        self.code().filter_map(line).collect()
    }
}

/// A cell's source as one text.
pub fn source(cell: &Value) -> String {
    joined(&cell["source"])
}

/// A notebook's text: one string, or a list of lines.
pub fn joined(text: &Value) -> String {
    match text {
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().unwrap_or_default().to_string(),
    }
}

/// The line with the first `?` operator that would return from the cell itself, rather than from a function or a closure.
pub fn top_level_question_mark(code: &str) -> Option<String> {
    let tokens = tokens(code);
    // What each open bracket belongs to, and whether a closure without braces is open inside of it.
    let mut open: Vec<(Scope, bool)> = vec![(Scope::Block, false)];
    let mut signature = false;
    for (index, &(offset, token)) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| tokens[index].1);
        match token {
            "fn" => signature = true,
            "{" => {
                let closure_body = before == "|"
                    || before == "||"
                    || open.last().is_some_and(|scope| scope.1 && arrow_before(&tokens, index));
                let function = signature
                    || closure_body
                    || before == "async"
                    || (before == "move" && index > 1 && tokens[index - 2].1 == "async");
                open.push((if function { Scope::Function } else { Scope::Block }, false));
                signature = false;
            }
            "(" | "[" => open.push((Scope::Block, false)),
            ")" | "]" | "}" if open.len() > 1 => {
                open.pop();
            }
            ";" | "," => {
                signature = signature && token == ",";
                if let Some(scope) = open.last_mut() {
                    scope.1 = false;
                }
            }
            "|" | "||" if starts_closure(before) || in_closure_header(&tokens, index) => {
                if let Some(scope) = open.last_mut() {
                    scope.1 = true;
                }
            }
            "?" if is_operator(before) => {
                let inside = open.iter().any(|(scope, closure)| *scope == Scope::Function || *closure);
                if !inside {
                    let line = code[..offset].lines().count().max(1) - 1;
                    return Some(code.lines().nth(line).unwrap_or_default().trim().to_string());
                }
            }
            _ => {}
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Function,
    Block,
}

/// `?` is the operator after an expression; elsewhere, as in `T: ?Sized`, it is not.
fn is_operator(before: &str) -> bool {
    matches!(before, ")" | "]" | "}" | "?" | "\"")
        || before.chars().next().is_some_and(|first| first.is_alphanumeric() || first == '_')
}

/// `|` opens a closure where an expression would begin.
fn starts_closure(before: &str) -> bool {
    matches!(before, "" | "(" | "," | "=" | "{" | "}" | ";" | "[" | ":" | "move" | "return" | ">" | "&" | "else" | "in")
}

/// The second `|` of a closure's parameters.
fn in_closure_header(tokens: &[(usize, &str)], index: usize) -> bool {
    let opening = tokens[..index].iter().rposition(|token| matches!(token.1, "|" | ";" | "{" | "}"));
    opening.is_some_and(|opening| {
        tokens[opening].1 == "|" && starts_closure(opening.checked_sub(1).map_or("", |before| tokens[before].1))
    })
}

/// A closure with a return type: `|x| -> Result<()> {`.
fn arrow_before(tokens: &[(usize, &str)], index: usize) -> bool {
    let bar = tokens[..index].iter().rposition(|token| matches!(token.1, "|" | "||"));
    bar.is_some_and(|bar| {
        tokens.get(bar + 1).is_some_and(|token| token.1 == "-")
            && tokens.get(bar + 2).is_some_and(|token| token.1 == ">")
    })
}

/// The code's tokens with their offsets, without comments; a string or character is one `"`.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &code[at..];
        let length = match bytes[at] {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => block_comment(rest),
            b'"' => text(rest, at, &mut tokens, 1, 0),
            b'r' | b'b' | b'c' if raw_text(rest).is_some() => {
                let (prefix, hashes) = raw_text(rest).unwrap_or((1, 0));
                text(rest, at, &mut tokens, prefix, hashes)
            }
            b'\'' => character(rest, at, &mut tokens),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let length =
                    rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(rest.len());
                tokens.push((at, &rest[..length]));
                length
            }
            b'|' if rest.starts_with("||") => {
                tokens.push((at, "||"));
                2
            }
            byte if byte.is_ascii_punctuation() => {
                tokens.push((at, &rest[..1]));
                1
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        at += length;
    }
    tokens
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of `r#"`, `b"` and the like up to their quote (included), and the number of `#`, or `usize::MAX` for none raw.
fn raw_text(rest: &str) -> Option<(usize, usize)> {
    let letters = rest.find(|letter: char| !letter.is_ascii_lowercase())?;
    let hashes = rest[letters..].bytes().take_while(|&byte| byte == b'#').count();
    let raw = rest[..letters].contains('r');
    let known = matches!(&rest[..letters], "r" | "b" | "c" | "br" | "cr");
    let quoted = rest[letters + hashes..].starts_with('"');
    (known && quoted && (raw || hashes == 0)).then_some((letters + hashes + 1, if raw { hashes + 1 } else { 0 }))
}

/// The length of a string; `raw` is 0 for one with escapes, else one more than the number of its `#`.
fn text<'a>(rest: &'a str, at: usize, tokens: &mut Vec<(usize, &'a str)>, prefix: usize, raw: usize) -> usize {
    tokens.push((at, "\""));
    if raw > 0 {
        let end = format!("\"{}", "#".repeat(raw - 1));
        return rest[prefix..].find(&end).map_or(rest.len(), |found| prefix + found + end.len());
    }
    let mut escaped = false;
    for (offset, letter) in rest[prefix..].char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return prefix + offset + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character, or of a lifetime's quote.
fn character<'a>(rest: &'a str, at: usize, tokens: &mut Vec<(usize, &'a str)>) -> usize {
    let mut letters = rest.char_indices().skip(1);
    let Some((_, first)) = letters.next() else { return 1 };
    let end = if first == '\\' {
        rest[3.min(rest.len())..].find('\'').map(|found| found + 4)
    } else {
        letters.next().filter(|(_, letter)| *letter == '\'').map(|(offset, _)| offset + 1)
    };
    match end {
        Some(end) => {
            tokens.push((at, "\""));
            end
        }
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cells, top_level_question_mark};

    #[test]
    fn a_notebook_is_committed_without_outputs_and_under_its_own_name() {
        let notebook = |source: &str, outputs: &str| {
            let text = format!(
                r#"{{"cells": [{{"cell_type": "code", "execution_count": null, "outputs": {outputs}, "source": {source:?}}}]}}"#
            );
            Cells(serde_json::from_str(&text).unwrap_or_default()).faults("01-a").len()
        };
        assert_eq!(notebook("let lab = Experiment::new(\"01-a\");", "[]"), 0);
        assert_eq!(notebook("let lab = Experiment::new(\"01-a\");", r#"[{"output_type": "stream"}]"#), 1);
        assert_eq!(notebook("let lab = Experiment::new(\"02-b\");", "[]"), 1);
        assert_eq!(notebook("let lab = Experiment::new(\"01-a\"); f()?;", "[]"), 1);
    }

    #[test]
    fn a_notebook_names_the_servers_that_are_fetched_for_it() {
        let notebook = |metadata: &str| {
            let cell = r#"{"cell_type": "code", "execution_count": null, "outputs": [], "source": "Experiment::new(\"01-a\")"}"#;
            let text = format!(r#"{{"cells": [{cell}], "metadata": {metadata}}}"#);
            let cells = Cells(serde_json::from_str(&text).unwrap_or_default());
            (cells.servers(), cells.faults("01-a").len())
        };
        assert_eq!(notebook("{}"), (vec![], 0));
        let both = ["mariadb", "redis"].map(String::from).to_vec();
        assert_eq!(notebook(r#"{"lab": {"servers": ["mariadb", "redis"]}}"#), (both, 0));
        assert_eq!(notebook(r#"{"lab": {"servers": ["postgres"]}}"#), (vec!["postgres".to_string()], 1));
    }

    #[test]
    fn a_question_mark_that_leaves_the_cell_is_found() {
        for code in [
            "let file = std::fs::read(\"x\")?;",
            "failing?;",
            "a(); b()?; c();",
            "if ready { load()?; }",
            "for x in xs { x?; }",
            "let y = f(g()?, 1);",
            "let x = xs[0]?;",
            "let url = \"what?\"; connect(url)?;",
            "let or = a | b; load()?;",
            "let both = a || b; load()?;",
            "let f = |x| x + 1; load()?;",
            "let f = |x: u64| { x }; load()?;",
            "fn f() -> u64 { 1 }\nload()?;",
            "let c = '\"'; load()?;",
            "match x { Ok(v) => v, Err(e) => fail(e)? }",
        ] {
            assert!(top_level_question_mark(code).is_some(), "{code}");
        }
    }

    #[test]
    fn a_question_mark_within_a_function_or_closure_is_not() {
        for code in [
            "fn load() -> Result<()> { read()?; Ok(()) }",
            "fn generic<T: ?Sized>(x: &T) {}",
            "let load = || -> Result<u64> { Ok(read()?) };",
            "let load = |path| { read(path)?; Ok(()) };",
            "let sum = xs.iter().map(|x| x.parse()?.ok()).sum();",
            "let sum = xs.iter().try_fold(0, |total, x| Some(total + x.get()?));",
            "// is this it?\nprintln!(\"really? {}\", 'x');",
            "/* what? /* nested? */ f()? */ g();",
            "let text = r#\"a \"quoted\" f()? \"#;",
            "let task = async { read().await?; Ok::<_, Error>(()) };",
            "let task = async move { read().await? };",
            "struct Holder<T: ?Sized>(Box<T>);",
            "let life: &'static str = \"x\";",
            "",
            "let c = '?';",
        ] {
            assert_eq!(top_level_question_mark(code), None, "{code}");
        }
    }
}
