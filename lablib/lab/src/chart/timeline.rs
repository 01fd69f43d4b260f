//! Who did what when: a lane per actor, spans, events, and arrows for what one told the other.

use std::fmt::Display;

use super::Figure;
use super::figure;
use super::font::{self, Weight, fit};
use super::format::count;
use super::frame::{Axis, Frame, Upright, framed, names_width, uprights_height, with_x, x_axis_height, x_ticks};
use super::labels::Crowd;
use super::number::{Number, drawable};
use super::picture::{Anchor, Area, Picture, Stroke, Text, crisp};
use super::scale::{Kind, Scale};
use super::theme::{self, Colour, SMALL, TICK};
use super::tidy::{Cell, Numbers};

const LANE: f64 = 58.0;
const HALF: f64 = 11.0;
const MOST: usize = 60;

/// A timeline; see [`Chart::timeline`](super::Chart::timeline).
///
/// ```
/// use lab::chart::{Chart, Figure};
///
/// let chart = Chart::timeline("The second session waits until the first commits")
///     .x("time", "ms")
///     .span("session A", 0.0, 8.0, "holds row 7")
///     .wait("session B", 2.0, 8.0, "waits")
///     .arrow("session A", 8.0, "session B", 8.0, "lock passes on")
///     .span("session B", 8.0, 11.0, "holds row 7")
///     .event("session A", 8.0, "COMMIT");
/// assert!(chart.to_text().contains("session B"));
/// ```
#[derive(Debug, Clone)]
pub struct Timeline {
    frame: Frame,
    lanes: Vec<String>,
    spans: Vec<Span>,
    events: Vec<Event>,
    arrows: Vec<Arrow>,
    marks: Vec<(String, f64)>,
}

#[derive(Debug, Clone)]
struct Span {
    lane: usize,
    start: f64,
    end: f64,
    label: String,
    waiting: bool,
}

#[derive(Debug, Clone)]
struct Event {
    lane: usize,
    at: f64,
    label: String,
}

#[derive(Debug, Clone)]
struct Arrow {
    from: (usize, f64),
    to: (usize, f64),
    label: String,
}

framed!(Timeline);
with_x!(Timeline);

