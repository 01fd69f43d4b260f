//! A notebook's page: what stands on it besides the cells, what in it is folded, and where its links lead. The template
//! `ci/report/index.html.j2` lays it out.
//!
//! * Results that follow a guess are shown to whoever asks: the cells behind one that calls `lab.guess`, up to the next heading or
//!   the next guess, and those tagged `result`.
//! * Whatever holds is one folded line where it was judged; what does not hold, or was not as predicted, stands open.
//! * The answer stands at the top, and not once more in the cell that gave it.
//! * Links to notebooks lead to their pages, links to sources to [listings](listing).

use std::path::{Path, PathBuf};

use lablib::lab::display::FACE;
use lablib::lab::{STYLE, answer, claims_as_html};
use serde_json::{Value, json};

use crate::atlas::Entry;
use crate::cells::{Cells, anchor, joined, source};
use crate::listing;
use crate::notebook::Outcome;

/// A notebook before or behind this one: its name and title.
pub type Neighbour = Option<(String, String)>;

/// Gives an executed notebook what its template asks for; returns the folders of sources to which it links.
pub fn prepare(cells: &mut Cells, outcome: &Outcome, [previous, next]: [Neighbour; 2]) -> Vec<PathBuf> {
    let about = Entry::of(outcome);
    let notebook = cells.json_mut();
    let whole = std::mem::take(&mut notebook["cells"]);
    let mut cells: Vec<Value> = whole.as_array().into_iter().flatten().flat_map(parts).collect();
    let mut sources = Vec::new();
    cells.iter_mut().filter(|cell| cell["cell_type"] == "markdown").for_each(|cell| {
        let text = relinked(&source(cell), |target| link_on_page(target, &mut sources));
        cell["source"] = text.into();
    });
    fold_results(&mut cells);
    cells.iter_mut().for_each(|cell| change_html(cell, |html| folded_claims(&bare(html))));

    let verdict = outcome.verdict.as_ref();
    let chart_at = outcome.deciding();
    // What leads to a chart leads to where it is shown, not to its copy at the top.
    let copy = |html: String, name: &str| html.replacen(&format!(" id=\"{name}\""), "", 1);
    let told = shown(&cells).any(|html| html.contains("<div class=\"lab-verdict-box\">"));
    let claims = verdict.filter(|_| !told).map(|verdict| claims_as_html(&verdict.claims));
    let answer = verdict.and_then(|verdict| verdict.answer.as_ref()).map(|answer| {
        json!({"text": answer::html(&answer.text, ""), "rule": answer::html(&answer.rule, ""), "limits": answer::html(&answer.limits, "")})
    });
    let neighbour =
        |neighbour: Neighbour| neighbour.map_or(Value::Null, |(name, title)| json!({"name": name, "title": title}));
    notebook["cells"] = cells.iter().cloned().collect();
    notebook["metadata"]["lab"] = json!({
        "about": about,
        "title_at": anchor(&outcome.title),
        "reasons": outcome.reasons,
        "answer": answer,
        "facts": verdict.map(|verdict| format!("{} scale, {:.0} s, on {}", verdict.scale, verdict.seconds, verdict.machine)),
        "claims": claims.unwrap_or_default(),
        "chart": chart_at.and_then(|name| Some(copy(shown(&cells).find_map(|html| figure(&html, name))?, name))),
        "chart_at": chart_at,
        "contents": contents(&cells),
        "previous": neighbour(previous),
        "next": neighbour(next),
        "style": format!("{FACE}{STYLE}"),
    });
    sources
}

/// A text cell in parts, each of which begins with its heading; without the notebook's title, which the page has for its own.
fn parts(cell: &Value) -> Vec<Value> {
    if cell["cell_type"] != "markdown" {
        return vec![cell.clone()];
    }
    let (mut parts, mut fenced) = (vec![String::new()], false);
    for line in source(cell).lines() {
        fenced ^= line.starts_with("```");
        if !fenced && line.starts_with("# ") {
            continue;
        }
        if !fenced && (line.starts_with("## ") || line.starts_with("### ")) {
            parts.push(String::new());
        }
        let part = parts.len() - 1;
        parts[part].push_str(line);
        parts[part].push('\n');
    }
    let part = |(number, text): (usize, String)| {
        let mut part = cell.clone();
        part["source"] = text.into();
        if let (1.., Some(id)) = (number, cell["id"].as_str()) {
            part["id"] = format!("{id}-{number}").into();
        }
        part
    };
    parts.into_iter().enumerate().filter(|(_, text)| !text.trim().is_empty()).map(part).collect()
}

