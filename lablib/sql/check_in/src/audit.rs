//! What travellers were told, against what the table says.

use std::collections::{BTreeMap, BTreeSet};

use super::seat::Seat;

/// Somebody was told of a seat.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// The traveller's number.
    pub traveller: u64,
    /// The seat that the traveller was told of.
    pub seat: Seat,
    /// When, in seconds since the doors opened.
    pub at: f64,
}

/// Whether travellers and seats belong together one to one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audit {
    /// Seats with somebody in them.
    pub filled: u64,
    /// Seats without.
    pub empty: u64,
    /// Travellers who were told of a seat.
    pub told: u64,
    /// Seats that more than one traveller was told of.
    pub double_booked: u64,
    /// Travellers whose seat is not theirs.
    pub without_seat: u64,
    /// Travellers with more than one seat.
    pub with_two: u64,
    /// Seats whose traveller was never told of them.
    pub untold: u64,
}

impl Audit {
    /// Compares what was told with the table.
    pub fn of(told: &[Told], seats: &[(Seat, Option<u64>)]) -> Self {
        let mut by_seat: BTreeMap<Seat, BTreeSet<u64>> = BTreeMap::new();
        let mut by_traveller: BTreeMap<u64, Vec<Seat>> = BTreeMap::new();
        for one in told {
            by_seat.entry(one.seat).or_default().insert(one.traveller);
        }
        let mut untold = 0;
        for (seat, traveller) in seats.iter().filter_map(|(seat, traveller)| Some((seat, (*traveller)?))) {
            by_traveller.entry(traveller).or_default().push(*seat);
            untold += u64::from(!by_seat.get(seat).is_some_and(|told| told.contains(&traveller)));
        }
        let has = |one: &Told| by_traveller.get(&one.traveller).is_some_and(|seats| seats.contains(&one.seat));
        let without: BTreeSet<u64> = told.iter().filter(|one| !has(one)).map(|one| one.traveller).collect();
        let travellers: BTreeSet<u64> = told.iter().map(|one| one.traveller).collect();
        let filled = seats.iter().filter(|(_, traveller)| traveller.is_some()).count() as u64;
        Self {
            filled,
            empty: seats.len() as u64 - filled,
            told: travellers.len() as u64,
            double_booked: by_seat.values().filter(|travellers| travellers.len() > 1).count() as u64,
            without_seat: without.len() as u64,
            with_two: by_traveller.values().filter(|seats| seats.len() > 1).count() as u64,
            untold,
        }
    }

    /// Faults of any kind: 0 where every traveller who was told of a seat has it, alone, and only that.
    pub fn faults(&self) -> u64 {
        self.double_booked + self.without_seat + self.with_two + self.untold
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::seat::Layout;
    use super::*;

    fn audit(told: &[(u64, u32)], seats: &[Option<u64>]) -> Audit {
        let layout = Layout::new(1, 4).unwrap();
        let told: Vec<Told> = told
            .iter()
            .map(|&(traveller, seat)| Told { traveller, seat: layout.seat(seat).unwrap(), at: 0.0 })
            .collect();
        let seats: Vec<_> =
            (1..).zip(seats).map(|(seat, traveller)| (layout.seat(seat).unwrap(), *traveller)).collect();
        Audit::of(&told, &seats)
    }

    #[test]
    fn one_to_one_is_without_fault_and_everything_else_is_named() {
        assert_eq!(audit(&[(7, 1), (8, 2)], &[Some(7), Some(8), None]).faults(), 0);
        // Told twice of the same seat: checked in twice, and no harm.
        assert_eq!(audit(&[(7, 1), (7, 1)], &[Some(7)]).faults(), 0);
        let double = audit(&[(7, 1), (8, 1)], &[Some(8), None]);
        assert_eq!((double.double_booked, double.without_seat, double.faults()), (1, 1, 2));
        let lost = audit(&[(7, 1)], &[None, None]);
        assert_eq!((lost.without_seat, lost.empty, lost.faults()), (1, 2, 1));
        let two = audit(&[(7, 1), (7, 2)], &[Some(7), Some(7)]);
        assert_eq!((two.with_two, two.told, two.faults()), (1, 1, 1));
        let untold = audit(&[], &[Some(7)]);
        assert_eq!((untold.untold, untold.filled, untold.faults()), (1, 1, 1));
        let swapped = audit(&[(7, 1), (8, 2)], &[Some(8), Some(7)]);
        assert_eq!((swapped.without_seat, swapped.untold), (2, 2));
    }
}
