//! How lines, points, bands and their names come onto the page.

use super::super::font::{self, Weight, wrap};
use super::super::frame::{Page, Plot, Swatch, Upright, uprights_height};
use super::super::labels::{Crowd, spread_out};
use super::super::number::Spread;
use super::super::picture::{Anchor, Area, Fill, Picture, Stroke, Text, crisp};
use super::super::theme::{self, Colour, HEIGHT, LABEL, PAPER};
use super::{Lines, Look, Mark, Series, sampled};

/// A series on the page.
struct Drawn {
    points: Vec<(f64, f64)>,
    colour: Colour,
}

impl Lines {
    pub(super) fn drawn(&self, width: f64) -> Picture {
        let (x, y) = self.scales();
        let left_out = self.small_print(x, y);
        let height = self.frame.height(HEIGHT);
        let room = (width * 0.25).min(190.0);
        let labels = self.end_labels(room);
        let tallest: f64 = labels.iter().map(|lines| lines.len() as f64 * LABEL * 1.2 + 3.0).sum();
        // Direct labels as long as they take less than the plot's height; a key otherwise.
        let direct = tallest < (height - 150.0).max(0.0);
        let key = if direct { Vec::new() } else { self.key() };
        let gutter = if direct {
            let widest = labels.iter().flatten().map(|line| font::width(line, LABEL, Weight::SemiBold));
            let widest = widest.fold(0.0, f64::max);
            if widest > 0.0 { widest + 14.0 } else { 0.0 }
        } else {
            0.0
        };
        let mut page = self.frame.page(width, height, &key, &left_out);
        let uprights = self.marks.iter().filter_map(|mark| match mark {
            Mark::X(name, at) if x.covers(*at) => Some((name, *at)),
            _ => None,
        });
        let uprights: Vec<(&String, f64)> = uprights.collect();
        let band = uprights_height(uprights.len());
        let mut frame = self.frame.clone();
        frame.x.doubling = self.is_doubling();
        let plot = page.plot(&frame, x, y, gutter, band);
        let drawn: Vec<Drawn> = (0..self.series.len()).map(|index| self.place(index, &plot)).collect();
        let uprights = uprights.into_iter().map(|(name, at)| Upright::reference(plot.place_x(at), name));
        page.uprights(&uprights.collect::<Vec<_>>(), plot.area, 3);
        self.draw_spreads(&mut page, &plot);
        for mark in &self.marks {
            if let Mark::Y(_, at) = mark
                && y.covers(*at)
            {
                let at = crisp(plot.place_y(*at));
                page.picture.line((plot.area.left, at), (plot.area.right, at), Stroke::reference());
            }
        }
        let mut crowd = Crowd::default();
        for mark in &self.marks {
            match mark {
                Mark::Y(_, at) if y.covers(*at) => {
                    crowd.add_line(&[plot.place(x.low, *at), plot.place(x.high, *at)]);
                }
                Mark::X(_, at) if x.covers(*at) => {
                    crowd.add_line(&[plot.place(*at, y.low), plot.place(*at, y.high)]);
                }
                _ => {}
            }
        }
        for (index, series) in drawn.iter().enumerate() {
            if self.series[index].look == Look::Points {
                series.points.iter().for_each(|p| crowd.add(Area::new(p.0 - 3.0, p.1 - 3.0, p.0 + 3.0, p.1 + 3.0)));
            } else {
                crowd.add_line(&series.points);
            }
            self.draw_series(&mut page, &plot, index, series);
        }
        self.draw_points_of_reference(&mut page, &plot, &mut crowd);
        if direct {
            self.draw_end_labels(&mut page, &plot, &drawn, labels, &mut crowd);
        }
        if drawn.iter().all(|series| series.points.is_empty()) {
            page.empty(plot.area);
        }
        page.picture
    }

    fn label(&self, series: &Series) -> String {
        let said = ["predict", "expect", "model", "theory", "ideal"].iter().any(|word| series.name.contains(word));
        if series.look == Look::Predicted && !said {
            format!("predicted: {}", series.name)
        } else {
            series.name.clone()
        }
    }

