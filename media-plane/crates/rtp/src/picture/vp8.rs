//! VP8 over RTP (RFC 7741).

use bytes::Bytes;

use super::unit::Unit;

/// What the payload descriptor says (RFC 7741, 4.2), and where the picture goes on.
struct Descriptor {
    /// The packet begins a frame: its first partition.
    begins: bool,
    /// Other frames may build on this one.
    is_reference: bool,
    length: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Option<Self> {
        let &first = payload.first()?;
        let mut length = 1;
        if first & 0x80 != 0 {
            let &extensions = payload.get(1)?;
            length = 2;
            if extensions & 0x80 != 0 {
                // A picture number of 7 or 15 bits.
                length += if payload.get(length)? & 0x80 != 0 { 2 } else { 1 };
            }
            length += usize::from(extensions & 0x40 != 0) + usize::from(extensions & 0x30 != 0);
        }
        let begins = first & 0x10 != 0 && first & 7 == 0;
        (payload.len() > length).then_some(Self { begins, is_reference: first & 0x20 == 0, length })
    }
}

/// Whether the packet is the first of a frame.
pub(super) fn begins_frame(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_some_and(|descriptor| descriptor.begins)
}

/// Whether other frames may build on the one of this packet.
pub(super) fn is_reference(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_none_or(|descriptor| descriptor.is_reference)
}

/// Adds a part of a frame. False when it does not parse.
pub(super) fn take_payload(unit: &mut Unit, payload: &Bytes) -> bool {
    let Some(Descriptor { begins, is_reference, length }) = Descriptor::parse(payload) else {
        return unit.spoil();
    };
    let part = payload.get(length..).unwrap_or_default();
    unit.is_reference |= is_reference;
    // One frame a timestamp, and its beginning first.
    if begins == unit.has_slice {
        return unit.spoil();
    }
    if begins {
        unit.has_slice = true;
        // The lowest bit of the frame tag is clear in key frames (RFC 6386, 9.1).
        unit.restarts = part.first().is_some_and(|tag| tag & 1 == 0);
    }
    unit.append(part)
}
