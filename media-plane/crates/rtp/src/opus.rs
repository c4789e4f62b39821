//! Opus over RTP (RFC 7587): one packet is one frame.

use std::sync::Arc;

use bytes::Bytes;
use media::{OpusConfig, opus};

/// Samples at 48 kHz by which every encoder built on libopus looks ahead; RTP has no place to say it.
const LOOK_AHEAD: u16 = 312;

/// The configuration of a stream of Opus packets.
pub(crate) fn config(channels: u8) -> Arc<OpusConfig> {
    Arc::new(OpusConfig { channels: channels.clamp(1, 2), pre_skip: LOOK_AHEAD, sample_rate_in: opus::SAMPLE_RATE })
}

/// Length of a packet in samples at 48 kHz; `None` if it is not one.
pub(crate) fn samples(payload: &Bytes) -> Option<u32> {
    opus::packet_samples(payload)
}
