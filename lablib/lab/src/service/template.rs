//! Data directories that are expensive to make are made once, and copied for each server.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::surroundings;
use crate::{Doing, Result};

/// The directory of the template `name`, made by `make` when it isn't there yet.
///
/// Only one process makes it while the others wait; it appears under its name whole and on disk, or not at all.
pub(super) fn template(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    template_in(&surroundings::lab_directory().join("templates"), name, make)
}

fn template_in(folder: &Path, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let finished = folder.join(name);
    if finished.is_dir() {
        return Ok(finished);
    }
    let doing = || format!("make {}", folder.display());
    fs::create_dir_all(folder).doing(doing())?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(format!("{name}.lock")));
    let lock = lock.doing(doing())?;
    lock.lock().doing(doing())?;
    if finished.is_dir() {
        return Ok(finished);
    }
    let unfinished = format!("{name}.making-");
    for entry in fs::read_dir(folder).doing(doing())?.flatten() {
        // Whoever left these behind has lost the lock, so it is dead.
        if entry.file_name().to_string_lossy().starts_with(&unfinished) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let making = folder.join(format!("{unfinished}{:08x}", rand::random::<u32>()));
    fs::create_dir(&making).doing(doing())?;
    let made = make(&making)
        .and_then(|()| sync_tree(&making).doing(doing()))
        .and_then(|()| fs::rename(&making, &finished).doing(doing()))
        .and_then(|()| File::open(folder).and_then(|folder| folder.sync_all()).doing(doing()));
    if made.is_err() {
        let _ = fs::remove_dir_all(&making);
    }
    made.map(|()| finished)
}

/// A short name for everything that a template depends on.
pub(super) fn fingerprint(parts: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn sync_tree(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Copies a folder with everything in it; runs of zeros, most of a fresh redo log, become holes.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    copy_folder(from, to).doing(format!("copy {} to {}", from.display(), to.display()))
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            copy_sparse(&entry.path(), &target)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

fn copy_sparse(from: &Path, to: &Path) -> std::io::Result<()> {
    const BLOCK: usize = 1 << 16;
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().create_new(true).write(true).open(to)?;
    let mut block = vec![0_u8; BLOCK];
    let mut length = 0_u64;
    loop {
        let read = source.read(&mut block)?;
        let Some(bytes) = block.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(length))?;
            target.write_all(bytes)?;
        }
        length += read as u64;
    }
    target.set_len(length)?;
    target.set_permissions(source.metadata()?.permissions())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::Error;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lab-template-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn many_at_once_make_it_once_and_all_get_it_whole() {
        let folder = scratch("once");
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = template_in(&folder, "data", |path| {
                        made.fetch_add(1, Ordering::SeqCst);
                        fs::write(path.join("a"), "first").doing("write")?;
                        std::thread::yield_now();
                        fs::write(path.join("b"), "second").doing("write")
                    });
                    assert_eq!(fs::read_to_string(path.unwrap().join("b")).unwrap(), "second");
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_half_made_template_is_never_used_and_swept_by_the_next_maker() {
        let folder = scratch("half");
        let failed = template_in(&folder, "data", |path| {
            fs::write(path.join("a"), "half").doing("write")?;
            Err(Error::new("make it", "the power went"))
        });
        assert!(failed.is_err());
        assert!(!folder.join("data").exists());
        fs::create_dir(folder.join("data.making-killed")).unwrap();
        let path = template_in(&folder, "data", |path| fs::write(path.join("a"), "whole").doing("write")).unwrap();
        assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "whole");
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["data", "data.lock"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_copy_equals_its_source_and_zeros_take_no_room() {
        let folder = scratch("copy");
        let from = folder.join("from");
        fs::create_dir_all(from.join("deep/er")).unwrap();
        let mut log = vec![0_u8; 8 << 20];
        log[5_000_000] = 7;
        fs::write(from.join("log"), &log).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        fs::write(from.join("deep/er/odd"), vec![3_u8; 70_001]).unwrap();
        fs::write(from.join("zeros"), vec![0_u8; 100_001]).unwrap();
        fs::set_permissions(from.join("log"), fs::Permissions::from_mode(0o640)).unwrap();
        let to = folder.join("to");
        copy_tree(&from, &to).unwrap();
        for file in ["log", "empty", "deep/er/odd", "zeros"] {
            assert_eq!(fs::read(from.join(file)).unwrap(), fs::read(to.join(file)).unwrap(), "{file}");
        }
        let copied = fs::metadata(to.join("log")).unwrap();
        assert_eq!(copied.permissions().mode() & 0o777, 0o640);
        assert!(copied.blocks() * 512 < 1 << 20, "{} bytes on disk", copied.blocks() * 512);
        assert!(copy_tree(&from, &to).is_err(), "a copy never mixes with what was there");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_fingerprint_tells_settings_apart() {
        assert_eq!(fingerprint(["a", "b"]), fingerprint(["a", "b"]));
        assert_ne!(fingerprint(["a", "b"]), fingerprint(["ab", ""]));
    }
}
