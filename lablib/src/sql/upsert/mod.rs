//! Insert or update.
