//! What operators see of the media that comes in and goes out, as metrics; the names are those of the runtime's table.

use media::ingest::Rejection;
use media::{Frame, MediaTime, TrackKind};
use metrics::{counter, histogram};
use mux::registry::Format;
use recorder_runtime::metrics as names;

/// Counts frames, and measures how far sound and picture are apart when they arrive.
#[derive(Debug, Default)]
pub struct Meter {
    newest_sound: Option<MediaTime>,
}

impl Meter {
    /// One frame that the timeline has placed.
    pub fn frame(&mut self, frame: &Frame) {
        let kind = match frame.track {
            TrackKind::Video => "video",
            TrackKind::Audio => "audio",
        };
        counter!(names::FRAMES_TOTAL, "kind" => kind).increment(1);
        match (frame.track, self.newest_sound) {
            (TrackKind::Audio, _) => self.newest_sound = Some(frame.dts),
            // Once a GOP tells enough.
            (TrackKind::Video, Some(sound)) if frame.keyframe => {
                histogram!(names::AV_OFFSET_SECONDS).record((frame.dts - sound).as_secs_f64().abs());
            }
            (TrackKind::Video, _) => {}
        }
    }
}

/// A frame that could not be recorded.
pub fn rejected(reason: Rejection) {
    let reason = match reason {
        Rejection::BeforeConfig => "before_config",
        Rejection::Malformed => "malformed",
        Rejection::UnsupportedCodec => "unsupported_codec",
    };
    counter!(names::FRAMES_REJECTED_TOTAL, "reason" => reason).increment(1);
}

/// Frames that never arrived.
pub fn lost(frames: u64) {
    counter!(names::FRAMES_REJECTED_TOTAL, "reason" => "lost").increment(frames);
}

/// A frame that a container cannot hold.
pub fn unfit() {
    counter!(names::FRAMES_REJECTED_TOTAL, "reason" => "container").increment(1);
}

/// Bytes that a muxer wrote.
pub fn muxed(format: Format, bytes: u64) {
    let format = match format {
        Format::Hls => "hls",
        Format::Flv => "flv",
        Format::Mp4 => "mp4",
        Format::Aac => "aac",
    };
    counter!(names::MUXED_BYTES_TOTAL, "format" => format).increment(bytes);
}
