//! Facts of recordings with times of their own, as a node would tell them.
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use recorder_proto::facts::{
    Audio, FileAvailable, FileOpened, GapSpan, OutputTotals, RecordingEnded, RecordingInterrupted, RecordingResumed,
    RecordingStarted,
};
use recorder_proto::format::Format;
use recorder_proto::ids::{FileIndex, SessionId};
use recorder_proto::pb::node::Fact;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::gap::Reason;
use recorder_proto::pb::v1::recording::EndReason;

use crate::link::story::{self, Story};

/// The first full minute of the tests.
const MINUTE_BEGINS: i64 = 20;

pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    story::at(seconds + MINUTE_BEGINS)
}

pub(super) fn started(story: &mut Story, seconds: i64, formats: &[Format]) -> Fact {
    let told = RecordingStarted {
        stream: story.stream.clone(),
        session: story.session,
        protocol: v1::protocol::Kind::Rtmp,
        origin: story.binding(),
        also: Vec::new(),
        template: story.template.parse().unwrap(),
        template_revision: 1,
        storage: story.storage.parse().unwrap(),
        labels: BTreeMap::new(),
        formats: formats.to_vec(),
        start_time: at(seconds),
        claim_key: format!("{}/{}", story.session, story.template),
    };
    story.fact(MINUTE_BEGINS + seconds, told)
}

pub(super) fn key(story: &Story, format: Format, index: u32) -> String {
    format!("{}/{}-{index}-e{}", story.recording, format.as_str(), story.epoch)
}

pub(super) fn opened(story: &mut Story, seconds: i64, format: Format, index: u32) -> Fact {
    let object_key = key(story, format, index);
    let told = FileOpened {
        format,
        index: FileIndex(index),
        storage: story.storage.parse().unwrap(),
        uri: format!("library:///{object_key}"),
        object_key,
        content_type: "x/y".into(),
        start_time: at(seconds),
        video: None,
        audio: None,
    };
    story.fact(MINUTE_BEGINS + seconds, told)
}

/// From and to are when its frames came; available is when it was in the storage.
pub(super) fn available(
    story: &mut Story,
    [from, to, available]: [i64; 3],
    format: Format,
    index: u32,
    bytes: u64,
) -> Fact {
    let object_key = key(story, format, index);
    let audio = Audio { codec: "aac".into(), sample_rate: 48_000, channels: 2, transcoded: format == Format::Flv };
    let told = FileAvailable {
        format,
        index: FileIndex(index),
        storage: story.storage.parse().unwrap(),
        uri: format!("library:///{object_key}"),
        object_key,
        content_type: "x/y".into(),
        size_bytes: bytes,
        objects: 1,
        crc32c: String::new(),
        object_etag: String::new(),
        start_time: at(from),
        end_time: at(to),
        duration_micros: u64::try_from(to - from).unwrap() * 1_000_000,
        video: None,
        audio: Some(audio),
        available_time: at(available),
    };
    story.fact(MINUTE_BEGINS + available, told)
}

pub(super) fn interrupted(story: &mut Story, since: i64, deadline: i64, media: i64) -> Fact {
    let told = RecordingInterrupted {
        since: at(since),
        resume_deadline: at(deadline),
        reason: Reason::PublisherLost,
        media_duration_micros: u64::try_from(media).unwrap() * 1_000_000,
        outputs: Vec::new(),
    };
    story.fact(MINUTE_BEGINS + since, told)
}

pub(super) fn resumed(story: &mut Story, since: i64, seconds: i64, reason: Reason) -> Fact {
    let session = SessionId::new(at(seconds), rand::random());
    story.session = session;
    let told = RecordingResumed { session, time: at(seconds), gap: hole(since, seconds, reason) };
    story.fact(MINUTE_BEGINS + seconds, told)
}

pub(super) fn hole(from: i64, to: i64, reason: Reason) -> GapSpan {
    let duration_micros = u64::try_from(to - from).unwrap() * 1_000_000;
    GapSpan { start_time: at(from), duration_micros, reason }
}

pub(super) struct End {
    pub(super) start: i64,
    pub(super) last: i64,
    pub(super) told: i64,
    pub(super) media: i64,
    pub(super) reason: EndReason,
    pub(super) gaps: Vec<GapSpan>,
    pub(super) formats: Vec<(Format, u32)>,
}

pub(super) fn ended(story: &mut Story, end: End) -> Fact {
    let totals = |(format, files): &(Format, u32)| OutputTotals {
        format: *format,
        files: *files,
        bytes_recorded: 1,
        bytes_uploaded: 0,
        upload_lag_micros: 0,
        error: None,
    };
    let told = RecordingEnded {
        end_reason: end.reason,
        start_time: at(end.start),
        end_time: at(end.last),
        media_duration_micros: u64::try_from(end.media).unwrap() * 1_000_000,
        gaps: end.gaps,
        outputs: end.formats.iter().map(totals).collect(),
        error: None,
    };
    story.fact(MINUTE_BEGINS + end.told, told)
}

/// A recording of one format from `start` to `end`, in one file.
pub(super) fn plain(story: &mut Story, start: i64, end: i64) -> Vec<Fact> {
    let formats = vec![(Format::Mp4, 1)];
    let end_of = |last| End {
        start,
        last,
        told: last,
        media: last - start,
        reason: EndReason::PublisherEnded,
        gaps: Vec::new(),
        formats: formats.clone(),
    };
    vec![
        started(story, start, &[Format::Mp4]),
        opened(story, start, Format::Mp4, 0),
        ended(story, end_of(end)),
        available(story, [start, end, end + 5], Format::Mp4, 0, 1_000),
    ]
}
