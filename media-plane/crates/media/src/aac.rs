//! AAC configuration (ISO/IEC 14496-3, 1.6.2.1) and frames that come wrapped where they should be raw.

use bytes::Bytes;

use crate::bits::BitReader;
use crate::{AacConfig, ConfigError};

/// Sampling rates by index (ISO/IEC 14496-3, table 1.18).
pub const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Channels by `channelConfiguration`; 0 is described by a program config element, the rest is reserved.
const CHANNELS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8, 0];

const OBJECT_SBR: u32 = 5;
const OBJECT_PS: u32 = 29;
/// `id_syn_ele` of a program config element.
const ID_PCE: u8 = 5;
const SYNC_SBR: u32 = 0x2b7;
const SYNC_PS: u32 = 0x548;

/// A real one has 2 to a few dozen bytes, with a program config and its comment below 400; it is kept whole.
const MAX_ASC_BYTES: usize = 1024;

impl AacConfig {
    /// Parses an AudioSpecificConfig: explicit and backward-compatible SBR/PS, program config elements, free sampling
    /// rates, 960-sample frames. Bytes after what is needed are ignored (ffmpeg always sends five).
    pub fn parse(asc: Bytes) -> Result<Self, ConfigError> {
        if asc.len() > MAX_ASC_BYTES {
            return Err(bad("longer than any configuration is"));
        }
        parse(&asc).map(|parsed| Self { asc, ..parsed }).map_err(bad)
    }

    /// Index of the core sampling rate in [`SAMPLE_RATES`], if it has one (ADTS can carry no other).
    pub fn sample_rate_index(&self) -> Option<u8> {
        SAMPLE_RATES.iter().position(|rate| *rate == self.sample_rate).map(|index| index as u8)
    }

    /// The program config element as the first element of a raw data block, which is where ADTS needs it when
    /// `channel_config` is 0. Whole bytes, without the comment.
    pub fn program_config(&self) -> Option<Bytes> {
        let mut r = BitReader::new(&self.asc);
        let object_type = object(&mut r)?;
        rate(&mut r)?;
        if r.bits(4)? != 0 {
            return None;
        }
        if object_type == OBJECT_SBR || object_type == OBJECT_PS {
            rate(&mut r)?;
            object(&mut r)?;
        }
        r.skip(1)?;
        if r.bit()? {
            r.skip(14)?;
        }
        r.skip(1)?;
        let start = r.position();
        program_config_elements(&mut r)?;
        let length = r.position() - start;
        let mut r = BitReader::new(&self.asc);
        r.skip(start)?;
        let mut out = vec![0u8; (3 + length).div_ceil(8) + 1];
        *out.first_mut()? = ID_PCE << 5;
        for position in 3..3 + length {
            *out.get_mut(position / 8)? |= u8::from(r.bit()?) << (7 - position % 8);
        }
        Some(out.into())
    }
}

/// Bytes of the program config element at the start of a raw data block; `None` when there is none.
pub fn program_config_length(block: &[u8]) -> Option<usize> {
    let mut r = BitReader::new(block);
    if r.bits(3)? != u32::from(ID_PCE) {
        return None;
    }
    program_config_channels(&mut r)?;
    Some(r.position() / 8)
}

/// The raw access unit inside `data`: a publisher that wrongly sends ADTS frames where raw ones belong has the header
/// taken off; anything else comes back as it is.
pub fn strip_adts(data: Bytes) -> Bytes {
    let &[0xff, second, _, b3, b4, b5, b6, ..] = &data[..] else { return data };
    let length = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5 >> 5);
    let header = if second & 1 == 1 { 7 } else { 9 };
    // Raw AAC may begin with these bits by chance; the exact length and a single raw block do not fit by chance.
    if second & 0xf6 != 0xf0 || length != data.len() || length <= header || b6 & 3 != 0 {
        return data;
    }
    data.slice(header..)
}

fn bad(problem: &str) -> ConfigError {
    ConfigError { record: "AudioSpecificConfig", problem: problem.to_owned() }
}

