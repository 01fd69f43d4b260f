//! Nothing: this crate is a list of features, in its manifest.
