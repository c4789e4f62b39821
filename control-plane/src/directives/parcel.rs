//! Directives as they travel: read and encoded once, and shared by the streams of all nodes. Two hundred nodes that join
//! at once get the same bytes.
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{self, WireType};
use recorder_proto::pb::node::stream_directives_response::{Delta, Snapshot};
use recorder_proto::pb::node::{Directive, StreamDirectivesResponse};

/// Directives of one part of everything, in bytes. Small, because every stream has a part of its own in the buffers of
/// its connection, and those are what a slow node costs.
pub const SNAPSHOT_CHUNK_BYTES: usize = 64 << 10;

/// Directives of one delta, in bytes: well below the 4 MiB that gRPC clients accept by default. Larger than a part of
/// everything, because each delta is answered.
pub const DELTA_CHUNK_BYTES: usize = 1 << 20;

/// Field numbers of `StreamDirectivesResponse`.
const SNAPSHOT_FIELD: u32 = 4;
const DELTA_FIELD: u32 = 5;

/// Field number of the directives in a snapshot and in a delta.
const DIRECTIVES_FIELD: u32 = 1;

/// Field number of the version in a directive.
const VERSION_FIELD: u32 = 2;

/// Names of directives.
pub type Names = BTreeSet<String>;

/// Everything, or the effect of one transaction.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The version after it.
    pub version: u64,
    /// For every node, in make-before-break order.
    pub(super) chunks: Vec<Chunk>,
    /// Commands, each with the one node (bare id) that it is for.
    pub(super) commands: Vec<(String, Directive)>,
    /// Names of directives that are gone.
    pub(super) removed: Vec<String>,
    /// Every name that it tells all nodes about.
    pub(super) names: Arc<Names>,
}

/// Encoded directives that go into one message.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) names: Arc<Names>,
}

impl Parcel {
    /// Bytes that it holds.
    pub fn length(&self) -> usize {
        let removed: usize = self.removed.iter().map(String::len).sum();
        self.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>() + removed
    }
}

/// Puts a parcel together.
#[derive(Debug)]
pub struct Packing {
    limit: usize,
    /// Who may publish, which goes first.
    policies: Open,
    /// What is recorded.
    others: Open,
    commands: Vec<(String, Directive)>,
    /// Whether each chunk knows its own names, or only the parcel all of them.
    answered_by_chunk: bool,
}

/// Chunks of one order.
#[derive(Debug, Default)]
struct Open {
    done: Vec<(BytesMut, Names)>,
}

impl Packing {
    /// Of everything: answered as a whole.
    pub fn everything() -> Self {
        Self::new(SNAPSHOT_CHUNK_BYTES, false)
    }

    /// Of one transaction: each chunk is answered.
    pub fn delta() -> Self {
        Self::new(DELTA_CHUNK_BYTES, true)
    }

    fn new(limit: usize, answered_by_chunk: bool) -> Self {
        let (policies, others) = (Open::default(), Open::default());
        Self { limit, policies, others, commands: Vec::new(), answered_by_chunk }
    }

    /// Adds an encoded directive (without its version) for every node.
    pub fn add(&mut self, name: &str, version: u64, encoded: &[u8]) {
        let open = if super::names::order(name) == 0 { &mut self.policies } else { &mut self.others };
        open.add(self.limit, name, version, encoded);
    }

    /// Adds a command for one node (bare id).
    pub fn command(&mut self, node: String, directive: Directive) {
        self.commands.push((node, directive));
    }

