//! What flows between ingest and muxers: frames, codec configurations and one continuous timeline. No I/O.

pub mod aac;
pub mod av1;
mod avc;
mod bits;
mod config;
mod frame;
pub mod h264;
pub mod h265;
pub mod health;
mod hevc;
pub mod ingest;
mod lineup;
pub mod opus;
mod time;
pub mod timeline;
pub mod vpx;

pub use config::{AacConfig, Av1Config, AvcConfig, Codec, CodecConfig, ConfigError, HevcConfig, OpusConfig, VpxConfig};
pub use frame::{Frame, Gap, GapReason, TrackKind};
pub use lineup::{Lineup, Presence, Tracks};
pub use time::MediaTime;
pub use timeline::{Timed, Timeline};
