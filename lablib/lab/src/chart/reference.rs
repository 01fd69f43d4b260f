//! Figures that ours are compared with: those that somebody published, those that nobody published and we got by running the
//! prototype, and what the reader guessed. No two of them look alike, in colour or in grey.

use super::format::Unit;
use super::frame::Swatch;
use super::picture::{Mark, Picture, Stroke};
use super::scale::Kind;
use super::theme::{Colour, GUESS, REFERENCE};
use crate::Guess;

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Its authors: a filled diamond, a dotted line.
    Published,
    /// Nobody, until we ran their program: an open square, a line of dashes and dots.
    Ran,
    /// The reader: a triangle on its tip, a line of long dashes.
    Guessed,
}

/// What a chart writes beside the reader's guess, and the value; nothing where there is no guess.
pub(super) fn yours(guess: &Guess) -> Option<(String, f64)> {
    Some((format!("you: {}", guess.said()?), guess.value()?))
}

/// Whether an axis makes room for a guess: a wild one must not flatten what was measured.
pub(super) fn in_reach(kind: Kind, values: impl IntoIterator<Item = f64>, guess: f64) -> bool {
    let sizes = values.into_iter().map(f64::abs).filter(|size| kind.holds(*size));
    let (least, most) = sizes.fold((f64::INFINITY, 0.0_f64), |(least, most), size| (least.min(size), most.max(size)));
    match kind {
        _ if most == 0.0 => true,
        Kind::Linear => guess.abs() <= 4.0 * most,
        Kind::Log => (least / 1_000.0..=most * 1_000.0).contains(&guess),
    }
}

/// The small print of a chart whose axis does not reach the reader's guess.
pub(super) fn beyond(guesses: impl IntoIterator<Item = f64>, unit: &Unit) -> impl Iterator<Item = String> {
    let note = move |guess: f64| format!("Your guess, {}, is beyond this axis.", unit.show(guess));
    guesses.into_iter().map(note)
}

impl Origin {
    /// The name of such a figure, which says where it comes from wherever it is read without its symbol.
    pub(super) fn label(self, name: &str) -> String {
        match self {
            Self::Published | Self::Guessed => name.to_string(),
            Self::Ran if name.is_empty() || name.contains("run by us") => name.to_string(),
            Self::Ran => format!("{name}, run by us"),
        }
    }

    /// What a chart's numbers call it.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Published => "reference",
            Self::Ran => "run by us",
            Self::Guessed => "guess",
        }
    }

    pub(super) fn stroke(self) -> Stroke {
        match self {
            Self::Published => Stroke::reference(),
            Self::Ran => Stroke::ran(),
            Self::Guessed => Stroke::guess(),
        }
    }

    /// Of its line, and of what is written beside it.
    pub(super) fn colour(self) -> Colour {
        if self == Self::Guessed { GUESS } else { REFERENCE }
    }

    pub(super) fn swatch(self) -> Swatch {
        match self {
            Self::Published => Swatch::Diamond(REFERENCE),
            Self::Ran => Swatch::Square(REFERENCE),
            Self::Guessed => Swatch::Triangle(GUESS),
        }
    }

    pub(super) fn symbol(self, picture: &mut Picture, at: (f64, f64)) -> &mut Mark {
        match self {
            Self::Published => picture.diamond(at, 5.0, REFERENCE),
            Self::Ran => picture.square(at, 4.25, REFERENCE),
            Self::Guessed => picture.triangle(at, 5.5, GUESS),
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

    /// A guess of thirty, of a thousand times as much, and none.
    fn guesses() -> [Guess; 3] {
        [Some(3.0), Some(3_000.0), None].map(|value| Guess::new("How many?", "", value))
    }

    #[test]
    fn a_guess_stands_in_every_chart_where_it_belongs() {
        let [near, wild, none] = guesses();
        let charts = |guess: &Guess| -> [Box<dyn Figure>; 4] {
            [
                Box::new(bars().guess("a", guess)),
                Box::new(bars().vertical().guess("a", guess)),
                Box::new(lines().guess(1.5, guess)),
                Box::new(histogram().guess(guess)),
            ]
        };
        let without: [Box<dyn Figure>; 4] =
            [Box::new(bars()), Box::new(bars().vertical()), Box::new(lines()), Box::new(histogram())];
        for (((near, wild), none), without) in charts(&near).iter().zip(charts(&wild)).zip(charts(&none)).zip(without) {
            assert_eq!(none.to_svg(), without.to_svg(), "no guess, no mark");
            let svg = near.to_svg();
            assert!(svg.contains("you: 3") && !svg.contains("beyond this axis"), "{svg}");
            assert!(near.to_csv().contains("guess") && !without.to_csv().contains("guess"), "{}", near.to_csv());
            let green = |mark: &Mark| match &mark.shape {
                Shape::Area { points, fill } => points.len() == 3 && fill.colour == GUESS,
                Shape::Path { stroke, .. } => stroke.dash == Stroke::guess().dash && stroke.colour == GUESS,
                _ => false,
            };
            assert!(near.draw(760.0).marks.iter().any(green), "its own look");
            // The axis stays, and the small print says why nothing is drawn.
            assert!(wild.to_svg().contains("Your guess, 3,000, is beyond this axis."), "{}", wild.to_svg());
            assert!(!wild.draw(760.0).marks.iter().any(green) && wild.to_csv().contains("3000"), "{}", wild.to_csv());
        }
        assert!(in_reach(Kind::Linear, [0.0, f64::NAN], 7.0), "beside nothing, everything is in reach");
        assert!(in_reach(Kind::Log, [1e-6, 1e-3], 0.5) && !in_reach(Kind::Log, [1e-6, 1e-3], 5.0));
    }

    #[test]
    fn dashes_alone_tell_the_four_kinds_of_lines_apart() {
        let mut dashes =
            [Stroke::prediction(), Stroke::reference(), Stroke::ran(), Stroke::guess()].map(|stroke| stroke.dash);
        dashes.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        assert!(dashes.windows(2).all(|pair| pair[0] != pair[1]), "{dashes:?}");
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
