//! Whether this kernel still runs the sources that are on disk.

use std::path::{Path, PathBuf};

use crate::place;

/// The file name of the library that notebook cells link against.
pub const LIBRARY: &str = "liblablib_kernel.so";

/// The file beside that library with the fingerprint of the sources that it was built from.
pub const BUILT_FROM: &str = "built-from";

/// A fingerprint of all of lablib's sources below `root`.
pub fn fingerprint(root: &Path) -> String {
    let mut files = Vec::new();
    collect(&root.join("lablib/src"), &mut files);
    collect(&root.join("lablib/kernel"), &mut files);
    files.push(root.join("lablib/Cargo.toml"));
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
    (built_from != fingerprint(&place::root())).then(|| {
        "This kernel is older than the sources in lablib/src: what you changed there is not in it. \
         Run `ci/lab setup`, then restart the kernel."
            .to_string()
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
            collect(&path, files);
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
        let source = root.join("lablib/src/room/system.rs");
        std::fs::create_dir_all(source.parent().unwrap()).unwrap();
        std::fs::write(&source, "one").unwrap();
        let first = fingerprint(&root);
        assert_eq!(first, fingerprint(&root));
        std::fs::write(&source, "two").unwrap();
        let second = fingerprint(&root);
        std::fs::write(root.join("lablib/src/new.rs"), "").unwrap();
        let third = fingerprint(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(first != second && second != third);
    }
}
