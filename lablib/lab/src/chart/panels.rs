//! Several charts as one.

use std::rc::Rc;

use super::Figure;
use super::picture::{Area, Picture};
use super::theme::{PAPER, WIDTH};
use super::tidy::Numbers;

/// Side by side, each chart is narrower than alone, and the whole a little wider than one.
const ROW: f64 = 980.0;

/// Several charts as one; see [`Chart::side_by_side`](super::Chart::side_by_side).
#[derive(Clone)]
pub struct Panels {
    title: String,
    charts: Vec<Rc<dyn Figure>>,
    picture: Picture,
}

/// Where the parts no longer stand side by side.
const TOO_NARROW: f64 = 560.0;

impl Panels {
    pub(super) fn side_by_side(charts: &[&dyn Figure]) -> Self {
        let count = charts.len().max(1) as f64;
        // Below this width a chart's labels leave no room for its data.
        let each = (ROW / count).max(300.0);
        let pictures: Vec<Picture> = charts.iter().map(|chart| chart.draw(each)).collect();
        // What keeps its own width gets it.
        let each = pictures.iter().map(|picture| picture.width).fold(each, f64::max);
        let mut page = Picture::new(each * count, pictures.iter().map(|picture| picture.height).fold(20.0, f64::max));
        page.rectangle(Area::new(0.0, 0.0, page.width, page.height), 0.0, PAPER);
        for (index, picture) in pictures.into_iter().enumerate() {
            page.place(picture, (each * index as f64, 0.0));
        }
        Self::new(charts, page)
    }

    pub(super) fn above(charts: &[&dyn Figure]) -> Self {
        let width = charts.iter().map(|chart| chart.width()).fold(0.0, f64::max);
        let page = stacked(charts, if width > 0.0 { width } else { WIDTH });
        Self::new(charts, page)
    }

    fn new(charts: &[&dyn Figure], picture: Picture) -> Self {
        let titles: Vec<&str> = charts.iter().map(|chart| chart.title()).collect();
        Self { title: titles.join(" · "), charts: charts.iter().map(|chart| chart.shared()).collect(), picture }
    }

    fn numbers_of(&self, numbers: impl Fn(&dyn Figure) -> Numbers) -> Numbers {
        let parts: Vec<_> = self.charts.iter().map(|chart| (chart.title().to_string(), numbers(&**chart))).collect();
        Numbers::stacked(&parts)
    }

    /// A title for the whole, for screen readers and the report's list of charts; by default those of its parts.
    pub fn titled(mut self, title: impl std::fmt::Display) -> Self {
        self.title = title.to_string();
        self
    }
}

fn stacked(charts: &[&dyn Figure], width: f64) -> Picture {
    let pictures: Vec<Picture> = charts.iter().map(|chart| chart.draw(width)).collect();
    let width = pictures.iter().map(|picture| picture.width).fold(width, f64::max);
    let height: f64 = pictures.iter().map(|picture| picture.height).sum();
    let mut page = Picture::new(width, height.max(20.0));
    page.rectangle(Area::new(0.0, 0.0, page.width, page.height), 0.0, PAPER);
    let mut top = 0.0;
    for picture in pictures {
        let next = top + picture.height;
        page.place(picture, (0.0, top));
        top = next;
    }
    page
}

impl Figure for Panels {
    fn title(&self) -> &str {
        &self.title
    }

    fn subtitle_text(&self) -> &str {
        ""
    }

    fn numbers(&self) -> Numbers {
        self.numbers_of(|chart| chart.numbers())
    }

    fn summary(&self) -> Numbers {
        self.numbers_of(|chart| chart.summary())
    }

    fn width(&self) -> f64 {
        self.picture.width
    }

    /// Panels keep the width for which they were drawn, or stand below each other where a page is too narrow for that.
    fn draw(&self, width: f64) -> Picture {
        if width >= TOO_NARROW.min(self.picture.width) {
            return self.picture.clone();
        }
        stacked(&self.charts.iter().map(|chart| &**chart).collect::<Vec<_>>(), width)
    }

    fn shared(&self) -> Rc<dyn Figure> {
        Rc::new(self.clone())
    }
}
