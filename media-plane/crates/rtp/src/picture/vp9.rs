//! VP9 over RTP (RFC 9628), in both modes. Spatial layers of a picture become one superframe.

use bytes::{BufMut, Bytes, BytesMut};

use super::unit::Unit;

/// Spatial layers of a picture at most.
const MAX_LAYERS: usize = 8;
/// Pictures that one of flexible mode may name as what it builds on.
const MAX_REFERENCES: usize = 3;

/// What the payload descriptor says (RFC 9628, 4.2), and where the picture goes on.
struct Descriptor {
    /// The packet begins a layer of a picture, or ends one.
    begins: bool,
    ends: bool,
    spatial_layer: u8,
    /// Size of the largest layer, where the packet tells.
    size: Option<(u32, u32)>,
    length: usize,
}

impl Descriptor {
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut rest = Fields { rest: payload };
        let bits = rest.byte()?;
        let [has_picture_id, predicted, has_layers, is_flexible] = [0x80, 0x40, 0x20, 0x10].map(|bit| bits & bit != 0);
        if has_picture_id && rest.byte()? & 0x80 != 0 {
            rest.byte()?;
        }
        let mut spatial_layer = 0;
        if has_layers {
            spatial_layer = rest.byte()? >> 1 & 7;
            if !is_flexible {
                rest.byte()?;
            }
        }
        if is_flexible && predicted {
            let mut count = 1;
            while rest.byte()? & 1 != 0 {
                count += 1;
                if count > MAX_REFERENCES {
                    return None;
                }
            }
        }
        let size = if bits & 2 != 0 { rest.structure()? } else { None };
        let length = payload.len() - rest.rest.len();
        let (begins, ends) = (bits & 8 != 0, bits & 4 != 0);
        (!rest.rest.is_empty()).then_some(Self { begins, ends, spatial_layer, size, length })
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    /// The scalability structure (RFC 9628, 4.2.1): sizes of layers, of which the largest is given, and what builds on
    /// what.
    fn structure(&mut self) -> Option<Option<(u32, u32)>> {
        let bits = self.byte()?;
        let mut largest = None;
        if bits & 0x10 != 0 {
            for _ in 0..=bits >> 5 {
                let width = u32::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
                let height = u32::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
                largest = largest.max(Some((width, height)));
            }
        }
        if bits & 8 != 0 {
            for _ in 0..self.byte()? {
                let references = self.byte()? >> 2 & 3;
                self.skip(usize::from(references))?;
            }
        }
        Some(largest.filter(|(width, height)| *width > 0 && *height > 0))
    }
}

/// Whether the packet is the first of a picture.
pub(super) fn begins_picture(payload: &[u8]) -> bool {
    Descriptor::parse(payload).is_some_and(|descriptor| descriptor.begins && descriptor.spatial_layer == 0)
}

/// Adds a part of a layer. False when it does not parse.
pub(super) fn take_payload(unit: &mut Unit, payload: &Bytes) -> bool {
    let Some(Descriptor { begins, ends, size, length, .. }) = Descriptor::parse(payload) else { return unit.spoil() };
    let part = payload.get(length..).unwrap_or_default();
    unit.is_reference = true;
    unit.layer_size = size.or(unit.layer_size);
    if begins {
        if !unit.has_slice {
            unit.restarts = is_key(part);
        }
        unit.has_slice = true;
        if unit.layers() >= MAX_LAYERS || !unit.begin_piece() {
            return unit.spoil();
        }
    }
    if !unit.add_piece(part) {
        return unit.spoil();
    }
    if ends {
        unit.close_layer();
    }
    true
}

/// Whether a frame begins with the header of a key frame (VP9 bitstream, 6.2), in any profile.
fn is_key(frame: &[u8]) -> bool {
    let Some(&bits) = frame.first() else { return false };
    // Marker 0b10, two bits of profile, a reserved one in profile 3, show_existing_frame, frame_type (0 = key frame).
    let next = if bits >> 4 & 3 == 3 { bits & 0b0110 } else { bits & 0b1100 };
    bits >> 6 == 2 && next == 0
}

/// Ends a superframe with its index (VP9 bitstream, annex B).
pub(super) fn put_index(data: &mut BytesMut, sizes: &[usize]) {
    let largest = sizes.iter().max().copied().unwrap_or(0) as u32;
    let width = 4 - (largest.leading_zeros() / 8).min(3) as usize;
    let marker = 0xc0 | ((width - 1) as u8) << 3 | (sizes.len() - 1) as u8;
    data.put_u8(marker);
    for size in sizes {
        data.put_slice((*size as u32).to_le_bytes().get(..width).unwrap_or_default());
    }
    data.put_u8(marker);
}
