//! Every system of the system design lab, and the workbench that measures them.
//!
//! A room is a folder beside this one's `src`, and a system in it is a crate of that name: `placing/sharding`. The room's own crate is
//! the list of them; [`edge`], whose systems share what drives them, is one crate. Imports run one way: notebooks, chapters, [`lab`].
//! Chapters do not import each other, except that any may use `placing` and `identity`: Cargo knows which crate depends on which, and
//! an edit compiles that crate and this map. Here they come together, for notebooks and for the binary `lab`.
//!
//! | room | what is in it | notebooks |
//! |---|---|---|
//! | [`lab`] | the workbench: experiments, claims, measuring, charts, real servers, tools of proof | all |
//! | [`placing::consistent_hashing`] | which node holds a key: modulo, the ring, ketama, rendezvous, jump, maglev, bounded loads | `01-consistent-hashing` |
//! | [`placing::hot_tenants`] | a search index whose tenants differ a thousandfold: routing, and splitting the hot ones | `02-hot-tenants` |
//! | [`placing::redis_slots`] | Redis Cluster: slots, hot keys, moving slots, what a failover loses | `03-redis-slots-and-hot-keys` |
//! | [`placing::sharding`] | users over several SQL servers, and moving them while they are read and written | `04-sharding` |
//! | [`identity::snowflake`] | unique, sortable ids that many machines make without asking each other | `05-snowflake-ids` |
//! | [`identity::tickets`] | numbers that somebody hands out: counter files, ranges, ticket servers, ids made in the database | `06-ticket-servers` |
//! | [`identity::key_width`] | what a wide key costs, and what a key out of order costs | `07-key-width` |
//! | [`sql::pagination`] | pages by offset, by key and by deferred join; cursors that cannot be forged | `08-pagination` |
//! | [`sql::upsert`] | insert or update: seven ways that do not mean the same | `09-upsert` |
//! | [`sql::pool`] | connections that are shared: how many, in which order, and what happens when the server is gone | `10-connection-pool` |
//! | [`sql::row_locks`] | which anomaly each isolation level lets through, who waits for whom, and who is the victim | `11-row-locks` |
//! | [`sql::check_in`] | 120 travellers, 120 seats, six ways to hand them out at once | `12-airline-check-in` |
//! | [`sql::replica`] | what a replica lags behind, what a reader notices, and what a failover loses | `13-read-replica` |
//! | [`sql::kv`] | a key-value store on a SQL table: expiry, compare-and-set, routing | `14-kv-on-sql` |
//! | [`edge::limits`] | which limit on connections one machine meets first: descriptors, ports, TIME_WAIT, queues | `41-tcp-limits` |
//! | [`edge::keep_alive`] | a pool of connections that stay open, and what it saves | `41-tcp-limits` |
//! | [`edge::memory`] | what an idle connection costs, in the kernel and in the program | `41-tcp-limits` |
//! | [`edge::threads_and_tasks`] | a thread beside a task: what each costs, and how many there can be | `41-tcp-limits` |
//! | [`edge::echo`] | five ways to serve many connections | `41-tcp-limits` |
//! | [`edge::fleet`] | as many connections as one machine holds, a million of them | `41-tcp-limits` |
//! | [`tour`] | what the tour measures: the price list of round trips, and clients whose servers fail | `00-tour` |
//!
//! A notebook begins with `use lablib::prelude::*;`.

pub use {edge, identity, lab, placing, sql};

pub mod prelude;
pub mod tour;