impl Timeline {
    pub(super) fn new(title: String) -> Self {
        let (lanes, spans, events, arrows, marks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut frame = Frame::new(title);
        frame.x = Axis { label: "time".to_string(), unit: super::format::Unit::Time(1.0), ..Axis::default() };
        Self { frame, lanes, spans, events, arrows, marks }
    }

    /// A lane, even if nothing happens in it; the others come in the order in which they are first named.
    pub fn lane(mut self, name: impl Display) -> Self {
        self.lane_of(name);
        self
    }

    /// Something that takes time. Spans of one label share a colour.
    pub fn span(self, lane: impl Display, start: impl Number, end: impl Number, label: impl Display) -> Self {
        self.with(lane, start.value(), end.value(), label, false)
    }

    /// Time spent waiting: a pale span.
    pub fn wait(self, lane: impl Display, start: impl Number, end: impl Number, label: impl Display) -> Self {
        self.with(lane, start.value(), end.value(), label, true)
    }

    /// Something that happens at once: a kill, a commit, a timeout.
    pub fn event(mut self, lane: impl Display, at: impl Number, label: impl Display) -> Self {
        let lane = self.lane_of(lane);
        self.events.push(Event { lane, at: at.value(), label: label.to_string() });
        self
    }

    /// From one lane to another: a message, a lock that passes on.
    pub fn arrow(
        mut self,
        from: impl Display,
        start: impl Number,
        to: impl Display,
        end: impl Number,
        label: impl Display,
    ) -> Self {
        let (from, to) = (self.lane_of(from), self.lane_of(to));
        let (from, to) = ((from, start.value()), (to, end.value()));
        self.arrows.push(Arrow { from, to, label: label.to_string() });
        self
    }

    /// A time that matters to all lanes: a timeout, a published figure.
    pub fn mark_x(mut self, name: impl Display, at: impl Number) -> Self {
        self.marks.push((name.to_string(), at.value()));
        self
    }

    fn with(mut self, lane: impl Display, start: f64, end: f64, label: impl Display, waiting: bool) -> Self {
        let lane = self.lane_of(lane);
        let (start, end) = if end < start { (end, start) } else { (start, end) };
        self.spans.push(Span { lane, start, end, label: label.to_string(), waiting });
        self
    }

    fn lane_of(&mut self, name: impl Display) -> usize {
        let name = name.to_string();
        self.lanes.iter().position(|lane| *lane == name).unwrap_or_else(|| {
            self.lanes.push(name);
            self.lanes.len() - 1
        })
    }

    /// By label where there are few, by lane where every label is another.
    fn colour(&self, span: &Span) -> Colour {
        let mut labels: Vec<&str> = Vec::new();
        for other in self.spans.iter().filter(|span| !span.waiting) {
            if !labels.contains(&other.label.as_str()) {
                labels.push(&other.label);
            }
        }
        let index = labels.iter().position(|label| *label == span.label).unwrap_or(0);
        theme::series(if labels.len() <= 6 { index } else { span.lane })
    }

    fn scale(&self) -> Scale {
        let spans = self.spans.iter().flat_map(|span| [span.start, span.end]);
        let events = self.events.iter().map(|event| event.at);
        let arrows = self.arrows.iter().flat_map(|arrow| [arrow.from.1, arrow.to.1]);
        let marks = self.marks.iter().map(|mark| mark.1);
        Scale::around(Kind::Linear, spans.chain(events).chain(arrows).chain(marks)).padded(0.015)
    }

    fn small_print(&self) -> Vec<String> {
        let bad = self.spans.iter().filter(|span| !drawable(span.start) || !drawable(span.end)).count()
            + self.events.iter().filter(|event| !drawable(event.at)).count()
            + self.arrows.iter().filter(|arrow| !drawable(arrow.from.1) || !drawable(arrow.to.1)).count()
            + self.marks.iter().filter(|mark| !drawable(mark.1)).count();
        let mut notes = Vec::new();
        if bad > 0 {
            notes.push(format!("{} without a time left out.", count(bad, "item", "items")));
        }
        if self.lanes.len() > MOST {
            notes.push(format!("{} not drawn.", count(self.lanes.len() - MOST, "more lane", "more lanes")));
        }
        notes
    }
}

impl Figure for Timeline {
    figure!(Timeline);

    fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::new(&["lane", "kind", "label", "start", "end", "to_lane"]);
        for span in &self.spans {
            let kind = if span.waiting { "wait" } else { "span" };
            let (lane, label) = ((&self.lanes[span.lane]).into(), (&span.label).into());
            numbers.row([lane, kind.into(), label, span.start.into(), span.end.into(), Cell::Empty]);
        }
        for event in &self.events {
            let (lane, label) = ((&self.lanes[event.lane]).into(), (&event.label).into());
            numbers.row([lane, "event".into(), label, event.at.into(), Cell::Empty, Cell::Empty]);
        }
        for arrow in &self.arrows {
            let (lane, label) = ((&self.lanes[arrow.from.0]).into(), (&arrow.label).into());
            let to = (&self.lanes[arrow.to.0]).into();
            numbers.row([lane, "arrow".into(), label, arrow.from.1.into(), arrow.to.1.into(), to]);
        }
        for (name, at) in &self.marks {
            numbers.row([Cell::Empty, "reference".into(), name.into(), (*at).into(), Cell::Empty, Cell::Empty]);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let used = self.spans.iter().any(|span| span.lane == index)
                || self.events.iter().any(|event| event.lane == index)
                || self.arrows.iter().any(|arrow| arrow.from.0 == index || arrow.to.0 == index);
            if !used {
                numbers.row([lane.into(), "lane".into(), Cell::Empty, Cell::Empty, Cell::Empty, Cell::Empty]);
            }
        }
        numbers
    }

