//! Airline check-in: seats handed out under concurrency.
