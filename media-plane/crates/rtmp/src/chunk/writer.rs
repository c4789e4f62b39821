//! Chunks out of messages.

use super::header::EXTENDED;
use crate::message::Message;

/// How to cut a message into chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Chunk stream id, 2 to 65 599.
    pub(crate) csid: u32,
    /// Type of the first chunk's header, 0 to 3.
    pub(crate) format: u8,
    /// What the first header's time field says: absolute for type 0, else the step.
    pub(crate) time: u32,
    /// Payload bytes per chunk; not 0.
    pub(crate) chunk_size: usize,
    /// Whether type 3 headers repeat an extended timestamp.
    pub(crate) repeat_extended: bool,
}

impl Layout {
    /// A full header, as everything the server sends has.
    pub(crate) fn full(csid: u32, time: u32, chunk_size: usize) -> Self {
        Self { csid, format: 0, time, chunk_size, repeat_extended: true }
    }

    /// The chunks of `message`, each with its header.
    pub(crate) fn chunks(self, message: &Message) -> Vec<Vec<u8>> {
        let mut pieces: Vec<&[u8]> = message.payload.chunks(self.chunk_size.max(1)).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let mut format = self.format;
        pieces
            .into_iter()
            .map(|piece| {
                let mut chunk = self.header(format, message);
                chunk.extend_from_slice(piece);
                format = 3;
                chunk
            })
            .collect()
    }

    fn header(self, format: u8, message: &Message) -> Vec<u8> {
        let mut out = basic(format, self.csid);
        let extended = self.time >= EXTENDED;
        if format < 3 {
            out.extend_from_slice(&low24(if extended { EXTENDED } else { self.time }));
        }
        if format < 2 {
            out.extend_from_slice(&low24(u32::try_from(message.payload.len()).unwrap_or(EXTENDED)));
            out.push(message.kind);
        }
        if format == 0 {
            out.extend_from_slice(&message.stream_id.to_le_bytes());
        }
        if extended && (format < 3 || self.repeat_extended) {
            out.extend_from_slice(&self.time.to_be_bytes());
        }
        out
    }
}

fn basic(format: u8, csid: u32) -> Vec<u8> {
    let format = format << 6;
    match csid {
        0..64 => vec![format | csid as u8],
        64..320 => vec![format, (csid - 64) as u8],
        _ => {
            let [low, high, ..] = csid.saturating_sub(64).to_le_bytes();
            vec![format | 1, low, high]
        }
    }
}

fn low24(value: u32) -> [u8; 3] {
    let [_, a, b, c] = value.to_be_bytes();
    [a, b, c]
}
