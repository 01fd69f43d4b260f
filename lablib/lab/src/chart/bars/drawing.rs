//! How bars, lying or standing, come onto the page.

use super::super::font::{self, Weight, wrap};
use super::super::frame::{Page, Upright, names_width, uprights_height, x_axis_height, x_ticks};
use super::super::picture::{Anchor, Area, Picture, Stroke, Text, crisp};
use super::super::scale::{Kind, Scale};
use super::super::theme::{self, HEIGHT, LABEL, PAPER, TICK};
use super::{Bar, Bars, MOST};

impl Bars {
    pub(super) fn draw_rows(&self, width: f64) -> Picture {
        let scale = self.scale();
        let left_out = self.small_print(scale);
        let bars = &self.bars[..self.bars.len().min(MOST)];
        let row = match bars.len() {
            0..=8 => 34.0,
            9..=16 => 27.0,
            _ => 20.0,
        };
        let ends: Vec<f64> = bars.iter().map(|bar| self.reach(bar, scale)).collect();
        let all_names = names_width(bars.iter().map(|bar| bar.name.as_str()), width * 0.34);
        let room = width - 2.0 * theme::PADDING - all_names - 10.0;
        // The axis is as long as the longest bar's texts allow; if they would leave too little, a key replaces them.
        let length = |all: bool| {
            bars.iter().zip(&ends).fold(room, |length, (bar, end)| {
                let texts = self.annotations(bar, scale, all);
                let text: f64 = texts.iter().map(|(text, _)| font::width(text, LABEL, Weight::SemiBold) + 10.0).sum();
                if *end > 0.0 { length.min((room - text) / end) } else { length }
            })
        };
        let named = length(true) >= room * 0.42;
        let length = length(named).max(room * 0.3);
        let key = self.key(false, !named);
        let heads =
            bars.chunk_by(|a, b| a.group == b.group).filter(|g| !self.group_name(g[0].group).is_empty()).count();
        let band = uprights_height(self.lines.len());
        let inner = row * bars.len().max(1) as f64 + 26.0 * heads as f64 + 4.0;
        let axis = x_axis_height(&self.frame.y);
        let natural =
            self.frame.header_height(width, &key) + band + inner + axis + self.frame.footer_height(width, &left_out);
        let height = self.frame.height(natural);
        let mut page = self.frame.page(width, height, &key, &left_out);
        let row = row * ((page.body.height() - axis - band) / inner).clamp(0.2, 1.6);
        let head = 26.0 * (row / 20.0).min(1.0);
        let left = page.body.left + all_names + 10.0;
        let bottom = page.body.top + band + row * bars.len().max(1) as f64 + head * heads as f64 + 4.0;
        let area = Area::new(left, page.body.top + band, left + length, bottom);
        let place = |value: f64| area.left + scale.place(value).clamp(0.0, 1.0) * area.width();
        for (tick, _) in x_ticks(&self.frame.y, scale, area.width()) {
            let at = crisp(place(tick));
            page.picture.line((at, area.top), (at, area.bottom), Stroke::solid(theme::GRID, 1.0));
        }
        page.x_axis(&self.frame.y, area, scale);
        let zero = place(if scale.kind == Kind::Log { scale.low } else { 0.0 });
        let mut top = area.top + 2.0;
        let mut group = 0;
        for (bar, end) in bars.iter().zip(&ends) {
            if bar.group != group {
                group = bar.group;
                let name = font::fit(self.group_name(group), page.body.width(), LABEL, Weight::SemiBold);
                let at = (page.body.left, top + head * 0.68);
                page.picture.text(Text::new(at, name, LABEL, theme::INK).bold());
                top += head;
            }
            let middle = top + row / 2.0;
            let half = (row * 0.34).min(15.0);
            page.row_name(&bar.name, left - 8.0, middle, all_names, row);
            let lane = |from: f64, to: f64| Area::new(from, middle - half, to, middle + half);
            if let Some(value) = bar.value.filter(|value| scale.kind.holds(value.mid)) {
                let at = place(value.mid);
                let colour = self.colour(bar);
                if scale.kind == Kind::Log {
                    page.picture.line((zero, middle), (at, middle), Stroke::solid(theme::tint(colour, 0.35), 2.0));
                    page.picture.disc((at, middle), 5.5, colour).hint(self.hint(bar));
                } else {
                    page.picture.rectangle(lane(zero.min(at), zero.max(at)), 0.0, colour).hint(self.hint(bar));
                }
                if value.is_wide() {
                    whisker(&mut page.picture, (place(value.low), middle), (place(value.high), middle));
                }
            }
            for predicted in bar.predicted.iter().filter(|value| scale.covers(**value)) {
                let at = place(*predicted);
                tick(&mut page.picture, (at, middle - half - 3.0), (at, middle + half + 3.0));
            }
            for (source, value, origin) in bar.marks.iter().filter(|(_, value, _)| scale.covers(*value)) {
                let hint = format!("{source}: {}", self.frame.y.say(*value));
                origin.symbol(&mut page.picture, (place(*value), middle)).hint(hint);
            }
            let mut x = (area.left + end * area.width()).max(zero) + 9.0;
            for (text, colour) in self.annotations(bar, scale, named) {
                let text = Text::new((x, middle), text, LABEL, colour).centred().halo();
                let text = if colour == theme::INK { text.bold() } else { text };
                x += text.width() + 10.0;
                page.picture.text(text);
            }
            top += row;
        }
        if scale.low < 0.0 && scale.kind == Kind::Linear {
            page.picture.line((crisp(zero), area.top), (crisp(zero), area.bottom), Stroke::solid(theme::AXIS, 1.0));
        }
        let lines = self.lines.iter().filter(|line| scale.covers(line.1));
        let uprights: Vec<Upright> = lines.map(|(name, value)| Upright::reference(place(*value), name)).collect();
        page.uprights(&uprights, area, 3);
        if bars.is_empty() {
            page.empty(area);
        }
        page.picture
    }

