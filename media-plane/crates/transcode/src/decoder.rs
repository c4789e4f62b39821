//! Opus packets into samples: real ones, and those that stand in for lost ones.

use media::opus::{MAX_PACKET_SAMPLES, packet_samples};
use opus::Channels;

use crate::{FADE, SAMPLE_RATE};

/// Opus conceals in steps of 2.5 ms, in samples.
pub(crate) const STEP: usize = 120;
/// Concealment is made up from what came before; beyond 100 ms it only drones. In samples.
const MAX_CONCEALED: usize = 4_800;
/// How long sound takes to die away where the publisher fell silent on purpose: 10 ms in samples.
const DYING_AWAY: usize = 480;
/// A packet of at most this size holds no sound: discontinuous transmission (RFC 6716, 3.1, and libopus).
const DTX_BYTES: usize = 2;

/// How a hole was filled, in samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filled {
    /// Made up by the decoder, or recovered from the packet behind the hole.
    pub(crate) concealed: usize,
    /// Silence.
    pub(crate) silent: usize,
}

/// An Opus decoder and what it last made.
#[derive(Debug)]
pub(crate) struct Decoder {
    opus: opus::Decoder,
    channels: usize,
    pcm: Vec<i16>,
    /// The newest packet announced silence.
    fell_silent: bool,
}

impl Decoder {
    pub(crate) fn new(channels: usize) -> Result<Self, opus::Error> {
        let layout = if channels == 1 { Channels::Mono } else { Channels::Stereo };
        let pcm = vec![0; MAX_PACKET_SAMPLES as usize * channels];
        Ok(Self { opus: opus::Decoder::new(SAMPLE_RATE, layout)?, channels, pcm, fell_silent: false })
    }

    /// Forgets what came before.
    pub(crate) fn reset(&mut self) {
        self.fell_silent = false;
        // Resetting a decoder that exists cannot fail.
        let _ = self.opus.reset_state();
    }

    /// Whether the publisher has announced silence.
    pub(crate) fn is_silent(&self) -> bool {
        self.fell_silent
    }

    /// The samples of a packet, channels interleaved. `None` when it cannot be decoded.
    pub(crate) fn packet(&mut self, packet: &[u8]) -> Option<&[i16]> {
        packet_samples(packet)?;
        let samples = self.opus.decode(packet, &mut self.pcm, false).ok()?;
        let pcm = self.pcm.get_mut(..samples * self.channels)?;
        let was_silent = std::mem::replace(&mut self.fell_silent, packet.len() <= DTX_BYTES);
        match (was_silent, self.fell_silent) {
            (_, false) => {}
            (false, true) => fade_out(pcm, self.channels),
            // libopus would make up the noise of the room for it, from the last of what was said.
            (true, true) => pcm.fill(0),
        }
        Some(pcm)
    }

    /// Appends `samples` (whole [`STEP`]s) to `out` in the place of what did not come before `next`. What was lost is taken
    /// from the copy that `next` may carry of it, else made up, as far as that can be done; where nothing was lost, or too
    /// much, there is silence.
    pub(crate) fn fill(&mut self, samples: usize, was_lost: bool, next: &[u8], out: &mut Vec<i16>) -> Filled {
        let before = out.len();
        let (concealed, fading) = match (was_lost, samples) {
            _ if self.fell_silent => (0, 0),
            (true, ..=MAX_CONCEALED) => (self.recover(samples, next, out), FADE),
            (true, _) => (self.make_up(MAX_CONCEALED, out), FADE),
            (false, _) => (self.make_up(samples.min(DYING_AWAY), out), DYING_AWAY),
        };
        let silent = samples - concealed;
        if silent > 0 {
            let sounding = concealed - concealed.min(fading);
            fade_out(out.get_mut(before + sounding * self.channels..).unwrap_or_default(), self.channels);
            out.resize(before + samples * self.channels, 0);
        }
        Filled { concealed, silent }
    }

    /// From the copy in the next packet, with concealment in front of it. Gives the samples made.
    fn recover(&mut self, samples: usize, next: &[u8], out: &mut Vec<i16>) -> usize {
        let room = self.pcm.get_mut(..samples * self.channels);
        match room.map(|room| self.opus.decode(next, room, true)) {
            Some(Ok(made)) => self.append(made.min(samples), out),
            _ => self.make_up(samples, out),
        }
    }

    fn make_up(&mut self, samples: usize, out: &mut Vec<i16>) -> usize {
        let room = self.pcm.get_mut(..samples * self.channels);
        match room.map(|room| self.opus.decode(&[], room, false)) {
            Some(Ok(made)) => self.append(made.min(samples), out),
            _ => 0,
        }
    }

    fn append(&self, samples: usize, out: &mut Vec<i16>) -> usize {
        out.extend_from_slice(self.pcm.get(..samples * self.channels).unwrap_or_default());
        samples
    }
}

/// Lets the sound die away to its end.
fn fade_out(pcm: &mut [i16], channels: usize) {
    let samples = (pcm.len() / channels) as i32;
    for (frame, left) in pcm.chunks_mut(channels).zip((0..samples).rev()) {
        frame.iter_mut().for_each(|value| *value = (i32::from(*value) * left / samples) as i16);
    }
}
