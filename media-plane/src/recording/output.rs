//! One format of one recording: muxer in, spool out.

use media::{CodecConfig, Timed, TrackKind};
use mux::registry::{self, Format, Options};
use mux::{Muxer, Output, Reaction};
use spool::Writer;

/// Counters of one output, for the recording's report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// API files begun.
    pub files: u32,
    /// Bytes handed to the spool.
    pub bytes: u64,
    /// Frames the container did not take.
    pub rejected: u64,
}

/// A muxer and where its bytes go.
pub struct OutputPipe {
    format: Format,
    muxer: Box<dyn Muxer>,
    writer: Writer,
    count: Count,
    /// Tracks that the container cannot carry.
    unsupported: Vec<TrackKind>,
}

impl OutputPipe {
    /// Opens the muxer over a spool writer.
    pub fn open(format: Format, options: &Options, writer: Writer) -> Result<Self, registry::Unavailable> {
        let muxer = registry::open(format, options)?;
        Ok(Self { format, muxer, writer, count: Count::default(), unsupported: Vec::new() })
    }

    /// Which format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Counters so far.
    pub fn count(&self) -> Count {
        self.count
    }

    /// Takes what the timeline gave. An error is the spool's: this output is over.
    pub fn take(&mut self, items: &[Timed]) -> Result<(), spool::Error> {
        for item in items {
            match item {
                Timed::Config(track, config) => self.config(*track, config),
                Timed::Gap(gap) => self.muxer.gap(*gap),
                Timed::Frame(frame) if self.unsupported.contains(&frame.track) => {}
                Timed::Frame(frame) => {
                    if self.muxer.push(frame).is_err() {
                        self.count.rejected += 1;
                        metrics::counter!("recorder_frames_rejected_total", "reason" => "container").increment(1);
                    }
                }
            }
        }
        self.drain()
    }

    fn config(&mut self, track: TrackKind, config: &CodecConfig) {
        self.unsupported.retain(|other| *other != track);
        if self.muxer.config(track, config) == Reaction::Unsupported {
            self.unsupported.push(track);
        }
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
        while let Some(output) = self.muxer.poll() {
            note(&mut self.count, &output);
            self.writer.apply(output)?;
        }
        Ok(())
    }
}

fn note(count: &mut Count, output: &Output) {
    match output {
        Output::Open(spec) => count.files = count.files.max(spec.object.file + 1),
        Output::Append(_, bytes) | Output::Head(_, bytes) => count.bytes += bytes.len() as u64,
        _ => {}
    }
}