    fn draw(&self, width: f64) -> Picture {
        let left_out = self.small_print();
        let lanes = self.lanes.len().clamp(1, MOST);
        let band = uprights_height(self.marks.len()) + 4.0;
        let axis = x_axis_height(&self.frame.x);
        let lane_height = if lanes > 10 { 40.0 } else { LANE };
        let around = self.frame.header_height(width, &[]) + self.frame.footer_height(width, &left_out) + axis + band;
        let natural = around + lane_height * lanes as f64;
        let mut page = self.frame.page(width, self.frame.height(natural), &[], &left_out);
        let body = page.body;
        let names = names_width(self.lanes.iter().map(String::as_str), width * 0.24);
        let left = body.left + names + 12.0;
        let area = Area::new(left, body.top + band, body.right, (body.bottom - axis).max(body.top + band + 10.0));
        let scale = self.scale();
        let place = |at: f64| area.left + scale.place(at) * area.width();
        let lane_height = area.height() / lanes as f64;
        let middle = |lane: usize| area.top + lane_height * (lane as f64 + 0.58);
        for (tick, _) in x_ticks(&self.frame.x, scale, area.width()) {
            let at = crisp(place(tick));
            page.picture.line((at, area.top), (at, area.bottom), Stroke::solid(theme::GRID, 1.0));
        }
        for (index, name) in self.lanes.iter().take(MOST).enumerate() {
            let y = crisp(middle(index));
            page.picture.line((area.left, y), (area.right, y), Stroke::solid(theme::GRID, 1.0));
            page.row_name(name, left - 12.0, y, names, lane_height);
        }
        page.x_axis(&self.frame.x, area, scale);
        let marks = self.marks.iter().filter(|mark| scale.covers(mark.1));
        let uprights: Vec<Upright> = marks.map(|(name, at)| Upright::reference(place(*at), name)).collect();
        page.uprights(&uprights, area, 3);
        let events = self.events.iter().filter(|event| event.lane < MOST && drawable(event.at));
        let mut canvas = Lanes {
            picture: &mut page.picture,
            crowd: Crowd::default(),
            area,
            half: HALF.min(lane_height * 0.3),
            events: events.map(|event| (place(event.at), middle(event.lane))).collect(),
            spans: Vec::new(),
            texts: Vec::new(),
        };
        for (_, at) in self.marks.iter().filter(|mark| scale.covers(mark.1)) {
            canvas.crowd.add_line(&[(place(*at), area.top), (place(*at), area.bottom)]);
        }
        let mut spans: Vec<&Span> = self.spans.iter().filter(|span| span.lane < MOST).collect();
        spans.retain(|span| drawable(span.start) && drawable(span.end));
        // Where spans of one lane overlap, the shorter lies on the longer.
        spans.sort_by(|a, b| (b.end - b.start).total_cmp(&(a.end - a.start)));
        for span in &spans {
            let unit = &self.frame.x.unit;
            let hint = format!(
                "{}: {}, {} to {}",
                self.lanes[span.lane],
                span.label,
                unit.show_with_unit(span.start),
                unit.show_with_unit(span.end)
            );
            let ends = (place(span.start), place(span.end));
            canvas.span(ends, middle(span.lane), (!span.waiting).then(|| self.colour(span)), &hint);
        }
        for arrow in self.arrows.iter().filter(|arrow| arrow.from.0 < MOST && arrow.to.0 < MOST) {
            if drawable(arrow.from.1) && drawable(arrow.to.1) {
                let end = |(lane, at): (usize, f64)| (place(at), middle(lane));
                canvas.arrow(end(arrow.from), end(arrow.to));
            }
        }
        // Labels last, so that they see everything that they must not cover.
        for event in self.events.iter().filter(|event| event.lane < MOST && drawable(event.at)) {
            let hint =
                format!("{}: {}, {}", self.lanes[event.lane], event.label, self.frame.x.unit.show_with_unit(event.at));
            canvas.event((place(event.at), middle(event.lane)), &hint);
        }
        for (index, span) in spans.iter().enumerate() {
            let colour = (!span.waiting).then(|| self.colour(span));
            canvas.span_label(index, colour, &span.label);
        }
        for event in self.events.iter().filter(|event| event.lane < MOST && drawable(event.at)) {
            canvas.event_label((place(event.at), middle(event.lane)), &event.label);
        }
        for arrow in self.arrows.iter().filter(|arrow| arrow.from.0 < MOST && arrow.to.0 < MOST) {
            if drawable(arrow.from.1) && drawable(arrow.to.1) {
                let (a, b) = ((place(arrow.from.1), middle(arrow.from.0)), (place(arrow.to.1), middle(arrow.to.0)));
                canvas.arrow_label(((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0), &arrow.label);
            }
        }
        if self.lanes.is_empty() {
            page.empty(area);
        }
        page.picture
    }
}

/// What is on the lanes so far.
struct Lanes<'a> {
    picture: &'a mut Picture,
    crowd: Crowd,
    area: Area,
    half: f64,
    events: Vec<(f64, f64)>,
    /// As drawn, from the longest to the shortest.
    spans: Vec<Area>,
    /// Of the spans' own texts, which lie on boxes.
    texts: Vec<Area>,
}

