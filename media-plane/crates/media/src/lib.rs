//! What flows between ingest and muxers: frames, codec configurations and one continuous timeline. No I/O.

pub mod aac;
mod avc;
mod bits;
mod config;
mod frame;
pub mod h264;
pub mod ingest;
mod time;

pub use config::{AacConfig, AvcConfig, Codec, CodecConfig, ConfigError};
pub use frame::{Frame, Gap, GapReason, TrackKind};
pub use time::MediaTime;
