//! Whether this kernel still runs the sources that are on disk, and how it was compiled.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::{paths, random};

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
    let mut files = sources(root);
    files.extend(["Cargo.toml", "Cargo.lock"].map(|file| root.join(file)));
    files.sort();
    fingerprint_of(files.iter().flat_map(|file| {
        let name = file.to_string_lossy().into_owned().into_bytes();
        name.into_iter().chain([0]).chain(std::fs::read(file).unwrap_or_default())
    }))
}

/// A name for these bytes, the same on every machine: for telling versions apart, where nobody means harm.
pub fn fingerprint_of(bytes: impl IntoIterator<Item = u8>) -> String {
    format!("{:016x}", random::fnv_1a(bytes.into_iter()))
}

/// A source below `root` that was changed after this program, the `lab` binary, was built. Manifests say nothing about its age
/// (cargo builds anew when their meaning changes, not their date), and the kernel's own crate is no part of it.
pub(crate) fn newer_than(program: &Path, root: &Path) -> Option<PathBuf> {
    let age = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let built = age(program)?;
    let kernel = root.join("lablib/kernel");
    sources(root).into_iter().find(|file| {
        file.extension() == Some(OsStr::new("rs"))
            && !file.starts_with(&kernel)
            && age(file).is_some_and(|changed| changed > built)
    })
}

/// One sentence, where this kernel was built from other sources than those on disk.
pub(crate) fn warning() -> Option<String> {
    let built_from = std::fs::read_to_string(own_folder()?.join(BUILT_FROM)).ok()?;
    if built_from == fingerprint(&paths::root()) {
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

/// The files of all rooms below `root` that a kernel is built from.
fn sources(root: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root.join("lablib")], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                false => files.push(path),
                true if APART.iter().any(|name| path.ends_with(name)) => {}
                true => folders.push(path),
            }
        }
    }
    files
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, SystemTime};

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
    #[test]
    fn a_program_is_older_than_what_it_is_built_from_and_nothing_else() {
        let root = std::env::temp_dir().join(format!("lab-older-{}", std::process::id()));
        let minute = |minute: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(60 * minute);
        let write = |name: &str, changed: u64| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::File::create(&path).unwrap().set_modified(minute(changed)).unwrap();
            path
        };
        let program = write("target/release/lab", 2);
        write("lablib/room/src/old.rs", 1);
        for apart in
            ["room/tests/t.rs", "room/benches/b.rs", "models/src/lib.rs", "kernel/src/lib.rs", "room/Cargo.toml"]
        {
            write(&format!("lablib/{apart}"), 3);
        }
        assert_eq!(newer_than(&program, &root), None);
        let source = write("lablib/src/bin/lab/kernel.rs", 3);
        assert_eq!(newer_than(&program, &root), Some(source));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_fingerprint_is_fnv_1a() {
        // From the vectors of its authors.
        assert_eq!(fingerprint_of(*b""), "cbf29ce484222325");
        assert_eq!(fingerprint_of(*b"foobar"), "85944171f73967e8");
    }
}
