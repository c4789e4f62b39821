//! Directive messages as little decoded as a node that is only counted needs: two hundred nodes on one machine would
//! otherwise measure themselves.

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use recorder_proto::pb::node::StreamDirectivesRequest;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// `StreamDirectivesResponse` with its directives still encoded.
#[derive(Clone, PartialEq, Message)]
pub struct Heard {
    /// To be acknowledged by.
    #[prost(string, tag = "1")]
    pub nonce: String,
    /// Of the directive log.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// A part of everything.
    #[prost(message, optional, tag = "4")]
    pub snapshot: Option<Snapshot>,
    /// What has changed.
    #[prost(message, optional, tag = "5")]
    pub delta: Option<Delta>,
}

/// A part of everything.
#[derive(Clone, PartialEq, Message)]
pub struct Snapshot {
    /// Encoded directives.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub directives: Vec<Bytes>,
    /// The last part.
    #[prost(bool, tag = "2")]
    pub last: bool,
}

/// What has changed.
#[derive(Clone, PartialEq, Message)]
pub struct Delta {
    /// Encoded directives.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub upserts: Vec<Bytes>,
}

/// A message and its length on the wire.
pub type Sized = (Heard, usize);

/// The codec of that.
#[derive(Debug, Clone, Copy)]
pub struct Shallow;

impl Codec for Shallow {
    type Encode = StreamDirectivesRequest;
    type Decode = Sized;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Shallow {
    type Item = StreamDirectivesRequest;
    type Error = Status;

    fn encode(&mut self, item: StreamDirectivesRequest, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

impl Decoder for Shallow {
    type Item = Sized;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Sized>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let length = bytes.len();
        let heard = Heard::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some((heard, length)))
    }
}
