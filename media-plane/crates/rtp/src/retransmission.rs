//! Retransmitted packets in a stream of their own become the packets they repeat (RFC 4588, 4).

use crate::packet::Packet;

/// The repeated packet, as one of `ssrc` with `payload_type`; `None` for padding and what is too short.
pub(crate) fn original(packet: Packet, ssrc: u32, payload_type: u8) -> Option<Packet> {
    let &[high, low, _, ..] = &packet.payload[..] else { return None };
    Some(Packet {
        payload_type,
        sequence_number: u16::from_be_bytes([high, low]),
        ssrc,
        payload: packet.payload.slice(2..),
        rid: None,
        ..packet
    })
}
