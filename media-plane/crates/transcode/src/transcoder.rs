//! One track of Opus into one of AAC-LC.

use std::sync::Arc;

use media::opus::{LOOK_AHEAD, packet_samples};
use media::{AacConfig, Frame, MediaTime, OpusConfig, TrackKind};

use crate::decoder::{Decoder, STEP};
use crate::encoder::{Encoder, EncoderError, FRAME};
use crate::line::{Line, Place};
use crate::stretch::stretch;
use crate::{FADE, SAMPLE_RATE};

/// An access unit in timeline ticks.
const FRAME_TICKS: i64 = FRAME as i64 * MediaTime::SCALE / SAMPLE_RATE as i64;

/// A codec that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// libopus refused.
    #[error("Opus decoder: {0}")]
    Decoder(String),
    /// The AAC encoder refused.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

/// What had to be done to the sound; samples are at 48 kHz, per channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came.
    pub packets: u64,
    /// Packets that could not be decoded.
    pub bad: u64,
    /// Packets left out because their time was over.
    pub over: u64,
    /// Access units that came out.
    pub units: u64,
    /// Samples made up, or recovered from the packet behind, in the place of lost ones.
    pub concealed: u64,
    /// Samples of silence put where nothing came.
    pub silent: u64,
    /// Samples added so that the sound keeps up with the clock.
    pub added: u64,
    /// Samples taken away for the same.
    pub removed: u64,
    /// Runs begun: 1, and one more for every hole that is told or longer than a second.
    pub runs: u64,
    /// Times the encoder failed, and its run with it.
    pub failed: u64,
}

impl Counts {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            packets: self.packets + other.packets,
            bad: self.bad + other.bad,
            over: self.over + other.over,
            units: self.units + other.units,
            concealed: self.concealed + other.concealed,
            silent: self.silent + other.silent,
            added: self.added + other.added,
            removed: self.removed + other.removed,
            runs: self.runs + other.runs,
            failed: self.failed + other.failed,
        }
    }
}

/// See the crate. Nothing that comes in can make it fail; what cannot be decoded is treated as lost.
#[derive(Debug)]
pub struct Transcoder {
    channels: usize,
    /// Samples of a packet that belong in front of its time.
    lead: usize,
    decoder: Decoder,
    /// Fresh, for the next run.
    encoder: Option<Encoder>,
    config: Arc<AacConfig>,
    run: Option<Run>,
    /// What is missing in front of the next packet was sent.
    was_lost: bool,
    /// Time of the newest access unit.
    last: Option<MediaTime>,
    piece: Vec<i16>,
    counts: Counts,
}

/// Sound without a break, and the encoder it goes through.
#[derive(Debug)]
struct Run {
    line: Line,
    encoder: Encoder,
    /// Samples that do not make a frame yet.
    pcm: Vec<i16>,
    /// Access units that have come out of the encoder.
    units: i64,
    /// What came before the next sample is not what was played before it: this is to be faded out over it.
    seam: Option<Vec<i16>>,
}

