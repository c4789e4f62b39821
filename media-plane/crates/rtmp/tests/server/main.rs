//! The session as a server sees it: bytes in, events and answers out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod attacks;
mod chunks;
mod codecs;
mod commands;
mod deadlines;
mod enhanced;
mod handshakes;
mod memory;
mod names;
mod peer;
mod pictures;
mod properties;
mod sound;
