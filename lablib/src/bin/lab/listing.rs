//! The sources to which pages link, as pages of their own beside them: whoever has only the reports can read the code.

use std::fs;
use std::path::{Path, PathBuf};

use lablib::lab::display::escape;
use lablib::lab::{Doing, Result, paths};

use crate::atlas;

/// The folder of sources that a path in the repository lies in, and where on its page: `lablib/sql/kv/src/lib.rs` is on
/// `code/sql-kv.html`. None where there is nothing.
pub fn of(path: &str) -> Option<(PathBuf, String)> {
    let path = Path::new(path.trim_end_matches('/'));
    let folder =
        path.ancestors().find(|folder| folder.ends_with("src")).filter(|folder| folder.starts_with("lablib"))?;
    if !paths::root().join(path).exists() {
        return None;
    }
    let file = path.strip_prefix(folder).ok()?.to_string_lossy().into_owned();
    let anchor = if file.is_empty() { file } else { format!("#{file}") };
    Some((folder.to_path_buf(), format!("code/{}.html{anchor}", name(folder))))
}

/// `lablib/sql/kv/src` is `sql-kv`.
fn name(folder: &Path) -> String {
    let parts: Vec<_> = folder.iter().map(|part| part.to_string_lossy()).collect();
    match parts.len() {
        0..=2 => "lablib".to_string(),
        count => parts[1..count - 1].join("-"),
    }
}

/// Writes the page of a folder of sources, without their tests.
pub fn write(reports: &Path, folder: &Path) -> Result<()> {
    let mut files = Vec::new();
    collect(&paths::root().join(folder), "", &mut files)?;
    // What a folder is about stands in its first file.
    files.sort_by_key(|(name, _)| (name != "lib.rs", name.clone()));
    let list: String =
        files.iter().map(|(name, _)| format!("<li><a href=\"#{0}\">{0}</a></li>", escape(name))).collect();
    let text: String = files
        .iter()
        .map(|(name, text)| format!("<h2 id=\"{0}\">{0}</h2><pre><code>{1}</code></pre>", escape(name), escape(text)))
        .collect();
    let title = format!("The code: {}", folder.display());
    let contents = format!(
        "<nav class=\"contents\" aria-label=\"Contents\"><details open><summary>Files</summary><ol>{list}</ol></details></nav>"
    );
    let html = atlas::page(
        &title,
        "../index.html",
        &contents,
        &format!("<main id=\"main\"><h1>{}</h1>{text}</main>", escape(&title)),
    )?;
    let path = reports.join(format!("code/{}.html", name(folder)));
    paths::write_whole(&path, html).doing(format!("write {}", path.display()))
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> Result<()> {
    let doing = || format!("read the sources in {}", folder.display());
    for entry in fs::read_dir(folder).doing(doing())?.flatten() {
        let (path, name) = (entry.path(), format!("{prefix}{}", entry.file_name().to_string_lossy()));
        if path.is_dir() && name != "bin" {
            collect(&path, &format!("{name}/"), files)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).doing(doing())?;
            // Where a file's tests begin, what it does has ended.
            files.push((name, text.split("\n#[cfg(test)]\n").next().unwrap_or_default().to_string()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_path_has_its_place_on_its_crates_page() {
        for (path, place) in [
            ("lablib/sql/kv/src/lib.rs", "code/sql-kv.html#lib.rs"),
            ("lablib/lab/src/chart/bars.rs", "code/lab.html#chart/bars.rs"),
            ("lablib/lab/src", "code/lab.html"),
            ("lablib/lab/src/", "code/lab.html"),
            ("lablib/src/tour.rs", "code/lablib.html#tour.rs"),
        ] {
            assert_eq!(of(path).map(|(_, place)| place).as_deref(), Some(place), "{path}");
        }
        for path in ["lablib/nothing/src", "lablib/lab/src/nothing.rs", "lablib/lab", "notebooks/README.md", ""] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
