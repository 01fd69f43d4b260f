//! Parts of a whole as areas, one level of groups.

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight};
use super::format::{Unit, count};
use super::frame::{Frame, framed};
use super::number::{Number, drawable};
use super::picture::{Area, Picture, Text};
use super::theme::{self, HEIGHT, LABEL, SMALL};
use super::tidy::{Cell, Numbers};

/// A treemap; see [`Chart::treemap`](super::Chart::treemap).
///
/// ```
/// use lab::chart::{Chart, Figure};
///
/// let chart = Chart::treemap("Indexes take more room than the rows")
///     .value("size", "MB")
///     .tile("orders", 420.0, "rows")
///     .tile("by_customer", 610.0, "indexes")
///     .tile("by_date", 220.0, "indexes");
/// assert!(chart.to_csv().contains("indexes,by_date,220"));
/// ```
#[derive(Debug, Clone)]
pub struct Treemap {
    frame: Frame,
    tiles: Vec<Tile>,
    label: String,
    unit: Unit,
}

#[derive(Debug, Clone)]
struct Tile {
    name: String,
    value: f64,
    group: String,
}

framed!(Treemap);

impl Treemap {
    pub(super) fn new(title: String) -> Self {
        Self { frame: Frame::new(title), tiles: Vec::new(), label: String::new(), unit: Unit::None }
    }

    /// What the areas measure, and its unit.
    pub fn value(mut self, label: impl Display, unit: &str) -> Self {
        self.label = label.to_string();
        self.unit = Unit::parse(unit);
        self
    }

    /// A tile; tiles of one group lie together and share a colour. An empty group is no group.
    pub fn tile(mut self, name: impl Display, value: impl Number, group: impl Display) -> Self {
        self.tiles.push(Tile { name: name.to_string(), value: value.value(), group: group.to_string() });
        self
    }

    fn usable(&self) -> impl Iterator<Item = &Tile> {
        self.tiles.iter().filter(|tile| drawable(tile.value) && tile.value > 0.0)
    }

    /// Groups in order of appearance, so that their colours stay when the values change.
    fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for tile in &self.tiles {
            if !groups.contains(&tile.group.as_str()) {
                groups.push(&tile.group);
            }
        }
        groups
    }
}

/// Areas in proportion to `values`, as square as can be (Bruls, Huizing and van Wijk); the largest first, top left.
fn squarified(values: &[f64], area: Area) -> Vec<Area> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let mut left: f64 = values.iter().sum();
    let mut free = area;
    let mut areas = vec![Area::new(area.left, area.top, area.left, area.top); values.len()];
    let mut start = 0;
    while start < order.len() && left > 0.0 {
        let short = free.width().min(free.height()).max(1e-9);
        let per_value = free.width() * free.height() / left;
        // The worst ratio of a strip along the short side.
        let worst = |strip: &[usize]| {
            let sum: f64 = strip.iter().map(|index| values[*index] * per_value).sum();
            let side = sum / short;
            strip
                .iter()
                .map(|index| values[*index] * per_value / side)
                .fold(0.0_f64, |worst, length| worst.max((side / length.max(1e-300)).max(length / side.max(1e-300))))
        };
        let mut end = start + 1;
        while end < order.len() && worst(&order[start..=end]) <= worst(&order[start..end]) {
            end += 1;
        }
        let sum: f64 = order[start..end].iter().map(|index| values[*index]).sum();
        let share = (sum / left).clamp(0.0, 1.0);
        let upright = free.width() >= free.height();
        let strip = if upright {
            Area { right: free.left + free.width() * share, ..free }
        } else {
            Area { bottom: free.top + free.height() * share, ..free }
        };
        let mut before = 0.0;
        for index in &order[start..end] {
            let after = before + values[*index];
            let (from, to) = (before / sum, after / sum);
            areas[*index] = if upright {
                Area { top: strip.top + strip.height() * from, bottom: strip.top + strip.height() * to, ..strip }
            } else {
                Area { left: strip.left + strip.width() * from, right: strip.left + strip.width() * to, ..strip }
            };
            before = after;
        }
        free = if upright { Area { left: strip.right, ..free } } else { Area { top: strip.bottom, ..free } };
        left -= sum;
        start = end;
    }
    areas
}