    /// The lines of every label in the gutter: one entry per series, then one per horizontal mark.
    fn end_labels(&self, room: f64) -> Vec<Vec<String>> {
        let marks = self.marks.iter().filter_map(|mark| match mark {
            Mark::Y(name, _) => Some(name.clone()),
            _ => None,
        });
        self.series
            .iter()
            .enumerate()
            .map(|(index, series)| {
                // A line and points of one name need one label.
                let again = self.series[..index].iter().any(|other| self.label(other) == self.label(series));
                if again { String::new() } else { self.label(series) }
            })
            .chain(marks)
            .map(|name| if name.is_empty() { Vec::new() } else { wrap(&name, room, LABEL, Weight::SemiBold, 3) })
            .collect()
    }

    fn key(&self) -> Vec<(String, Swatch)> {
        let mut key: Vec<(String, Swatch)> = Vec::new();
        for (index, series) in self.series.iter().enumerate() {
            let colour = self.colour(index);
            let swatch = match series.look {
                Look::Line => Swatch::Line(colour),
                Look::Points => Swatch::Dot(colour),
                Look::Predicted => Swatch::Dashed(colour),
            };
            let label = self.label(series);
            if !key.iter().any(|(other, _)| *other == label) {
                key.push((label, swatch));
            }
        }
        for mark in &self.marks {
            if let Mark::Y(name, _) = mark {
                key.push((name.clone(), Swatch::Dashed(theme::REFERENCE)));
            }
        }
        key
    }

    /// The series in page coordinates, without what cannot be seen.
    fn place(&self, index: usize, plot: &Plot) -> Drawn {
        let series = &self.series[index];
        let values: Vec<(f64, f64)> = match &series.formula {
            Some(formula) => sampled(formula, plot.x).into_iter().filter(|(_, y)| plot.y.kind.holds(*y)).collect(),
            None => self.drawable(series).map(|(x, spread)| (x, spread.mid)).collect(),
        };
        let points: Vec<(f64, f64)> = values.into_iter().map(|(x, y)| plot.place(x, y)).collect();
        let points = if series.look == Look::Points {
            let area = plot.area.grown(0.5);
            thinned(points.into_iter().filter(|p| area.contains(&Area::new(p.0, p.1, p.0, p.1))).collect())
        } else {
            envelope(points)
        };
        Drawn { points, colour: self.colour(index) }
    }

    fn draw_spreads(&self, page: &mut Page, plot: &Plot) {
        let inside = plot.area;
        for (index, series) in self.series.iter().enumerate() {
            let colour = self.colour(index);
            let edges = |spread: &Spread| {
                let (low, high) = (plot.place_y(spread.low), plot.place_y(spread.high));
                (low.clamp(inside.top, inside.bottom), high.clamp(inside.top, inside.bottom))
            };
            let points: Vec<(f64, Spread)> =
                self.drawable(series).filter(|(x, spread)| plot.x.covers(*x) && spread.low <= spread.high).collect();
            if !points.iter().any(|(_, spread)| spread.is_wide()) {
                continue;
            }
            if points.len() > 12 && series.look == Look::Line {
                let upper = points.iter().map(|(x, spread)| (plot.place_x(*x), edges(spread).1));
                let lower = points.iter().rev().map(|(x, spread)| (plot.place_x(*x), edges(spread).0));
                page.picture.area(upper.chain(lower).collect(), Fill { colour, opacity: 0.16 });
                continue;
            }
            for (x, spread) in points.iter().filter(|(_, spread)| spread.is_wide()) {
                let (x, (low, high)) = (plot.place_x(*x), edges(spread));
                let stroke = Stroke::solid(theme::tint(colour, 0.6), 1.5);
                page.picture.line((x, low), (x, high), stroke);
                page.picture.line((x - 3.5, low), (x + 3.5, low), stroke);
                page.picture.line((x - 3.5, high), (x + 3.5, high), stroke);
            }
        }
    }