    /// Closes the parcel.
    pub fn close(self, version: u64, removed: Vec<String>) -> Parcel {
        let mut all = Names::new();
        let mut chunks = Vec::new();
        let mut packed = self.policies.done;
        let mut others = self.others.done.into_iter();
        if let Some((mut bytes, mut names)) = others.next() {
            match packed.last_mut().filter(|(last, _)| last.len() + bytes.len() <= self.limit) {
                // What fits into one message is one message.
                Some(last) => {
                    last.0.put_slice(&bytes.split());
                    last.1.append(&mut names);
                }
                None => packed.push((bytes, names)),
            }
        }
        for (bytes, mut names) in packed.into_iter().chain(others) {
            let bytes = bytes.freeze();
            if !self.answered_by_chunk {
                all.append(&mut names);
            }
            chunks.push(Chunk { bytes, names: Arc::new(names) });
        }
        all.extend(removed.iter().cloned());
        Parcel { version, chunks, commands: self.commands, removed, names: Arc::new(all) }
    }
}

impl Open {
    fn add(&mut self, limit: usize, name: &str, version: u64, encoded: &[u8]) {
        let (tag, number) = (encoding::key_len(VERSION_FIELD), encoding::encoded_len_varint(version));
        let length = encoded.len() + tag + number;
        if self.done.last().is_none_or(|(bytes, _)| bytes.len() + length > limit) {
            self.done.push((BytesMut::new(), Names::new()));
        }
        let Some((bytes, names)) = self.done.last_mut() else { return };
        encoding::encode_key(DIRECTIVES_FIELD, WireType::LengthDelimited, bytes);
        encoding::encode_varint(length as u64, bytes);
        bytes.put_slice(encoded);
        // Fields may come in any order: what is stored needs not be read to be told.
        encoding::encode_key(VERSION_FIELD, WireType::Varint, bytes);
        encoding::encode_varint(version, bytes);
        names.insert(name.to_owned());
    }
}

/// One message on its way to a node.
#[derive(Debug)]
pub enum Outgoing {
    /// A message of this stream alone.
    Own(StreamDirectivesResponse),
    /// A part of a parcel.
    Part(Part),
}

/// A part of a parcel, with what is this node's own.
#[derive(Debug)]
pub struct Part {
    nonce: String,
    version: u64,
    field: u32,
    shared: Bytes,
    /// The other fields of the snapshot or delta; fields may come one by one.
    own: Vec<u8>,
}

impl Part {
    /// A part of everything.
    pub(super) fn of_snapshot(nonce: String, version: u64, shared: Bytes, own: &Snapshot) -> Self {
        Self { nonce, version, field: SNAPSHOT_FIELD, shared, own: own.encode_to_vec() }
    }

    /// A part of a delta.
    pub(super) fn of_delta(nonce: String, version: u64, shared: Bytes, own: &Delta) -> Self {
        Self { nonce, version, field: DELTA_FIELD, shared, own: own.encode_to_vec() }
    }
}

impl Outgoing {
    /// By which it is to be acknowledged; empty = it needs no answer.
    pub fn nonce(&self) -> &str {
        match self {
            Self::Own(message) => &message.nonce,
            Self::Part(part) => &part.nonce,
        }
    }

    /// Writes the encoded message.
    pub fn encode(&self, buffer: &mut impl BufMut) {
        let part = match self {
            Self::Own(message) => return message.encode_raw(buffer),
            Self::Part(part) => part,
        };
        let (nonce, version) = (part.nonce.clone(), part.version);
        StreamDirectivesResponse { nonce, version, lease: None, message: None }.encode_raw(buffer);
        encoding::encode_key(part.field, WireType::LengthDelimited, buffer);
        encoding::encode_varint((part.shared.len() + part.own.len()) as u64, buffer);
        buffer.put_slice(&part.shared);
        buffer.put_slice(&part.own);
    }

    /// The message, decoded.
    ///
    /// # Errors
    /// Never, unless the database holds directives that cannot be decoded.
    pub fn message(&self) -> Result<StreamDirectivesResponse, prost::DecodeError> {
        match self {
            Self::Own(message) => Ok(message.clone()),
            Self::Part(_) => {
                let mut buffer = BytesMut::new();
                self.encode(&mut buffer);
                StreamDirectivesResponse::decode(buffer.freeze())
            }
        }
    }
}
