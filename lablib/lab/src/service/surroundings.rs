//! What servers need from this machine: a place for their files, the programs that they are, an environment that decides nothing.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result, freshness, paths};

/// Everything that runs keeps its files below this directory. Absolute, because the guardian lives elsewhere.
pub(super) fn lab_directory() -> PathBuf {
    let directory = paths::root().join("target/lab");
    std::path::absolute(&directory).unwrap_or(directory)
}

/// What set-up fetched or built: `LAB_CACHE`, by default `~/.cache/system-design-lab`, as `ci/lab` has it.
pub(super) fn cache() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let shared = || set("XDG_CACHE_HOME").unwrap_or_else(|| set("HOME").unwrap_or_default().join(".cache"));
    set("LAB_CACHE").unwrap_or_else(|| shared().join("system-design-lab"))
}

/// The `lab` binary, which holds the guardian: `LAB_BIN`, else beside this program or one folder up (tests run in
/// `target/release/deps`), else where this library's own build puts it (a notebook's program is evcxr's).
pub(super) fn lab_binary() -> Result<PathBuf> {
    let failure = |cause: String| Error::new("find the lab's own program", cause);
    if let Some(named) = std::env::var_os("LAB_BIN").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        return match is_program(&named) {
            true => Ok(named),
            false => Err(failure(format!("LAB_BIN names {}, which is no program", named.display()))
                .remedy("unset LAB_BIN, or set it to the `lab` that cargo built")),
        };
    }
    let own = std::env::current_exe().unwrap_or_default();
    let baked = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/release/lab"));
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("lab"));
    let found = beside.chain([baked.to_path_buf()]).find(|candidate| is_program(candidate) && *candidate != own);
    let found = found.ok_or_else(|| {
        failure(format!("there is none at {}", baked.display())).remedy("run `ci/lab setup`, or set LAB_BIN")
    })?;
    // A room's tests are built without this program, and would prove what it was before the last edit.
    match freshness::newer_than(&found, &paths::root()) {
        Some(source) => Err(failure(format!("{} is older than {}", found.display(), source.display()))
            .remedy("run `cargo build --release`, or set LAB_BIN")),
        None => Ok(found),
    }
}

/// A program by name: on `PATH`, or where set-up has put it. Servers hide in the `sbin` beside a `bin`, which an ordinary user's
/// `PATH` leaves out.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let fetched = cache().join("bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_program_on(&path, name).or_else(|| is_program(&fetched).then_some(fetched))
}

fn find_program_on(path: &OsStr, name: &str) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(path).filter(|folder| folder.is_absolute()).collect();
    let siblings = folders.iter().filter(|folder| folder.ends_with("bin")).map(|folder| folder.with_file_name("sbin"));
    folders.iter().cloned().chain(siblings).map(|folder| folder.join(name)).find(|candidate| is_program(candidate))
}

/// Whether this is a file that may be executed.
pub(super) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The only environment that a server sees: what a program needs to run at all, and nothing that could configure it.
pub(super) fn plain_environment(directory: &Path) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    [("PATH", path), ("HOME", directory.display().to_string()), ("LANG", "C.UTF-8".into()), ("TZ", "UTC".into())]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_program_is_found_on_the_path_and_in_the_sbin_beside_it() {
        let root = std::env::temp_dir().join(format!("lab-surroundings-{}", std::process::id()));
        program(&root.join("bin/client"));
        program(&root.join("sbin/server"));
        std::fs::write(root.join("bin/notes"), "").unwrap();
        let path = root.join("bin").into_os_string();
        assert_eq!(find_program_on(&path, "client"), Some(root.join("bin/client")));
        assert_eq!(find_program_on(&path, "server"), Some(root.join("sbin/server")));
        assert_eq!(find_program_on(&path, "notes"), None, "a file that may not be executed is no program");
        assert_eq!(find_program_on(OsStr::new(""), "client"), None);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_server_sees_no_environment_that_could_configure_it() {
        let names: Vec<String> = plain_environment(Path::new("/x")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "HOME", "LANG", "TZ"]);
    }
}
