//! What goes in is heard again, where it belongs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod drift;
mod garbage;
mod holes;
mod lab;
mod places;
mod stages;
