//! Facts and claims of one recorded stream, as a node would tell them.
use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_proto::facts::{
    Fact, FactKind, FileAvailable, FileFailed, FileOpened, GapSpan, OutputTotals, RecordingEnded, RecordingManifest,
    RecordingStarted, StreamEnded, StreamSnapshot,
};
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, EventId, FileIndex, RecordingId, Sequence, SessionId};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::{self, ClaimRecordingRequest};
use recorder_proto::pb::v1;
use recorder_proto::time;

use super::control::START;

/// One recording of one stream, with the sequence of its node.
#[derive(Clone, Debug)]
pub struct Story {
    pub recording: RecordingId,
    pub session: SessionId,
    pub stream: StreamKey,
    pub epoch: u64,
    pub sequence: u64,
    pub storage: &'static str,
    /// Bare id.
    pub template: &'static str,
    /// Of the template.
    pub revision: u32,
    pub labels: BTreeMap<String, String>,
    /// The task that asked for it; otherwise a binding did.
    pub task: Option<&'static str>,
}

pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(START, 0).unwrap() + TimeDelta::seconds(seconds)
}

impl Story {
    pub fn new(domain: &str, stream: &str) -> Self {
        Self {
            recording: RecordingId::new(at(0), rand::random()),
            session: SessionId::new(at(0), rand::random()),
            stream: StreamKey::new(domain, "live", stream).unwrap(),
            epoch: 1,
            sequence: 0,
            storage: "storages/library",
            template: "default",
            revision: 1,
            labels: BTreeMap::new(),
            task: None,
        }
    }

    pub fn name(&self) -> String {
        format!("recordings/{}", self.recording)
    }

    pub fn binding(&self) -> String {
        format!("domains/{}/bindings/{}", self.stream.domain(), self.template)
    }

    fn origin(&self) -> String {
        self.task.map_or_else(|| self.binding(), str::to_owned)
    }

    /// Another recording, told by the same node.
    pub fn another(&self, stream: &str) -> Self {
        Self { sequence: self.sequence, ..Self::new(self.stream.domain(), stream) }
    }

    /// The same stream as it comes back to another node, which knows nothing of the recording.
    pub fn on_another_node(&self) -> Self {
        let new = Self::new(self.stream.domain(), self.stream.stream());
        Self { storage: self.storage, template: self.template, revision: self.revision, ..new }
    }

    /// Goes on under what was granted.
    pub fn take_over(&mut self, granted: &node::ClaimRecordingResponse) {
        self.recording = granted.recording.parse::<recorder_proto::names::RecordingName>().unwrap().0;
        self.epoch = granted.epoch;
    }

    pub fn claim(&self, node_epoch: u64) -> ClaimRecordingRequest {
        ClaimRecordingRequest {
            node_epoch,
            claim_key: format!("{}/default", self.session),
            stream: Some((&self.stream).into()),
            origin: self.origin(),
            session: format!("streams/{}", self.session),
            start_time: Some(time::timestamp(at(1))),
            may_resume: false,
            proposed_recording: self.name(),
            template: format!("templates/{}", self.template),
            template_revision: self.revision,
            storage: self.storage.into(),
            protocol: v1::protocol::Kind::Rtmp as i32,
            labels: self.labels.clone(),
        }
    }

    /// The next fact about the recording.
    pub fn fact(&mut self, seconds: i64, kind: impl Into<FactKind>) -> node::Fact {
        let (recording, epoch) = (Some(self.recording), Epoch(self.epoch));
        self.tell(seconds, recording, epoch, kind.into())
    }

    /// The next fact about something else.
    pub fn aside(&mut self, seconds: i64, kind: impl Into<FactKind>) -> node::Fact {
        self.tell(seconds, None, Epoch(0), kind.into())
    }

    fn tell(&mut self, seconds: i64, recording: Option<RecordingId>, epoch: Epoch, kind: FactKind) -> node::Fact {
        self.sequence += 1;
        let (sequence, id) = (Sequence(self.sequence), EventId::new(at(seconds), rand::random()));
        (&Fact { sequence, id, time: at(seconds), recording, epoch, kind }).into()
    }

    pub fn published(&mut self) -> node::Fact {
        let snapshot = StreamSnapshot {
            session: self.session,
            stream: self.stream.clone(),
            protocol: v1::protocol::Kind::Rtmp,
            remote_address: "192.0.2.7:50000".into(),
            encoder: "test".into(),
            start_time: at(0),
            tracks: Vec::new(),
            recordings: Vec::new(),
        };
        self.aside(0, snapshot)
    }

    pub fn left(&mut self) -> node::Fact {
        let ended = StreamEnded {
            session: self.session,
            stream: self.stream.clone(),
            end_time: at(30),
            orderly: true,
            cause: "publisher left".into(),
            error: None,
            tracks: Vec::new(),
            bytes_received: 7,
        };
        self.aside(30, ended)
    }

    pub fn started(&mut self) -> node::Fact {
        let started = RecordingStarted {
            stream: self.stream.clone(),
            session: self.session,
            protocol: v1::protocol::Kind::Rtmp,
            origin: self.origin(),
            also: Vec::new(),
            template: self.template.parse().unwrap(),
            template_revision: self.revision,
            storage: self.storage.parse().unwrap(),
            labels: self.labels.clone(),
            formats: vec![Format::Mp4],
            start_time: at(1),
            claim_key: format!("{}/default", self.session),
        };
        self.fact(1, started)
    }