/// A text with other targets in its links; where there is none, what the link was laid over.
fn relinked(text: &str, mut target: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("](") {
        let Some((old, behind)) = behind.split_once(')') else { break };
        out.push_str(before);
        match (target(old), out.rfind('[')) {
            (None, Some(start)) => drop(out.remove(start)),
            (new, _) => out.push_str(&format!("]({})", new.as_deref().unwrap_or(old))),
        }
        rest = behind;
    }
    out + rest
}

/// The headings as a table of contents.
fn contents(cells: &[Value]) -> Value {
    let headings = cells.iter().filter(|cell| cell["cell_type"] == "markdown").filter_map(|cell| {
        let text = source(cell).strip_prefix("## ")?.lines().next()?.replace(['*', '`'], "").trim().to_string();
        Some(json!({"id": anchor(&text), "text": text}))
    });
    headings.collect()
}

/// Where a notebook's link leads on its page: to another page, to a listing of the sources, which are noted, or nowhere.
fn link_on_page(target: &str, sources: &mut Vec<PathBuf>) -> Option<String> {
    if target.starts_with('#') || target.contains("://") {
        return Some(target.to_string());
    }
    let (file, anchor) =
        target.split_once('#').map_or((target, String::new()), |(file, anchor)| (file, format!("#{anchor}")));
    if let Some(name) = file.strip_suffix(".ipynb") {
        return Some(format!("{name}.html{anchor}"));
    }
    let (folder, href) = listing::of(file.strip_prefix("../")?)?;
    sources.push(folder);
    Some(href)
}

/// What a cell shows as HTML.
fn htmls(cell: &Value) -> impl Iterator<Item = String> {
    let outputs = cell["outputs"].as_array().into_iter().flatten();
    outputs.map(|output| joined(&output["data"]["text/html"])).filter(|html| !html.is_empty())
}

fn shown(cells: &[Value]) -> impl Iterator<Item = String> {
    cells.iter().flat_map(htmls)
}

/// Changes whatever a cell shows as HTML.
fn change_html(cell: &mut Value, mut change: impl FnMut(&str) -> String) {
    for output in cell["outputs"].as_array_mut().into_iter().flatten() {
        let html = joined(&output["data"]["text/html"]);
        if !html.is_empty() {
            output["data"]["text/html"] = change(&html).into();
        }
    }
}

/// What a cell has shown, without what the page has once for all of them.
fn bare(html: &str) -> String {
    without(&html.replace(STYLE, "").replace(FACE, ""), "<div class=\"lab-answer\">", "</div>")
}

/// Marks where a fold of results begins and ends, and whether something in it went wrong: then it is open.
fn fold_results(cells: &mut [Value]) {
    let mut after_guess = false;
    let mut folded: Vec<bool> = Vec::new();
    for cell in cells.iter() {
        let code = source(cell);
        let guess = cell["cell_type"] == "code" && code.contains("lab.guess(");
        let heading = cell["cell_type"] == "markdown" && code.starts_with('#');
        after_guess &= !(guess || heading);
        let tagged = cell["metadata"]["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == "result"));
        folded.push(after_guess || (tagged && !guess));
        after_guess |= guess;
    }
    let mut start = 0;
    for run in folded.chunk_by(|one, other| one == other) {
        let end = start + run.len();
        if run[0] {
            let failed = cells[start..end].iter().any(went_wrong);
            cells[start]["metadata"]["lab"] = json!({"opens": true, "failed": failed});
            cells[end - 1]["metadata"]["lab"]["closes"] = true.into();
        }
        start = end;
    }
}

/// Whether a cell failed, or shows a claim that does not hold. A prediction that missed stands open within its fold: it is no reason
/// to give the reader's own away.
fn went_wrong(cell: &Value) -> bool {
    let failed = |output: &Value| output["output_type"] == "error" || output["name"] == "stderr";
    cell["outputs"].as_array().is_some_and(|outputs| outputs.iter().any(failed))
        || htmls(cell).any(|html| claim_lines(&html).iter().any(|line| line.class("fails")))
}

/// A claim's or a check's line in what a cell has shown.
#[derive(Clone, Copy)]
struct Line<'a> {
    html: &'a str,
    /// Where it stands in it.
    from: usize,
}

