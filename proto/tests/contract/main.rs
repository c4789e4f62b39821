//! The contract itself: house rules over the descriptor set, and a snapshot that only grows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod lint;
mod reference;
mod snapshot;
mod walk;