fn parse(asc: &[u8]) -> Result<AacConfig, &'static str> {
    const SHORT: &str = "truncated";
    let mut r = BitReader::new(asc);
    let mut object_type = object(&mut r).ok_or(SHORT)?;
    let sample_rate = rate(&mut r).ok_or(SHORT)?;
    let channel_config = r.bits(4).ok_or(SHORT)? as u8;
    let (mut output_sample_rate, mut parametric_stereo) = (sample_rate, false);
    let explicit = object_type == OBJECT_SBR || object_type == OBJECT_PS;
    if explicit {
        parametric_stereo = object_type == OBJECT_PS;
        output_sample_rate = rate(&mut r).ok_or(SHORT)?;
        object_type = object(&mut r).ok_or(SHORT)?;
    }
    if !matches!(object_type, 1..=4 | 6 | 7 | 17 | 19..=23) {
        return Err("not an AAC object type");
    }
    let short_frame = r.bit().ok_or(SHORT)?;
    if r.bit().ok_or(SHORT)? {
        r.skip(14).ok_or(SHORT)?;
    }
    let extension = r.bit().ok_or(SHORT)?;
    let mut channels = CHANNELS.get(usize::from(channel_config)).copied().unwrap_or(0);
    if channel_config == 0 {
        channels = program_config_channels(&mut r).ok_or("the program config element does not parse")?;
    }
    if matches!(object_type, 6 | 20) {
        r.skip(3).ok_or(SHORT)?;
    }
    if extension {
        // Error resilience flags of types 17, 19, 20, 23; everyone has extensionFlag3.
        let flags = if matches!(object_type, 17 | 19 | 20 | 23) { 3 } else { 0 };
        r.skip(flags + 1).ok_or(SHORT)?;
    }
    if !explicit && let Some((rate, stereo)) = backward_compatible_sbr(&mut r) {
        (output_sample_rate, parametric_stereo) = (rate, stereo);
    }
    if parametric_stereo && channels == 1 {
        channels = 2;
    }
    if channels == 0 {
        return Err("no channels");
    }
    if !(1_000..=192_000).contains(&sample_rate) || !(1_000..=192_000).contains(&output_sample_rate) {
        return Err("impossible sampling rate");
    }
    Ok(AacConfig {
        asc: Bytes::new(),
        object_type: object_type as u8,
        sample_rate,
        output_sample_rate,
        channel_config,
        channels,
        samples_per_frame: if short_frame { 960 } else { 1_024 },
        transcoded: false,
    })
}

fn object(r: &mut BitReader<'_>) -> Option<u32> {
    match r.bits(5)? {
        31 => Some(32 + r.bits(6)?),
        object => Some(object),
    }
}

fn rate(r: &mut BitReader<'_>) -> Option<u32> {
    match r.bits(4)? {
        15 => r.bits(24),
        index => SAMPLE_RATES.get(index as usize).copied(),
    }
}

/// The sync extension after the core configuration; `None` when there is none (or no SBR in it).
fn backward_compatible_sbr(r: &mut BitReader<'_>) -> Option<(u32, bool)> {
    if r.remaining() < 16 || r.bits(11)? != SYNC_SBR || object(r)? != OBJECT_SBR || !r.bit()? {
        return None;
    }
    let rate = rate(r)?;
    let stereo = r.remaining() >= 12 && r.bits(11)? == SYNC_PS && r.bit()?;
    Some((rate, stereo))
}

/// The whole element: its channels.
fn program_config_channels(r: &mut BitReader<'_>) -> Option<u8> {
    let channels = program_config_elements(r)?;
    r.align();
    let comment = r.bits(8)?;
    r.skip(comment as usize * 8)?;
    u8::try_from(channels).ok()
}

