//! ADTS headers (ISO/IEC 13818-7) where raw AAC should be.

/// A header that fits the data it heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 7 bytes, or 9 with a checksum.
    pub(super) header_length: usize,
    /// Header and payload.
    pub(super) frame_length: usize,
    profile: u8,
    rate_index: u8,
    channels: u8,
}

impl Header {
    /// `None` for anything else. No raw access unit starts so: all ones is the "end" element.
    pub(super) fn parse(data: &[u8]) -> Option<Self> {
        let [sync, b1, b2, b3, b4, b5, _] = *data.first_chunk::<7>()?;
        // Sync word, layer 0.
        if sync != 0xff || b1 & 0xf6 != 0xf0 {
            return None;
        }
        let header_length = if b1 & 1 == 1 { 7 } else { 9 };
        let frame_length = usize::from(b3 & 0x03) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
        let fits = frame_length >= header_length && frame_length <= data.len();
        fits.then_some(Self {
            header_length,
            frame_length,
            profile: b2 >> 6,
            rate_index: (b2 >> 2) & 0x0f,
            channels: (b2 & 1) << 2 | b3 >> 6,
        })
    }

    /// The configuration record that says the same (ISO/IEC 14496-3).
    pub(super) fn audio_specific_config(&self) -> [u8; 2] {
        let object_type = self.profile + 1;
        [object_type << 3 | self.rate_index >> 1, (self.rate_index & 1) << 7 | self.channels << 3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e10_a_header_becomes_its_configuration() {
        // AAC-LC, 44.1 kHz, stereo, 9 bytes in all.
        let header = Header::parse(&[0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 1, 2]).unwrap();
        assert_eq!((header.header_length, header.frame_length), (7, 9));
        assert_eq!(header.audio_specific_config(), [0x12, 0x10]);
    }

    #[test]
    fn what_does_not_fit_is_no_header() {
        assert!(Header::parse(&[0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 1]).is_none(), "longer than the data");
        assert!(Header::parse(&[0xff, 0xf1, 0x50, 0x80, 0x00, 0x1f, 0xfc]).is_none(), "shorter than its header");
        assert!(Header::parse(&[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c, 0x00]).is_none());
    }
}
