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

pub use depth::{DepthSpec, PageAt, WAYS, depths, last_over_first, straight, times};
pub use drift::{Drift, DriftSpec, drift, drift_chart, moved};
pub use forged::{Forgery, forgeries, forgery_table};
pub use forms::{form_chart, form_costs};
pub use outage::{Outage, outage};
pub use people::{Order, People, people, server};
pub use unequal::{Unequal, first_prototype, second_prototype};
pub use walk::{walk_all, walk_by_key, without_tie_breaker};
