//! Messages out of chunks: per chunk stream the last header and the unfinished message.

use bytes::{Buf, BytesMut};

use super::header::{Basic, Explicit, repeats_timestamp};
use super::partial::{Budget, Partial};
use crate::error::SessionError;
use crate::limits::Limits;
use crate::message::{Message, kind};

/// Chunk size before any Set Chunk Size.
const DEFAULT_CHUNK_SIZE: usize = 128;
/// Enough for every control message of the specification; the longest is 10 bytes.
const MAX_CONTROL_BYTES: usize = 256;
/// Trusted on announcement before and after `publish`.
const EAGER_BYTES: (usize, usize) = (1024, 64 * 1024);

/// Which messages are kept, and how large they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Media and data messages are wanted; otherwise their bytes are passed over.
    pub media: bool,
    /// Largest command, in bytes; data messages above it are passed over.
    pub max_command_bytes: usize,
    /// Largest audio, video or aggregate message, in bytes.
    pub max_media_bytes: usize,
    /// Memory for unfinished messages, in bytes.
    pub max_buffered: usize,
    /// Chunk streams.
    pub max_chunk_streams: usize,
}

impl Policy {
    /// Before `publish` was accepted: commands only.
    pub fn before_publish(limits: &Limits) -> Self {
        Self {
            media: false,
            max_command_bytes: limits.max_command_bytes_before_publish,
            max_media_bytes: limits.max_media_bytes,
            max_buffered: limits.max_buffered_before_publish,
            max_chunk_streams: limits.max_chunk_streams,
        }
    }

    /// After it.
    pub fn publishing(limits: &Limits) -> Self {
        Self {
            media: true,
            max_command_bytes: limits.max_command_bytes,
            max_media_bytes: limits.max_media_bytes,
            max_buffered: limits.max_buffered,
            max_chunk_streams: limits.max_chunk_streams,
        }
    }

    /// How to treat a message that is about to begin.
    fn admit(&self, message_kind: u8, length: usize) -> Result<Partial, SessionError> {
        let too_large = |limit| Err(SessionError::MessageTooLarge { kind: message_kind, length, limit });
        match message_kind {
            kind::SET_CHUNK_SIZE..=kind::SET_PEER_BANDWIDTH if length > MAX_CONTROL_BYTES => {
                too_large(MAX_CONTROL_BYTES)
            }
            kind::COMMAND_AMF0 | kind::COMMAND_AMF3 if length > self.max_command_bytes => {
                too_large(self.max_command_bytes)
            }
            kind::SET_CHUNK_SIZE..=kind::SET_PEER_BANDWIDTH | kind::COMMAND_AMF0 | kind::COMMAND_AMF3 => {
                Ok(Partial::collect(length))
            }
            _ if length > self.max_media_bytes => too_large(self.max_media_bytes),
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE if self.media => Ok(Partial::collect(length)),
            kind::DATA_AMF0 | kind::DATA_AMF3 if self.media && length <= self.max_command_bytes => {
                Ok(Partial::collect(length))
            }
            _ => Ok(Partial::skip(length)),
        }
    }
}

/// One chunk stream.
#[derive(Debug)]
struct ChunkStream {
    csid: u32,
    /// Absolute time of the current or last message, in milliseconds.
    timestamp: u32,
    /// What a type 3 header that starts a message adds.
    delta: u32,
    /// Whether the last explicit header had an extended timestamp, so that type 3 headers may repeat it.
    extended: bool,
    length: usize,
    kind: u8,
    stream_id: u32,
    /// Between messages, when none is under way.
    open: bool,
    partial: Partial,
}

impl ChunkStream {
    fn new(csid: u32) -> Self {
        Self {
            csid,
            timestamp: 0,
            delta: 0,
            extended: false,
            length: 0,
            kind: 0,
            stream_id: 0,
            open: false,
            partial: Partial::Idle,
        }
    }

    /// Applies a header of type 0, 1 or 2.
    fn apply(&mut self, header: &Explicit) {
        self.timestamp = match header.stream_id {
            Some(_) => header.time,
            None => self.timestamp.wrapping_add(header.time),
        };
        // RTMP 1.0 section 5.3.1.2.4: after a type 0 header, type 3 adds that header's time.
        self.delta = header.time;
        self.extended = header.extended;
        if let Some((length, kind)) = header.shape {
            self.length = length;
            self.kind = kind;
        }
        if let Some(stream_id) = header.stream_id {
            self.stream_id = stream_id;
        }
    }

    fn message(&self, payload: bytes::Bytes) -> Message {
        Message { kind: self.kind, timestamp: self.timestamp, stream_id: self.stream_id, payload }
    }
}

/// The chunk whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Current {
    /// Index of its stream.
    stream: usize,
    /// Payload bytes still to come.
    left: usize,
}

