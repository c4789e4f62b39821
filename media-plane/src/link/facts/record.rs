//! One fact in the log file: `length | crc32c | protobuf`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;

use prost::Message;
use recorder_proto::pb::node::Fact;

/// No fact is near this size; a larger length is a torn or damaged record.
const MAX_RECORD: u32 = 4 << 20;

/// What a log file holds.
pub(super) struct Replayed {
    pub(super) facts: VecDeque<Fact>,
    /// Bytes of whole records from the start.
    pub(super) valid: u64,
    /// Bytes after them: torn or damaged.
    pub(super) cut: u64,
}

/// Reads whole records from where the file stands.
pub(super) fn replay(file: &mut File) -> std::io::Result<Replayed> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut facts = VecDeque::new();
    let mut rest = bytes.as_slice();
    while let Some((fact, tail)) = next(rest) {
        facts.push_back(fact);
        rest = tail;
    }
    Ok(Replayed { facts, valid: (bytes.len() - rest.len()) as u64, cut: rest.len() as u64 })
}

fn next(bytes: &[u8]) -> Option<(Fact, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    // Eight zero bytes, which a crash can leave at the end of a file, would be a whole record of an empty fact.
    if length == 0 || length > MAX_RECORD {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length as usize)?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then_some(())?;
    Some((Fact::decode(body).ok()?, rest))
}

/// Adds the record of `fact` to `bytes`.
pub(super) fn put(fact: &Fact, bytes: &mut Vec<u8>) {
    let body = fact.encode_to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
}
