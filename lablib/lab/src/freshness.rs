//! Whether this kernel still runs the sources that are on disk, and how it was compiled.

use std::path::{Path, PathBuf};

use crate::place;

/// The file name of the library that notebook cells link against.
pub const LIBRARY: &str = "liblablib_kernel.so";

/// The file beside that library with the fingerprint of the sources that it was built from.
pub const BUILT_FROM: &str = "built-from";

/// Whether this was compiled incrementally: an edit then costs seconds, but the code falls into smaller units, and the smallest
/// paths take up to twice as long. For exploring; no verdict stands on it.
pub const EXPLORING: bool = match option_env!("LAB_EXPLORING") {
    Some(value) => matches!(value.as_bytes(), b"1"),
    None => false,
};

/// Set for a kernel that runs older sources than those on disk, because these do not compile: what the compiler says.
pub const DOES_NOT_COMPILE: &str = "LAB_DOES_NOT_COMPILE";

/// What of lablib a kernel is not built from.
const APART: [&str; 3] = ["tests", "benches", "models"];

/// A fingerprint of the sources of all rooms below `root`.
pub fn fingerprint(root: &Path) -> String {
    let mut files = Vec::new();
    collect(&root.join("lablib"), &mut files);
    files.push(root.join("Cargo.toml"));
    files.push(root.join("Cargo.lock"));
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let name = file.to_string_lossy().into_owned();
        for byte in name.bytes().chain([0]).chain(std::fs::read(&file).unwrap_or_default()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// One sentence, where this kernel was built from other sources than those on disk.
pub(crate) fn warning() -> Option<String> {
    let built_from = std::fs::read_to_string(own_folder()?.join(BUILT_FROM)).ok()?;
    if built_from == fingerprint(&place::root()) {
        return None;
    }
    let older = "This kernel is older than the sources in lablib: what you changed there is not in it";
    Some(match std::env::var(DOES_NOT_COMPILE) {
        Ok(error) if !error.is_empty() => format!("{older}, because it does not compile. {error}"),
        _ => format!("{older}. Restart the kernel."),
    })
}

/// The folder of the library that this process runs, where it is a notebook kernel's.
fn own_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    path.filter(|path| path.ends_with(LIBRARY)).find_map(Path::parent).map(Path::to_path_buf)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !APART.iter().any(|name| path.ends_with(name)) {
                collect(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_change_of_any_source_changes_the_fingerprint() {
        let root = std::env::temp_dir().join(format!("lab-freshness-{}", std::process::id()));
        let source = root.join("lablib/room/src/system.rs");
        std::fs::create_dir_all(source.parent().unwrap()).unwrap();
        std::fs::write(&source, "one").unwrap();
        let first = fingerprint(&root);
        assert_eq!(first, fingerprint(&root));
        std::fs::write(&source, "two").unwrap();
        let second = fingerprint(&root);
        std::fs::write(root.join("lablib/room/src/new.rs"), "").unwrap();
        let third = fingerprint(&root);
        std::fs::create_dir_all(root.join("lablib/room/tests")).unwrap();
        std::fs::write(root.join("lablib/room/tests/system.rs"), "").unwrap();
        let fourth = fingerprint(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(first != second && second != third);
        assert_eq!(third, fourth, "a kernel is not built from tests");
    }
}
