//! What the prototypes measured: the same statements, with the same faults. See the seeds' section 4.
//!
//! Both compared work that is not the same: one fetched a page by OFFSET and a single row by key, the other a million rows by
//! OFFSET and a hundred by key. Neither said ORDER BY.

/// Seconds of a page by OFFSET, by page number, from the first prototype: pages of 1,000 over 10 million rows.
pub const FIRST_OFFSET: [(u64, f64); 5] =
    [(1, 0.0648), (101, 0.1015), (1_001, 0.4292), (5_001, 2.1051), (10_001, 4.1537)];
/// Seconds of its "keyset page", which has one row.
pub const FIRST_KEYSET: f64 = 0.0034;
/// Milliseconds from the second one, by rows skipped: a million rows by OFFSET.
pub const SECOND_OFFSET: [(u64, f64); 6] = [
    (0, 1_006.0),
    (1_000_000, 1_259.0),
    (2_000_000, 1_532.0),
    (3_000_000, 1_784.0),
    (4_000_000, 2_037.0),
    (5_000_000, 2_375.0),
];
/// And a hundred rows by key.
pub const SECOND_CURSOR: [(u64, f64); 6] =
    [(0, 96.0), (1_000_000, 90.0), (2_000_000, 90.0), (3_000_000, 85.0), (4_000_000, 86.0), (5_000_000, 110.0)];

/// The first prototype's page by OFFSET.
pub(super) fn first_offset(table: &str, page: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} LIMIT {rows} OFFSET {}", page.saturating_sub(1) * rows)
}

/// Its "keyset page": whatever the LIMIT, one id has one row.
pub(super) fn first_keyset(table: &str, key: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} WHERE id = {key} LIMIT {rows}")
}

/// The second prototype's page by OFFSET.
pub(super) fn second_offset(table: &str, offset: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} LIMIT {rows} OFFSET {offset}")
}

/// Its page by key, with a LIMIT of its own.
pub(super) fn second_cursor(table: &str, last: u64, rows: u64) -> String {
    format!("SELECT * FROM {table} WHERE id > {last} LIMIT {rows}")
}