impl Figure for Treemap {
    figure!(Treemap);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["group", "name", "value"]);
        for tile in &self.tiles {
            let group = if tile.group.is_empty() { Cell::Empty } else { (&tile.group).into() };
            numbers.row([group, (&tile.name).into(), tile.value.into()]);
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        let missing = self.tiles.len() - self.usable().count();
        let mut left_out = Vec::new();
        if missing > 0 {
            left_out.push(format!("{} without a value above zero left out.", count(missing, "tile", "tiles")));
        }
        let mut page = self.frame.page(width, self.frame.height(HEIGHT), &[], &left_out);
        // Scaled to the largest, because a sum of very large values overflows.
        let most = self.usable().map(|tile| tile.value).fold(0.0, f64::max);
        let total: f64 = self.usable().map(|tile| tile.value / most).sum();
        let names = self.groups();
        let groups: Vec<(usize, &str, Vec<&Tile>)> = names
            .iter()
            .enumerate()
            .map(|(index, group)| (index, *group, self.usable().filter(|tile| tile.group == *group).collect()))
            .filter(|(_, _, tiles): &(usize, &str, Vec<&Tile>)| !tiles.is_empty())
            .collect();
        let sums: Vec<f64> =
            groups.iter().map(|(_, _, tiles)| tiles.iter().map(|tile| tile.value / most).sum()).collect();
        for ((colour, group, tiles), area) in groups.iter().zip(squarified(&sums, page.body)) {
            let colour = theme::series(*colour);
            let named = !group.is_empty() && area.height() > 40.0 && area.width() > 44.0;
            let inner = Area {
                top: area.top + if named { 20.0 } else { 0.0 },
                right: area.right - 3.0,
                bottom: area.bottom - 3.0,
                ..area
            };
            if named {
                let sum: f64 = tiles.iter().map(|tile| tile.value / most).sum();
                let share = Unit::Percent.show(100.0 * sum / total);
                let name = font::fit(group, inner.width(), LABEL, Weight::SemiBold);
                let room = inner.width() - font::width(&name, LABEL, Weight::SemiBold) - 8.0;
                let name = Text::new((inner.left, area.top + 14.0), name, LABEL, theme::legible(colour)).bold();
                let after = inner.left + name.width() + 7.0;
                page.picture.text(name);
                if font::width(&share, SMALL, Weight::Regular) <= room {
                    page.picture.text(Text::new((after, area.top + 14.0), share, SMALL, theme::FAINT));
                }
            }
            let values: Vec<f64> = tiles.iter().map(|tile| tile.value / most).collect();
            let largest = values.iter().fold(0.0_f64, |a, b| a.max(*b));
            for ((tile, value), area) in tiles.iter().zip(&values).zip(squarified(&values, inner)) {
                // Within a group the larger tile is a little stronger, so that neighbours differ.
                let shade = theme::tint(colour, 0.42 + 0.38 * (value / largest).sqrt());
                self.draw_tile(&mut page.picture, tile, area, shade, value / total);
            }
        }
        if groups.is_empty() {
            page.empty(page.body);
        }
        page.picture
    }
}

impl Treemap {
    fn draw_tile(&self, picture: &mut Picture, tile: &Tile, area: Area, colour: theme::Colour, share: f64) {
        let gap = if area.width().min(area.height()) > 6.0 { 1.0 } else { 0.25 };
        let cell = Area { right: area.right - gap, bottom: area.bottom - gap, ..area };
        let value = self.unit.show_with_unit(tile.value);
        let what = format!("{} {value}", self.label);
        let hint = format!("{}: {}, {}", tile.name, what.trim_start(), Unit::Percent.show(100.0 * share));
        picture.rectangle(cell, 1.5, colour).hint(hint);
        let ink = theme::text_on(colour);
        let (room, high) = (cell.width() - 10.0, cell.height());
        let rows = ((high - 8.0) / 15.0).floor().clamp(0.0, 3.0) as usize;
        let Some((lines, size, weight)) = [(LABEL, Weight::SemiBold), (SMALL, Weight::Regular)]
            .into_iter()
            .find_map(|(size, weight)| broken(&tile.name, room, size, weight, rows).map(|lines| (lines, size, weight)))
            .or_else(|| {
                // The start of a name, as long as it can still be told from others.
                let start = font::fit(&tile.name, room, SMALL, Weight::Regular).replace(font::CUT, "");
                (rows > 0 && start.chars().count() > 5).then(|| (vec![start], SMALL, Weight::Regular))
            })
        else {
            return;
        };
        let low = high < 28.0;
        let mut y = if low { cell.top + high / 2.0 + size * font::CAPITAL / 2.0 } else { cell.top + 17.0 };
        for line in lines {
            let text = Text::new((cell.left + 5.0, y), line, size, ink);
            picture.text(Text { weight, ..text });
            y += 15.0;
        }
        if y + 4.0 <= cell.bottom && font::width(&value, SMALL, Weight::Regular) <= room {
            picture.text(Text::new((cell.left + 5.0, y), value, SMALL, ink));
        }
    }
}

/// A name on a few lines, broken after a space, dot, dash, slash or underscore; `None` if that is not enough.
fn broken(name: &str, room: f64, size: f64, weight: Weight, rows: usize) -> Option<Vec<String>> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split_inclusive([' ', '.', '-', '_', '/', ':']) {
        let longer = lines.last().map(|line| format!("{line}{part}"));
        match (longer, lines.last_mut()) {
            (Some(longer), Some(line)) if font::width(longer.trim_end(), size, weight) <= room => *line = longer,
            _ => lines.push(part.to_string()),
        }
    }
    let fits = lines.iter().all(|line| font::width(line.trim_end(), size, weight) <= room);
    (fits && (1..=rows).contains(&lines.len())).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_in_proportion_and_do_not_overlap() {
        let values = [6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0];
        let whole = Area::new(0.0, 0.0, 600.0, 400.0);
        let areas = squarified(&values, whole);
        for (value, area) in values.iter().zip(&areas) {
            assert!((area.width() * area.height() - value * 10_000.0).abs() < 1e-6, "{area:?}");
            assert!(whole.grown(1e-9).contains(area));
        }
        for (index, area) in areas.iter().enumerate() {
            assert!(areas[..index].iter().all(|other| !other.grown(-1e-6).overlaps(&area.grown(-1e-6))));
        }
    }

    #[test]
    fn tiles_are_squarish() {
        let areas = squarified(&[1.0; 12], Area::new(0.0, 0.0, 700.0, 400.0));
        assert!(areas.iter().all(|a| (0.4..2.5).contains(&(a.width() / a.height()))), "{areas:?}");
    }
}
