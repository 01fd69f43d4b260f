//! Where lablib is compiled incrementally: `target/explore`, beside the artifacts that everything else stands on.
//!
//! Compiling there in `target/release` would throw away what tests, benches and reports share, and take it back afterwards. What
//! others wrote is the same for both, and linked rather than compiled a second time.

use std::fs;
use std::path::Path;

use lablib::lab::{Doing, Result, paths};

/// rustc keeps the last state of each crate and drops the one before; what is beyond this is of crates that are no more.
const MOST_BYTES: u64 = 6 << 30;

/// Makes the folder ready to be built in: of this compiler and these dependencies, and not too large.
pub fn prepare(root: &Path, compiler: &str) -> Result<()> {
    let (shared, own) = (root.join("target/release"), root.join("target/explore/release"));
    let doing = format!("prepare {}", own.display());
    let lock = fs::read_to_string(root.join("Cargo.lock")).doing(doing.as_str())?;
    let manifest = fs::read_to_string(root.join("Cargo.toml")).doing(doing.as_str())?;
    let made_for = [compiler, &manifest, &lock].join("\n");
    let mark = own.join("made-for");
    if fs::read_to_string(&mark).is_ok_and(|text| text == made_for) {
        let states = own.join("incremental");
        if bytes_below(&states) > MOST_BYTES {
            fs::remove_dir_all(&states).doing(doing)?;
        }
        return Ok(());
    }
    let _ = fs::remove_dir_all(&own);
    let ours = rooms(root).doing(doing.as_str())?;
    let link = |from: &Path, to: &Path| fs::hard_link(from, to);
    // Cargo writes over these files where they lie, so they cannot be shared; their age says whether they are up to date.
    let copy = |from: &Path, to: &Path| {
        fs::copy(from, to)?;
        fs::File::options().write(true).open(to)?.set_modified(from.metadata()?.modified()?)
    };
    for (part, give) in [("build", &link as Give<'_>), ("deps", &link), (".fingerprint", &copy)] {
        fs::create_dir_all(own.join(part)).doing(doing.as_str())?;
        for entry in fs::read_dir(shared.join(part)).doing(doing.as_str())? {
            let entry = entry.doing(doing.as_str())?;
            if !is_of(&ours, &entry.file_name().to_string_lossy()) {
                give_all(&entry.path(), &own.join(part).join(entry.file_name()), give).doing(doing.as_str())?;
            }
        }
    }
    paths::write_whole(&mark, made_for).doing(doing)
}

type Give<'a> = &'a dyn Fn(&Path, &Path) -> std::io::Result<()>;

fn give_all(from: &Path, to: &Path, give: Give<'_>) -> std::io::Result<()> {
    if !from.is_dir() {
        return give(from, to);
    }
    fs::create_dir_all(to)?;
    fs::read_dir(from)?.try_for_each(|entry| {
        let entry = entry?;
        give_all(&entry.path(), &to.join(entry.file_name()), give)
    })
}

/// The names of our crates: those of their folders, and what bears the name of lablib.
fn rooms(root: &Path) -> std::io::Result<Vec<String>> {
    let mut names = ["lablib", "lablib-kernel", "lablib-models"].map(String::from).to_vec();
    let mut folders = vec![root.join("lablib")];
    while let Some(folder) = folders.pop() {
        // A room may be a folder of crates.
        for crate_folder in fs::read_dir(folder)?.flatten().map(|entry| entry.path()) {
            if crate_folder.join("Cargo.toml").exists() {
                names.extend(crate_folder.file_name().map(|name| name.to_string_lossy().into_owned()));
                folders.push(crate_folder);
            }
        }
    }
    Ok(names)
}

/// Whether cargo gave this name, `libsql-0123456789abcdef.rlib` or the like, to something of these crates.
fn is_of(crates: &[String], name: &str) -> bool {
    let Some((name, _hash)) = name.rsplit_once('-') else { return false };
    // A file has `_` where the crate's name has `-`.
    crates.iter().any(|ours| name == ours || name.strip_prefix("lib") == Some(&ours.replace('-', "_")))
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
        _ => entry.metadata().map_or(0, |file| file.len()),
    };
    entries.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::{is_of, paths, rooms};

    #[test]
    fn a_room_may_be_a_folder_of_crates() {
        let ours = rooms(&paths::root()).unwrap_or_default();
        for name in ["lab", "sql", "pool", "check_in", "lablib", "workspace-hack"] {
            assert!(ours.iter().any(|known| known == name), "{name} is not among {ours:?}");
        }
    }

    #[test]
    fn what_cargo_builds_of_ours_is_told_from_what_others_wrote() {
        let ours = ["lab", "sql", "lablib", "workspace-hack"].map(String::from);
        for name in [
            "lab-0123456789abcdef",
            "liblab-0123456789abcdef.rlib",
            "lablib-0123456789abcdef",
            "libworkspace_hack-01.rlib",
        ] {
            assert!(is_of(&ours, name), "{name}");
        }
        for name in ["liblabel-01.rlib", "mysql-01", "libmysql-01.rmeta", "sql-parser-01", "lab", "libc-01"] {
            assert!(!is_of(&ours, name), "{name}");
        }
    }
}
