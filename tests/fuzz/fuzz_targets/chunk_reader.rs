//! Chunk streams: no panic, memory follows what was sent, and at most half a header stays unread.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rtmp::{ChunkReader, Limits, Policy, kind};

/// What an unfinished message may hold before its bytes come.
const TRUST: usize = 64 * 1024;
const LONGEST_HEADER: usize = 18;

fuzz_target!(|data: &[u8]| {
    let Some((options, bytes)) = data.split_first() else { return };
    let limits = Limits::default();
    let policy = if options & 1 == 0 { Policy::publishing(&limits) } else { Policy::before_publish(&limits) };
    let step = usize::from(options >> 1).max(1);
    let mut reader = ChunkReader::new(policy);
    let mut input = BytesMut::new();
    for piece in bytes.chunks(step) {
        input.extend_from_slice(piece);
        loop {
            match reader.read(&mut input) {
                Ok(Some(message)) if message.kind == kind::SET_CHUNK_SIZE => {
                    if let Some(size) = message.payload.first_chunk::<4>() {
                        let _ = reader.set_chunk_size(u32::from_be_bytes(*size));
                    }
                }
                Ok(Some(message)) if message.kind == kind::ABORT => {
                    if let Some(csid) = message.payload.first_chunk::<4>() {
                        reader.abort(u32::from_be_bytes(*csid));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(input.len() < LONGEST_HEADER, "{} bytes stay", input.len());
        assert!(reader.buffered_bytes() <= policy.max_buffered);
        assert!(reader.buffered_bytes() <= 2 * bytes.len() + TRUST, "{} bytes held", reader.buffered_bytes());
    }
});