const LINE: &str = "<p class=\"lab-claim ";

impl Line<'_> {
    fn class(self, name: &str) -> bool {
        let classes = self.html[LINE.len()..].split('"').next().unwrap_or_default();
        classes.split(' ').any(|class| class == name)
    }

    /// With its sentence, which its cell shows only in its code.
    fn whole(self) -> String {
        let sentence = self.html.split_once(" title=\"").and_then(|(_, rest)| Some(rest.split_once('"')?.0));
        sentence
            .map_or(self.html.to_string(), |sentence| self.html.replacen(">✓ holds:", &format!(">✓ {sentence}:"), 1))
    }

    /// It does not hold, or holds although something else was predicted.
    fn matters(self) -> bool {
        self.class("fails") || self.html.contains("; it holds, but the prediction missed")
    }
}

/// The lines of judged claims; predictions look alike, and are none.
fn claim_lines(html: &str) -> Vec<Line<'_>> {
    let whole = |(from, _): (usize, &str)| {
        let line = &html[from..];
        Some(Line { html: &line[..line.find("</p>")? + "</p>".len()], from })
    };
    html.match_indices(LINE).filter_map(whole).filter(|line| !line.class("predicted")).collect()
}

/// What a cell has shown, with each run of lines that hold behind one line, below those that must be seen.
fn folded_claims(html: &str) -> String {
    let (mut out, mut at) = (String::new(), 0);
    let end = |line: &Line<'_>| line.from + line.html.len();
    for run in claim_lines(html).chunk_by(|line, next| html[end(line)..next.from].trim().is_empty()) {
        out.push_str(&html[at..run[0].from]);
        at = end(&run[run.len() - 1]);
        let (open, folded): (Vec<Line<'_>>, Vec<Line<'_>>) = run.iter().partition(|line| line.matters());
        let text = |lines: &[Line<'_>]| lines.iter().map(|line| line.whole()).collect::<String>();
        out.push_str(&text(&open));
        if !folded.is_empty() {
            let checks = folded.iter().filter(|line| line.class("check")).count();
            let said = said_to_hold(folded.len() - checks, checks);
            out.push_str(&format!(
                "<details class=\"lab-checks\"><summary>{said}</summary>{}</details>",
                text(&folded)
            ));
        }
    }
    out + &html[at..]
}

/// "1 claim and 3 checks hold"
fn said_to_hold(claims: usize, checks: usize) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let verb = if claims + checks == 1 { "holds" } else { "hold" };
    let parts: Vec<String> = [(claims, "claim"), (checks, "check")]
        .iter()
        .filter(|part| part.0 > 0)
        .map(|part| counted(part.0, part.1))
        .collect();
    format!("✓ {} {verb}", parts.join(" and "))
}

/// The chart of this name in what was shown.
pub fn figure(html: &str, name: &str) -> Option<String> {
    let id = html.find(&format!("id=\"{name}\""))?;
    let start = html[..id].rfind("<figure")?;
    let length = html[start..].find("</figure>")? + "</figure>".len();
    Some(html[start..start + length].to_string())
}

/// nbconvert's page without what it puts around headings, and around what in the code has no colour of its own: most of its bytes.
pub fn finished(page: &str) -> String {
    let page = without(page, "<a class=\"anchor-link\"", "</a>");
    // It writes the name of a heading as in an address, `100-%25`; JupyterLab and our links do not.
    let page = ["<h2 id=\"", "<h3 id=\""].iter().fold(page, |page, tag| {
        let mut pieces = page.split(tag);
        let first = pieces.next().unwrap_or_default().to_string();
        pieces.fold(first, |page, piece| {
            let (id, rest) = piece.split_once('"').unwrap_or((piece, ""));
            format!("{page}{tag}{}\"{rest}", decoded(id))
        })
    });
    ["n", "p", "w", "o"].iter().fold(page, |page, class| {
        let tag = format!("<span class=\"{class}\">");
        let mut pieces = page.split(tag.as_str());
        let first = pieces.next().unwrap_or_default().to_string();
        pieces.fold(first, |page, piece| page + &piece.replacen("</span>", "", 1))
    })
}

/// A text without what stands between these two, and without them.
fn without(text: &str, from: &str, to: &str) -> String {
    let mut pieces = text.split(from);
    let first = pieces.next().unwrap_or_default().to_string();
    pieces.fold(first, |text, piece| text + piece.split_once(to).map_or("", |(_, behind)| behind))
}

