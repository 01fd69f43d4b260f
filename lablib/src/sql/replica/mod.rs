//! Read replicas.
