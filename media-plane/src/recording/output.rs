//! One format of one recording: muxer in, spool out.

use std::time::Duration;

use media::{Codec, CodecConfig, Frame, MediaTime, Timed, TrackKind};
use metrics::Counter;
use mux::registry::{self, Format, Options, Segment, Wish};
use mux::{Muxer, Output, Reaction, Restored};
use spool::{OutputKey, Writer};

use super::feed::{Feed, is_left_out};
use super::spare::Hole;
use crate::{meter, spool_names};

/// Counters of one output, for the recording's report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// API files begun, by index: those of earlier epochs count as well.
    pub files: u32,
    /// Bytes handed to the spool.
    pub bytes: u64,
    /// Frames the container did not take.
    pub rejected: u64,
}

/// A muxer and where its bytes go.
pub struct OutputPipe {
    format: Format,
    /// How its segments are packed, if it has any.
    segment: Segment,
    muxer: Box<dyn Muxer>,
    writer: Writer,
    count: Count,
    muxed: Counter,
    /// What is wanted of the sound.
    wish: Wish,
    /// Tracks that the container cannot carry.
    unsupported: Vec<TrackKind>,
    /// Codec of the pictures that a format of pictures cannot carry.
    left_out: Option<Codec>,
    /// Configurations in effect, for the muxer that takes over when the disk fails.
    configs: Vec<(TrackKind, CodecConfig)>,
    /// Where the durable media of the output before this one ends, until this one has media.
    lost_from: Option<MediaTime>,
    /// What is missing between the two.
    hole: Option<Hole>,
    /// How long it waits for its publisher; zero = its file ends with the connection.
    window: Duration,
    /// The window of this absence is over: the next file begins when the publisher is back.
    window_passed: bool,
    /// What came before this absence is durable.
    suspended: bool,
}

impl OutputPipe {
    /// Opens the muxer over a spool writer, where an earlier process, epoch or disk left it; `bytes` were recorded before.
    pub fn restore(
        format: Format,
        options: &Options,
        writer: Writer,
        state: Restored,
        bytes: u64,
    ) -> Result<Self, registry::Unavailable> {
        Ok(Self {
            format,
            segment: options.segment,
            count: Count { files: state.files, bytes, rejected: 0 },
            muxed: meter::muxed(format),
            muxer: mux::restore(format, options, state)?,
            writer,
            wish: Wish::default(),
            unsupported: Vec::new(),
            left_out: None,
            configs: Vec::new(),
            lost_from: None,
            hole: None,
            window: Duration::ZERO,
            window_passed: false,
            suspended: false,
        })
    }

