//! Tests of the whole spool on a real disk.

mod aside;
mod content;
mod crash;
mod durable;
mod fault;
mod flip;
mod index;
mod life;
mod limits;
mod notes;
mod replay;
mod room;
mod slow;
mod start;
mod stepped;
mod volumes;

use std::time::Duration;

use bytes::Bytes;
use media::MediaTime;
use mux::{Mark, ObjectId, ObjectPart, ObjectSpec, Output, Summary};
use serde_json::json;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::{Config, Event, Events, OutputKey, Spool, StoredOutput, Writer};

pub const WHOLE: ObjectId = ObjectId { file: 0, part: ObjectPart::Whole };
pub const PLAYLIST: ObjectId = ObjectId { file: 0, part: ObjectPart::Playlist };

pub const fn segment(number: u32) -> ObjectId {
    ObjectId { file: 0, part: ObjectPart::Segment(number) }
}

pub fn key(format: &str) -> OutputKey {
    OutputKey { recording: "01JD0000000000000000000000".into(), epoch: 3, format: format.into() }
}

pub fn spec(object: ObjectId) -> ObjectSpec {
    ObjectSpec { object, extension: "flv", content_type: "video/x-flv" }
}

pub fn summary(frames: u64) -> Summary {
    Summary { ends_at: MediaTime(90_000), video_frames: frames, ..Summary::default() }
}

pub fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

pub fn mark(object: ObjectId, millis: i64) -> Output {
    let mark = Mark { media_time: MediaTime::from_millis(millis), video_frames: millis as u64 / 40, audio_frames: 0 };
    Output::Commit(object, mark)
}

/// A spool in a directory of its own.
pub struct Bench {
    pub dir: TempDir,
    pub spool: Spool,
    pub events: Events,
    pub stored: Vec<StoredOutput>,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(|_| {}, Disk::default())
    }

    pub fn with(change: impl FnOnce(&mut Config), disk: Disk) -> Self {
        Self::at(tempfile::tempdir().unwrap(), change, disk)
    }

    fn at(dir: TempDir, change: impl FnOnce(&mut Config), disk: Disk) -> Self {
        let mut config = Config::new(dir.path());
        config.flush_interval = Duration::from_millis(20);
        change(&mut config);
        let (spool, stored, events) = Spool::open_on(config, disk).unwrap();
        Self { dir, spool, events, stored }
    }

    /// Ends this spool in order and opens the directory anew.
    pub async fn restart(self) -> Self {
        self.spool.close().await;
        Self::at(self.dir, |_| {}, Disk::default())
    }

    pub fn writer(&self, format: &str) -> Writer {
        self.spool.create(key(format), &json!({"storage": "storages/library", "format": format})).unwrap()
    }

    /// The next event that `pick` accepts.
    pub async fn event<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.next().await.expect("the spool was closed");
                if let Some(found) = pick(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), search).await.expect("no such event")
    }

    pub async fn whole(&self, format: &str, object: ObjectId) -> Bytes {
        self.spool.read(&key(format), object, 0, usize::MAX).await.unwrap()
    }

    /// The directory of an output.
    pub fn output_dir(&self, format: &str) -> std::path::PathBuf {
        crate::output::output_dir(self.dir.path(), &key(format))
    }
}

/// Applies several outputs.
pub fn apply(writer: &mut Writer, outputs: impl IntoIterator<Item = Output>) {
    for output in outputs {
        writer.apply(output).unwrap();
    }
}

/// Opens, fills, marks and closes an object.
pub fn object(object: ObjectId, data: Bytes) -> [Output; 4] {
    [Output::Open(spec(object)), Output::Append(object, data), mark(object, 1_000), Output::Close(object, summary(25))]
}
