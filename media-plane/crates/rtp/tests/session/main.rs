//! Sessions against simulated publishers, in simulated time. Every random choice comes from a seed, which is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bits;
mod captured;
mod changes;
mod clocks;
mod codecs;
mod hostile;
mod hour;
mod judge;
mod keyframes;
mod layers;
mod packets;
mod publisher;
mod reordering;
mod world;

/// The seed of a test: from `RTP_SEED` to replay one, else fixed per test.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("RTP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    println!("RTP_SEED={seed}");
    seed
}
