//! lablib as one dynamic library, for notebook cells.
//!
//! A crate of its own, because linking what tests and benches use takes seconds, while building lablib a second time with
//! another crate type would compile all of it again.

pub use lablib::*;