impl Transcoder {
    /// For a track with this configuration; mono stays mono.
    ///
    /// # Errors
    /// When libopus or the AAC encoder cannot be set up, which is to say: without memory.
    pub fn new(opus: &OpusConfig) -> Result<Self, Error> {
        let channels = if opus.channels == 1 { 1 } else { 2 };
        let decoder = Decoder::new(channels).map_err(|error| Error::Decoder(error.to_string()))?;
        let encoder = Encoder::new(channels)?;
        Ok(Self {
            channels,
            // Over RTP, which does not name the look-ahead of the encoder, the timestamp is that of the first sample that
            // went in. Containers name it, and their timestamps are those of what comes out.
            lead: if opus.pre_skip == 0 { LOOK_AHEAD.into() } else { 0 },
            decoder,
            config: Arc::clone(encoder.config()),
            encoder: Some(encoder),
            run: None,
            was_lost: false,
            last: None,
            piece: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Behind sound that ends with an access unit at `last`: nothing that comes out overlaps with that.
    #[must_use]
    pub fn behind(self, last: Option<MediaTime>) -> Self {
        Self { last, ..self }
    }

    /// Time of the newest access unit.
    pub fn last(&self) -> Option<MediaTime> {
        self.last
    }

    /// The configuration of what comes out, which never changes.
    pub fn config(&self) -> &Arc<AacConfig> {
        &self.config
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Time of the next access unit while a run lasts: all before it is out.
    pub fn reached(&self) -> Option<MediaTime> {
        self.run.as_ref().map(|run| run.line.time(unit_start(run.units, &run.encoder)))
    }

    /// What is missing in front of the next packet was lost on the way, and is to be made up for. Otherwise the publisher
    /// did not send anything, and there is silence.
    pub fn lost(&mut self) {
        self.was_lost = true;
    }

    /// Takes a packet. What it completes is appended to `out`: three to four access units later than it went in.
    pub fn push(&mut self, packet: &Frame, out: &mut Vec<Frame>) {
        self.counts.packets += 1;
        let Some(length) = packet_samples(&packet.data) else {
            self.counts.bad += 1;
            return;
        };
        let (time, lead, length) = (packet.dts, self.lead, length as usize);
        let place = self.run.as_mut().map_or(Place::Anew, |run| run.line.place(time, lead, length, STEP));
        match place {
            Place::Here { missing, stretch } => self.take(&packet.data, missing, stretch),
            Place::Over => self.leave_out(&packet.data),
            Place::Anew => {
                self.finish(out);
                if self.begin(time).is_err() {
                    self.counts.failed += 1;
                    return;
                }
                self.take(&packet.data, 0, 0);
            }
        }
        self.encode(out);
    }

    /// Ends the run: every sample that went in comes out. The next packet begins another at its own time. To be called at
    /// a gap and at the end.
    pub fn finish(&mut self, out: &mut Vec<Frame>) {
        self.decoder.reset();
        self.was_lost = false;
        // Silence pushes the last of it through the encoder, which gives one access unit for each frame at most.
        while let Some(run) = &mut self.run {
            let samples = run.line.position();
            if samples <= 0 || unit_start(run.units, &run.encoder) >= samples {
                break;
            }
            run.pcm.resize(FRAME * self.channels, 0);
            self.encode(out);
        }
        self.run = None;
    }

    fn begin(&mut self, zero: MediaTime) -> Result<(), EncoderError> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.channels)?,
        };
        self.counts.runs += 1;
        let line = Line::new(zero, self.lead);
        self.run = Some(Run { line, encoder, pcm: Vec::new(), units: 0, seam: None });
        Ok(())
    }

    /// Puts the samples of a packet in line, behind what stands in for those missing before it.
    fn take(&mut self, packet: &[u8], missing: usize, by: isize) {
        let was_lost = std::mem::take(&mut self.was_lost);
        if missing > 0 {
            self.piece.clear();
            let filled = self.decoder.fill(missing, was_lost, packet, &mut self.piece);
            self.counts.concealed += filled.concealed as u64;
            self.counts.silent += filled.silent as u64;
            self.put();
            if let Some(run) = self.run.as_mut().filter(|_| filled.silent > 0) {
                run.seam = Some(Vec::new());
            }
        }
        let was_silent = self.decoder.is_silent();
        let Some(pcm) = self.decoder.packet(packet) else {
            self.counts.bad += 1;
            return;
        };
        if let Some(run) = self.run.as_mut().filter(|_| was_silent) {
            run.seam.get_or_insert_default();
        }
        self.piece.clear();
        stretch(pcm, self.channels, by, &mut self.piece);
        match u64::try_from(by) {
            Ok(added) => self.counts.added += added,
            Err(_) => self.counts.removed += by.unsigned_abs() as u64,
        }
        self.put();
    }

    /// A packet whose time is over: the decoder has to hear it, nobody else.
    fn leave_out(&mut self, packet: &[u8]) {
        let Some(pcm) = self.decoder.packet(packet) else {
            self.counts.bad += 1;
            return;
        };
        self.counts.over += 1;
        if let Some(run) = &mut self.run {
            run.seam.get_or_insert_with(|| pcm.iter().take(FADE * self.channels).copied().collect());
        }
    }

    /// Puts the piece in line; what belongs in front of the run's first time is left out.
    fn put(&mut self) {
        let Some(run) = &mut self.run else { return };
        if let Some(before) = run.seam.take() {
            cross_fade(&before, &mut self.piece, self.channels);
        }
        let samples = self.piece.len() / self.channels;
        let early = usize::try_from(run.line.position().min(0).unsigned_abs()).unwrap_or(usize::MAX).min(samples);
        run.pcm.extend_from_slice(self.piece.get(early * self.channels..).unwrap_or_default());
        run.line.advance(samples);
    }

    /// Encodes every whole frame in line.
    fn encode(&mut self, out: &mut Vec<Frame>) {
        let Some(run) = &mut self.run else { return };
        let mut done = 0;
        let mut outcome = Ok(());
        for pcm in run.pcm.chunks_exact(FRAME * self.channels) {
            done += pcm.len();
            match run.encoder.encode(pcm) {
                Ok(None) => {}
                Ok(Some(data)) => {
                    let start = unit_start(run.units, &run.encoder);
                    run.units += 1;
                    let dts = run.line.time(start);
                    // The first frame in front of the sound is what decoders overlap with; any before that are empty. And
                    // one that the end of the run before has covered already is one too many.
                    let is_free = self.last.is_none_or(|last| dts.0 >= last.0.saturating_add(FRAME_TICKS));
                    if start >= -(FRAME as i64) && is_free {
                        self.last = Some(dts);
                        self.counts.units += 1;
                        out.push(Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data });
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        run.pcm.drain(..done);
        if outcome.is_err() {
            // The next packet begins anew.
            self.counts.failed += 1;
            self.run = None;
        }
    }
}

/// Where the access unit number `unit` of a run begins, in samples of its line.
fn unit_start(unit: i64, encoder: &Encoder) -> i64 {
    unit.saturating_mul(FRAME as i64).saturating_sub(encoder.delay() as i64)
}

/// Fades from `before` (silence where it ends) to the beginning of `pcm`.
fn cross_fade(before: &[i16], pcm: &mut [i16], channels: usize) {
    let length = FADE.min(pcm.len() / channels) as i32;
    let fading = before.iter().copied().chain(std::iter::repeat(0));
    for ((n, value), before) in pcm.iter_mut().take(length as usize * channels).enumerate().zip(fading) {
        let part = (n / channels) as i32;
        *value = ((i32::from(*value) * part + i32::from(before) * (length - part)) / length) as i16;
    }
}
