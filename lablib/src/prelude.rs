//! What a notebook needs: `use lablib::prelude::*;`.

pub use std::time::Duration;

pub use crate::edge;
pub use crate::identity;
pub use crate::lab;
pub use crate::lab::{
    Chart, Claim, Doing, Error, Experiment, Figure, Frame, Guess, Latency, Link, Machine, OpenLoop, OrFail, Prediction,
    Progress, Rng, Samples, Scale, Show, Table, Trial, readable, significant,
};
pub use crate::placing;
pub use crate::sql;
