//! What an instance knows about a slot, asked inside the transaction that depends on it.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::route::Slot;

/// What an instance may do with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing is here.
    Absent = 0,
    /// Reads and writes.
    Serving = 1,
    /// Reads and writes, and each write notes the user in the change log: the slot is being copied away.
    Captured = 2,
    /// A copy is being made here. Nobody but its mover may look at it.
    Incoming = 3,
    /// It was here; the rows wait to be removed.
    Released = 4,
}

impl State {
    pub(crate) fn serves(self) -> bool {
        matches!(self, Self::Serving | Self::Captured)
    }
}

impl From<u8> for State {
    fn from(number: u8) -> Self {
        let all = [Self::Absent, Self::Serving, Self::Captured, Self::Incoming, Self::Released];
        all.get(usize::from(number)).copied().unwrap_or(Self::Absent)
    }
}

/// A slot's fence as one instance has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) slot: Slot,
    pub(crate) state: State,
    pub(crate) epoch: u64,
    pub(crate) token: u64,
    pub(crate) next_owner: Option<String>,
}

type Row = (Slot, u8, u64, u64, Option<String>);

impl From<Row> for Fence {
    fn from((slot, state, epoch, token, next_owner): Row) -> Self {
        Self { slot, state: state.into(), epoch, token, next_owner }
    }
}

/// Inside a transaction that is about to write: the fence, held until the transaction ends, so that no hand-over can come
/// between the look and the write.
pub(crate) fn hold(connection: &mut Conn, slot: Slot) -> mysql::Result<Option<Fence>> {
    let sql = "SELECT slot, state, epoch, token, next_owner FROM fences WHERE slot = ? LOCK IN SHARE MODE";
    Ok(connection.exec_first::<Row, _, _>(sql, (slot,))?.map(Fence::from))
}

/// Inside a mover's transaction: these fences, in the order of their slots, against everybody else.
pub(crate) fn seize(connection: &mut Conn, slots: &[Slot]) -> mysql::Result<Vec<Fence>> {
    look(connection, slots, "FOR UPDATE")
}

/// These fences, as they were last committed.
pub(crate) fn glance(connection: &mut Conn, slots: &[Slot]) -> mysql::Result<Vec<Fence>> {
    look(connection, slots, "")
}

fn look(connection: &mut Conn, slots: &[Slot], how: &str) -> mysql::Result<Vec<Fence>> {
    let columns = "slot, state, epoch, token, next_owner";
    let sql = format!("SELECT {columns} FROM fences WHERE slot IN ({}) ORDER BY slot {how}", list(slots));
    Ok(connection.query::<Row, _>(sql)?.into_iter().map(Fence::from).collect())
}

/// Slots as SQL writes them; never empty.
pub(crate) fn list(slots: &[Slot]) -> String {
    let all: Vec<String> = slots.iter().map(Slot::to_string).collect();
    if all.is_empty() { "NULL".into() } else { all.join(",") }
}
