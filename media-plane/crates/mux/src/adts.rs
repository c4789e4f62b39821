//! The ADTS header (ISO/IEC 13818-7, 6.2) in front of every AAC frame in `.aac` files and in TS.

use media::AacConfig;

/// Bytes of the header without CRC.
pub(crate) const HEADER: usize = 7;
/// The frame length field has 13 bits.
pub(crate) const MAX_FRAME: usize = 0x1fff - HEADER;

/// What ADTS can say about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adts {
    profile: u8,
    rate_index: u8,
    channels: u8,
}

impl Adts {
    /// `None` when the header has no room for the configuration: a free sampling rate, 960-sample frames, an object
    /// type above 4. HE-AAC goes as its core, which decoders know to extend (implicit signalling). A channel layout
    /// given by a program config element is approximated by its number of channels.
    pub(crate) fn new(aac: &AacConfig) -> Option<Self> {
        let channels = match (aac.channel_config, aac.channels) {
            (layout @ 1..=7, _) => layout,
            (0, count @ 1..=6) => count,
            (0, 8) => 7,
            _ => return None,
        };
        let profile = aac.object_type.checked_sub(1).filter(|profile| *profile < 4)?;
        if aac.samples_per_frame != 1_024 {
            return None;
        }
        Some(Self { profile, rate_index: aac.sample_rate_index()?, channels })
    }

    /// The header of a frame of `payload` bytes, at most [`MAX_FRAME`].
    pub(crate) fn header(self, payload: usize) -> [u8; HEADER] {
        let length = payload.min(MAX_FRAME) + HEADER;
        [
            0xff,
            0xf1,
            self.profile << 6 | self.rate_index << 2 | self.channels >> 2,
            (self.channels & 3) << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ]
    }
}
