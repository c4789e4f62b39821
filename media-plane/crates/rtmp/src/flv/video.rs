//! Video tags (FLV 10.1 section E.4.3, Enhanced RTMP v2).

use bytes::{Buf, Bytes};
use media::ingest::Rejection;
use media::{Codec, TrackKind};

use super::TagReader;
use super::enhanced::{self, Packet, packet};
use super::picture::{self, Coded};

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
            CODEC_AVC => self.legacy_packet(time, keyframe, Codec::H264, body),
            CODEC_HEVC => self.legacy_packet(time, keyframe, Codec::H265, body),
            other => self.unsupported(VIDEO, Codec::Other(other), true),
        }
    }

    /// H.265 under its unofficial number is laid out like H.264.
    fn legacy_packet(&mut self, time: u32, keyframe: bool, codec: Codec, mut body: Bytes) {
        let Ok(kind) = body.try_get_u8() else { return self.reject(VIDEO, Rejection::Malformed) };
        let composition = enhanced::take_i24(&mut body);
        match (kind, composition) {
            (AVC_SEQUENCE_HEADER, Some(_)) => {
                self.is_hevc_as_avc = codec == Codec::H264 && picture::is_hevc(&body);
                self.picture_config(if self.is_hevc_as_avc { Codec::H265 } else { codec }, &body);
            }
            (AVC_NALU, Some(composition)) => {
                let codec = if self.is_hevc_as_avc { Codec::H265 } else { codec };
                self.coded_picture(Coded { codec, time, composition, keyframe, body });
            }
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
        let is_known = matches!(codec, Codec::H264 | Codec::H265 | Codec::Av1 | Codec::Vp8 | Codec::Vp9);
        match kind {
            packet::SEQUENCE_START if is_known => self.picture_config(codec, &body),
            // A descriptor of transport streams; key frames tell the same in the codecs that have no parameter sets.
            packet::MPEG2TS_SEQUENCE_START if matches!(codec, Codec::Av1 | Codec::Vp8 | Codec::Vp9) => {}
            packet::SEQUENCE_START | packet::MPEG2TS_SEQUENCE_START => self.unsupported(VIDEO, codec, false),
            packet::CODED_FRAMES | packet::CODED_FRAMES_X if is_known => {
                let has_composition = kind == packet::CODED_FRAMES && matches!(codec, Codec::H264 | Codec::H265);
                match if has_composition { enhanced::take_i24(&mut body) } else { Some(0) } {
                    Some(composition) => self.coded_picture(Coded { codec, time, composition, keyframe, body }),
                    None => self.reject(VIDEO, Rejection::Malformed),
                }
            }
            packet::CODED_FRAMES | packet::CODED_FRAMES_X => self.unsupported(VIDEO, codec, true),
            // End of sequence (with time zero from OBS), HDR metadata, and packet types to come.
            _ => {}
        }
    }
}
