//! The sound of a stream on its way through a [`Transcoder`], in order with the picture.
//!
//! Sound comes out of the codecs a little later than it went in. So that files begin and end with picture and sound of
//! the same moment, pictures wait for it, but not for long: sound that stays away is not waited for.

use std::collections::VecDeque;
use std::sync::Arc;

use media::{AacConfig, Codec, CodecConfig, Frame, GapReason, MediaTime, Timed, TrackKind};

use crate::{Counts, Transcoder};

/// A picture waits until the stream is this far ahead of it: the delay of the codecs is 64 ms, and packets are up to 120 ms
/// long.
const MAX_WAIT: MediaTime = MediaTime(MediaTime::SCALE / 5);
/// Pictures that wait, in bytes of payload; and in items.
const MAX_WAITING_BYTES: usize = 4 << 20;
const MAX_WAITING: usize = 256;

/// See the module. What is not Opus passes as it is.
#[derive(Debug, Default)]
pub struct Stage {
    transcoder: Option<Transcoder>,
    /// The configuration that those behind know.
    told: Option<Arc<AacConfig>>,
    /// The picture, while the sound that belongs before it is on its way.
    waiting: VecDeque<Timed>,
    waiting_bytes: usize,
    newest: Option<MediaTime>,
    /// Time of the newest packet of sound.
    newest_sound: Option<MediaTime>,
    frames: Vec<Frame>,
    /// Of transcoders that are gone.
    before: Counts,
}

impl Stage {
    /// A stage before its first configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was done to the sound so far.
    pub fn counts(&self) -> Counts {
        self.transcoder.as_ref().map_or(self.before, |transcoder| self.before.plus(transcoder.counts()))
    }

    /// Takes what the timeline gave; what is ready is appended to `out`, in order.
    pub fn push(&mut self, item: &Timed, out: &mut Vec<Timed>) {
        match item {
            Timed::Frame(frame) => {
                self.newest = self.newest.max(Some(frame.dts));
                match (&mut self.transcoder, frame.track) {
                    (Some(transcoder), TrackKind::Audio) => {
                        self.newest_sound = Some(frame.dts);
                        transcoder.push(frame, &mut self.frames);
                        self.merge(out);
                    }
                    (Some(_), TrackKind::Video) => {
                        self.waiting_bytes += frame.data.len();
                        self.waiting.push_back(item.clone());
                    }
                    (None, _) => out.push(item.clone()),
                }
                self.let_go(out);
            }
            Timed::Config(TrackKind::Video, _) => self.queue(item, out),
            Timed::Gap(gap) if gap.reason == GapReason::FramesLost => {
                // Of one track only; it begins where that was.
                if let Some(transcoder) = self.transcoder.as_mut().filter(|_| self.newest_sound == Some(gap.starts_at))
                {
                    transcoder.lost();
                }
                self.queue(item, out);
            }
            Timed::Config(TrackKind::Audio, config) => {
                self.finish(out);
                self.configure(config, out);
            }
            Timed::Gap(_) => {
                self.finish(out);
                out.push(item.clone());
            }
        }
    }

    /// All that went in comes out; what follows begins anew.
    pub fn finish(&mut self, out: &mut Vec<Timed>) {
        if let Some(transcoder) = &mut self.transcoder {
            transcoder.finish(&mut self.frames);
        }
        self.merge(out);
        self.release(out);
        (self.newest, self.newest_sound) = (None, None);
    }

    /// In order with the pictures that wait.
    fn queue(&mut self, item: &Timed, out: &mut Vec<Timed>) {
        if self.waiting.is_empty() { out.push(item.clone()) } else { self.waiting.push_back(item.clone()) }
    }

    /// Nothing waits any longer, although its sound may still come: to be called when nothing has come for a while.
    pub fn release(&mut self, out: &mut Vec<Timed>) {
        out.extend(self.waiting.drain(..));
        self.waiting_bytes = 0;
    }

    /// Whether a picture waits.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn configure(&mut self, config: &CodecConfig, out: &mut Vec<Timed>) {
        self.before = self.counts();
        let last = self.transcoder.take().and_then(|transcoder| transcoder.last());
        let CodecConfig::Opus(opus) = config else {
            self.told = None;
            return out.push(Timed::Config(TrackKind::Audio, config.clone()));
        };
        match Transcoder::new(opus) {
            Ok(transcoder) => {
                let transcoder = transcoder.behind(last);
                let config = Arc::clone(transcoder.config());
                self.transcoder = Some(transcoder);
                if self.told.as_ref() != Some(&config) {
                    self.told = Some(Arc::clone(&config));
                    out.push(Timed::Config(TrackKind::Audio, CodecConfig::Aac(config)));
                }
            }
            // Without memory for a codec the picture goes on alone.
            Err(_) => {
                (self.told, self.before.failed) = (None, self.before.failed + 1);
                out.push(Timed::Config(TrackKind::Audio, CodecConfig::Unsupported(Codec::Opus)));
            }
        }
    }

    /// Puts the sound that is ready between the pictures.
    fn merge(&mut self, out: &mut Vec<Timed>) {
        let mut frames = std::mem::take(&mut self.frames);
        for frame in frames.drain(..) {
            self.release_before(frame.dts, out);
            out.push(Timed::Frame(frame));
        }
        self.frames = frames;
    }

    /// Pictures with which no sound that is on its way is to be, or that have waited long enough.
    fn let_go(&mut self, out: &mut Vec<Timed>) {
        let reached = self.transcoder.as_ref().and_then(Transcoder::reached);
        let too_long = self.newest.map(|newest| newest - MAX_WAIT);
        match reached.max(too_long).filter(|_| reached.is_some()) {
            None => self.release(out),
            Some(until) => self.release_before(until, out),
        }
        if self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            self.release(out);
        }
    }

    fn release_before(&mut self, time: MediaTime, out: &mut Vec<Timed>) {
        let is_due = |item: &Timed| !matches!(item, Timed::Frame(frame) if frame.dts >= time);
        while let Some(item) = self.waiting.pop_front_if(|item| is_due(item)) {
            if let Timed::Frame(frame) = &item {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(frame.data.len());
            }
            out.push(item);
        }
    }
}
