//! What flows between ingest and muxers: frames, codec configurations and one continuous timeline. No I/O.

pub mod aac;
mod avc;
mod bits;
mod config;
mod frame;
pub mod h264;
pub mod health;
pub mod ingest;
mod lineup;
pub mod opus;
mod time;
pub mod timeline;

pub use config::{AacConfig, AvcConfig, Codec, CodecConfig, ConfigError, OpusConfig};
pub use frame::{Frame, Gap, GapReason, TrackKind};
pub use lineup::{Lineup, Presence, Tracks};
pub use time::MediaTime;
pub use timeline::{Timed, Timeline};
