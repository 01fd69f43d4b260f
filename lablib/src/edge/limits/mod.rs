//! What one machine holds.
