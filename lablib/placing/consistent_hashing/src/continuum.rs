//! The circle itself: points in order, and the way from any place to the next point.

/// Points on the circle, each with the index of the node that owns it.
///
/// A lookup does not search: the circle is cut into about as many equal stretches as there are points, and a table says where
/// in the list each stretch begins. Points are spread evenly by their hash, so the next one is a step or two from there, at
/// any number of points.
#[derive(Debug, Clone, Default)]
pub(super) struct Continuum {
    positions: Vec<u128>,
    owners: Vec<u32>,
    /// The first point at or after the start of each stretch.
    starts: Vec<u32>,
    /// The high bits of a position, as many as number the stretches, are what is left after this shift.
    shift: u32,
}

impl Continuum {
    /// A circle with these points; two at one place belong to the smaller index, so that the order of arrival decides
    /// nothing.
    pub(super) fn new(mut points: Vec<(u128, u32)>) -> Self {
        points.sort_unstable();
        let (positions, owners) = points.into_iter().unzip();
        let mut circle = Self { positions, owners, ..Self::default() };
        circle.cut();
        circle
    }

    /// Takes in the points of a new node of index `newcomer`; all owners from there on stand one further.
    pub(super) fn insert(&mut self, newcomer: usize, mut places: Vec<u128>) {
        let newcomer = newcomer as u32;
        places.sort_unstable();
        let total = self.positions.len() + places.len();
        let (mut positions, mut owners) = (Vec::with_capacity(total), Vec::with_capacity(total));
        let mut new = places.into_iter().peekable();
        for (&position, &owner) in self.positions.iter().zip(&self.owners) {
            let owner = if owner >= newcomer { owner + 1 } else { owner };
            while let Some(place) = new.next_if(|&place| (place, newcomer) < (position, owner)) {
                positions.push(place);
                owners.push(newcomer);
            }
            positions.push(position);
            owners.push(owner);
        }
        owners.extend(new.clone().map(|_| newcomer));
        positions.extend(new);
        (self.positions, self.owners) = (positions, owners);
        self.cut();
    }

    /// Takes the points of a node away; all owners behind it stand one nearer.
    pub(super) fn remove(&mut self, leaver: usize) {
        let leaver = leaver as u32;
        let mut keep = self.owners.iter().map(|&owner| owner != leaver);
        self.positions.retain(|_| keep.next().unwrap_or(false));
        self.owners.retain(|&owner| owner != leaver);
        self.owners.iter_mut().for_each(|owner| *owner -= u32::from(*owner > leaver));
        self.cut();
    }

    fn cut(&mut self) {
        let bits = self.positions.len().next_power_of_two().trailing_zeros().max(1);
        self.shift = u128::BITS - bits;
        let stretches = 1_usize << bits;
        self.starts.clear();
        self.starts.reserve_exact(stretches);
        let mut point = 0;
        for stretch in 0..stretches {
            while self.positions.get(point).is_some_and(|position| ((position >> self.shift) as usize) < stretch) {
                point += 1;
            }
            self.starts.push(point as u32);
        }
    }

    /// The first point at or after this place, going round.
    pub(super) fn next(&self, place: u128) -> usize {
        let mut point = self.starts[(place >> self.shift) as usize] as usize;
        while self.positions.get(point).is_some_and(|&position| position < place) {
            point += 1;
        }
        if point == self.positions.len() { 0 } else { point }
    }

    /// The owner of the next point.
    pub(super) fn owner(&self, place: u128) -> usize {
        self.owners[self.next(place)] as usize
    }

    /// The owners of all points from this place on, once round; the same node several times.
    pub(super) fn owners_from(&self, place: u128) -> impl Iterator<Item = usize> {
        let (before, after) = self.owners.split_at(self.next(place));
        after.iter().chain(before).map(|&owner| owner as usize)
    }

    /// Every point with its owner, in order.
    pub(super) fn points(&self) -> impl Iterator<Item = (u128, usize)> {
        self.positions.iter().zip(&self.owners).map(|(&position, &owner)| (position, owner as usize))
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.positions[..]) + size_of_val(&self.owners[..]) + size_of_val(&self.starts[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_128;

    /// Counted, not timed: among many points each step is a trip to memory.
    #[test]
    fn the_next_point_is_a_step_or_two_away_among_any_number_of_points() {
        for count in [30, 3_000, 300_000] {
            let place = |what: &str, number: u32| xxh3_128(format!("{what} {number}").as_bytes());
            let circle = Continuum::new((0..count).map(|number| (place("point", number), number)).collect());
            let points = count as usize;
            let steps = |key: u128| {
                let start = circle.starts[(key >> circle.shift) as usize] as usize;
                (circle.next(key) + points - start) % points + 1
            };
            let taken: Vec<usize> = (0..10_000).map(|number| steps(place("key", number))).collect();
            let (all, most) = (taken.iter().sum::<usize>(), taken.iter().max().copied());
            assert!(all < 20_000 && most < Some(16), "{count} points: {all} steps for 10,000 keys, {most:?} for one");
        }
    }
}