    /// How far along the axis something is drawn for this bar, 0 to 1.
    fn reach(&self, bar: &Bar, scale: Scale) -> f64 {
        let value = bar.value.map(|value| [value.mid, value.high]).into_iter().flatten();
        let others = bar.predicted.iter().copied().chain(bar.marks.iter().map(|mark| mark.1));
        let others = others.filter(|value| scale.covers(*value)).map(|value| scale.place(value) + 0.008);
        let zero = if scale.kind == Kind::Linear { scale.place(0.0) } else { 0.0 };
        let values = value.filter(|value| scale.kind.holds(*value)).map(|value| scale.place(value));
        values.chain(others).fold(zero, f64::max).clamp(0.0, 1.0)
    }

    pub(super) fn draw_columns(&self, width: f64) -> Picture {
        let scale = self.scale();
        let left_out = self.small_print(scale);
        let bars = &self.bars[..self.bars.len().min(MOST)];
        let grouped = !self.groups.is_empty();
        let key = self.key(grouped, true);
        let mut page = self.frame.page(width, self.frame.height(HEIGHT), &key, &left_out);
        // Room for two lines of names takes the place of the heading of an axis.
        let mut frame = self.frame.clone();
        let names: Vec<&str> = if grouped {
            self.groups.iter().map(String::as_str).collect()
        } else {
            bars.iter().map(|bar| bar.name.as_str()).collect()
        };
        let slot = (width - 130.0) / names.len().max(1) as f64;
        let two_lines = names.iter().any(|name| font::width(name, LABEL, Weight::Regular) > slot - 4.0);
        frame.x.label = if two_lines { " ".to_string() } else { String::new() };
        let room = (width * 0.22).min(170.0);
        let gutter = self.lines.iter().map(|line| font::width(&line.0, TICK, Weight::Regular) + 12.0);
        let gutter = gutter.fold(0.0, f64::max).min(room);
        let plain = Scale { kind: Kind::Linear, low: 0.0, high: f64::NAN };
        let plot = page.plot(&frame, plain, scale, gutter, 8.0);
        let area = plot.area;
        let place = |value: f64| area.bottom - scale.place(value).clamp(0.0, 1.0) * area.height();
        let zero = place(if scale.kind == Kind::Log { scale.low } else { 0.0 });
        let clusters: Vec<&[Bar]> =
            if grouped { bars.chunk_by(|a, b| a.group == b.group).collect() } else { bars.chunks(1).collect() };
        let slot = area.width() / clusters.len().max(1) as f64;
        for (index, cluster) in clusters.iter().enumerate() {
            let center = area.left + slot * (index as f64 + 0.5);
            let thick = (slot * 0.8 / cluster.len() as f64).min(if grouped { 62.0 } else { 64.0 });
            let start = center - thick * cluster.len() as f64 / 2.0;
            for (position, bar) in cluster.iter().enumerate() {
                let middle = start + thick * (position as f64 + 0.5);
                let half = thick / 2.0 - if cluster.len() > 1 { 1.0 } else { 0.0 };
                let room = if cluster.len() > 1 { thick - 3.0 } else { slot - 6.0 };
                self.draw_column(&mut page, bar, scale, &place, (middle, half, zero, room));
            }
            let name = if grouped { self.group_name(cluster[0].group) } else { &cluster[0].name };
            for (line, text) in wrap(name, slot - 4.0, LABEL, Weight::Regular, 2).into_iter().enumerate() {
                let at = (center, area.bottom + 18.0 + 15.0 * line as f64);
                page.picture.text(Text::new(at, text, LABEL, theme::INK).anchor(Anchor::Middle));
            }
        }
        if scale.low < 0.0 && scale.kind == Kind::Linear {
            page.picture.line((area.left, crisp(zero)), (area.right, crisp(zero)), Stroke::solid(theme::AXIS, 1.0));
        }
        for (name, value) in self.lines.iter().filter(|line| scale.covers(line.1)) {
            let at = crisp(place(*value));
            page.picture.line((area.left, at), (area.right, at), Stroke::reference());
            let name = font::fit(name, gutter - 8.0, TICK, Weight::Regular);
            page.picture.text(Text::new((area.right + 8.0, at), name, TICK, theme::REFERENCE).centred());
        }
        if bars.is_empty() {
            page.empty(area);
        }
        page.picture
    }

