//! Sound into the codec a container can carry, sans-IO: Opus packets in, AAC-LC access units out, on one timeline.
//!
//! [`Transcoder`] turns one track; [`Stage`] turns the sound of a whole stream and keeps it in order with the picture.
//!
//! **Time.** Frames in and out carry media time, and sound keeps its place: what a decoder of the AAC frames plays at a
//! time is what a decoder of the Opus packets would have played at it, less the look-ahead of the Opus encoder. The delay
//! of the AAC encoder is taken off the time of its frames, so that containers need no edit list for it; the one frame in
//! front of the first sample is there for decoders to start from. Clocks that drift are followed by stretching the sound
//! by at most half a percent.

mod decoder;
mod encoder;
mod line;
mod stage;
mod stretch;
mod transcoder;

pub use encoder::EncoderError;
pub use stage::Stage;
pub use transcoder::{Counts, Error, Transcoder};

/// Sampling rate of everything in here, in Hz: Opus decodes to it, and AAC is encoded at it.
const SAMPLE_RATE: u32 = media::opus::SAMPLE_RATE;
/// A fade that hides a seam: 2.5 ms in samples.
const FADE: usize = 120;
