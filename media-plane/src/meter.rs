//! What operators see of the media that comes in and goes out, as metrics; the names are those of the runtime's table.

use media::ingest::Rejection;
use media::{Frame, MediaTime, TrackKind};
use metrics::{Counter, Histogram, counter, histogram};
use mux::registry::Format;
use recorder_runtime::metrics as names;

/// Counts frames, and measures how far sound and picture are apart when they arrive.
#[derive(Debug)]
pub struct Meter {
    // Held for every frame there will be: to look them up costs a lock and an allocation.
    pictures: Counter,
    sounds: Counter,
    apart: Histogram,
    newest_sound: Option<MediaTime>,
}

impl Meter {
    /// Of a stream that begins.
    pub fn new() -> Self {
        Self {
            pictures: counter!(names::FRAMES_TOTAL, "kind" => "video"),
            sounds: counter!(names::FRAMES_TOTAL, "kind" => "audio"),
            apart: histogram!(names::AV_OFFSET_SECONDS),
            newest_sound: None,
        }
    }

    /// One frame that the timeline has placed.
    pub fn frame(&mut self, frame: &Frame) {
        match frame.track {
            TrackKind::Video => self.pictures.increment(1),
            TrackKind::Audio => self.sounds.increment(1),
        }
        match (frame.track, self.newest_sound) {
            (TrackKind::Audio, _) => self.newest_sound = Some(frame.dts),
            // Once a GOP tells enough.
            (TrackKind::Video, Some(sound)) if frame.keyframe => {
                self.apart.record((frame.dts - sound).as_secs_f64().abs());
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

/// Counts the bytes that a muxer writes.
pub fn muxed(format: Format) -> Counter {
    counter!(names::MUXED_BYTES_TOTAL, "format" => format.row().name)
}
