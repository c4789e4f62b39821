//! One fact in the log file: `length | crc32c | protobuf`.

use std::io::{BufReader, ErrorKind, Read};

use prost::Message;
use recorder_proto::pb::node::Fact;

/// No fact is near this size; a larger length is a torn or damaged record.
const MAX_RECORD: u32 = 4 << 20;

/// Bytes of a record beside its body.
const HEADER: u64 = 8;

/// Bytes of a fact's record.
pub(super) fn len(fact: &Fact) -> u64 {
    HEADER + fact.encoded_len() as u64
}

/// Whole records from where the input stands, one by one: a log may be larger than memory.
pub(super) struct Reader<R> {
    input: BufReader<R>,
    body: Vec<u8>,
    /// Bytes of whole records so far.
    pub(super) valid: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), body: Vec::new(), valid: 0 }
    }

    /// The next one; none at the end, and where a record is torn or damaged.
    pub(super) fn next(&mut self) -> std::io::Result<Option<Fact>> {
        let mut header = [[0; 4]; 2];
        for field in &mut header {
            if !filled(self.input.read_exact(field))? {
                return Ok(None);
            }
        }
        let [length, crc] = header.map(u32::from_le_bytes);
        // Eight zero bytes, which a crash can leave at the end of a file, would be a whole record of an empty fact.
        if length == 0 || length > MAX_RECORD {
            return Ok(None);
        }
        self.body.resize(length as usize, 0);
        if !filled(self.input.read_exact(&mut self.body))? || crc32c::crc32c(&self.body) != crc {
            return Ok(None);
        }
        let Ok(fact) = Fact::decode(self.body.as_slice()) else { return Ok(None) };
        self.valid += HEADER + u64::from(length);
        Ok(Some(fact))
    }
}

fn filled(read: std::io::Result<()>) -> std::io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Adds the record of `fact` to `bytes`.
pub(super) fn put(fact: &Fact, bytes: &mut Vec<u8>) {
    let body = fact.encode_to_vec();
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
}
