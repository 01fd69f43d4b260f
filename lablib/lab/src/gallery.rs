//! The figures of a run: each leaves its picture and its data beside the report.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chart::{Figure, Picture};
use crate::display::FACE;
use crate::{Doing, Result, paths};

/// Where figures go, and which have gone there, since the last experiment was opened in this process.
struct Gallery {
    folder: Option<PathBuf>,
    figures: Vec<String>,
    tables: usize,
    /// The figure that answers the notebook's question.
    deciding: Option<String>,
    /// Texts that had no room on their figure, and which figure that is.
    cut: Vec<String>,
}

fn gallery() -> MutexGuard<'static, Gallery> {
    static GALLERY: Mutex<Gallery> =
        Mutex::new(Gallery { folder: None, figures: Vec::new(), tables: 0, deciding: None, cut: Vec::new() });
    GALLERY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Figures go to `folder` from now on; what an earlier run left there is removed.
pub(super) fn open(folder: PathBuf) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder).doing(format!("clear {}", folder.display()))?;
    }
    *gallery() = Gallery { folder: Some(folder), figures: Vec::new(), tables: 0, deciding: None, cut: Vec::new() };
    Ok(())
}

/// The names of the figures so far, without extension.
pub(super) fn figures() -> Vec<String> {
    gallery().figures.clone()
}

/// Which of them answers the notebook's question.
pub(super) fn deciding() -> Option<String> {
    gallery().deciding.clone()
}

/// The texts on them that had no room.
pub(super) fn cut() -> Vec<String> {
    gallery().cut.clone()
}

/// An inline SVG as a file of its own, which brings its face along.
fn standalone(svg: &str) -> String {
    match svg.split_once('>') {
        Some((start, rest)) => format!("{start}>{FACE}{rest}"),
        None => svg.to_string(),
    }
}

/// Leaves a figure, as it was drawn and as the SVG of that, as SVG, PNG and CSV, and links to them below what is shown of it. Best
/// effort: a full disk must not spoil the lesson.
pub(super) fn keep(figure: &dyn Figure, drawn: &Picture, svg: &str, html: &str) -> String {
    let mut gallery = gallery();
    let Some(folder) = gallery.folder.clone() else { return html.to_string() };
    let name = format!("{:02}-{}", gallery.figures.len() + 1, paths::slug(figure.title()));
    let contents =
        [("svg", standalone(svg).into_bytes()), ("csv", figure.to_csv().into_bytes()), ("png", drawn.to_png())];
    for (extension, content) in contents {
        leave(&folder, &name, extension, content);
    }
    gallery.cut.extend(drawn.cut().iter().map(|text| format!("{text:?} in {:?}", figure.title())));
    if figure.decides() {
        gallery.deciding = Some(name.clone());
    }
    let shown = linked(html, &folder, &name, &[("Enlarge", "svg"), ("Data (CSV)", "csv")]);
    gallery.figures.push(name);
    shown
}

/// Leaves all rows of a table as CSV, and a link to them below what is shown of it.
pub(super) fn keep_table(title: &str, csv: String, html: &str) -> String {
    let mut gallery = gallery();
    let Some(folder) = gallery.folder.clone() else { return html.to_string() };
    gallery.tables += 1;
    let name = format!("table-{:02}-{}", gallery.tables, paths::slug(title));
    let name = name.trim_end_matches('-');
    leave(&folder, name, "csv", csv.into_bytes());
    linked(html, &folder, name, &[("Data (CSV)", "csv")])
}

fn leave(folder: &Path, name: &str, extension: &str, content: Vec<u8>) {
    if let Err(error) = paths::write_whole(&folder.join(format!("{name}.{extension}")), content) {
        eprintln!("could not keep {name}.{extension}: {error}");
    }
}

/// The links lead from a report's page, beside which the folder lies; a notebook, which lies elsewhere, hides them.
fn linked(html: &str, folder: &Path, name: &str, files: &[(&str, &str)]) -> String {
    let folder = folder.file_name().unwrap_or_default().to_string_lossy();
    let links = files.iter().map(|(said, extension)| format!("<a href=\"{folder}/{name}.{extension}\">{said}</a>"));
    format!(
        "<figure class=\"lab-figure\" id=\"{name}\" style=\"margin:0\">{html}<figcaption class=\"lab-files\" hidden>{}</figcaption></figure>",
        links.collect::<Vec<_>>().join(" ")
    )
}