    fn draw_column(
        &self,
        page: &mut Page,
        bar: &Bar,
        scale: Scale,
        place: &dyn Fn(f64) -> f64,
        (middle, half, zero, room): (f64, f64, f64, f64),
    ) {
        let mut top = zero;
        let mut obstacles: Vec<f64> = Vec::new();
        if let Some(value) = bar.value.filter(|value| scale.kind.holds(value.mid)) {
            let (at, colour) = (place(value.mid), self.colour(bar));
            if scale.kind == Kind::Log {
                page.picture.line((middle, zero), (middle, at), Stroke::solid(theme::tint(colour, 0.35), 2.0));
                page.picture.disc((middle, at), 5.5, colour).hint(self.hint(bar));
            } else {
                let body = Area::new(middle - half, zero.min(at), middle + half, zero.max(at));
                page.picture.rectangle(body, 0.0, colour).hint(self.hint(bar));
            }
            top = top.min(at);
            if value.is_wide() {
                whisker(&mut page.picture, (middle, place(value.low)), (middle, place(value.high)));
                top = top.min(place(value.high));
            }
        }
        for predicted in bar.predicted.iter().filter(|value| scale.covers(**value)) {
            let at = place(*predicted);
            tick(&mut page.picture, (middle - half - 3.0, at), (middle + half + 3.0, at));
            obstacles.push(at);
        }
        for (source, value, origin) in bar.marks.iter().filter(|(_, value, _)| scale.covers(*value)) {
            let hint = format!("{source}: {}", self.frame.y.say(*value));
            origin.symbol(&mut page.picture, (middle, place(*value))).hint(hint);
            obstacles.push(place(*value));
        }
        if let Some(value) = bar.value {
            let text = self.frame.y.unit.show(value.mid);
            let text = Text::new((middle, 0.0), text, TICK, theme::INK).bold().anchor(Anchor::Middle);
            let free = |at: f64| obstacles.iter().all(|obstacle| !(at - TICK - 7.0..at + 10.0).contains(obstacle));
            // Right above the bar; or, where a prediction would come between the two, inside; or above everything.
            let (above, inside) = (top - 5.0, place(value.low.min(value.mid)).max(top) + TICK + 8.0);
            let highest = obstacles.iter().fold(top, |highest, obstacle| highest.min(*obstacle - 3.0));
            let solid = scale.kind == Kind::Linear && value.mid > 0.0 && text.width() + 6.0 <= 2.0 * half;
            let below = place(value.low.min(value.mid)).max(place(value.mid)) + TICK + 3.0;
            let text = if value.mid < 0.0 {
                Text { at: (middle, obstacles.iter().fold(below, |low, at| low.max(at + TICK + 3.0))), ..text }.halo()
            } else if free(above) {
                Text { at: (middle, above), ..text }.halo()
            } else if solid && inside + 8.0 < zero && free(inside) {
                Text { at: (middle, inside), colour: theme::text_on(self.colour(bar)), ..text }
            } else {
                Text { at: (middle, highest - 5.0), ..text }.halo()
            };
            if text.width() <= room {
                page.picture.text(text);
            }
        }
    }
}

/// From the lowest to the highest run, dark enough to be seen on its bar.
fn whisker(picture: &mut Picture, from: (f64, f64), to: (f64, f64)) {
    let stroke = Stroke::solid(theme::INK, 1.25);
    let along = if from.1 == to.1 { (0.0, 4.0) } else { (4.0, 0.0) };
    picture.line(from, to, stroke);
    for end in [from, to] {
        picture.line((end.0 - along.0, end.1 - along.1), (end.0 + along.0, end.1 + along.1), stroke);
    }
}

/// A prediction across its bar.
fn tick(picture: &mut Picture, from: (f64, f64), to: (f64, f64)) {
    picture.line(from, to, Stroke::solid(PAPER, 4.5));
    picture.line(from, to, Stroke { width: 2.25, dash: &[4.5, 2.5], ..Stroke::prediction() });
}
