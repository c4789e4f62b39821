//! RTMP messages: type ids, protocol control payloads, and the splitting of aggregates.

use bytes::{Buf, Bytes};

use crate::error::SessionError;

/// Message type ids (RTMP 1.0 sections 5.4, 7.1).
#[allow(missing_docs)]
pub mod kind {
    pub const SET_CHUNK_SIZE: u8 = 1;
    pub const ABORT: u8 = 2;
    pub const ACKNOWLEDGEMENT: u8 = 3;
    pub const USER_CONTROL: u8 = 4;
    pub const WINDOW_ACK_SIZE: u8 = 5;
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const DATA_AMF3: u8 = 15;
    pub const COMMAND_AMF3: u8 = 17;
    pub const DATA_AMF0: u8 = 18;
    pub const COMMAND_AMF0: u8 = 20;
    pub const AGGREGATE: u8 = 22;
}

/// User control events (RTMP 1.0 section 7.1.7).
pub(crate) mod user_control {
    pub(crate) const STREAM_BEGIN: u16 = 0;
    pub(crate) const PING_REQUEST: u16 = 6;
    pub(crate) const PING_RESPONSE: u16 = 7;
}

/// A complete message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Type id, see [`kind`].
    pub kind: u8,
    /// Absolute time in milliseconds, modulo 2^32.
    pub timestamp: u32,
    /// Message stream id.
    pub stream_id: u32,
    /// Body.
    pub payload: Bytes,
}

impl Message {
    /// The big-endian 32-bit number a control message starts with.
    pub(crate) fn control_value(&self) -> Result<u32, SessionError> {
        self.payload
            .first_chunk::<4>()
            .map(|bytes| u32::from_be_bytes(*bytes))
            .ok_or(SessionError::ControlTooShort { kind: self.kind, length: self.payload.len() })
    }
}

/// The messages inside an aggregate (RTMP 1.0 section 7.1.6), split one at a time.
///
/// Their timestamps are moved by the difference between the aggregate's and its first message's. What does not parse
/// ends the aggregate: the bytes after it cannot be found.
#[derive(Debug)]
pub struct Aggregate {
    rest: Bytes,
    timestamp: u32,
    stream_id: u32,
    offset: Option<u32>,
}

impl Aggregate {
    /// Over the payload of a message of type [`kind::AGGREGATE`].
    pub fn new(message: Message) -> Self {
        Self { rest: message.payload, timestamp: message.timestamp, stream_id: message.stream_id, offset: None }
    }

    /// Bytes not split yet.
    pub fn remaining_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Aggregate {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        const HEADER: usize = 11;
        const BACK_POINTER: usize = 4;
        let header = self.rest.first_chunk::<HEADER>()?;
        let [kind, l0, l1, l2, t0, t1, t2, t3, _, _, _] = *header;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let timestamp = u32::from_be_bytes([t3, t0, t1, t2]);
        if self.rest.len() < HEADER + length {
            self.rest.clear();
            return None;
        }
        self.rest.advance(HEADER);
        let payload = self.rest.split_to(length);
        self.rest.advance(self.rest.len().min(BACK_POINTER));
        let offset = *self.offset.get_or_insert_with(|| self.timestamp.wrapping_sub(timestamp));
        Some(Message { kind, timestamp: timestamp.wrapping_add(offset), stream_id: self.stream_id, payload })
    }
}
