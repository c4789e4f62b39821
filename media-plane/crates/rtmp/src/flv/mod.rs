//! FLV tags as RTMP carries them, legacy and Enhanced RTMP, into ingest events.
//!
//! Of a multitrack stream, track 0 is read. Sequence headers are events only when they say something new.

mod adts;
mod audio;
mod enhanced;
mod metadata;
mod picture;
mod video;

use std::collections::VecDeque;

use bytes::Bytes;
use media::ingest::{Event, Metadata, RawFrame, Rejection, SourceTime};
use media::{AacConfig, Codec, CodecConfig, TrackKind, VpxConfig};

/// RTMP counts milliseconds.
const SCALE: u32 = 1000;

/// The configuration record in force, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Current {
    /// None came yet.
    None,
    /// A record that is in use.
    Record(Bytes),
    /// A codec that cannot be recorded.
    Unsupported(Codec),
}

/// Reads the audio, video and data messages of one publication.
#[derive(Debug)]
pub struct TagReader {
    video: Current,
    /// The configuration of pictures that was told last.
    picture: Option<CodecConfig>,
    /// What the record of VP8 or VP9 said, which becomes a configuration with the first key frame.
    announced: Option<(Codec, VpxConfig)>,
    /// H.265 comes under the number of H.264, as OBS sent it before 29.1.
    is_hevc_as_avc: bool,
    audio: Current,
    aac: Option<AacConfig>,
    metadata: Option<Metadata>,
    events: VecDeque<Event>,
}

impl Default for TagReader {
    fn default() -> Self {
        Self::new()
    }
}

impl TagReader {
    /// Before the first message.
    pub fn new() -> Self {
        Self {
            video: Current::None,
            picture: None,
            announced: None,
            is_hevc_as_avc: false,
            audio: Current::None,
            aac: None,
            metadata: None,
            events: VecDeque::new(),
        }
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A data message (AMF0). Everything but metadata that says something new is ignored; GStreamer repeats it all the
    /// time.
    pub fn data(&mut self, body: &[u8]) {
        if let Some(metadata) = metadata::parse(body)
            && self.metadata.as_ref() != Some(&metadata)
        {
            self.metadata = Some(metadata.clone());
            self.events.push_back(Event::Metadata(metadata));
        }
    }

    fn reject(&mut self, track: TrackKind, why: Rejection) {
        self.events.push_back(Event::Rejected(track, why));
    }

    /// A configuration, or a frame, of a codec that no output carries.
    fn unsupported(&mut self, track: TrackKind, codec: Codec, is_frame: bool) {
        let current = match track {
            TrackKind::Video => {
                (self.picture, self.announced) = (None, None);
                &mut self.video
            }
            TrackKind::Audio => &mut self.audio,
        };
        if *current != Current::Unsupported(codec) {
            *current = Current::Unsupported(codec);
            self.events.push_back(Event::Config(track, CodecConfig::Unsupported(codec)));
        }
        if is_frame {
            self.reject(track, Rejection::UnsupportedCodec);
        }
    }

    fn frame(&mut self, track: TrackKind, time: u32, composition: i32, keyframe: bool, data: Bytes) {
        let time = SourceTime { value: time, scale: SCALE };
        self.events.push_back(Event::Frame(RawFrame { track, time, composition, keyframe, data }));
    }
}
