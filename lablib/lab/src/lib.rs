//! The workbench that every experiment stands on. It knows no system.
//!
//! | what | where |
//! |---|---|
//! | a run, its claims and its verdict | [`Experiment`], [`Prediction`], [`Claim`] |
//! | its parameters, the reader's guesses, its answer | [`knob`], [`mod@guess`], [`answer`] |
//! | measuring | [`Trial`], [`Crowd`], [`Samples`], [`Latency`], [`OpenLoop`] |
//! | asking what was measured | [`Frame`]; and [`polars`], for whatever it has no word for |
//! | showing | [`chart`], [`Table`], [`Drawing`], [`Progress`] |
//! | real servers | [`service`], and [`mod@link`] in front of them |
//! | processes and networks of their own | [`errand`], [`Network`] |
//! | proving | [`history`], [`clock`], [`disk`], [`crash`] |
//! | repeating | [`Scale`], [`Rng`], [`Weighted`], [`Machine`] |
//!
//! Whatever a notebook's cell calls returns a value, or ends the cell with one sentence: a `Result` at the top level of a
//! cell would pass unseen. Everything below returns [`Result`], with the one [`Error`].

pub mod answer;
pub mod chart;
mod claim;
pub mod clock;
pub mod crash;
mod crowd;
pub mod disk;
pub mod display;
mod drawing;
pub mod errand;
mod error;
mod experiment;
mod frame;
pub mod freshness;
mod gallery;
pub mod guess;
pub mod history;
mod kept;
pub mod knob;
mod latency;
pub mod link;
mod machine;
mod network;
mod number;
mod outline;
pub mod paths;
mod progress;
mod random;
pub mod runtime;
mod samples;
mod scale;
pub mod service;
pub mod session;
mod style;
pub mod sync;
mod table;
mod trial;

pub use answer::Answer;
pub use chart::{Chart, Figure};
pub use claim::{Claim, Claiming, Prediction, claims_as_html};
pub use crowd::{Call, Crowd, Ran};
pub use display::Show;
pub use drawing::Drawing;
pub use error::{Doing, Error, OrFail, Result, joined};
pub use experiment::{Experiment, Verdict};
pub use frame::{Frame, Grouped, Row, Value};
pub use guess::Guess;
pub use kept::verdicts;
pub use knob::Knob;
pub use latency::{Latency, Load, OpenLoop};
pub use link::{Link, link};
pub use machine::Machine;
pub use network::Network;
pub use number::{readable, significant};
pub use progress::Progress;
pub use random::{Rng, Weighted};
pub use samples::Samples;
pub use scale::{Scale, seed_from_env};
pub use service::{
    kafka, mysql, mysql_instances, mysql_replicated, private_mysql, private_redis_cluster, redis, redis_cluster,
};
pub use style::STYLE;
pub use table::Table;
pub use trial::{Figures, Plan, Standing, Trial};

/// What [`Chart::plotters`] draws with.
pub use plotters;
/// What a [`Frame`] is made of.
pub use polars;
