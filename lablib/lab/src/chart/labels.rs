//! Labels that do not run into each other.

use super::picture::Area;

/// Moves labels (centre, height) apart as little as possible (least squares), in their order; `None` if there is no
/// room for all of them.
pub(super) fn spread_out(wanted: &[(f64, f64)], top: f64, bottom: f64) -> Option<Vec<f64>> {
    if wanted.iter().map(|(_, height)| height).sum::<f64>() > bottom - top {
        return None;
    }
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].0.total_cmp(&wanted[*b].0));
    // With the heights of all labels above subtracted, "not overlapping" becomes "not decreasing".
    let mut above = top;
    let mut offsets = Vec::with_capacity(order.len());
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for index in &order {
        let (center, height) = wanted[*index];
        offsets.push(above + height / 2.0);
        above += height;
        let mut block = (center - offsets[offsets.len() - 1], 1);
        while let Some((mean, size)) = blocks.last().copied().filter(|(mean, _)| *mean > block.0) {
            block = ((mean * size as f64 + block.0 * block.1 as f64) / (size + block.1) as f64, size + block.1);
            blocks.pop();
        }
        blocks.push(block);
    }
    let slack = bottom - above;
    let shifts = blocks.iter().flat_map(|(mean, size)| std::iter::repeat_n(mean.clamp(0.0, slack), *size));
    let mut centers = vec![0.0; wanted.len()];
    for ((index, offset), shift) in order.iter().zip(&offsets).zip(shifts) {
        centers[*index] = offset + shift;
    }
    Some(centers)
}

/// Finds a row and a side for the name of every vertical mark: `(x, width of the name)` to row and left edge.
///
/// Row 0 lies right above the plot; a mark reaches up to its own row, so a name must not lie on a lower row where a
/// higher mark passes. A name that would cover another one gets no place.
pub(super) fn place_above(marks: &[(f64, f64)], left: f64, right: f64, rows: usize) -> Vec<Option<(usize, f64)>> {
    const GAP: f64 = 4.0;
    let mut order: Vec<usize> = (0..marks.len()).collect();
    order.sort_by(|a, b| marks[*b].0.total_cmp(&marks[*a].0));
    let mut found: Vec<Option<(usize, f64)>> = vec![None; marks.len()];
    for (turn, index) in order.iter().enumerate() {
        let (x, width) = marks[*index];
        let covers = |start: f64, other: f64| (start - GAP..start + width + GAP).contains(&other);
        let cost = |(row, start): &(usize, f64)| {
            let mut cost = row * 2 + usize::from(*start < x);
            if *start < left || start + width > right {
                cost += 1000;
            }
            for decided in &order[..turn] {
                let Some((other_row, other)) = found[*decided] else { continue };
                let other_width = marks[*decided].1;
                if other_row == *row && *start < other + other_width + 2.0 * GAP && other < start + width + 2.0 * GAP {
                    cost += 1000;
                }
                if other_row > *row && covers(*start, marks[*decided].0) {
                    cost += 100;
                }
                if other_row < *row && (other - GAP..other + other_width + GAP).contains(&x) {
                    cost += 100;
                }
            }
            // The marks to come can still go below a name that lies high.
            cost + order[turn + 1..].iter().filter(|later| covers(*start, marks[**later].0)).count() * 8 * (rows - row)
        };
        let candidates = (0..rows).flat_map(|row| [(row, x + GAP), (row, x - GAP - width)]);
        found[*index] = candidates
            .map(|place| (cost(&place), place))
            .min_by_key(|found| found.0)
            .filter(|f| f.0 < 1000)
            .map(|f| f.1);
    }
    found
}

/// What is drawn already and must not be written over.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    boxes: Vec<Area>,
    lines: Vec<((f64, f64), (f64, f64))>,
}

impl Crowd {
    pub(super) fn add(&mut self, area: Area) {
        self.boxes.push(area);
    }

    pub(super) fn add_line(&mut self, points: &[(f64, f64)]) {
        self.lines.extend(points.windows(2).map(|pair| (pair[0], pair[1])));
    }

    /// Whether only lines pass there.
    pub(super) fn is_uncovered(&self, area: Area) -> bool {
        !self.boxes.iter().any(|other| other.overlaps(&area))
    }

    pub(super) fn is_free(&self, area: Area) -> bool {
        self.is_uncovered(area) && !self.lines.iter().any(|(a, b)| area.is_crossed(*a, *b))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_with_room_stay_where_they_are() {
        assert_eq!(spread_out(&[(50.0, 10.0), (20.0, 10.0)], 0.0, 100.0), Some(vec![50.0, 20.0]));
    }

    #[test]
    fn crowded_labels_move_apart_evenly_and_stay_inside() {
        assert_eq!(spread_out(&[(50.0, 10.0), (50.0, 10.0)], 0.0, 100.0), Some(vec![45.0, 55.0]));
        assert_eq!(spread_out(&[(0.0, 10.0), (1.0, 10.0), (99.0, 20.0)], 0.0, 100.0), Some(vec![5.0, 15.0, 90.0]));
        assert_eq!(spread_out(&[(50.0, 60.0), (50.0, 60.0)], 0.0, 100.0), None);
        assert_eq!(spread_out(&[], 0.0, 0.0), Some(vec![]));
    }

    #[test]
    fn names_above_the_plot_find_rows_and_sides() {
        let place = |marks: &[(f64, f64)]| place_above(marks, 0.0, 100.0, 3);
        assert_eq!(place(&[(10.0, 20.0), (50.0, 20.0)]), [Some((0, 14.0)), Some((0, 54.0))]);
        assert_eq!(place(&[(10.0, 60.0), (50.0, 20.0)]), [Some((1, 14.0)), Some((0, 54.0))]);
        assert_eq!(place(&[(90.0, 40.0)]), [Some((0, 46.0))]);
        // The name of the last one turns to the left and has to leave the other mark below it.
        assert_eq!(place(&[(80.0, 10.0), (90.0, 40.0)]), [Some((0, 66.0)), Some((2, 46.0))]);
        assert_eq!(place(&[(50.0, 500.0)]), [None]);
    }

    #[test]
    fn never_an_overlap_whatever_the_wishes() {
        let mut seed = 1_u64;
        for _ in 0..500 {
            let wanted: Vec<(f64, f64)> = (0..8)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    ((seed >> 33) as f64 % 140.0 - 20.0, 4.0 + (seed >> 53) as f64 % 8.0)
                })
                .collect();
            let centers = spread_out(&wanted, 0.0, 100.0).unwrap();
            let mut spans: Vec<(f64, f64)> =
                centers.iter().zip(&wanted).map(|(c, (_, h))| (c - h / 2.0, c + h / 2.0)).collect();
            spans.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 1e-9), "{spans:?}");
            assert!(spans[0].0 >= -1e-9 && spans[7].1 <= 100.0 + 1e-9, "{spans:?}");
        }
    }
}