/// ISO/IEC 14496-3, 4.4.1.1, up to the alignment: counts the channels of front, side, back and LFE elements.
fn program_config_elements(r: &mut BitReader<'_>) -> Option<u32> {
    r.skip(4 + 2 + 4)?;
    let (front, side, back, lfe) = (r.bits(4)?, r.bits(4)?, r.bits(4)?, r.bits(2)?);
    let (data, coupling) = (r.bits(3)?, r.bits(4)?);
    for bits in [4, 4, 3] {
        // Mono mixdown, stereo mixdown, matrix mixdown: a flag and a value each.
        if r.bit()? {
            r.skip(bits)?;
        }
    }
    let mut channels = lfe;
    for _ in 0..front + side + back {
        channels += if r.bit()? { 2 } else { 1 };
        r.skip(4)?;
    }
    r.skip((lfe * 4 + data * 4 + coupling * 5) as usize)?;
    Some(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: megabytes behind a good configuration were kept with it.
    #[test]
    fn a_configuration_of_megabytes_is_refused() {
        let mut asc = vec![0x12, 0x10];
        asc.resize(MAX_ASC_BYTES, 0);
        assert!(AacConfig::parse(asc.clone().into()).is_ok());
        asc.resize(8 << 20, 0);
        assert!(AacConfig::parse(asc.into()).is_err());
    }
    use proptest::prelude::*;

    fn asc(bytes: &'static [u8]) -> AacConfig {
        AacConfig::parse(Bytes::from_static(bytes)).unwrap()
    }

    fn summary(config: &AacConfig) -> (u8, u32, u32, u8, u8, u32) {
        let AacConfig { object_type, sample_rate, output_sample_rate, channel_config, channels, .. } = *config;
        (object_type, sample_rate, output_sample_rate, channel_config, channels, config.samples_per_frame)
    }

    #[test]
    fn low_complexity_in_two_bytes_and_in_ffmpegs_five() {
        assert_eq!(summary(&asc(&[0x12, 0x10])), (2, 44_100, 44_100, 2, 2, 1024));
        assert_eq!(summary(&asc(&[0x11, 0x90])), (2, 48_000, 48_000, 2, 2, 1024));
        assert_eq!(summary(&asc(&[0x12, 0x10, 0x56, 0xe5, 0x00])), (2, 44_100, 44_100, 2, 2, 1024));
        assert_eq!(asc(&[0x12, 0x10]).sample_rate_index(), Some(4));
    }

    #[test]
    fn e10_he_aac_explicit_and_backward_compatible() {
        // HE-AAC v1, 24 -> 48 kHz: AOT 5, rate 6, channels 2, extension rate 3, AOT 2.
        assert_eq!(summary(&asc(&[0x2b, 0x11, 0x88, 0x00])), (2, 24_000, 48_000, 2, 2, 1024));
        // HE-AAC v2: AOT 29, mono core.
        assert_eq!(summary(&asc(&[0xeb, 0x09, 0x88, 0x00])), (2, 24_000, 48_000, 1, 2, 1024));
        // LC with sync extension 0x2b7 saying 44.1 kHz.
        assert_eq!(summary(&asc(&[0x13, 0x90, 0x56, 0xe5, 0xa0])), (2, 22_050, 44_100, 2, 2, 1024));
    }

    #[test]
    fn free_rate_short_frames_and_program_config() {
        // AOT 2, index 15, 0x00bb80 = 48000, channels 2, frame length flag set.
        let bits: u64 = 2 << 59 | 15 << 55 | 48_000 << 31 | 2 << 27 | 1 << 26;
        let config = AacConfig::parse(Bytes::copy_from_slice(&bits.to_be_bytes()[..6])).unwrap();
        assert_eq!(summary(&config), (2, 48_000, 48_000, 2, 2, 960));
        // What ffmpeg writes for 5.1(side): PCE with front 2 (SCE, CPE), side CPE and one LFE.
        let config = asc(
            b"\x11\x80\x04\xc8\x44\x00\x20\x00\xc4\x0d\x4c\x61\x76\x63\x35\x39\x2e\x33\x37\x2e\x31\x30\x30\x56\xe5\x00",
        );
        assert_eq!(summary(&config), (2, 48_000, 48_000, 0, 6, 1024));
        // The same element behind its three-bit identifier, with an empty comment.
        let element = config.program_config().unwrap();
        assert_eq!(element, Bytes::from_static(&[0xa0, 0x99, 0x08, 0x80, 0x04, 0x00, 0x18, 0x80, 0x00]));
        assert_eq!(program_config_length(&[&element[..], &[1, 2, 3]].concat()), Some(element.len()));
        assert_eq!((program_config_length(&[0x21, 0x10]), asc(&[0x12, 0x10]).program_config()), (None, None));
    }

    #[test]
    fn garbage_is_named() {
        assert_eq!(AacConfig::parse(Bytes::new()).unwrap_err().to_string(), "AudioSpecificConfig: truncated");
        assert_eq!(AacConfig::parse(Bytes::from_static(&[0x12, 0x00])).unwrap_err().record, "AudioSpecificConfig");
        assert_eq!(AacConfig::parse(Bytes::from_static(&[0x02, 0x10])).unwrap_err().problem, "not an AAC object type");
    }

    #[test]
    fn e10_adts_inside_is_taken_off_and_raw_is_left_alone() {
        let raw = Bytes::from_static(&[0xff, 0xf1, 0x50, 0x80, 0x01, 0x5f, 0xfc, 0x21, 0x22, 0x23]);
        assert_eq!(strip_adts(raw), Bytes::from_static(&[0x21, 0x22, 0x23]));
        let longer = Bytes::from_static(&[0xff, 0xf1, 0x50, 0x80, 0x01, 0x7f, 0xfc, 0x21, 0x22, 0x23]);
        assert_eq!(strip_adts(longer.clone()), longer);
        assert_eq!(strip_adts(Bytes::from_static(&[0x21])), Bytes::from_static(&[0x21]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            let data = Bytes::from(data);
            let _ = (strip_adts(data.clone()), program_config_length(&data));
            if let Ok(config) = AacConfig::parse(data) {
                prop_assert!(config.sample_rate >= 1_000 && config.channels > 0);
                prop_assert_eq!(config.program_config().is_some(), config.channel_config == 0);
            }
        }
    }
}
