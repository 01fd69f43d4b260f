//! Who holds a connection, and since when: a leak is a borrower at the top of this list who stays there.

use std::panic::Location;
use std::time::{Duration, Instant};

/// A connection that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Borrowed {
    /// The line of code that asked for it.
    pub at: &'static Location<'static>,
    /// How long ago it was lent.
    pub held_for: Duration,
}

/// The list, by a number that each borrower keeps.
#[derive(Debug, Default)]
pub(super) struct Lent {
    places: Vec<Option<(&'static Location<'static>, Instant)>>,
    free: Vec<usize>,
}

impl Lent {
    pub fn add(&mut self, at: &'static Location<'static>, since: Instant) -> usize {
        let entry = Some((at, since));
        match self.free.pop() {
            Some(place) => {
                self.places[place] = entry;
                place
            }
            None => {
                self.places.push(entry);
                self.places.len() - 1
            }
        }
    }

    pub fn remove(&mut self, place: usize) {
        if let Some(entry) = self.places.get_mut(place)
            && entry.take().is_some()
        {
            self.free.push(place);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The longest first.
    pub fn list(&self) -> Vec<Borrowed> {
        let held = self.places.iter().flatten();
        let mut list: Vec<Borrowed> = held.map(|(at, since)| Borrowed { at, held_for: since.elapsed() }).collect();
        list.sort_by_key(|borrowed| std::cmp::Reverse(borrowed.held_for));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_borrower_comes_first_and_places_are_used_again() {
        let (mut lent, here) = (Lent::default(), Location::caller());
        let now = Instant::now();
        let [young, old] = [5, 50].map(|ms| now.checked_sub(Duration::from_millis(ms)).unwrap_or(now));
        let first = lent.add(here, young);
        lent.add(here, old);
        assert!(lent.list()[0].held_for >= Duration::from_millis(50));
        lent.remove(first);
        lent.remove(first);
        assert_eq!(lent.list().len(), 1);
        assert_eq!(lent.add(here, now), first);
        assert_eq!((lent.list().len(), lent.count()), (2, 2));
    }
}
