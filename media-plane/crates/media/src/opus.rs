//! Opus packets (RFC 6716, 3): how long one is and how many channels it carries, from its first bytes.

use crate::{ConfigError, OpusConfig};

/// The clock of every Opus decoder and of its RTP timestamps, in Hz.
pub const SAMPLE_RATE: u32 = 48_000;
/// Longest packet allowed (RFC 6716, 3.4, R5): 120 ms.
pub const MAX_PACKET_SAMPLES: u32 = SAMPLE_RATE / 1_000 * 120;

/// Look-ahead of libopus in samples, which practically every publisher encodes with: by as much is what a decoder puts out
/// older than what the encoder took in when the packet was made. RTP has no place for it.
pub const LOOK_AHEAD: u16 = 312;

impl OpusConfig {
    /// Parses an identification header (RFC 7845, 5.1), `OpusHead` included. Its gain is passed over: nothing that comes
    /// over a network has one.
    ///
    /// # Errors
    /// When it is not one, or describes more than two channels.
    pub fn parse_head(head: &[u8]) -> Result<Self, ConfigError> {
        let bad = |problem: &str| ConfigError { record: "OpusHead", problem: problem.to_owned() };
        let Some(([b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd'], rest)) = head.split_first_chunk::<8>() else {
            return Err(bad("does not begin with its name"));
        };
        let Some(&[version, channels, s0, s1, r0, r1, r2, r3, _, _, family]) = rest.first_chunk::<11>() else {
            return Err(bad("cut short"));
        };
        if version >> 4 != 0 {
            return Err(bad("of a version that is not understood"));
        }
        // Family 1 orders mono and stereo like family 0.
        if family > 1 || !(1..=2).contains(&channels) {
            return Err(bad("neither mono nor stereo"));
        }
        let (pre_skip, sample_rate_in) = (u16::from_le_bytes([s0, s1]), u32::from_le_bytes([r0, r1, r2, r3]));
        Ok(Self { channels, pre_skip, sample_rate_in })
    }
}

/// Samples at 48 kHz that a decoder makes of this packet; `None` when it is empty or breaks RFC 6716, 3.4.
pub fn packet_samples(packet: &[u8]) -> Option<u32> {
    let &[toc, ..] = packet else { return None };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 63),
    };
    let samples = frames * frame_samples(toc);
    (1..=MAX_PACKET_SAMPLES).contains(&samples).then_some(samples)
}

/// 1 or 2 channels, as this packet was coded; `None` when it is empty.
pub fn packet_channels(packet: &[u8]) -> Option<u8> {
    packet.first().map(|toc| if toc & 4 == 0 { 1 } else { 2 })
}

/// Samples at 48 kHz of each frame, by the `config` number in the first five bits (RFC 6716, table 2).
fn frame_samples(toc: u8) -> u32 {
    let config = u32::from(toc >> 3);
    match config {
        0..12 => [480, 960, 1_920, 2_880].get(config as usize % 4).copied().unwrap_or(0),
        12..16 => 480 << (config % 2),
        _ => 120 << (config % 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_the_table_in_the_rfc() {
        let millis = |config: u8| f64::from(packet_samples(&[config << 3]).unwrap()) / 48.0;
        for (configs, durations) in [(0..12, &[10.0, 20.0, 40.0, 60.0][..]), (12..16, &[10.0, 20.0][..])] {
            for (n, config) in configs.enumerate() {
                assert!((millis(config) - durations[n % durations.len()]).abs() < 1e-9, "config {config}");
            }
        }
        for config in 16..32u8 {
            assert!((millis(config) - [2.5, 5.0, 10.0, 20.0][usize::from(config % 4)]).abs() < 1e-9, "config {config}");
        }
    }

    #[test]
    fn several_frames_add_up_and_more_than_120_ms_is_refused() {
        let twenty = 19 << 3;
        assert_eq!(packet_samples(&[twenty | 1]), Some(1_920));
        assert_eq!(packet_samples(&[twenty | 2, 1]), Some(1_920));
        assert_eq!(packet_samples(&[twenty | 3, 6]), Some(5_760));
        assert_eq!(packet_samples(&[twenty | 3, 7]), None);
        assert_eq!(packet_samples(&[twenty | 3, 0]), None);
        assert_eq!(packet_samples(&[twenty | 3]), None);
        assert_eq!(packet_samples(&[]), None);
    }

    #[test]
    fn identification_headers_are_read_to_the_letter() {
        let head = |version: u8, channels: u8, family: u8| {
            [&b"OpusHead"[..], &[version, channels, 0x38, 1, 0x44, 0xac, 0, 0, 0, 0, family]].concat()
        };
        let stereo = OpusConfig { channels: 2, pre_skip: 312, sample_rate_in: 44_100 };
        assert_eq!(OpusConfig::parse_head(&head(1, 2, 0)), Ok(stereo));
        assert_eq!(OpusConfig::parse_head(&head(1, 1, 1)).map(|config| config.channels), Ok(1));
        for bad in [head(0x11, 2, 0), head(1, 0, 0), head(1, 3, 0), head(1, 6, 1), head(1, 2, 255), vec![0; 19]] {
            assert!(OpusConfig::parse_head(&bad).is_err(), "{bad:?}");
        }
        let whole = head(1, 2, 0);
        assert!((0..whole.len()).all(|end| OpusConfig::parse_head(&whole[..end]).is_err()));
    }

    #[test]
    fn channels_are_the_third_bit_from_the_end() {
        assert_eq!(
            (packet_channels(&[0x78]), packet_channels(&[0x7c]), packet_channels(&[])),
            (Some(1), Some(2), None)
        );
    }
}
