//! What one connection may cost.

use std::time::Duration;

/// Read buffer the shell should use per connection, in bytes.
///
/// Payloads are cut out of this buffer without copying when they lie in it whole, so a frame keeps at most this much
/// alive; larger buffers save no system calls on a real-time stream, where each read returns one frame or less.
pub const READ_BUFFER_BYTES: usize = 16 * 1024;

/// Deadlines and memory limits of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the connection's start to a complete handshake.
    pub handshake_timeout: Duration,
    /// From the handshake to `connect`.
    pub connect_timeout: Duration,
    /// From `connect`, or the end of a publication, to `publish`. Not extended by other commands.
    pub publish_timeout: Duration,
    /// Longest silence while publishing; any complete message ends it.
    pub idle_timeout: Duration,
    /// Largest command before `publish` was accepted, in bytes. `connect` needs less than 2 KiB.
    pub max_command_bytes_before_publish: usize,
    /// Largest command or data message afterwards, in bytes.
    pub max_command_bytes: usize,
    /// Largest audio, video or aggregate message, in bytes.
    pub max_media_bytes: usize,
    /// Memory held for unfinished messages before `publish` was accepted, in bytes.
    pub max_buffered_before_publish: usize,
    /// Memory held for unfinished messages afterwards, in bytes.
    pub max_buffered: usize,
    /// Chunk streams a peer may open. Encoders use 3 to 8.
    pub max_chunk_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            max_command_bytes_before_publish: 16 * 1024,
            max_command_bytes: 64 * 1024,
            max_media_bytes: 8 * 1024 * 1024,
            max_buffered_before_publish: 32 * 1024,
            max_buffered: 10 * 1024 * 1024,
            max_chunk_streams: 64,
        }
    }
}
