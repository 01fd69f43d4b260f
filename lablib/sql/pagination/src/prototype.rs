//! What the prototypes measured: the same statements, with the same faults. See the seeds' section 4.
//!
//! Both compared work that is not the same: one fetched a page by OFFSET and a single row by key, the other a million rows by
//! OFFSET and a hundred by key. Neither said ORDER BY.

/// What they published of the time for a page: by which statement, and each page by the rows before it and its milliseconds.
pub const PUBLISHED: [(&str, &[(f64, f64)]); 4] = [
    ("first prototype, OFFSET", &[(0.0, 64.8), (1e5, 101.5), (1e6, 429.2), (5e6, 2_105.1), (1e7, 4_153.7)]),
    ("first prototype: one row by key", &[(1e7, 3.4)]),
    (
        "second prototype, OFFSET",
        &[(0.0, 1_006.0), (1e6, 1_259.0), (2e6, 1_532.0), (3e6, 1_784.0), (4e6, 2_037.0), (5e6, 2_375.0)],
    ),
    (
        "second prototype: a hundred rows by key",
        &[(0.0, 96.0), (1e6, 90.0), (2e6, 90.0), (3e6, 85.0), (4e6, 86.0), (5e6, 110.0)],
    ),
];

/// A page by OFFSET, as both had it.
pub(super) fn offset(table: &str, offset: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} LIMIT {rows} OFFSET {offset}")
}

/// The first prototype's "keyset page": whatever the LIMIT, one id has one row.
pub(super) fn first_keyset(table: &str, key: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} WHERE id = {key} LIMIT {rows}")
}

/// The second prototype's page by key, with a LIMIT of its own.
pub(super) fn second_cursor(table: &str, last: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} WHERE id > {last} LIMIT {rows}")
}
