//! Key width and order.