/// Reassembles messages from interleaved chunks.
#[derive(Debug)]
pub struct ChunkReader {
    chunk_size: usize,
    policy: Policy,
    budget: Budget,
    streams: Vec<ChunkStream>,
    current: Option<Current>,
}

impl ChunkReader {
    /// With the protocol's default chunk size of 128 bytes.
    pub fn new(policy: Policy) -> Self {
        let mut reader = Self {
            chunk_size: DEFAULT_CHUNK_SIZE,
            policy,
            budget: Budget::default(),
            streams: Vec::new(),
            current: None,
        };
        reader.set_policy(policy);
        reader
    }

    /// Changes what is kept from the next message on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.budget.limit = policy.max_buffered;
        self.budget.eager = if policy.media { EAGER_BYTES.1 } else { EAGER_BYTES.0 };
    }

    /// Set Chunk Size, from the next chunk on. Zero and values with the top bit set are errors; no message is longer
    /// than 2^24 bytes, so larger sizes mean "one chunk".
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), SessionError> {
        if size == 0 || size > 0x7fff_ffff {
            return Err(SessionError::ChunkSize(size));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    /// Abort: the message under way on this chunk stream will not be continued.
    pub fn abort(&mut self, csid: u32) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.csid == csid) {
            stream.partial.abandon(&mut self.budget);
            stream.open = false;
        }
    }

    /// Bytes allocated for unfinished messages.
    pub fn buffered_bytes(&self) -> usize {
        self.budget.used
    }

    /// The next whole message that is wanted, or `None` when `input` holds no more. At most 17 bytes stay in `input`
    /// then.
    ///
    /// # Errors
    /// The chunk stream broke a rule or a limit; nothing after it can be understood.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Message>, SessionError> {
        loop {
            let Some(current) = self.current.take() else {
                if !self.read_header(input)? {
                    return Ok(None);
                }
                continue;
            };
            let Some(stream) = self.streams.get_mut(current.stream) else { continue };
            if let Some(payload) = stream.partial.take_whole(input, current.left) {
                stream.open = false;
                return Ok(Some(stream.message(payload)));
            }
            let taken = stream.partial.take(input, current.left, &mut self.budget)?;
            if taken < current.left {
                self.current = Some(Current { left: current.left - taken, ..current });
                return Ok(None);
            }
            if stream.partial.missing() == 0 {
                stream.open = false;
                if let Some(payload) = stream.partial.finish(&mut self.budget) {
                    return Ok(Some(stream.message(payload)));
                }
            }
        }
    }

    /// Reads a chunk's header and sets `current`; false when it has not come whole.
    fn read_header(&mut self, input: &mut BytesMut) -> Result<bool, SessionError> {
        let Some(basic) = Basic::parse(input) else { return Ok(false) };
        let rest = input.get(basic.size..).unwrap_or_default();
        let known = self.streams.iter().position(|stream| stream.csid == basic.csid);
        if known.is_none() {
            if self.streams.len() >= self.policy.max_chunk_streams {
                return Err(SessionError::TooManyChunkStreams { limit: self.policy.max_chunk_streams });
            }
            // Type 1 is let through: librtmp sends its first ping response so.
            if basic.format >= 2 {
                return Err(SessionError::NoPreviousHeader { csid: basic.csid, format: basic.format });
            }
        }
        if basic.format == 3 {
            let Some(index) = known else { return Ok(false) };
            let Some(stream) = self.streams.get_mut(index) else { return Ok(false) };
            let next = stream.timestamp.wrapping_add(if stream.open { 0 } else { stream.delta });
            let mut size = basic.size;
            if stream.extended {
                match repeats_timestamp(rest, &[stream.delta, next]) {
                    None => return Ok(false),
                    Some(true) => size += 4,
                    Some(false) => {}
                }
            }
            stream.timestamp = next;
            input.advance(size);
            return self.begin_chunk(index);
        }
        let Some(header) = Explicit::parse(basic.format, rest) else { return Ok(false) };
        let index = known.unwrap_or_else(|| {
            self.streams.push(ChunkStream::new(basic.csid));
            self.streams.len() - 1
        });
        if let Some(stream) = self.streams.get_mut(index) {
            // An explicit header starts a message; one that was under way is abandoned.
            stream.partial.abandon(&mut self.budget);
            stream.open = false;
            stream.apply(&header);
        }
        input.advance(basic.size + header.size);
        self.begin_chunk(index)
    }

    /// Starts the payload of a chunk whose header is consumed.
    fn begin_chunk(&mut self, index: usize) -> Result<bool, SessionError> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(false) };
        if !stream.open {
            stream.partial = self.policy.admit(stream.kind, stream.length)?;
            stream.open = true;
        }
        let left = stream.partial.missing().min(self.chunk_size);
        self.current = Some(Current { stream: index, left });
        Ok(true)
    }
}
