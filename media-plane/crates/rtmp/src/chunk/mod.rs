//! Chunk streams (RTMP 1.0 section 5.3): messages out of interleaved chunks, and back.

mod header;
mod partial;
mod reader;
pub(crate) mod writer;

pub use reader::{ChunkReader, Policy};