impl Lanes<'_> {
    fn span(&mut self, (start, end): (f64, f64), middle: f64, colour: Option<Colour>, hint: &str) {
        // A span too short to be seen is still a span.
        let cell = Area::new(start, middle - self.half, end.max(start + 2.0), middle + self.half);
        self.picture.rectangle(cell.grown(0.75), 3.0, theme::PAPER);
        match colour {
            Some(colour) => self.picture.rectangle(cell, 3.0, colour).hint(hint),
            None => {
                self.picture.rectangle(cell, 3.0, theme::AXIS);
                self.picture.rectangle(cell.grown(-1.0), 2.0, theme::BLANK).hint(hint);
            }
        }
        self.crowd.add(cell);
        self.spans.push(cell);
    }

    /// Inside the span if there is room, else near it; what has no room is still in the hover text and the numbers.
    fn span_label(&mut self, index: usize, colour: Option<Colour>, label: &str) {
        let span = self.spans[index];
        let middle = span.center().1;
        let inside = Text::new((0.0, middle), label, TICK, colour.map_or(theme::SOFT, theme::text_on)).centred();
        let covered = |area: Area| {
            let over = self.spans[index + 1..].iter().chain(&self.texts).any(|other| other.overlaps(&area));
            over || self
                .events
                .iter()
                .any(|event| Area::new(event.0, event.1, event.0, event.1).grown(7.0).overlaps(&area))
        };
        let at = |x: f64| Text { at: (x, inside.at.1), ..inside.clone() };
        let starts = [
            span.left + 6.0,
            span.left + 11.0,
            span.center().0 - inside.width() / 2.0,
            span.right - 6.0 - inside.width(),
        ];
        let fits = |text: &Text| span.grown(-4.0).left <= text.at.0 && text.area().right <= span.right - 4.0;
        let free = starts.into_iter().map(at).find(|text| fits(text) && !covered(text.area()));
        if let Some(text) = free {
            self.texts.push(text.area());
            return self.picture.text(text);
        }
        let ink = colour.map_or(theme::SOFT, theme::legible);
        let above = |x: f64| Text::new((x, span.top - 5.0), label, SMALL, ink).halo();
        let below = |x: f64| Text::new((x, span.bottom + 11.0), label, SMALL, ink).halo();
        let short = Text {
            text: fit(label, span.width() - 15.0, TICK, Weight::Regular).replace(font::CUT, ""),
            ..at(span.left + 11.0)
        };
        let short = (short.text.chars().count() > 4 && !covered(short.area())).then_some(short);
        if self.first_free([above(span.left), below(span.left), above(span.right).anchor(Anchor::End)]) {
            return;
        }
        if let Some(text) = short {
            self.texts.push(text.area());
            self.picture.text(text);
        }
    }

    fn event(&mut self, at: (f64, f64), hint: &str) {
        self.picture.diamond(at, 6.0, theme::EVENT).hint(hint);
        self.crowd.add(Area::new(at.0 - 7.0, at.1 - 7.0, at.0 + 7.0, at.1 + 7.0));
    }

    fn event_label(&mut self, at: (f64, f64), label: &str) {
        let label = fit(label, self.area.width() * 0.6, SMALL, Weight::SemiBold);
        let text = |dx: f64, y: f64, anchor: Anchor| {
            Text::new((at.0 + dx, y), label.as_str(), SMALL, theme::EVENT).bold().anchor(anchor).halo()
        };
        let (above, below) = (at.1 - self.half - 5.0, at.1 + self.half + 12.0);
        let level = at.1 + SMALL * 0.36;
        let candidates = [
            text(11.0, level, Anchor::Start),
            text(0.0, above, Anchor::Middle),
            text(5.0, above, Anchor::Start),
            text(-5.0, above, Anchor::End),
            text(0.0, below, Anchor::Middle),
            text(5.0, below, Anchor::Start),
            text(-5.0, below, Anchor::End),
            text(-11.0, level, Anchor::End),
            text(0.0, above - 12.0, Anchor::Middle),
        ];
        self.first_free(candidates);
    }

    /// How far from the middle of the lane whatever is there ends.
    fn rim(&self, at: (f64, f64)) -> f64 {
        let beside = |dx: f64| self.crowd.is_uncovered(Area::new(at.0 + dx, at.1, at.0 + dx, at.1).grown(0.5));
        if self.events.iter().any(|event| (event.0 - at.0).abs() < 6.0 && event.1 == at.1) {
            8.0
        } else if beside(-1.0) && beside(1.0) {
            0.0
        } else {
            self.half
        }
    }

    fn arrow(&mut self, from: (f64, f64), to: (f64, f64)) {
        // From the rim of one lane's spans to the rim of the other's.
        let down = if to.1 > from.1 { 1.0 } else { -1.0 };
        let (a, b) = if from.1 == to.1 {
            (from, to)
        } else {
            ((from.0, from.1 + down * self.rim(from)), (to.0, to.1 - down * (self.rim(to) + 1.0)))
        };
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = dx.hypot(dy).max(1e-9);
        let (ux, uy) = (dx / length, dy / length);
        let neck = (b.0 - ux * 7.0, b.1 - uy * 7.0);
        self.picture.line(a, neck, Stroke::solid(theme::PAPER, 4.0));
        self.picture.line(a, neck, Stroke::solid(theme::SOFT, 1.25));
        let wing = |side: f64| (b.0 - ux * 8.0 - uy * 3.5 * side, b.1 - uy * 8.0 + ux * 3.5 * side);
        self.picture.area(vec![b, wing(1.0), wing(-1.0)], theme::SOFT);
        self.crowd.add_line(&[a, b]);
    }

    fn arrow_label(&mut self, (x, y): (f64, f64), label: &str) {
        let label = fit(label, self.area.width() * 0.6, SMALL, Weight::Regular);
        let text = |dx: f64, dy: f64, anchor: Anchor| {
            Text::new((x + dx, y + dy), label.as_str(), SMALL, theme::SOFT).anchor(anchor).centred().halo()
        };
        let candidates = [
            text(7.0, 0.0, Anchor::Start),
            text(-7.0, 0.0, Anchor::End),
            text(7.0, -8.0, Anchor::Start),
            text(-7.0, 8.0, Anchor::End),
            text(7.0, 8.0, Anchor::Start),
            text(-7.0, -8.0, Anchor::End),
        ];
        self.first_free(candidates);
    }

    /// Writes the first text that covers nothing; what has no room is still in the hover text and the numbers.
    fn first_free<const COUNT: usize>(&mut self, candidates: [Text; COUNT]) -> bool {
        let page = Area::new(self.area.left, 0.0, self.picture.width - 14.0, self.area.bottom - 1.0);
        let within = |text: &&Text| page.contains(&text.area());
        let free = candidates.iter().filter(within).find(|text| self.crowd.is_free(text.area()));
        // Its rim makes a text readable on a line; on another text or a span nothing would.
        let found = free.or_else(|| candidates.iter().filter(within).find(|text| self.crowd.is_uncovered(text.area())));
        let found = found.cloned();
        let Some(text) = found else { return false };
        self.crowd.add(text.area());
        self.picture.text(text);
        true
    }
}
