//! Figures that ours are compared with: those that somebody published, and those that nobody published and we got by
//! running the prototype. The two never look alike, in colour or in grey.

use super::frame::Swatch;
use super::picture::{Mark, Picture, Stroke};
use super::theme::REFERENCE;

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its authors: a filled diamond, a dotted line.
    Published,
    /// Nobody, until we ran their program: an open square, a line of dashes and dots.
    Ran,
}

impl Origin {
    /// The name of such a figure, which says where it comes from wherever it is read without its symbol.
    pub(super) fn label(self, name: &str) -> String {
        match self {
            Self::Published => name.to_string(),
            Self::Ran if name.is_empty() || name.contains("run by us") => name.to_string(),
            Self::Ran => format!("{name}, run by us"),
        }
    }

    /// What a chart's numbers call it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Published => "reference",
            Self::Ran => "run by us",
        }
    }

    pub(super) fn stroke(self) -> Stroke {
        match self {
            Self::Published => Stroke::reference(),
            Self::Ran => Stroke::ran(),
        }
    }

    pub(super) fn swatch(self) -> Swatch {
        match self {
            Self::Published => Swatch::Diamond(REFERENCE),
            Self::Ran => Swatch::Square(REFERENCE),
        }
    }

    pub(super) fn symbol(self, picture: &mut Picture, at: (f64, f64)) -> &mut Mark {
        match self {
            Self::Published => picture.diamond(at, 5.0, REFERENCE),
            Self::Ran => picture.square(at, 4.25, REFERENCE),
        }
    }
}

/// The small print of a chart whose points come from these: nothing, unless a reader has two looks to tell apart from each
/// other or from what ours are.
pub(super) fn points_note(origins: impl IntoIterator<Item = Origin>) -> Option<String> {
    note(origins, "Filled diamond", "Open square")
}

/// The same for vertical lines.
pub(super) fn lines_note(origins: impl IntoIterator<Item = Origin>) -> Option<String> {
    note(origins, "Dotted", "Dashes and dots")
}

fn note(origins: impl IntoIterator<Item = Origin>, published: &str, ran: &str) -> Option<String> {
    let origins: Vec<Origin> = origins.into_iter().collect();
    let ours = format!("{ran}: published by nobody, we ran the prototype.");
    match (origins.contains(&Origin::Published), origins.contains(&Origin::Ran)) {
        (_, false) => None,
        (false, true) => Some(ours),
        (true, true) => Some(format!("{published}: published. {ours}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Shape;
    use super::*;
    use crate::chart::{Bars, Chart, Figure, Histogram, Lines};

    fn bars() -> Bars {
        Chart::bars("t").bar("a", 2.0).bar("b", 3.0)
    }

    fn lines() -> Lines {
        Chart::lines("t").line("a", [(1.0, 1.0), (2.0, 2.0)])
    }

    fn histogram() -> Histogram {
        Chart::histogram("t").samples("a", [1.0, 2.0, 2.0, 3.0, 9.0])
    }

    /// The looks of a chart's references, by shape and dash: what remains of them on a photocopy.
    fn looks(chart: &dyn Figure) -> Vec<&'static str> {
        let look = |mark: &Mark| match &mark.shape {
            Shape::Area { points, fill } if points.len() == 4 && fill.colour == REFERENCE => Some("diamond"),
            Shape::Box { fill, .. } if fill.colour == REFERENCE => Some("square"),
            Shape::Path { stroke, .. } if stroke.dash == Stroke::reference().dash => Some("dots"),
            Shape::Path { stroke, .. } if stroke.dash == Stroke::ran().dash => Some("dashes and dots"),
            _ => None,
        };
        chart.draw(760.0).marks.iter().filter_map(look).collect()
    }

    #[test]
    fn what_we_ran_ourselves_never_looks_published() {
        let up = || bars().vertical();
        let pairs: [[(Box<dyn Figure>, &str); 2]; 4] = [
            [(Box::new(bars().mark("them", "a", 2.5)), "diamond"), (Box::new(bars().ran("them", "a", 2.5)), "square")],
            [(Box::new(up().mark("them", "a", 2.5)), "diamond"), (Box::new(up().ran("them", "a", 2.5)), "square")],
            [
                (Box::new(lines().mark_point("them", 1.5, 1.2)), "diamond"),
                (Box::new(lines().ran_point("them", 1.5, 1.2)), "square"),
            ],
            [
                (Box::new(histogram().mark_x("them", 4.0)), "dots"),
                (Box::new(histogram().ran_x("them", 4.0)), "dashes and dots"),
            ],
        ];
        for [(published, look), (ran, other)] in pairs {
            assert!(looks(&*published).iter().all(|seen| *seen == look) && !looks(&*published).is_empty());
            assert!(looks(&*ran).iter().all(|seen| *seen == other) && !looks(&*ran).is_empty());
            let (published, ran) = (published.to_svg() + &published.to_csv(), ran.to_svg() + &ran.to_csv());
            assert!(!published.contains("run by us") && !published.contains("published by nobody"), "{published}");
            assert!(ran.contains("run by us") && ran.contains("published by nobody"), "{ran}");
        }
    }

    #[test]
    fn dashes_alone_tell_the_three_kinds_of_lines_apart() {
        let dashes = [Stroke::prediction().dash, Stroke::reference().dash, Stroke::ran().dash];
        assert!(dashes[0] != dashes[1] && dashes[1] != dashes[2] && dashes[2] != dashes[0], "{dashes:?}");
    }

    #[test]
    fn a_name_says_it_once() {
        assert_eq!(Origin::Ran.label("prototype"), "prototype, run by us");
        assert_eq!(Origin::Ran.label("prototype, run by us"), "prototype, run by us");
        assert_eq!(Origin::Ran.label(""), "");
        assert_eq!(Origin::Published.label("prototype"), "prototype");
    }

    #[test]
    fn both_looks_in_one_chart_are_both_explained() {
        let chart = bars().mark("them", "a", 2.5).ran("them", "b", 3.5);
        assert!(chart.to_svg().contains("Filled diamond: published. Open square: published by nobody"));
        assert!(chart.to_csv().contains(",a,them,2.5") && chart.to_csv().contains(",b,\"them, run by us\",3.5"));
    }
}
