//! Opus over RTP (RFC 7587): one packet is one frame.

use std::sync::Arc;

use bytes::Bytes;
use media::{OpusConfig, opus};

/// The configuration of a stream of Opus packets. RTP says neither what a decoder should skip at the start nor what was
/// encoded.
pub(crate) fn config(channels: u8) -> Arc<OpusConfig> {
    Arc::new(OpusConfig { channels: channels.clamp(1, 2), pre_skip: 0, sample_rate_in: 0 })
}

/// Length of a packet in samples at 48 kHz; `None` if it is not one.
pub(crate) fn samples(payload: &Bytes) -> Option<u32> {
    opus::packet_samples(payload)
}
