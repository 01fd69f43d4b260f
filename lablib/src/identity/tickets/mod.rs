//! Ticket servers.