    fn draw_series(&self, page: &mut Page, plot: &Plot, index: usize, drawn: &Drawn) {
        let series = &self.series[index];
        let area = plot.area.grown(1.0);
        match series.look {
            Look::Predicted => {
                page.picture.clipped(&drawn.points, area, Stroke::prediction(), &self.label(series));
            }
            Look::Line => {
                // A line through very many points is a texture; a thinner pen keeps it readable.
                let width = if series.points.len() > 400 { 1.5 } else { 2.25 };
                page.picture.clipped(&drawn.points, area, Stroke::solid(drawn.colour, width), &series.name);
            }
            Look::Points => {}
        }
        let dotted = match series.look {
            Look::Line => series.points.len() <= 30 && self.series.len() <= 8,
            Look::Points => true,
            Look::Predicted => false,
        };
        if !dotted {
            return;
        }
        let radius = match drawn.points.len() {
            0..=200 => 3.25,
            201..=2000 => 2.25,
            _ => 1.5,
        };
        if radius < 3.0 {
            for point in &drawn.points {
                page.picture.disc(*point, radius, drawn.colour);
            }
            return;
        }
        for (x, spread) in self.drawable(series).filter(|(x, s)| plot.x.covers(*x) && plot.y.covers(s.mid)) {
            let at = plot.place(x, spread.mid);
            page.picture.disc(at, radius + 1.25, PAPER);
            let mut hint = format!("{}: {}, {}", series.name, self.frame.x.say(x), self.frame.y.say(spread.mid))
                .replace("  ", " ");
            if spread.is_wide() {
                let unit = &self.frame.y.unit;
                hint.push_str(&format!(" ({} to {})", unit.show(spread.low), unit.show(spread.high)));
            }
            page.picture.disc(at, radius, drawn.colour).hint(hint);
        }
    }

    fn draw_points_of_reference(&self, page: &mut Page, plot: &Plot, crowd: &mut Crowd) {
        let mut written: Vec<Area> = Vec::new();
        for mark in &self.marks {
            let Mark::Point(name, x, y, origin) = mark else { continue };
            if !plot.x.covers(*x) || !plot.y.covers(*y) {
                continue;
            }
            let at = plot.place(*x, *y);
            let hint = format!("{name}: {}, {}", self.frame.x.say(*x), self.frame.y.say(*y));
            origin.symbol(&mut page.picture, at).hint(hint);
            crowd.add(Area::new(at.0 - 6.0, at.1 - 6.0, at.0 + 6.0, at.1 + 6.0));
            let name = font::fit(name, plot.area.width() * 0.6, theme::TICK, Weight::Regular);
            let label = |dx: f64, dy: f64, anchor: Anchor| {
                let text = Text::new((at.0 + dx, at.1 + dy), name.as_str(), theme::TICK, origin.colour());
                text.anchor(anchor).centred().halo()
            };
            let candidates = [
                label(10.0, 0.0, Anchor::Start),
                label(8.0, -12.0, Anchor::Start),
                label(8.0, 12.0, Anchor::Start),
                label(-10.0, 0.0, Anchor::End),
                label(-8.0, -12.0, Anchor::End),
                label(-8.0, 12.0, Anchor::End),
                label(0.0, -16.0, Anchor::Middle),
                label(0.0, 16.0, Anchor::Middle),
                label(24.0, -28.0, Anchor::Start),
                label(-24.0, -28.0, Anchor::End),
            ];
            let within = |text: &&Text| plot.area.grown(2.0).contains(&text.area());
            let free = candidates.iter().filter(within).find(|text| crowd.is_free(text.area().grown(1.0)));
            // Over lines, then over dots, but never over another name.
            let over_lines = || candidates.iter().filter(within).find(|text| crowd.is_uncovered(text.area()));
            let bare = |text: &&Text| !written.iter().any(|other| other.overlaps(&text.area()));
            let over_dots = || candidates.iter().filter(within).find(bare);
            if let Some(text) = free.or_else(over_lines).or_else(over_dots) {
                crowd.add(text.area());
                written.push(text.area());
                if (text.at.1 - at.1).abs() > 22.0 {
                    let foot = (at.0 + (text.at.0 - at.0) * 0.8, text.area().bottom);
                    let start = (at.0 + (foot.0 - at.0) * 0.35, at.1 + (foot.1 - at.1) * 0.35);
                    page.picture.line(start, foot, Stroke::solid(theme::AXIS, 1.0));
                }
                page.picture.text(text.clone());
            }
        }
    }

    /// A line that ends in the middle of the plot is named there, if the place is free.
    fn draw_label_at_end(
        page: &mut Page,
        plot: &Plot,
        end: ((f64, f64), Colour),
        name: &str,
        crowd: &mut Crowd,
    ) -> bool {
        let ((x, y), colour) = end;
        let text = |dx: f64, dy: f64, anchor: Anchor| {
            Text::new((x + dx, y + dy), name, LABEL, theme::legible(colour)).bold().centred().anchor(anchor).halo()
        };
        let candidates = [
            text(9.0, 0.0, Anchor::Start),
            text(4.0, -14.0, Anchor::Start),
            text(4.0, 14.0, Anchor::Start),
            text(0.0, -15.0, Anchor::Middle),
            text(0.0, 15.0, Anchor::Middle),
        ];
        let free = |text: &Text| plot.area.contains(&text.area()) && crowd.is_free(text.area().grown(2.0));
        let Some(text) = candidates.into_iter().find(free) else { return false };
        crowd.add(text.area());
        page.picture.text(text);
        true
    }

