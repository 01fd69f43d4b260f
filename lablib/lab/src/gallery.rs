//! The figures of a run: each leaves its picture and its data beside the report.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chart::Figure;
use crate::{Doing, Result, place};

/// Where figures go, and which have gone there, since the last experiment was opened in this process.
struct Gallery {
    folder: Option<PathBuf>,
    figures: Vec<String>,
}

fn gallery() -> MutexGuard<'static, Gallery> {
    static GALLERY: Mutex<Gallery> = Mutex::new(Gallery { folder: None, figures: Vec::new() });
    GALLERY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Figures go to `folder` from now on; what an earlier run left there is removed.
pub(super) fn open(folder: PathBuf) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(&folder).doing(format!("clear {}", folder.display()))?;
    }
    *gallery() = Gallery { folder: Some(folder), figures: Vec::new() };
    Ok(())
}

/// The names of the figures so far, without extension.
pub(super) fn figures() -> Vec<String> {
    gallery().figures.clone()
}

/// Leaves a figure as SVG, PNG and CSV. Best effort: a full disk must not spoil the lesson.
pub(super) fn keep(figure: &dyn Figure) {
    let mut gallery = gallery();
    let Some(folder) = gallery.folder.clone() else { return };
    let name = format!("{:02}-{}", gallery.figures.len() + 1, place::slug(figure.title()));
    for (extension, content) in
        [("svg", figure.to_svg().into_bytes()), ("csv", figure.to_csv().into_bytes()), ("png", figure.to_png())]
    {
        if let Err(error) = place::write_whole(&folder.join(format!("{name}.{extension}")), content) {
            eprintln!("could not keep the figure {name}.{extension}: {error}");
        }
    }
    gallery.figures.push(name);
}
