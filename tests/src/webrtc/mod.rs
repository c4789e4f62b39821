//! A WebRTC publisher that costs little and does as it is told: encoded films over real WHIP, packet by packet. Also what
//! such a stream costs the node.

mod cost;
mod film;
mod peer;
mod stages;

pub use cost::bench;
pub use film::{Film, Look, Packet};
pub use peer::{Fate, Peer};
