//! What comes in: RTP packets as their transport has taken them apart (RFC 3550, 5.1).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// One RTP packet after decryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Payload type, as negotiated in SDP.
    pub payload_type: u8,
    /// The marker bit: usually the last packet of a picture.
    pub marker: bool,
    /// Sequence number.
    pub sequence_number: u16,
    /// Media timestamp in ticks of the payload format's clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// `sdes:rtp-stream-id` (RFC 8852) when this packet carries one; only the first ones of a stream have to.
    pub rid: Option<Arc<str>>,
    /// The payload without padding; empty for a packet of nothing but padding.
    pub payload: Bytes,
    /// When it was received, on the session's monotonic clock.
    pub arrival: Duration,
}

/// What a payload type stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// H.264, packetization modes 0 and 1 (RFC 6184), 90 kHz.
    H264 {
        /// `sprop-parameter-sets` of the SDP, decoded: parameter sets that need not come in band. May be empty.
        parameter_sets: Vec<Bytes>,
    },
    /// H.265 (RFC 7798), 90 kHz.
    H265 {
        /// `sprop-vps`, `sprop-sps` and `sprop-pps` of the SDP, decoded. May be empty.
        parameter_sets: Vec<Bytes>,
    },
    /// AV1 (RTP Payload Format for AV1, version 1.0), 90 kHz.
    Av1,
    /// VP9 (RFC 9628), 90 kHz.
    Vp9,
    /// VP8 (RFC 7741), 90 kHz.
    Vp8,
    /// Opus (RFC 7587), 48 kHz.
    Opus {
        /// Channels to decode to: 1 or 2. 2 unless the SDP says that the sender never sends stereo.
        channels: u8,
    },
    /// Retransmissions of another payload type (RFC 4588) in a stream of their own.
    Retransmission {
        /// `apt`: the payload type of what is repeated.
        primary: u8,
    },
}
