//! Checking in: hand every traveller a seat, once, while everybody asks at the same moment.
//!
//! A [`Flight`] is a table of seats, a [`Desk`] a connection that checks travellers in, in one of several [`Way`]s.
//!
//! - A seat that a traveller was told of is that traveller's, on disk, and nobody else was told of it: by every way but
//!   [`Way::NoLock`], which is here to be looked at.
//! - A traveller has at most one seat, by the key of [`Rules::OneSeatEach`]. Who checks in twice, from wherever, though the
//!   flight is full by then or the first answer was lost, is told the same seat twice; a group, the same seats.
//! - "Full" means that every seat is taken for good, and by others: by every way but [`Way::SkipLocked`], which also says it of
//!   a seat that somebody has only locked and may yet give back.
//! - A traveller whose payment fails or panics leaves no seat taken; one whose connection breaks before the answer has a whole
//!   seat or none.
//! - A group is seated side by side, all of it, or not at all.

mod audit;
mod desk;
pub mod experiment;
mod flight;
mod group;
mod seat;
mod seat_map;

pub use audit::{Audit, Told};
pub use desk::{Boarding, Desk, Way};
pub use flight::{Flight, Rules};
use lab::Drawing;
pub use seat::{Layout, Seat};
pub use seat_map::{SeatMap, seat_maps};

/// Two travellers who look before either has written.
pub fn picture() -> Drawing {
    let plain =
        "Traveller 1 finds seat 1A free, then traveller 2 does; both write themselves into it, and both are told so.\n";
    Drawing::committed("Between finding and writing there is a moment", include_str!("picture.svg"), plain)
}
