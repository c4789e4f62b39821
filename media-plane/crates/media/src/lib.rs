//! What flows between ingest and muxers: frames, codec configurations and one continuous timeline. No I/O.

mod config;
mod frame;
pub mod ingest;
mod time;

pub use config::{AacConfig, AvcConfig, Codec, CodecConfig, ConfigError};
pub use frame::{Frame, Gap, GapReason, TrackKind};
pub use time::MediaTime;