/// What is wrong with a page in this folder: it must be found, read and followed, by anybody and without a network.
pub fn faults(page: &str, folder: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    // What code says is no part of the page.
    let text = without(page, "<pre", "</pre>");
    let mut must = |good: bool, fault: &str| faults.extend((!good).then(|| fault.to_string()));
    must(text.contains("<title>") && !text.contains("<title></title>"), "it has no title");
    must(text.contains("<a class=\"skip\" href=\"#main\">"), "it has no skip link");
    must(text.matches("<h1").count() == 1, "it has not one first heading");
    must(!text.contains('¶'), "a heading ends in ¶");
    for loads in ["<link ", "@import", "import(", "url(http", "url(//"] {
        must(!text.contains(loads), &format!("it loads something: {loads}"));
    }
    for (attribute, follows) in [(" src=\"", false), (" href=\"", true)] {
        for target in text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()) {
            let good = match target.split_once('#') {
                _ if target.starts_with("data:") => true,
                _ if target.contains("://") || target.starts_with("//") => follows,
                Some(("", anchor)) => text.contains(&format!(" id=\"{}\"", decoded(anchor))),
                Some((file, _)) => folder.join(decoded(file)).exists(),
                None => folder.join(decoded(target)).exists(),
            };
            must(good, &format!("what {target:?} names is not there"));
        }
    }
    faults
}

