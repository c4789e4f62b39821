//! The harness: real binaries, real publishers, real judges. A test reads as a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod accounting;
pub mod attack;
pub mod bucket;
pub mod cluster;
pub mod footage;
pub mod link;
pub mod load;
pub mod marker;
pub mod numbered;
pub mod opus;
pub mod prefix;
pub mod probe;
pub mod process;
pub mod publisher;
pub mod reading;
pub mod road;
pub mod scene;
pub mod slow;
pub mod soak;
pub mod stage;
pub mod verify;
pub mod wait;
pub mod webrtc;
pub mod whip;
pub mod world;
