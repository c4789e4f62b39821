//! Configurations and coded frames of pictures, whichever tag they came in.

use std::sync::Arc;

use bytes::Bytes;
use media::ingest::{Event, Rejection};
use media::{Av1Config, AvcConfig, Codec, CodecConfig, ConfigError, HevcConfig, TrackKind, VpxConfig, av1, h264, h265};

use super::{Current, TagReader};

const VIDEO: TrackKind = TrackKind::Video;
/// Bytes of an `av1C` without a sequence header, which the specification allows: the first key frame has one.
const AV1_RECORD_HEAD: usize = 4;

/// A message with a picture, or part of one.
pub(super) struct Coded {
    pub(super) codec: Codec,
    pub(super) time: u32,
    /// Milliseconds from decoding to presentation.
    pub(super) composition: i32,
    /// What the tag says.
    pub(super) keyframe: bool,
    pub(super) body: Bytes,
}

/// Whether this record, announced as one of H.264, is one of H.265: none is both, because the bytes that count parameter
/// sets in the one are reserved or zero in the other.
pub(super) fn is_hevc(record: &Bytes) -> bool {
    AvcConfig::parse(record.clone()).is_err() && HevcConfig::parse(record.clone()).is_ok()
}

impl TagReader {
    /// A configuration record, first, repeated or changed.
    pub(super) fn picture_config(&mut self, codec: Codec, record: &Bytes) {
        let coded = self.picture.as_ref().map(CodecConfig::codec).or(self.announced.as_ref().map(|(codec, _)| *codec));
        if coded == Some(codec) && matches!(&self.video, Current::Record(current) if current == record) {
            return;
        }
        // Copied: parameter sets live as long as the stream and must not keep a read buffer alive.
        let record = Bytes::copy_from_slice(record);
        let config = match codec {
            Codec::H264 => AvcConfig::parse(record.clone()).map(|avc| Some(CodecConfig::Avc(Arc::new(avc)))),
            Codec::H265 => HevcConfig::parse(record.clone()).map(|hevc| Some(CodecConfig::Hevc(Arc::new(hevc)))),
            Codec::Av1 if record.len() <= AV1_RECORD_HEAD => Ok(None),
            Codec::Av1 => Av1Config::parse(record.clone()).map(|av1| Some(CodecConfig::Av1(Arc::new(av1)))),
            _ => self.announce(codec, &record).map(|()| None),
        };
        match config {
            Ok(Some(config)) => {
                self.video = Current::Record(record);
                self.tell(config);
            }
            Ok(None) => {
                // Until a key frame tells, what was known of another codec no longer counts.
                self.picture = self.picture.take().filter(|config| config.codec() == codec);
                self.video = Current::Record(record);
            }
            Err(_) => self.reject(VIDEO, Rejection::Malformed),
        }
    }

    /// The record of VP8 and VP9 lacks the picture's size, and may be missing altogether.
    fn announce(&mut self, codec: Codec, record: &Bytes) -> Result<(), ConfigError> {
        self.announced = if record.is_empty() { None } else { Some((codec, VpxConfig::parse(record)?)) };
        Ok(())
    }

    fn tell(&mut self, config: CodecConfig) {
        self.picture = Some(config.clone());
        self.events.push_back(Event::Config(VIDEO, config));
    }

    pub(super) fn coded_picture(&mut self, coded: Coded) {
        if coded.body.is_empty() {
            return;
        }
        match coded.codec {
            Codec::H264 | Codec::H265 => self.nal_units(coded),
            Codec::Av1 => self.temporal_unit(coded),
            _ => self.vpx_frame(coded),
        }
    }

    fn nal_units(&mut self, coded: Coded) {
        let Coded { codec, time, composition, keyframe, body } = coded;
        let unit = match (codec, &self.picture) {
            (Codec::H264, Some(CodecConfig::Avc(avc))) => h264::normalise(body, avc.length_size),
            (Codec::H265, Some(CodecConfig::Hevc(hevc))) => h265::normalise(body, hevc.length_size),
            _ => return self.reject(VIDEO, Rejection::BeforeConfig),
        };
        match unit {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                // The tag may know better (open GOP without recovery points), and so may the picture.
                let is_keyframe = if codec == Codec::H265 { h265::is_keyframe } else { h264::is_keyframe };
                let keyframe = keyframe || is_keyframe(&data);
                self.frame(VIDEO, time, composition, keyframe, data);
            }
            Err(_) => self.reject(VIDEO, Rejection::Malformed),
        }
    }

    /// Sequence headers come in band as well, and a changed one may come there only.
    fn temporal_unit(&mut self, coded: Coded) {
        let Ok(data) = av1::normalise(coded.body) else { return self.reject(VIDEO, Rejection::Malformed) };
        if let Some(header) = av1::sequence_header(&data) {
            let known = match &self.picture {
                Some(CodecConfig::Av1(known)) => av1::sequence_header(&known.sequence_header),
                _ => None,
            };
            if known.is_none_or(|known| known.payload != header.payload) {
                match Av1Config::from_sequence_header(header.whole) {
                    Ok(config) => self.in_band(CodecConfig::Av1(Arc::new(config))),
                    Err(_) => return self.reject(VIDEO, Rejection::Malformed),
                }
            }
        }
        if !matches!(self.picture, Some(CodecConfig::Av1(_))) {
            self.reject(VIDEO, Rejection::BeforeConfig);
        } else if av1::contains_frame(&data) {
            self.frame(VIDEO, coded.time, 0, av1::is_keyframe(&data), data);
        }
    }

    fn vpx_frame(&mut self, coded: Coded) {
        let Coded { codec, time, body, .. } = coded;
        let seen = match codec {
            Codec::Vp8 => VpxConfig::from_vp8_keyframe(&body),
            _ => VpxConfig::from_vp9_keyframe(&body),
        };
        let keyframe = seen.is_ok();
        if let Ok(seen) = seen {
            let announced = self.announced.as_ref().filter(|(of, _)| *of == codec);
            let seen = announced.map(|(_, record)| seen.clone().with_record_of(record)).unwrap_or(seen);
            let is_vp8 = codec == Codec::Vp8;
            let is_known = match &self.picture {
                Some(CodecConfig::Vp8(known)) => is_vp8 && **known == seen,
                Some(CodecConfig::Vp9(known)) => !is_vp8 && **known == seen,
                _ => false,
            };
            if !is_known {
                let seen = Arc::new(seen);
                self.in_band(if is_vp8 { CodecConfig::Vp8(seen) } else { CodecConfig::Vp9(seen) });
            }
        }
        if self.picture.as_ref().map(CodecConfig::codec) == Some(codec) {
            self.frame(VIDEO, time, 0, keyframe, body);
        } else {
            self.reject(VIDEO, Rejection::BeforeConfig);
        }
    }

    /// A key frame said something new. A record that is repeated from before is no news, but one of another codec is.
    fn in_band(&mut self, config: CodecConfig) {
        if !matches!(self.video, Current::Record(_)) {
            self.video = Current::Record(Bytes::new());
        }
        self.tell(config);
    }
}
