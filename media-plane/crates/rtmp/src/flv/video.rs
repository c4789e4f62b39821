//! Video tags (FLV 10.1 section E.4.3, Enhanced RTMP v2).

use std::sync::Arc;

use bytes::{Buf, Bytes};
use media::ingest::{Event, Rejection};
use media::{AvcConfig, Codec, CodecConfig, TrackKind, h264};

use super::enhanced::{self, Packet, packet};
use super::{Current, TagReader};

const VIDEO: TrackKind = TrackKind::Video;
/// Frame types, the upper half of the first byte.
const KEYFRAME: u8 = 1;
const COMMAND: u8 = 5;
/// Codec ids, the lower half.
const CODEC_AVC: u8 = 7;
const CODEC_HEVC: u8 = 12;
/// AVC packet types.
const AVC_SEQUENCE_HEADER: u8 = 0;
const AVC_NALU: u8 = 1;

impl TagReader {
    /// A video message at `time` milliseconds.
    pub fn video(&mut self, time: u32, mut body: Bytes) {
        let Ok(first) = body.try_get_u8() else { return };
        if first & 0x80 != 0 {
            return self.enhanced_video(time, first, body);
        }
        let frame_type = first >> 4;
        if frame_type == COMMAND {
            return;
        }
        let keyframe = frame_type == KEYFRAME;
        match first & 0x0f {
            CODEC_AVC => self.avc_packet(time, keyframe, body),
            CODEC_HEVC => {
                let is_frame = body.first() == Some(&AVC_NALU);
                self.unsupported(VIDEO, Codec::H265, is_frame);
            }
            other => self.unsupported(VIDEO, Codec::Other(other), true),
        }
    }

    fn avc_packet(&mut self, time: u32, keyframe: bool, mut body: Bytes) {
        let Ok(kind) = body.try_get_u8() else { return self.reject(VIDEO, Rejection::Malformed) };
        let composition = enhanced::take_i24(&mut body);
        match (kind, composition) {
            (AVC_SEQUENCE_HEADER, Some(_)) => self.avc_config(&body),
            (AVC_NALU, Some(composition)) => self.avc_frame(time, composition, keyframe, body),
            (AVC_SEQUENCE_HEADER | AVC_NALU, None) => self.reject(VIDEO, Rejection::Malformed),
            // 2 is the end of the sequence, which the next header or the end of the stream tells as well; OBS stamps
            // it with time zero.
            _ => {}
        }
    }

    fn enhanced_video(&mut self, time: u32, first: u8, mut body: Bytes) {
        let keyframe = (first >> 4) & 0x07 == KEYFRAME;
        let is_command = (first >> 4) & 0x07 == COMMAND;
        let Some(kind) = enhanced::skip_modifiers(first & 0x0f, &mut body) else {
            return self.reject(VIDEO, Rejection::Malformed);
        };
        if is_command && kind != packet::VIDEO_METADATA {
            return;
        }
        match enhanced::read_packet(kind, packet::VIDEO_MULTITRACK, body) {
            None => self.reject(VIDEO, Rejection::Malformed),
            Some(None) => {}
            Some(Some(packet)) => self.enhanced_packet(time, keyframe, packet),
        }
    }

    fn enhanced_packet(&mut self, time: u32, keyframe: bool, found: Packet) {
        let Packet { kind, four_cc, mut body } = found;
        let codec = enhanced::codec(&four_cc);
        match (kind, codec) {
            (packet::SEQUENCE_START, Codec::H264) => self.avc_config(&body),
            (packet::CODED_FRAMES, Codec::H264) => match enhanced::take_i24(&mut body) {
                Some(composition) => self.avc_frame(time, composition, keyframe, body),
                None => self.reject(VIDEO, Rejection::Malformed),
            },
            (packet::CODED_FRAMES_X, Codec::H264) => self.avc_frame(time, 0, keyframe, body),
            (packet::SEQUENCE_START | packet::MPEG2TS_SEQUENCE_START, _) => self.unsupported(VIDEO, codec, false),
            (packet::CODED_FRAMES | packet::CODED_FRAMES_X, _) => self.unsupported(VIDEO, codec, true),
            // End of sequence (with time zero from OBS), HDR metadata, and packet types to come.
            _ => {}
        }
    }

    fn avc_config(&mut self, record: &Bytes) {
        if matches!(&self.video, Current::Record(current) if current == record) {
            return;
        }
        // Copied: parameter sets live as long as the stream and must not keep a read buffer alive.
        let record = Bytes::copy_from_slice(record);
        match AvcConfig::parse(record.clone()) {
            Ok(config) => {
                self.nal_length_size = config.length_size;
                self.video = Current::Record(record);
                self.events.push_back(Event::Config(VIDEO, CodecConfig::Avc(Arc::new(config))));
            }
            Err(_) => self.reject(VIDEO, Rejection::Malformed),
        }
    }

    fn avc_frame(&mut self, time: u32, composition: i32, keyframe: bool, body: Bytes) {
        if body.is_empty() {
            return;
        }
        if !matches!(self.video, Current::Record(_)) {
            return self.reject(VIDEO, Rejection::BeforeConfig);
        }
        match h264::normalise(body, self.nal_length_size) {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                // The tag may know better (open GOP without recovery points), and so may the picture.
                let keyframe = keyframe || h264::is_keyframe(&data);
                self.frame(VIDEO, time, composition, keyframe, data);
            }
            Err(_) => self.reject(VIDEO, Rejection::Malformed),
        }
    }
}
