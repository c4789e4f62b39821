//! What a session hands on: packets as they came, with the moment they came.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

/// One RTP packet, decrypted; retransmissions look like the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Payload type.
    pub payload_type: u8,
    /// Marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence_number: u16,
    /// Timestamp, in ticks of the codec's clock.
    pub timestamp: u32,
    /// Stream it belongs to.
    pub ssrc: u32,
    /// Simulcast layer, when the publisher names them.
    pub layer: Option<Arc<str>>,
    /// Payload without padding; empty in a packet that is padding only.
    pub payload: Bytes,
    /// When it was read from the socket.
    pub at: Instant,
}

/// What an RTCP sender report says about clocks (RFC 3550, section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderReport {
    /// Stream it is about.
    pub ssrc: u32,
    /// The sender's wall clock, in 1/2^32 s since 1900.
    pub ntp_time: u64,
    /// The same moment in the stream's ticks.
    pub rtp_time: u32,
    /// When it was read from the socket.
    pub at: Instant,
}

/// How a key frame is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFrameRequest {
    /// Picture loss indication (RFC 4585, section 6.3.1).
    PictureLoss,
    /// Full intra request (RFC 5104, section 4.3.1), for senders that do not know the other one.
    FullIntra,
}
