//! Packets on a byte stream (RFC 4571), as ICE-TCP carries them: two bytes of length before each.

use bytes::{Buf, BytesMut};

use crate::limits::MAX_DATAGRAM_BYTES;

/// A packet that is longer than any that this node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a framed packet of {0} bytes")]
pub struct TooLong(pub usize);

/// Takes the next whole packet out of `input`; `None` = more has to come.
pub fn next(input: &mut BytesMut) -> Result<Option<BytesMut>, TooLong> {
    let Some(&[high, low]) = input.first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_DATAGRAM_BYTES {
        return Err(TooLong(length));
    }
    if input.len() < 2 + length {
        return Ok(None);
    }
    input.advance(2);
    Ok(Some(input.split_to(length)))
}

/// The packet with its length in front; `None` when it is too long for that.
pub fn frame(packet: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(packet.len()).ok()?;
    let mut framed = Vec::with_capacity(2 + packet.len());
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(packet);
    Some(framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_whole_however_they_are_cut() {
        let mut stream = BytesMut::new();
        for packet in [&b"one"[..], b"", b"three"] {
            stream.extend(frame(packet).unwrap());
        }
        let mut input = BytesMut::new();
        let mut packets = Vec::new();
        for byte in stream {
            input.extend([byte]);
            while let Some(packet) = next(&mut input).unwrap() {
                packets.push(packet.to_vec());
            }
        }
        assert_eq!(packets, [b"one".to_vec(), b"".to_vec(), b"three".to_vec()]);
        assert_eq!(next(&mut BytesMut::from(&[0xff, 0xff][..])), Err(TooLong(65_535)));
        assert_eq!(frame(&[0; 70_000]), None);
    }
}
