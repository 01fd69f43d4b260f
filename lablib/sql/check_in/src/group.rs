//! Groups that want to sit side by side.

use mysql::prelude::Queryable;
use mysql::{Conn, Error as Said};

use super::desk::{DUPLICATE, Desk};
use super::flight::Flight;
use super::seat::Seat;
use lab::{Error, Result};

impl Desk {
    /// Seats a group side by side in one row: all of it, or nobody (`None`) where no row has room for it. A group that was
    /// seated before is told the same seats.
    ///
    /// Rows are tried in a random order without waiting for locked seats, then one after the other with waiting. A desk
    /// holds locks in one row at a time, so two desks wait for each other in a circle only where the same traveller is in two
    /// groups; the server ends that, and one of them begins again.
    pub fn check_in_group(&mut self, travellers: &[u64]) -> Result<Option<Vec<Seat>>> {
        let layout = self.flight.layout();
        let size = travellers.len();
        let mut different = travellers.to_vec();
        different.sort_unstable();
        different.dedup();
        if size == 0 || size > layout.abreast() as usize || different.len() != size {
            let cause = format!("a group is 1 to {} different travellers, and not {travellers:?}", layout.abreast());
            return Err(Error::new("seat a group", cause).at(self.flight.table()));
        }
        let mut rows: Vec<u32> = (1..=layout.rows()).collect();
        self.rng.shuffle(&mut rows);
        let flight = &self.flight;
        let at = |error: Error| error.at(format!("a group of {size}, {}", flight.table()));
        for (lock, sorted) in [("FOR UPDATE SKIP LOCKED", false), ("FOR UPDATE", true)] {
            if sorted {
                rows.sort_unstable();
            }
            for &row in &rows {
                let seated = self.client.transaction(|connection| sit(connection, flight, travellers, row, lock));
                if let Some(seats) = seated.map_err(at)? {
                    return Ok(Some(seats));
                }
            }
        }
        // There is no room, and one of those who have it may be this group.
        self.client.again(|connection| seats_of(connection, flight, travellers)).map_err(at)
    }
}

/// Takes the first seats of a row that lie side by side and are free; none taken where there are not enough.
fn sit(
    connection: &mut Conn,
    flight: &Flight,
    travellers: &[u64],
    row: u32,
    lock: &str,
) -> Result<Option<Vec<Seat>>, Said> {
    let of_row = flight.layout().of_row(row);
    // By the primary key: the other index would lock free seats of other rows on the way.
    let free: Vec<u32> = connection.query(format!(
        "SELECT seat FROM {} FORCE INDEX (PRIMARY) WHERE flight = 1 AND seat BETWEEN {} AND {} AND traveller IS NULL \
         ORDER BY seat {lock}",
        flight.table(),
        of_row.start(),
        of_row.end()
    ))?;
    let Some(first) = side_by_side(&free, travellers.len()) else {
        connection.query_drop("ROLLBACK")?;
        return Ok(None);
    };
    let mut seats = Vec::with_capacity(travellers.len());
    for (seat, traveller) in (first..).zip(travellers) {
        let taken = connection.query_drop(format!(
            "UPDATE {} SET traveller = {traveller} WHERE flight = 1 AND seat = {seat}",
            flight.table()
        ));
        match taken {
            Ok(()) => seats.extend(flight.layout().seat(seat)),
            // The key says that this traveller has a seat: the whole group, perhaps, who ask again.
            Err(Said::MySqlError(error)) if error.code == DUPLICATE => {
                connection.query_drop("ROLLBACK")?;
                return seats_of(connection, flight, travellers)?
                    .map_or(Err(Said::MySqlError(error)), |seats| Ok(Some(seats)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(seats))
}

/// The seats of a group that was seated as one, in the order of its travellers.
fn seats_of(connection: &mut Conn, flight: &Flight, travellers: &[u64]) -> Result<Option<Vec<Seat>>, Said> {
    let listed: Vec<String> = travellers.iter().map(u64::to_string).collect();
    let rows: Vec<(u64, u32)> = connection.query(format!(
        "SELECT traveller, seat FROM {} WHERE flight = 1 AND traveller IN ({}) ORDER BY seat",
        flight.table(),
        listed.join(", ")
    ))?;
    let numbers: Vec<u32> = rows.iter().map(|(_, seat)| *seat).collect();
    let of = |traveller: &u64| rows.iter().find(|(who, _)| who == traveller).map(|(_, seat)| *seat);
    let seats: Option<Vec<Seat>> =
        travellers.iter().map(|traveller| flight.layout().seat(of(traveller)?).ok()).collect();
    let beside = side_by_side(&numbers, travellers.len()).is_some();
    Ok(seats.filter(|seats| beside && seats.windows(2).all(|pair| pair[0].row() == pair[1].row())))
}

/// The first of so many neighbours.
fn side_by_side(free: &[u32], size: usize) -> Option<u32> {
    free.windows(size)
        .find(|seats| seats.last().zip(seats.first()).is_some_and(|(last, first)| (last - first) as usize == size - 1))?
        .first()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_found_where_there_are_some() {
        assert_eq!(side_by_side(&[1, 2, 4, 5, 6], 3), Some(4));
        assert_eq!(side_by_side(&[1, 2, 4, 5, 6], 2), Some(1));
        assert_eq!(side_by_side(&[1, 3, 5], 2), None);
        assert_eq!(side_by_side(&[3], 1), Some(3));
        assert_eq!(side_by_side(&[], 1), None);
        assert_eq!(side_by_side(&[1, 2], 3), None);
    }
}
