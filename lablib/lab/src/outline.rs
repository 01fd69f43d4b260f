//! Which section of its notebook a check stands in, read from the notebook itself: nobody has to say it twice.

use std::path::Path;

use serde_json::Value;

/// The sections of a notebook, each with the code below its heading; empty where there is no such notebook.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    sections: Vec<(String, String)>,
    /// The section of the sentence before.
    last: usize,
}

impl Outline {
    pub(crate) fn read(notebook: &Path) -> Self {
        let text = std::fs::read_to_string(notebook).unwrap_or_default();
        Self::of(&serde_json::from_str(&text).unwrap_or_default())
    }

    fn of(notebook: &Value) -> Self {
        let mut sections = vec![(String::new(), String::new())];
        for cell in notebook["cells"].as_array().into_iter().flatten() {
            let source = match &cell["source"] {
                Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
                other => other.as_str().unwrap_or_default().to_string(),
            };
            if cell["cell_type"] == "code" {
                if let Some((_, code)) = sections.last_mut() {
                    code.push_str(&source);
                }
            } else {
                let headings = source.lines().filter_map(|line| line.strip_prefix("## "));
                sections.extend(headings.map(|heading| (heading.trim().to_string(), String::new())));
            }
        }
        Self { sections, last: 0 }
    }

    /// The section whose code says this sentence, from that of the sentence before on, because cells run in order; a sentence that no
    /// code says as it is, stands where the one before it stood.
    pub(crate) fn section_of(&mut self, sentence: &str) -> String {
        let quoted = format!("{sentence:?}");
        let says = |index: &usize| self.sections.get(*index).is_some_and(|(_, code)| code.contains(&quoted));
        let found = (self.last..self.sections.len()).chain(0..self.last).find(says);
        self.last = found.unwrap_or(self.last);
        self.sections.get(self.last).map(|(heading, _)| heading.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_in_the_section_whose_code_says_it() {
        let cell = |kind: &str, source: &str| serde_json::json!({"cell_type": kind, "source": source});
        let mut outline = Outline::of(&serde_json::json!({"cells": [
            cell("markdown", "# Title\n## The idea\ntext\n## 1. Moves"),
            cell("code", "lab.check(\"all move\"); lab.check(\"… and \\\"more\\\"\");"),
            cell("markdown", "words\n\n## 2. Stays\n### below"),
            cell("code", "lab.check(\"… and \\\"more\\\"\"); for n in [1, 2] { lab.check(&format!(\"{n} stay\")); }"),
        ]}));
        for (sentence, section) in [
            ("all move", "1. Moves"),
            ("… and \"more\"", "1. Moves"),
            ("never said", "1. Moves"),
            ("all move", "1. Moves"),
        ] {
            assert_eq!(outline.section_of(sentence), section, "{sentence}");
        }
        outline.last = 3;
        for (sentence, section) in [("… and \"more\"", "2. Stays"), ("1 stay", "2. Stays"), ("all move", "1. Moves")]
        {
            assert_eq!(outline.section_of(sentence), section, "{sentence}: a cell that ran again");
        }
        assert_eq!(Outline::read(Path::new("/nonexistent")).section_of("all move"), "");
    }
}
