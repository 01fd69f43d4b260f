//! Groups: each member for themselves, or all together.

use crate::{Audit, Desk, Flight, Layout, Rules, Seat, SeatMap, Told, Way};
use lab::service::MariaDb;
use lab::{Crowd, Error, OrFail, Result, Rng};

/// What came of the groups.
#[derive(Debug, Clone)]
pub struct Seated {
    pub groups: u64,
    /// Groups that got seats, all of them.
    pub seated: u64,
    /// … of these, how many sit side by side, by the table: what they were told is one thing, where they sit another.
    pub together: u64,
    /// Groups of which some have a seat and some have none.
    pub torn: u64,
    /// Groups that were sent away although a row had room for them, in the end.
    pub sent_away: u64,
    /// What was told, against the table.
    pub audit: Audit,
    pub map: SeatMap,
}

/// Groups of two to four fill a cabin from several desks: once each member by themselves, once as a group.
pub fn groups(server: &MariaDb, layout: Layout, desks: usize, seed: u64) -> [Seated; 2] {
    let mut rng = Rng::seeded(seed, "groups");
    let (mut groups, mut next): (Vec<Vec<u64>>, u64) = (Vec::new(), 1);
    // A few more than there is room for.
    while next <= u64::from(layout.seats()) * 11 / 10 {
        let size = 2 + rng.below(3);
        groups.push((next..next + size).collect());
        next += size;
    }
    [false, true].map(|together| seat_all(server, layout, &groups, desks, seed, together).or_fail())
}

impl Seated {
    /// Of the groups that have all their seats, the share that sits side by side, in percent; no number where no group has.
    pub fn share(&self) -> f64 {
        100.0 * self.together as f64 / self.seated as f64
    }
}

type Answer = (usize, Vec<Seat>, f64);

fn seat_all(
    server: &MariaDb,
    layout: Layout,
    groups: &[Vec<u64>],
    desks: usize,
    seed: u64,
    together: bool,
) -> Result<Seated> {
    if desks == 0 {
        return Err(Error::new("seat groups", "it takes a desk"));
    }
    let flight = Flight::create(server, "groups", layout, Rules::OneSeatEach)?;
    let own = |desk: usize| groups.iter().enumerate().skip(desk).step_by(desks);
    let ran = Crowd::of(desks)
        .with(|number| {
            let rng = Rng::seeded(seed, &format!("group desk {number}"));
            Ok((Desk::open(server, &flight, Way::SkipThenWait, rng)?, own(number), Vec::new()))
        })
        .times_each(|number| own(number).count() as u64)
        .run(|(desk, own, answers), call| {
            let Some((index, group)) = own.next() else { return Ok(()) };
            let seats = match together {
                true => desk.check_in_group(group)?.unwrap_or_default(),
                false => {
                    let each = group.iter().map(|&traveller| Ok(desk.check_in(traveller)?.seat()));
                    each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
                }
            };
            answers.push((index, seats, call.now()));
            Ok(())
        })?;
    let answers: Vec<Answer> = ran.states.into_iter().flat_map(|(.., answers)| answers).collect();
    let table = flight.seats(server)?;
    flight.drop(server)?;
    let told: Vec<Told> = answers
        .iter()
        .flat_map(|(index, seats, at)| {
            groups[*index].iter().zip(seats).map(|(&traveller, &seat)| Told { traveller, seat, at: *at })
        })
        .collect();
    let size = |index: usize| groups[index].len();
    let seated: Vec<&Answer> = answers.iter().filter(|(index, seats, _)| seats.len() == size(*index)).collect();
    // In the table's order, which is that of the seats.
    let beside = |index: usize| {
        let taken: Vec<Seat> = table
            .iter()
            .filter(|(_, traveller)| traveller.is_some_and(|traveller| groups[index].contains(&traveller)))
            .map(|(seat, _)| *seat)
            .collect();
        taken.len() == size(index)
            && taken.windows(2).all(|pair| pair[0].row() == pair[1].row() && pair[1].number() == pair[0].number() + 1)
    };
    let room = longest_run(layout, &table);
    let audit = Audit::of(&told, &table);
    Ok(Seated {
        groups: groups.len() as u64,
        seated: seated.len() as u64,
        together: seated.iter().filter(|(index, ..)| beside(*index)).count() as u64,
        torn: answers.iter().filter(|(index, seats, _)| !seats.is_empty() && seats.len() < size(*index)).count() as u64,
        sent_away: answers.iter().filter(|(index, seats, _)| seats.is_empty() && size(*index) <= room).count() as u64,
        audit,
        map: SeatMap { caption: if together { "as a group" } else { "each member alone" }.into(), layout, told },
    })
}

/// The most free seats side by side that are left.
fn longest_run(layout: Layout, seats: &[(Seat, Option<u64>)]) -> usize {
    let rows = seats.chunks(layout.abreast() as usize);
    let longest = rows.map(|row| row.split(|(_, traveller)| traveller.is_some()).map(<[_]>::len).max().unwrap_or(0));
    longest.max().unwrap_or(0)
}
