//! Where the lab keeps what it writes: everything under the clone's `target/`.

use std::path::{Path, PathBuf};

/// The clone that this library was built from, or `LAB_ROOT`.
pub fn root() -> PathBuf {
    match std::env::var_os("LAB_ROOT") {
        Some(root) if !root.is_empty() => PathBuf::from(root),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default(),
    }
}

/// Where results and reports go: the clone's `target`, or `LAB_OUT`.
fn out() -> PathBuf {
    match std::env::var_os("LAB_OUT") {
        Some(out) if !out.is_empty() => PathBuf::from(out),
        _ => root().join("target"),
    }
}

/// `target/results`: one verdict per experiment.
pub fn results() -> PathBuf {
    out().join("results")
}

/// `target/reports`: one page per notebook, and each chart's picture and data.
pub fn reports() -> PathBuf {
    out().join("reports")
}

/// Writes a file so that a reader sees the old content or the new, never a part.
pub fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    std::fs::write(&part, content)?;
    std::fs::rename(&part, path)
}

/// Removes what those have left in a folder who died before they could: each entry's name begins with its owner's process id.
pub fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_string_lossy().split('-').next().and_then(|number| number.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A title as a file name: lower case, words joined by dashes.
pub fn slug(title: &str) -> String {
    let mut slug = String::new();
    for character in title.chars().flat_map(char::to_lowercase) {
        if character.is_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let end = slug.char_indices().nth(60).map_or(slug.len(), |(index, _)| index);
    slug[..end].trim_matches('-').to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{slug, sweep};

    #[test]
    fn what_the_dead_have_left_is_removed_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("lab-sweep-{}", std::process::id()));
        // No process has a number above the largest that Linux allows.
        let entries = [format!("{}-a", std::process::id()), "4194305-b".into(), "4194305".into(), "kept".into()];
        entries.iter().for_each(|name| std::fs::create_dir_all(folder.join(name)).unwrap());
        sweep(&folder);
        assert_eq!(entries.map(|name| folder.join(name).exists()), [true, false, false, true]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_title_becomes_a_plain_file_name() {
        assert_eq!(slug("Five per cent of the shards die; 5 % move!"), "five-per-cent-of-the-shards-die-5-move");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        assert_eq!(slug("…"), "");
        assert!(slug(&"long ".repeat(60)).len() <= 60);
    }
}
