//! Why a session ended against the peer's will. Each message names the rule that was broken.

use media::ingest::EndCause;

use crate::amf0::AmfError;

/// What the session was waiting for when time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// C0, C1 and C2.
    Handshake,
    /// The `connect` command.
    Connect,
    /// The `publish` command.
    Publish,
    /// The next message of a publication.
    Media,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Handshake => "the handshake was not completed",
            Self::Connect => "no connect command came",
            Self::Publish => "no publish command came",
            Self::Media => "nothing came from the publisher",
        })
    }
}

/// The session is over; [`crate::Session::take_output`] still holds what to tell the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// C0 is not 3.
    #[error("rtmp version {0} is not supported, only version 3 is")]
    Version(u8),
    /// Set Chunk Size outside 1..=0x7fffffff (RTMP 1.0 section 5.4.1).
    #[error("chunk size {0} is outside 1..=2147483647")]
    ChunkSize(u32),
    /// More chunk streams than [`crate::Limits::max_chunk_streams`].
    #[error("more than {limit} chunk streams are open")]
    TooManyChunkStreams {
        /// The limit.
        limit: usize,
    },
    /// A compressed chunk header with nothing to refer to (RTMP 1.0 section 5.3.1.2).
    #[error("chunk stream {csid} starts with a type {format} header, which refers to an earlier one")]
    NoPreviousHeader {
        /// Chunk stream id.
        csid: u32,
        /// Header type 2 or 3.
        format: u8,
    },
    /// An announced message length above its limit.
    #[error("message of type {kind} announces {length} bytes, more than {limit}")]
    MessageTooLarge {
        /// Message type id.
        kind: u8,
        /// Announced bytes.
        length: usize,
        /// Allowed bytes.
        limit: usize,
    },
    /// Unfinished messages together exceed the limit.
    #[error("unfinished messages hold more than {limit} bytes")]
    BufferFull {
        /// Allowed bytes.
        limit: usize,
    },
    /// A protocol control message that is too short for its type.
    #[error("control message of type {kind} has only {length} bytes")]
    ControlTooShort {
        /// Message type id.
        kind: u8,
        /// Bytes it has.
        length: usize,
    },
    /// A command that is not valid AMF0.
    #[error("command is not valid amf0: {0}")]
    Amf(#[from] AmfError),
    /// A command without what it must carry.
    #[error("{command} lacks {what}")]
    Incomplete {
        /// Which command.
        command: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// A command out of order.
    #[error("{command} came {when}")]
    OutOfOrder {
        /// Which command.
        command: &'static str,
        /// Relative to what.
        when: &'static str,
    },
    /// The peer asks faster than it reads the answers.
    #[error("more than {limit} bytes of answers are waiting to be read")]
    OutputFull {
        /// Allowed bytes.
        limit: usize,
    },
    /// A deadline passed.
    #[error("{0} before the deadline")]
    TimedOut(Phase),
}

impl SessionError {
    /// What this error means for a publication that was running.
    pub fn end_cause(&self) -> EndCause {
        match self {
            Self::TimedOut(Phase::Media) => EndCause::IdleTimeout,
            other => EndCause::ProtocolError(other.to_string()),
        }
    }
}
