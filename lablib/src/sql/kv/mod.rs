//! A key-value store on SQL.
