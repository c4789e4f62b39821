//! Audio tags (FLV 10.1 section E.4.2, Enhanced RTMP v2).

use std::sync::Arc;

use bytes::{Buf, Bytes};
use media::ingest::{Event, Rejection};
use media::{AacConfig, Codec, CodecConfig, OpusConfig, TrackKind, opus};

use super::enhanced::{self, packet};
use super::{Current, SCALE, TagReader, adts};

const AUDIO: TrackKind = TrackKind::Audio;
/// Sound formats, the upper half of the first byte.
const FORMAT_MP3: u8 = 2;
const FORMAT_EXTENDED: u8 = 9;
const FORMAT_AAC: u8 = 10;
const FORMAT_MP3_8K: u8 = 14;
/// AAC packet types.
const AAC_SEQUENCE_HEADER: u8 = 0;
const AAC_RAW: u8 = 1;
/// ADTS frames read out of one message: more than half a second at any rate, where 8 MiB could hold a million.
const MAX_ADTS_FRAMES: usize = 64;
/// Largest access unit, in bytes. AAC allows 6144 bits for each channel of a frame (ISO/IEC 14496-3), 36 KiB for 48
/// channels.
const MAX_ACCESS_UNIT: usize = 64 * 1024;

impl TagReader {
    /// An audio message at `time` milliseconds.
    pub fn audio(&mut self, time: u32, mut body: Bytes) {
        let Ok(first) = body.try_get_u8() else { return };
        match first >> 4 {
            FORMAT_AAC => match body.try_get_u8() {
                Ok(AAC_SEQUENCE_HEADER) => self.aac_config(&body),
                Ok(AAC_RAW) => self.aac_frames(time, body),
                Ok(_) => {}
                Err(_) => self.reject(AUDIO, Rejection::Malformed),
            },
            FORMAT_EXTENDED => self.enhanced_audio(time, first & 0x0f, body),
            FORMAT_MP3 | FORMAT_MP3_8K => self.unsupported(AUDIO, Codec::Mp3, true),
            other => self.unsupported(AUDIO, Codec::Other(other), true),
        }
    }

    fn enhanced_audio(&mut self, time: u32, kind: u8, mut body: Bytes) {
        let packet = enhanced::skip_modifiers(kind, &mut body)
            .and_then(|kind| enhanced::read_packet(kind, packet::AUDIO_MULTITRACK, body));
        let found = match packet {
            None => return self.reject(AUDIO, Rejection::Malformed),
            Some(None) => return,
            Some(Some(found)) => found,
        };
        match (found.kind, enhanced::codec(&found.four_cc)) {
            (packet::SEQUENCE_START, Codec::Aac) => self.aac_config(&found.body),
            (packet::CODED_FRAMES, Codec::Aac) => self.aac_frames(time, found.body),
            (packet::SEQUENCE_START, Codec::Opus) => self.opus_config(&found.body),
            (packet::CODED_FRAMES, Codec::Opus) => self.opus_frame(time, &found.body),
            (packet::SEQUENCE_START, codec) => self.unsupported(AUDIO, codec, false),
            (packet::CODED_FRAMES, codec) => self.unsupported(AUDIO, codec, true),
            // End of sequence, channel layout, and packet types to come.
            _ => {}
        }
    }

    /// The identification header of RFC 7845.
    fn opus_config(&mut self, head: &Bytes) {
        if matches!(&self.audio, Current::Record(current) if current == head) {
            return;
        }
        match OpusConfig::parse_head(head) {
            Ok(config) => {
                (self.audio, self.aac) = (Current::Record(Bytes::copy_from_slice(head)), None);
                self.events.push_back(Event::Config(AUDIO, CodecConfig::Opus(Arc::new(config))));
            }
            Err(_) => self.reject(AUDIO, Rejection::Malformed),
        }
    }

    fn opus_frame(&mut self, time: u32, packet: &Bytes) {
        if packet.len() > MAX_ACCESS_UNIT || opus::packet_samples(packet).is_none() {
            self.reject(AUDIO, Rejection::Malformed);
        } else if matches!(self.audio, Current::Record(_)) && self.aac.is_none() {
            self.frame(AUDIO, time, 0, true, Bytes::copy_from_slice(packet));
        } else {
            self.reject(AUDIO, Rejection::BeforeConfig);
        }
    }

    fn aac_config(&mut self, asc: &Bytes) {
        if matches!(&self.audio, Current::Record(current) if current == asc) {
            return;
        }
        let asc = Bytes::copy_from_slice(asc);
        match AacConfig::parse(asc.clone()) {
            Ok(config) => {
                self.audio = Current::Record(asc);
                self.aac = Some(config.clone());
                self.events.push_back(Event::Config(AUDIO, CodecConfig::Aac(Arc::new(config))));
            }
            Err(_) => self.reject(AUDIO, Rejection::Malformed),
        }
    }

    /// One raw access unit, or ADTS frames from an encoder that should not send them here.
    fn aac_frames(&mut self, time: u32, body: Bytes) {
        if body.is_empty() {
            return;
        }
        let mut rest = body;
        if adts::Header::parse(&rest).is_none() {
            return self.aac_frame(time, rest);
        }
        let mut offset: u32 = 0;
        for _ in 0..MAX_ADTS_FRAMES {
            let Some(header) = adts::Header::parse(&rest) else { break };
            if self.aac.is_none() || !matches!(self.audio, Current::Record(_)) {
                // The header says what the missing configuration would.
                self.aac_config(&Bytes::copy_from_slice(&header.audio_specific_config()));
            }
            let unit = rest.split_to(header.frame_length).split_off(header.header_length);
            if !unit.is_empty() {
                self.aac_frame(time.wrapping_add(offset), unit);
            }
            offset = offset.saturating_add(self.frame_millis());
        }
        if !rest.is_empty() {
            self.reject(AUDIO, Rejection::Malformed);
        }
    }

    fn aac_frame(&mut self, time: u32, data: Bytes) {
        if data.len() > MAX_ACCESS_UNIT {
            self.reject(AUDIO, Rejection::Malformed);
        } else if matches!(self.audio, Current::Record(_)) && self.aac.is_some() {
            // A copy, because a frame cut out of a message would keep all of it alive, and sound may be held for long.
            self.frame(AUDIO, time, 0, true, Bytes::copy_from_slice(&data));
        } else {
            self.reject(AUDIO, Rejection::BeforeConfig);
        }
    }

    /// How long one access unit lasts, in whole milliseconds.
    fn frame_millis(&self) -> u32 {
        self.aac.as_ref().map_or(0, |aac| {
            let millis = u64::from(aac.samples_per_frame) * u64::from(SCALE);
            millis.checked_div(u64::from(aac.sample_rate)).and_then(|millis| u32::try_from(millis).ok()).unwrap_or(0)
        })
    }
}
