//! What a fuzzer asserts of journals.

use crate::decode::decode;
use crate::journal::{self, Entry, MAGIC};
use crate::state::State;
use crate::{ObjectState, OutputKey, StoredOutput};

/// Reads any bytes as a journal, and then as bodies of records with right checksums (`length u16, body` each): neither
/// panics, and what is made of them holds together.
///
/// # Panics
///
/// When it does not.
pub fn journal(bytes: &[u8]) {
    let raw = decode(bytes);
    assert!(raw.end <= bytes.len());
    let mut framed = MAGIC.to_vec();
    let mut rest = bytes;
    while let Some(([low, high], after)) = rest.split_first_chunk::<2>() {
        let (body, after) = after.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(after.len()));
        framed.extend_from_slice(&(body.len() as u32).to_le_bytes());
        framed.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        framed.extend_from_slice(body);
        rest = after;
    }
    let found = decode(&framed);
    again(&found.entries);
    hold_together(&replay(&found.entries));
    hold_together(&replay(&raw.entries));
}

/// What was read is written the same way.
fn again(entries: &[Entry]) {
    let mut bytes = MAGIC.to_vec();
    entries.iter().for_each(|entry| journal::encode(entry, &mut bytes));
    let decoded = decode(&bytes);
    assert_eq!(decoded.holes, 0);
    // Version 1 extents are written as version 2, which says the same.
    assert_eq!(decoded.entries, entries);
}

fn replay(entries: &[Entry]) -> StoredOutput {
    let mut state = State::remembering();
    entries.iter().for_each(|entry| state.replay(entry));
    state.replayed();
    state.stored(&OutputKey { recording: "R".into(), epoch: 1, format: "flv".into() })
}

fn hold_together(output: &StoredOutput) {
    for object in &output.objects {
        if let ObjectState::Open { bytes, mark } = &object.state {
            assert!(mark.is_some() || *bytes == 0, "bytes without a mark");
            assert!(mark.is_some() || object.notes.is_empty(), "notes without a mark");
        }
    }
}
