//! Money moves between accounts: locked as they come, or in the order of their numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use mysql::prelude::Queryable;

use super::make_table;
use crate::{Client, Retry, Tries};
use lab::service::{Counters, MariaDb};
use lab::{Crowd, Doing, Error, Frame, Result, Rng};

const TABLE: &str = "accounts";
/// Every transfer, written down in the transaction that makes it.
const BOOKS: &str = "books";
/// Coins in each account at first.
const EACH: i64 = 1_000;

/// Lets `clients` make `each` transfers between random accounts, once in each `order` of locking: accounts as they come, and the lower
/// number first. A row for each: transfers that were `done`, `deadlocks` as the clients counted them and `as the server counts`; coins that
/// an account has more or fewer than its transfers say, of all accounts (`off`); transfers that were acknowledged and are not in the books
/// (`missing`), and those that are there, and that nobody was told of, or only once of two (`untold`); and `seconds`.
pub fn transfers(server: &MariaDb, clients: usize, accounts: u64, each: u64, seed: u64) -> Result<Frame> {
    if accounts < 2 || clients == 0 || each == 0 {
        return Err(Error::new("move money", "it takes two accounts, a client and a transfer"));
    }
    [("as they come", false), ("lower number first", true)]
        .into_iter()
        .map(|(order, ordered)| Ok(arm(server, clients, accounts, each, seed, ordered)?.everywhere("order", "", order)))
        .collect()
}

/// Deadlocks by the server's count.
fn deadlocks(server: &MariaDb) -> Result<f64> {
    let counters = Counters::of_server(server)?;
    counters.get("Innodb_deadlocks").or_else(|_| counters.get("lock_deadlocks"))
}

/// A transfer, as it is in the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Transfer {
    client: u64,
    number: u64,
    from: u64,
    to: u64,
    amount: i64,
}

/// What does not agree: coins off, and transfers missing and untold. Looks at each transfer and each account by itself: two faults that
/// make up for each other are two.
fn audit(told: &[Transfer], booked: &[Transfer], balances: &BTreeMap<u64, i64>) -> (u64, u64, u64) {
    let count = |all: &[Transfer]| {
        all.iter().fold(BTreeMap::<Transfer, u64>::new(), |mut counts, one| {
            *counts.entry(*one).or_default() += 1;
            counts
        })
    };
    let beyond = |these: &[Transfer], those: &[Transfer]| -> u64 {
        let those = count(those);
        count(these).iter().map(|(one, times)| times.saturating_sub(those.get(one).copied().unwrap_or(0))).sum()
    };
    let mut should: BTreeMap<u64, i64> = balances.keys().map(|account| (*account, EACH)).collect();
    for one in told {
        *should.entry(one.from).or_insert(EACH) -= one.amount;
        *should.entry(one.to).or_insert(EACH) += one.amount;
    }
    let off = |(account, should): (&u64, &i64)| balances.get(account).copied().unwrap_or(0).abs_diff(*should);
    (should.iter().map(off).sum(), beyond(told, booked), beyond(booked, told))
}

fn arm(server: &MariaDb, clients: usize, accounts: u64, each: u64, seed: u64, ordered: bool) -> Result<Frame> {
    let rows = (0..accounts).map(|id| format!("({id}, {EACH})"));
    make_table(server, TABLE, "id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL", rows)?;
    let columns = "entry BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, client INT NOT NULL, number INT NOT NULL, \
                   payer INT NOT NULL, payee INT NOT NULL, amount BIGINT NOT NULL";
    make_table(server, BOOKS, columns, [])?;
    let before = deadlocks(server)?;
    let ran = Crowd::of(clients)
        .with(|client| {
            let rng = |of: &str| Rng::seeded(seed, &format!("{of} {client}"));
            Ok((Client::connect(server, Retry::default(), rng("pauses"))?, rng("transfers"), Vec::new()))
        })
        .times(each)
        .within(Duration::from_secs(900))
        .run(|(client, rng, told), call| {
            let from = rng.below(accounts);
            let to = (from + 1 + rng.below(accounts - 1)) % accounts;
            let amount = 1 + rng.below(20) as i64;
            let one = Transfer { client: call.client() as u64, number: call.number(), from, to, amount };
            transfer(client, one, ordered)?;
            told.push(one);
            Ok(())
        })?;
    let of_all = |count: fn(Tries) -> u64| ran.states.iter().map(|(client, ..)| count(client.tries())).sum::<u64>();
    let (done, met) = (of_all(|tries| tries.done), of_all(|tries| tries.deadlocks));
    let told: Vec<Transfer> = ran.states.iter().flat_map(|(.., made)| made).copied().collect();
    let counted = deadlocks(server)? - before;
    let doing = "read the books";
    let mut connection = server.connect()?;
    let books = format!("SELECT client, number, payer, payee, amount FROM {BOOKS}");
    let entry = |(client, number, from, to, amount)| Transfer { client, number, from, to, amount };
    let booked = connection.query_map(books, entry).doing(doing)?;
    let balances: Vec<(u64, i64)> = connection.query(format!("SELECT id, balance FROM {TABLE}")).doing(doing)?;
    server.try_execute(&format!("DROP TABLE {TABLE}, {BOOKS}"))?;
    let (off, missing, untold) = audit(&told, &booked, &balances.into_iter().collect());
    Ok(Frame::new()
        .numbers("seconds", "s", [ran.seconds])
        .counts("done", "", [done])
        .counts("deadlocks", "", [met])
        .numbers("as the server counts", "", [counted])
        .counts("off", "", [off])
        .counts("missing", "", [missing])
        .counts("untold", "", [untold]))
}

fn transfer(client: &mut Client, one: Transfer, ordered: bool) -> Result<()> {
    let Transfer { client: who, number, from, to, amount } = one;
    let in_order = if ordered { [from.min(to), from.max(to)] } else { [from, to] };
    client.transaction(|connection| {
        let mut balances = Vec::new();
        for account in in_order {
            let balance: Option<i64> =
                connection.query_first(format!("SELECT balance FROM {TABLE} WHERE id = {account} FOR UPDATE"))?;
            balances.push((account, balance.unwrap_or(0)));
        }
        for (account, balance) in balances {
            let balance = if account == from { balance - amount } else { balance + amount };
            connection.query_drop(format!("UPDATE {TABLE} SET balance = {balance} WHERE id = {account}"))?;
        }
        connection.query_drop(format!(
            "INSERT INTO {BOOKS} (client, number, payer, payee, amount) VALUES ({who}, {number}, {from}, {to}, {amount})"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_that_make_up_for_each_other_are_faults() {
        let one = |number: u64, amount: i64| Transfer { client: 0, number, from: 0, to: 1, amount };
        let balances = |here: i64, there: i64| BTreeMap::from([(0, EACH + here), (1, EACH + there)]);
        let told = [one(0, 5), one(1, 5)];
        let faults = |booked: &[Transfer], balances: BTreeMap<u64, i64>| audit(&told, booked, &balances);
        assert_eq!(faults(&told, balances(-10, 10)), (0, 0, 0));
        // One is missing and the other one was made twice: the books have as many as were told, and the money is right.
        assert_eq!(faults(&[one(1, 5), one(1, 5)], balances(-10, 10)), (0, 1, 1));
        // One account has lost what the other one has won.
        assert_eq!(faults(&told, balances(-5, 5)), (10, 0, 0));
        assert_eq!(faults(&[one(0, 5)], BTreeMap::new()), (2 * EACH as u64, 1, 0));
    }
}