    pub fn key(&self, index: u32) -> String {
        let epoch = if self.epoch > 1 { format!("-e{}", self.epoch) } else { String::new() };
        format!("origin/{}/{}-{index}{epoch}.mp4", self.stream, self.recording)
    }

    pub fn playlist_key(&self) -> String {
        self.key(0).replace(".mp4", "/index.m3u8")
    }

    pub fn playlist_opened(&mut self) -> node::Fact {
        let key = self.playlist_key();
        let opened = FileOpened {
            format: Format::Hls,
            index: FileIndex(0),
            storage: self.storage.parse().unwrap(),
            uri: format!("library:///{key}"),
            object_key: key,
            content_type: "application/vnd.apple.mpegurl".into(),
            start_time: at(1),
            video: None,
            audio: None,
        };
        self.fact(2, opened)
    }

    pub fn playlist_available(&mut self) -> node::Fact {
        let key = self.playlist_key();
        let available = FileAvailable {
            format: Format::Hls,
            index: FileIndex(0),
            storage: self.storage.parse().unwrap(),
            uri: format!("library:///{key}"),
            object_key: key,
            content_type: "application/vnd.apple.mpegurl".into(),
            size_bytes: 5_000,
            objects: 3,
            crc32c: String::new(),
            object_etag: String::new(),
            start_time: at(1),
            end_time: at(30),
            duration_micros: 29_000_000,
            video: None,
            audio: None,
            available_time: at(44),
        };
        self.fact(44, available)
    }

    pub fn opened(&mut self, index: u32) -> node::Fact {
        let opened = FileOpened {
            format: Format::Mp4,
            index: FileIndex(index),
            storage: self.storage.parse().unwrap(),
            object_key: self.key(index),
            uri: format!("library:///{}", self.key(index)),
            content_type: "video/mp4".into(),
            start_time: at(1 + i64::from(index)),
            video: None,
            audio: None,
        };
        self.fact(2 + i64::from(index), opened)
    }

    pub fn available(&mut self, index: u32) -> node::Fact {
        let available = FileAvailable {
            format: Format::Mp4,
            index: FileIndex(index),
            storage: self.storage.parse().unwrap(),
            object_key: self.key(index),
            uri: format!("library:///{}", self.key(index)),
            content_type: "video/mp4".into(),
            size_bytes: 1_000,
            objects: 1,
            crc32c: "AAAAAA==".into(),
            object_etag: "e".into(),
            start_time: at(1),
            end_time: at(30),
            duration_micros: 29_000_000,
            video: None,
            audio: None,
            available_time: at(40 + i64::from(index)),
        };
        self.fact(40 + i64::from(index), available)
    }

    pub fn failed(&mut self, index: u32, words: &str) -> node::Fact {
        let failed = FileFailed {
            format: Format::Mp4,
            index: FileIndex(index),
            storage: self.storage.parse().unwrap(),
            object_key: self.key(index),
            error: provider(words),
            bytes_kept: 1_000,
        };
        self.fact(41, failed)
    }

    /// Nothing of it is kept.
    pub fn failed_for_good(&mut self, index: u32) -> node::Fact {
        let mut fact = Fact::try_from(&self.failed(index, "damaged")).unwrap();
        let FactKind::FileFailed(failed) = &mut fact.kind else { unreachable!() };
        failed.bytes_kept = 0;
        node::Fact::from(&fact)
    }

    pub fn ended(&mut self, files: u32) -> node::Fact {
        self.ended_with(files, Vec::new())
    }

    /// The last that a node tells of a recording.
    pub fn manifest(&mut self) -> node::Fact {
        let manifest = RecordingManifest {
            storage: "library".parse().unwrap(),
            object_key: "x/manifest.json".into(),
            uri: "library:///x/manifest.json".into(),
            size_bytes: 1,
            crc32c: String::new(),
        };
        self.fact(50, manifest)
    }

    pub fn totals(&self, files: u32, bytes_recorded: u64) -> OutputTotals {
        let format = Format::Mp4;
        OutputTotals { format, files, bytes_recorded, bytes_uploaded: 0, upload_lag_micros: 0, error: None }
    }

    pub fn ended_with(&mut self, files: u32, gaps: Vec<GapSpan>) -> node::Fact {
        let totals = self.totals(files, 1_000 * u64::from(files));
        let ended = RecordingEnded {
            end_reason: v1::recording::EndReason::PublisherEnded,
            start_time: at(1),
            end_time: at(30),
            media_duration_micros: 29_000_000,
            gaps,
            outputs: vec![totals],
            error: None,
        };
        self.fact(30, ended)
    }
}

/// What a bucket said.
pub fn provider(words: &str) -> recorder_proto::facts::Failure {
    recorder_proto::facts::Failure {
        code: tonic::Code::PermissionDenied as i32,
        reason: "AccessDenied".into(),
        message: words.into(),
        http_status: 403,
        request_id: "R1".into(),
    }
}
