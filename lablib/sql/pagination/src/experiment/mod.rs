//! What the notebook does with pages: the prototypes' unequal benchmarks, depth, ties, walks, drift, forgeries, an outage.

#![allow(missing_docs, reason = "a field is documented where its name leaves something open")]

mod depth;
mod drift;
mod forged;
mod forms;
mod outage;
mod people;
mod unequal;
mod walk;

pub use depth::{DepthSpec, PageAt, Way, depths, straight};
pub use drift::{DriftSpec, drift, moved};
pub use forged::forgeries;
pub use forms::form_costs;
pub use outage::outage;
pub use people::{Order, People, people, server};
pub use unequal::{Unequal, first_prototype, second_prototype};
pub use walk::{walk_all, walk_by_key, without_tie_breaker};