/// An address without its `%E2%80%99`.
fn decoded(address: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = address.as_bytes();
    while let [first, behind @ ..] = rest {
        let coded = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_page_is_found() {
        let folder = std::env::temp_dir();
        let page = |body: &str| {
            let head = "<title>T</title><a class=\"skip\" href=\"#main\">s</a><main id=\"main\"><h1>T</h1>";
            format!("{head}{body}</main>")
        };
        let good = "<a href=\"#5.-Gr%C3%B6%C3%9Fe\">a</a><h2 id=\"5.-Größe\">b</h2><a href=\"https://a.b\">c</a><img src=\"data:x\">\
                    <a href=\".\">here</a> 5 % <pre class=\"c\"><code>@import ¶ href=\"#x\"</code></pre>";
        assert_eq!(faults(&page(good), &folder), Vec::<String>::new());
        for (body, fault) in [
            ("<a href=\"#nothing\">x</a>", "\"#nothing\""),
            ("<a href=\"nothing.html#x\">x</a>", "\"nothing.html#x\""),
            ("<a href=\"nothing.html\">x</a>", "\"nothing.html\""),
            ("<img src=\"https://a.b/c.png\">", "https://a.b"),
            ("<script src=\"//a.b/c.js\"></script>", "//a.b"),
            ("<link rel=\"stylesheet\">", "<link "),
            ("<style>@import 'x'</style>", "@import"),
            ("<h1>U</h1>", "not one first heading"),
            ("<h2>U¶</h2>", "¶"),
        ] {
            let found = faults(&page(body), &folder);
            assert!(found.len() == 1 && found[0].contains(fault), "{fault}: {found:?}");
        }
        assert_eq!(faults("", &folder), ["it has no title", "it has no skip link", "it has not one first heading"]);
    }

    fn code(source: &str, html: &str) -> Value {
        json!({"cell_type": "code", "metadata": {}, "source": source, "outputs": [{"output_type": "display_data", "data": {"text/html": html}}]})
    }

    fn text(source: &str) -> Value {
        json!({"cell_type": "markdown", "id": "a", "metadata": {}, "source": source})
    }

    const HOLDS: &str = "<p class=\"lab-claim holds\">✓ a: measured 1, bound exactly 1</p>";
    const SHORT: &str = "<p class=\"lab-claim holds check\" title=\"b &lt; c\">✓ holds: measured 1</p>";
    const FAILS: &str = "<p class=\"lab-claim fails check\">✗ d: measured 1, bound exactly 2</p>";
    const MISSED: &str =
        "<p class=\"lab-claim holds\">✓ e: predicted 9, measured 1; it holds, but the prediction missed</p>";

    #[test]
    fn a_text_is_parted_at_its_headings_and_the_title_is_the_pages() {
        let cells = parts(&text("# T\n\nq\n## 1. *A*\nx\n```\n## b\n# c\n```\n### d\n"));
        let sources: Vec<String> = cells.iter().map(source).collect();
        assert_eq!(sources, ["\nq\n", "## 1. *A*\nx\n```\n## b\n# c\n```\n", "### d\n"]);
        assert_eq!(cells.iter().map(|cell| cell["id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "a-1", "a-2"]);
        assert_eq!(contents(&cells), json!([{"id": "1.-A", "text": "1. A"}]));
    }

    #[test]
    fn links_lead_to_pages_and_listings_or_are_their_text() {
        let mut sources = Vec::new();
        let on_page = relinked(
            "[a](01-b.ipynb) [c](01-b.ipynb#d) [`e`](../lablib/lab/src/claim.rs) [f](#g) [h](https://i) [j](../README.md) k](l",
            |target| link_on_page(target, &mut sources),
        );
        assert_eq!(
            on_page,
            "[a](01-b.html) [c](01-b.html#d) [`e`](code/lab.html#claim.rs) [f](#g) [h](https://i) j k](l"
        );
        assert_eq!(sources, [PathBuf::from("lablib/lab/src")]);
    }

    #[test]
    fn what_happened_is_folded_behind_a_guess_up_to_the_next_question() {
        let mut tagged = code("t", "");
        tagged["metadata"]["tags"] = json!(["result"]);
        let mut cells = vec![
            text("## 1. A"),
            code("let g = lab.guess(\"?\", \"\");", ""),
            code("run", MISSED),
            text("so it was"),
            code("let h = lab.guess(\"?\", \"\");", ""),
            code("run", FAILS),
            text("## 2. B"),
            tagged,
            code("open", ""),
        ];
        fold_results(&mut cells);
        let folds: Vec<Value> = cells.iter().map(|cell| cell["metadata"]["lab"].clone()).collect();
        let (none, begins) = (Value::Null, json!({"opens": true, "failed": false}));
        let (ends, failed) = (json!({"closes": true}), json!({"opens": true, "failed": true, "closes": true}));
        let alone = json!({"opens": true, "failed": false, "closes": true});
        assert_eq!(folds, [none.clone(), none.clone(), begins, ends, none.clone(), failed, none.clone(), alone, none]);
    }

    #[test]
    fn what_holds_is_one_line_and_what_does_not_stands_open() {
        let predicted = "<p class=\"lab-claim predicted\">Predicted: a: 1</p>";
        let shown = format!("{predicted}\n<b>x</b>\n{HOLDS}\n{FAILS}\n{SHORT}\n{MISSED}\n<i>y</i>\n{SHORT}\n");
        let whole = "<p class=\"lab-claim holds check\" title=\"b &lt; c\">✓ b &lt; c: measured 1</p>";
        let fold = |said: &str, lines: &str| {
            format!("<details class=\"lab-checks\"><summary>✓ {said}</summary>{lines}</details>")
        };
        let (two, one) = (fold("1 claim and 1 check hold", &format!("{HOLDS}{whole}")), fold("1 check holds", whole));
        assert_eq!(folded_claims(&shown), format!("{predicted}\n<b>x</b>\n{FAILS}{MISSED}{two}\n<i>y</i>\n{one}\n"));
        assert_eq!(folded_claims(FAILS), FAILS);
    }

    #[test]
    fn styles_stand_once_and_the_answer_at_the_top_only() {
        let answer = "<div class=\"lab-answer\"><p>a</p></div>";
        assert_eq!(bare(&format!("{STYLE}<b>x</b>{FACE}{STYLE}{answer}<i>y</i>")), "<b>x</b><i>y</i>");
    }

    #[test]
    fn a_page_is_rid_of_marks_at_headings_and_of_tags_without_a_colour() {
        let page = "<h2 id=\"a-%25-%C3%B6\">A<a class=\"anchor-link\" href=\"#a\">¶</a></h2><pre><span class=\"kd\">let</span>\
                    <span class=\"w\"> </span><span class=\"n\">x</span><span class=\"p\">;</span></pre>";
        assert_eq!(finished(page), "<h2 id=\"a-%-ö\">A</h2><pre><span class=\"kd\">let</span> x;</pre>");
    }

    #[test]
    fn a_chart_is_found_by_its_name() {
        let html = "<figure id=\"01-a\">x</figure><figure class=\"c\" id=\"02-b\"><svg/>y</figure>z";
        assert_eq!(figure(html, "02-b").as_deref(), Some("<figure class=\"c\" id=\"02-b\"><svg/>y</figure>"));
        assert_eq!(figure(html, "03-c"), None);
    }
}