    /// With a time to wait for the publisher.
    pub fn waiting(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// With what is wanted of the sound.
    pub fn hearing(self, wish: Wish) -> Self {
        Self { wish, ..self }
    }

    /// In which form it takes the stream.
    pub fn feed(&self) -> Feed {
        Feed::of(self.format, self.segment, self.wish)
    }

    /// Goes on where `failed` lost its disk; `begun` is where the recording began.
    pub fn in_place_of(mut self, failed: &Self, begun: MediaTime) -> Self {
        self.wish = failed.wish;
        self = self.knowing(failed);
        let from = failed.lost_from.or_else(|| failed.writer.durable()).unwrap_or(begun);
        Self { lost_from: Some(from), hole: failed.hole, window: failed.window, ..self }
    }

    /// With the configurations that another output was told.
    pub fn knowing(mut self, other: &Self) -> Self {
        let hears_the_same = self.feed() == other.feed();
        for (track, config) in other.configs.iter().filter(|(track, _)| hears_the_same || *track != TrackKind::Audio) {
            self.config(*track, config);
        }
        self
    }

    /// Its key in the spool.
    pub fn key(&self) -> &OutputKey {
        self.writer.key()
    }

    /// Which output of its format it is: more than 0 when disks have failed.
    pub fn number(&self) -> u32 {
        spool_names::split(&self.writer.key().format).1
    }

    /// End of the media that is durable.
    pub fn ends_at(&self) -> Option<MediaTime> {
        self.lost_from.or_else(|| self.writer.durable())
    }

    /// Where the durable media ends while this output has none.
    pub fn lost_from(&self) -> Option<MediaTime> {
        self.lost_from
    }

    /// What was lost before this output; known once.
    pub fn take_hole(&mut self) -> Option<Hole> {
        self.hole.take()
    }

    /// Which format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Counters so far.
    pub fn count(&self) -> Count {
        self.count
    }

    /// How long it waits for its publisher.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Takes what the timeline gave. An error is the spool's: this output is over.
    pub fn take(&mut self, items: &[Timed]) -> Result<(), spool::Error> {
        (self.window_passed, self.suspended) = (false, false);
        for item in items {
            match item {
                Timed::Config(track, config) => self.config(*track, config),
                Timed::Gap(gap) => self.muxer.gap(*gap),
                Timed::Frame(frame) if self.unsupported.contains(&frame.track) => {}
                Timed::Frame(frame) => {
                    self.close_hole(frame);
                    if self.muxer.push(frame).is_err() {
                        self.count.rejected += 1;
                        meter::unfit();
                    }
                }
            }
        }
        self.drain()
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) {
        self.unsupported.retain(|other| *other != track);
        self.configs.retain(|(other, _)| *other != track);
        self.configs.push((track, config.clone()));
        let reaction = if track == TrackKind::Audio && is_left_out(self.format, self.segment, self.wish, config) {
            self.muxer.config(track, &CodecConfig::Unsupported(config.codec()))
        } else {
            self.muxer.config(track, config)
        };
        if reaction == Reaction::Unsupported {
            self.unsupported.push(track);
        }
        if track == TrackKind::Video && self.format.carries(Codec::H264) {
            self.left_out = (reaction == Reaction::Unsupported).then_some(config.codec());
        }
    }

    /// The codec of pictures that this format cannot carry, if nothing came of them: there is no file.
    pub fn made_nothing_of(&self) -> Option<Codec> {
        self.left_out.filter(|_| self.count.files == 0)
    }

    /// A file begins with a picture that can be shown, if there are pictures.
    fn close_hole(&mut self, frame: &Frame) {
        let Some(from) = self.lost_from else { return };
        let is_carried =
            |(track, _): &(TrackKind, CodecConfig)| *track == TrackKind::Video && !self.unsupported.contains(track);
        let has_pictures = self.configs.iter().any(is_carried);
        if !has_pictures || (frame.track == TrackKind::Video && frame.keyframe) {
            self.lost_from = None;
            self.hole = Some(Hole { from, to: frame.dts.max(from) });
        }
    }

    /// The publisher has been away for `gone`: what there is becomes durable, or the file is closed because its window is
    /// over. Gives when that will be, counted like `gone`; none when it is done.
    pub fn wait(&mut self, gone: Duration) -> Result<Option<Duration>, spool::Error> {
        if self.window_passed {
            return Ok(None);
        }
        if gone < self.window {
            if !self.suspended {
                self.suspend()?;
            }
            return Ok(Some(self.window));
        }
        self.close_file()?;
        Ok(None)
    }

    /// What there is ships while the recording waits: a playlist can be gone on with, other files are closed.
    pub fn put_down(&mut self) -> Result<(), spool::Error> {
        if self.format == Format::Hls { self.suspend() } else { self.close_file() }
    }

    /// Closes the open file; the next frame begins another.
    fn close_file(&mut self) -> Result<(), spool::Error> {
        self.window_passed = true;
        self.muxer.close_file();
        self.drain()
    }

    /// Everything taken so far is written, and of HLS reachable, while the file stays open.
    fn suspend(&mut self) -> Result<(), spool::Error> {
        self.suspended = true;
        self.muxer.suspend();
        self.drain()
    }

    /// A new file at the next key frame.
    pub fn cut(&mut self) -> Result<(), spool::Error> {
        self.muxer.cut();
        self.drain()
    }

    /// Ends the output; the counters are final.
    pub fn finish(mut self) -> Result<Count, spool::Error> {
        self.drain()?;
        let Self { muxer, mut writer, mut count, .. } = self;
        for output in muxer.finish().outputs {
            note(&mut count, &output);
            writer.apply(output)?;
        }
        writer.finish();
        Ok(count)
    }

    fn drain(&mut self) -> Result<(), spool::Error> {
        let before = self.count.bytes;
        while let Some(output) = self.muxer.poll() {
            note(&mut self.count, &output);
            self.writer.apply(output)?;
        }
        self.muxed.increment(self.count.bytes - before);
        Ok(())
    }
}

fn note(count: &mut Count, output: &Output) {
    match output {
        Output::Open(spec) => count.files = count.files.max(spec.object.file + 1),
        Output::Append(_, bytes) | Output::Head(_, bytes) => count.bytes += bytes.len() as u64,
        Output::Index(_, index) => count.bytes += index.head_len(),
        _ => {}
    }
}