    fn draw_end_labels(
        &self,
        page: &mut Page,
        plot: &Plot,
        drawn: &[Drawn],
        mut labels: Vec<Vec<String>>,
        crowd: &mut Crowd,
    ) {
        let area = plot.area.grown(1.0);
        let last_inside = |points: &[(f64, f64)]| {
            points.iter().rev().copied().find(|p| area.contains(&Area::new(p.0, p.1, p.0, p.1)))
        };
        let ends = drawn.iter().map(|series| last_inside(&series.points).map(|end| (end, series.colour)));
        let marks = self.marks.iter().filter_map(|mark| match mark {
            Mark::Y(_, y) if plot.y.covers(*y) => Some(Some(((plot.area.right, plot.place_y(*y)), theme::REFERENCE))),
            Mark::Y(..) => Some(None),
            _ => None,
        });
        // A series of which nothing can be seen keeps its name, at the foot of the plot and in grey.
        let nowhere = ((plot.area.right, plot.area.bottom), theme::FAINT);
        let ends: Vec<((f64, f64), Colour)> = ends.chain(marks).map(|end| end.unwrap_or(nowhere)).collect();
        for ((index, end), lines) in ends.iter().enumerate().zip(&mut labels) {
            let early = plot.area.right - end.0.0 > 60.0;
            let series = self.series.get(index).filter(|_| early && !lines.is_empty());
            if series.is_some_and(|series| Self::draw_label_at_end(page, plot, *end, &self.label(series), crowd)) {
                lines.clear();
            }
        }
        let wanted: Vec<(f64, f64)> = ends
            .iter()
            .zip(&labels)
            .map(|(((_, y), _), lines)| {
                (*y, if lines.is_empty() { 0.0 } else { lines.len() as f64 * LABEL * 1.2 + 3.0 })
            })
            .collect();
        let Some(centers) = spread_out(&wanted, plot.area.top - 1.0, plot.area.bottom + 14.0) else { return };
        for (index, ((((x, y), colour), lines), center)) in ends.iter().zip(&labels).zip(&centers).enumerate() {
            if lines.is_empty() {
                continue;
            }
            let gap = plot.area.right - x;
            let stroke = Stroke::solid(theme::tint(*colour, 0.45), 1.0);
            let from = plot.area.right.max(*x) + 1.0;
            if gap > 12.0 {
                page.picture.line((x + 6.0, *y), (from + 7.0, *center), Stroke { dash: &[1.0, 3.0], ..stroke });
            } else if (center - y).abs() > 5.0 {
                page.picture.line((from + 2.0, *y), (from + 8.0, *center), stroke);
            }
            let first = center - (lines.len() as f64 - 1.0) * LABEL * 0.6;
            for (row, line) in lines.iter().enumerate() {
                let at = (plot.area.right + 11.0, first + row as f64 * LABEL * 1.2);
                let text = Text::new(at, line, LABEL, theme::legible(*colour)).centred();
                // Names of what was measured or predicted are strong, those of references are not.
                page.picture.text(if index < drawn.len() { text.bold() } else { text });
            }
        }
    }
}

/// Of very many points on a line, those that make its outline: first, lowest, highest and last per pixel.
fn envelope(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() < 1500 {
        return points;
    }
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for column in points.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        let mut chosen = vec![0, column.len() - 1];
        let by_height = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
        chosen.extend((0..column.len()).min_by(by_height));
        chosen.extend((0..column.len()).max_by(by_height));
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|index| column[index]));
    }
    kept
}

/// Of very many points, one per pixel.
fn thinned(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() > 1500 {
        let mut taken = std::collections::HashSet::new();
        points.retain(|(x, y)| taken.insert((x.round() as i64, y.round() as i64)));
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_points_keep_their_extremes() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|i| (f64::from(i) / 20.0, if i == 5_001 { 999.0 } else { f64::from(i % 7) })).collect();
        let kept = envelope(points.clone());
        assert!(kept.len() < 2_100 && kept.contains(&(5_001.0 / 20.0, 999.0)));
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        assert!(thinned(points).len() < 4_500);
    }
}
