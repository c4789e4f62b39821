//! Indexes that are made of what the journal has.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::{AacConfig, AvcConfig, CodecConfig, Frame, MediaTime, TrackKind};
use mux::{Format, Muxer, ObjectId, ObjectPart, Options, Restored, RestoredFile, RestoredObject};

use super::{Bench, WHOLE, key};
use crate::output::journal_path;
use crate::{Error, Event, ObjectState, StoredOutput, Writer};

const AVC: &[u8] =
    b"\x01\x64\x00\x1e\xff\xe1\x00\x1a\x67\x64\x00\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\
    \x00\x00\x03\x00\x3c\x0f\x16\x2d\x96\x01\x00\x06\x68\xeb\xe3\xcb\x22\xc0";

/// A muxer that writes to a spool.
struct Pipe {
    muxer: Box<dyn Muxer>,
    writer: Writer,
    sent: Vec<Bytes>,
}

impl Pipe {
    fn new(bench: &Bench) -> Self {
        Self::over(bench.writer("mp4"), Restored::default())
    }

    /// Goes on where an earlier process was.
    fn restored(bench: &Bench) -> Self {
        let writer = bench.spool.reopen(&key("mp4")).unwrap();
        Self::over(writer, left(&bench.stored[0]))
    }

    fn over(writer: Writer, state: Restored) -> Self {
        let mut muxer = mux::restore(Format::Mp4, &Options::default(), state).unwrap();
        let avc = AvcConfig::parse(Bytes::from_static(AVC)).unwrap();
        let aac = AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap();
        muxer.config(TrackKind::Video, &CodecConfig::Avc(Arc::new(avc)));
        muxer.config(TrackKind::Audio, &CodecConfig::Aac(Arc::new(aac)));
        let mut pipe = Self { muxer, writer, sent: Vec::new() };
        pipe.drain();
        pipe
    }

    fn drain(&mut self) {
        while let Some(output) = self.muxer.poll() {
            // One that has failed says so in its events.
            let _ = self.writer.apply(output);
        }
    }

    /// A picture and a frame of sound each.
    fn push(&mut self, frames: std::ops::Range<i64>) {
        for n in frames {
            let dts = MediaTime::from_millis(n * 40 + n % 3);
            let mut picture = BytesMut::new();
            let len = 20 + n as usize * 31 % 700;
            picture.put_u32(len as u32);
            picture.put_u8(if n % 25 == 0 { 0x65 } else { 0x41 });
            picture.put_bytes(n as u8, len - 1);
            let sound = Bytes::from(vec![n as u8; 5 + n as usize % 90]);
            for (track, data, keyframe) in
                [(TrackKind::Video, picture.freeze(), n % 25 == 0), (TrackKind::Audio, sound, true)]
            {
                self.muxer.push(&Frame { track, dts, pts: dts, keyframe, data: data.clone() }).unwrap();
                self.sent.push(data);
            }
        }
        self.drain();
    }

    fn finish(mut self) -> Vec<Bytes> {
        for output in self.muxer.finish().outputs {
            let _ = self.writer.apply(output);
        }
        self.writer.finish();
        self.sent
    }
}

fn left(output: &StoredOutput) -> Restored {
    let objects = output.objects.iter().map(|object| {
        let (len, mark, closed) = match &object.state {
            ObjectState::Open { bytes, mark } => (*bytes, *mark, None),
            ObjectState::Closed { size, summary, .. } => (*size, None, Some(summary.clone())),
        };
        RestoredObject { spec: object.spec, notes: object.notes.clone(), len, mark, closed }
    });
    let newest = output.objects.iter().map(|object| object.spec.object.file).max().unwrap();
    let objects = objects.filter(|object| object.spec.object.file == newest).collect();
    Restored { files: newest + 1, open: Some(RestoredFile { file: newest, objects, playlist: None }) }
}

async fn samples(bench: &Bench, object: ObjectId) -> Vec<Bytes> {
    let bytes = bench.whole("mp4", object).await;
    mux::demux::mp4(&bytes).unwrap().samples.into_iter().map(|sample| sample.payload).collect()
}

