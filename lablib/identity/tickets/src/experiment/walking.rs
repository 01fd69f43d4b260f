//! Two ticket servers, and a statement that adds 1.

use crate::{Audit, Issuer, Ledger, Numbering, Skip, Statement, TicketService};
use lab::chart::{Chart, Lines};
use lab::service::MariaDb;
use lab::{OrFail, Result};

/// What one client got from two servers in turn.
#[derive(Debug, Clone)]
pub struct Walked {
    /// The tickets of each server, in order.
    pub tickets: Vec<Vec<u64>>,
    /// All of them, judged.
    pub audit: Audit,
    /// What ended it early, if anything did.
    pub refused: Option<String>,
}

/// A client takes `each` tickets from every server, in turn, with a step left out.
pub fn walked(servers: &[MariaDb], statement: Statement, each: u64, skip: Option<Skip>) -> Walked {
    let run = || -> Result<Walked> {
        let service = TicketService::create(&servers.iter().collect::<Vec<_>>(), statement)?;
        let service = skip.map_or_else(|| service.clone(), |step| service.without(step));
        if skip.is_some() {
            // One at a time from the row before the first ticket would be a walk through the numbers below it.
            for (server, database) in servers.iter().zip(service.databases()) {
                server.try_execute(&format!("DELETE FROM {database}.tickets"))?;
            }
        }
        let mut client = service.client();
        let mut tickets = vec![Vec::new(); servers.len()];
        let mut refused = None;
        for number in 0..each * servers.len() as u64 {
            match client.next_id() {
                Ok(id) => tickets[number as usize % servers.len()].push(id),
                Err(error) => {
                    refused = Some(error.to_string());
                    break;
                }
            }
        }
        let receipt = |id: &u64| crate::Receipt { id: *id, asked: 0, answered: 0 };
        let clients = tickets.iter().map(|list| list.iter().map(receipt).collect()).collect();
        let audit = Ledger { clients, ..Ledger::default() }.audit(Numbering::Shared(servers.len() as u64));
        Ok(Walked { tickets, audit, refused })
    };
    run().or_fail()
}

/// The first tickets of each server.
pub fn walk_chart(walked: &Walked, first: usize, title: &str) -> Lines {
    let chart = Chart::lines(title).x("the server's n-th ticket", "").y("the number on it", "").y_range(0, 2 * first);
    walked.tickets.iter().enumerate().fold(chart, |chart, (server, tickets)| {
        let points = tickets.iter().take(first).enumerate().map(|(index, id)| (index as f64 + 1.0, *id as f64));
        let name = if server == 0 { "server 1, odd".to_string() } else { format!("server {}, even", server + 1) };
        chart.line(name, points)
    })
}
