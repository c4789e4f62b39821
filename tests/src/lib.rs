//! The harness: real binaries, real publishers, real judges. A test reads as a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod attack;
pub mod bucket;
pub mod cluster;
pub mod load;
pub mod probe;
pub mod process;
pub mod publisher;
pub mod scene;
pub mod wait;