#[tokio::test]
async fn an_index_tells_of_every_sample_whatever_is_flushed_when() {
    // Nothing was flushed before the end, and then more and more.
    for flushes in [0, 1, 7, 100] {
        let bench =
            Bench::with(|config| config.flush_interval = std::time::Duration::from_secs(3_600), Default::default());
        let mut pipe = Pipe::new(&bench);
        for n in 0..300 {
            pipe.push(n..n + 1);
            if flushes > 0 && n % (300 / flushes) == 0 {
                bench.spool.flush().await;
            }
        }
        let sent = pipe.finish();
        bench.spool.flush().await;
        assert!(samples(&bench, WHOLE).await == sent, "{flushes} flushes");
    }
}

#[tokio::test]
async fn an_index_of_a_later_file_has_its_own_samples_only() {
    let bench = Bench::new();
    let mut pipe = Pipe::new(&bench);
    for file in 0..3 {
        pipe.push(file * 50..file * 50 + 50);
        bench.spool.flush().await;
        pipe.muxer.close_file();
        pipe.drain();
    }
    let sent = pipe.finish();
    bench.spool.flush().await;
    for (file, sent) in (0..).zip(sent.chunks(100)) {
        assert!(samples(&bench, ObjectId { file, part: ObjectPart::Whole }).await == sent, "file {file}");
    }
}

#[tokio::test]
async fn an_index_spans_restarts_and_what_they_cut_away() {
    let mut bench =
        Bench::with(|config| config.flush_interval = std::time::Duration::from_secs(3_600), Default::default());
    let mut pipe = Pipe::new(&bench);
    let mut sent = Vec::new();
    for life in 0..4 {
        pipe.push(life * 100..life * 100 + 100);
        bench.spool.flush().await;
        // Bytes and a note of theirs, without the mark: the next start cuts them away.
        let (object, bytes) = (WHOLE, Bytes::from_static(b"cut away"));
        pipe.writer.apply(mux::Output::Append(object, bytes)).unwrap();
        pipe.writer.apply(mux::Output::Note(object, Bytes::from_static(&[0x83, 0x07]))).unwrap();
        bench.spool.flush().await;
        sent.append(&mut pipe.sent);
        drop(pipe);
        bench = bench.restart().await;
        pipe = Pipe::restored(&bench);
    }
    pipe.push(400..450);
    sent.extend(pipe.finish());
    bench.spool.flush().await;
    assert!(samples(&bench, WHOLE).await == sent);
}

async fn failure(bench: &mut Bench) -> Error {
    bench.event(|event| if let Event::Failed { error, .. } = event { Some(error.clone()) } else { None }).await
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_costs_a_restart_and_no_sample() {
    let mut bench = Bench::new();
    let mut pipe = Pipe::new(&bench);
    pipe.push(0..100);
    bench.spool.flush().await;
    let journal = journal_path(&bench.output_dir("mp4"));
    let elsewhere = journal.with_extension("elsewhere");
    std::fs::rename(&journal, &elsewhere).unwrap();
    let sent = pipe.finish();
    let error = failure(&mut bench).await;
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
    std::fs::rename(&elsewhere, &journal).unwrap();
    let bench = bench.restart().await;
    assert!(!bench.stored[0].finished);
    Pipe::restored(&bench).finish();
    bench.spool.flush().await;
    assert!(samples(&bench, WHOLE).await == sent);
}

#[tokio::test]
async fn a_journal_that_lost_samples_gives_no_index_and_a_restart_ends_the_file_before_them() {
    let mut bench = Bench::new();
    let mut pipe = Pipe::new(&bench);
    pipe.push(0..100);
    bench.spool.flush().await;
    let journal = journal_path(&bench.output_dir("mp4"));
    let before = std::fs::metadata(&journal).unwrap().len();
    pipe.push(100..200);
    bench.spool.flush().await;
    let file = std::fs::File::options().write(true).open(&journal).unwrap();
    // In the notes of the newest extent.
    let end = file.metadata().unwrap().len();
    assert!(end > before + 200);
    file.write_all_at(&[0xff; 8], end - 40).unwrap();
    let sent = pipe.finish();
    let error = failure(&mut bench).await;
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    let bench = bench.restart().await;
    Pipe::restored(&bench).finish();
    bench.spool.flush().await;
    let read = samples(&bench, WHOLE).await;
    assert_eq!(read.len(), 200);
    assert!(sent.starts_with(&read));
}
