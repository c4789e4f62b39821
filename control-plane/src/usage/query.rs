//! Answers questions about the accounts, day by day, so that memory is bounded by a day's recordings.
use std::collections::{BTreeMap, HashMap};

use recorder_db::usage::{self, Channel, File, Span, Window};
use recorder_db::{AnyConnection, Result};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::query_concurrency_request::GroupBy;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::time;

use super::grid::Grid;
use super::peaks::{Peak, Taken, sweep};
use super::volume::Written;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// Which intervals of which span.
    pub grid: Grid,
    /// Only these push domains; empty = all.
    pub domains: Vec<String>,
    /// Only these formats ([`v1::format::Kind`]); empty = all.
    pub formats: Vec<i32>,
    /// How to split the series.
    pub group_by: GroupBy,
    /// The present, in microseconds: what is recorded now counts until then.
    pub now: i64,
    /// Points that all series may have together.
    pub max_points: usize,
}

/// Peaks by group, and the highest of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// One point for each interval.
    pub series: BTreeMap<String, Vec<u32>>,
    /// Over all groups, each channel once.
    pub peak: Peak,
}

/// What one interval holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Microseconds of media.
    pub recorded: i64,
    /// Microseconds of media that were transcoded.
    pub transcoded: i64,
    /// Bytes put into storages.
    pub bytes: u64,
    /// Files that became available.
    pub files: u32,
}

/// Peaks; None when there would be more points than asked for.
///
/// # Errors
/// When the database fails.
pub fn concurrency(db: &mut AnyConnection, question: &Question) -> Result<Option<Concurrency>> {
    let mut answer = Concurrency::default();
    let (points, grid) = (question.grid.len(), &question.grid);
    if question.group_by == GroupBy::Unspecified {
        answer.series.insert(String::new(), vec![0; points]);
    }
    for part in grid.days() {
        let mut groups: HashMap<String, Vec<Taken>> = HashMap::new();
        // A channel with several of the formats is taken from the first of them on.
        let mut channels: HashMap<String, Taken> = HashMap::new();
        for (key, recording, taken) in taken(db, question, part)? {
            groups.entry(key).or_default().push(taken);
            let whole = channels.entry(recording).or_insert(taken);
            whole.0 = whole.0.min(taken.0);
        }
        let channels: Vec<Taken> = channels.into_values().collect();
        answer.peak = answer.peak.or(sweep(grid, part, &channels, &mut []));
        if question.group_by == GroupBy::Unspecified {
            groups = HashMap::from([(String::new(), channels)]);
        }
        for (key, taken) in groups {
            let series = answer.series.len();
            let line = answer.series.entry(key).or_insert_with(|| vec![0; points]);
            sweep(grid, part, &taken, line);
            if series.saturating_add(1).saturating_mul(points) > question.max_points.max(points) {
                return Ok(None);
            }
        }
    }
    Ok(Some(answer))
}

/// Group, recording and time of every channel of a day.
fn taken(db: &mut AnyConnection, question: &Question, part: (i64, i64)) -> Result<Vec<(String, String, Taken)>> {
    let window = Window { start: part.0, end: part.1, domains: &question.domains };
    let until = |span: &Span| span.end_time.unwrap_or(question.now).min(question.now);
    if question.formats.is_empty() && question.group_by != GroupBy::Format {
        let spans = usage::spans(db, window)?.into_iter();
        let begun = spans.filter(|span| span.start_time < question.now);
        return Ok(begun
            .map(|span| {
                let taken = (span.start_time, until(&span));
                (key(question.group_by, &span, 0), span.recording, taken)
            })
            .collect());
    }
    let spans = usage::output_spans(db, window, &question.formats)?.into_iter();
    let begun = spans.filter(|(_, _, start)| *start < question.now);
    Ok(begun
        .map(|(span, format, start)| {
            let taken = (start, until(&span));
            (key(question.group_by, &span, format), span.recording, taken)
        })
        .collect())
}

fn key(group_by: GroupBy, span: &Span, format: i32) -> String {
    match group_by {
        GroupBy::Unspecified => String::new(),
        GroupBy::Domain => span.domain.clone(),
        GroupBy::Template => format!("templates/{}", span.template),
        GroupBy::Format => v1::format::Kind::try_from(format).unwrap_or_default().as_str_name().to_owned(),
    }
}

/// Volumes, one bucket for each interval.
///
/// # Errors
/// When the database fails.
pub fn volume(db: &mut AnyConnection, question: &Question) -> Result<Vec<Bucket>> {
    let grid = &question.grid;
    let mut buckets = vec![Bucket::default(); grid.len()];
    let mut recorded = vec![0; grid.len()];
    for part in grid.days() {
        let window = Window { start: part.0, end: part.1, domains: &question.domains };
        for channel in usage::channels(db, window)? {
            if let Some(written) = written(&channel, question.now)? {
                written.spread(grid, part, &mut recorded);
            }
        }
        for (at, bytes) in usage::delivered(db, window)? {
            if let Some(bucket) = buckets.get_mut(grid.index(at)) {
                bucket.files = bucket.files.saturating_add(1);
                bucket.bytes = bucket.bytes.saturating_add(u64::try_from(bytes).unwrap_or_default());
            }
        }
        for (index, micros) in transcoded(grid, part, &usage::transcoded(db, window)?) {
            if let Some(bucket) = buckets.get_mut(index) {
                bucket.transcoded = bucket.transcoded.saturating_add(micros);
            }
        }
    }
    for (bucket, recorded) in buckets.iter_mut().zip(recorded) {
        bucket.recorded = recorded;
    }
    Ok(buckets)
}

/// When a recording wrote, and how much media that was; None when it has not begun.
fn written(channel: &Channel, now: i64) -> Result<Option<Written>> {
    let recording = channel.reduced()?;
    let micros = |wire: &Option<prost_types::Timestamp>| wire.as_ref().and_then(time::datetime).map(time::micros);
    let length = |wire: &Option<prost_types::Duration>| {
        let span = wire.as_ref().and_then(time::std_duration)?;
        i64::try_from(span.as_micros()).ok()
    };
    if channel.start_time >= now {
        return Ok(None);
    }
    let holes = recording.gaps.iter().filter_map(|gap| {
        let start = micros(&gap.start_time)?;
        Some((start, start.saturating_add(length(&gap.duration)?)))
    });
    let running = recording.state() == State::Recording;
    let last = micros(&recording.end_time).filter(|_| !running).unwrap_or(now);
    // While it runs nobody has told how much media it is: as much as time has passed.
    let media = length(&recording.media_duration).filter(|_| !running);
    Ok(Some(Written::new(channel.start_time, last, holes, media)))
}

/// Media that was transcoded, by interval: of each recording, that of the format which has most.
fn transcoded(grid: &Grid, part: (i64, i64), files: &[File]) -> BTreeMap<usize, i64> {
    let mut outputs: HashMap<(&str, i32, usize), i64> = HashMap::new();
    for file in files {
        let written = Written::new(file.start_time, file.end_time, [], Some(file.duration_micros));
        let (first, last) = written.bounds();
        let (from, to) = (first.max(part.0), last.min(part.1));
        if from >= to {
            continue;
        }
        for index in grid.index(from)..=grid.index(to - 1) {
            let (begins, ends) = grid.bounds(index);
            let sum = outputs.entry((&file.recording, file.format, index)).or_default();
            *sum = sum.saturating_add(written.within(begins.max(from), ends.min(to)));
        }
    }
    let mut most: HashMap<(&str, usize), i64> = HashMap::new();
    for ((recording, _, index), micros) in outputs {
        let sum = most.entry((recording, index)).or_default();
        *sum = (*sum).max(micros);
    }
    let mut intervals = BTreeMap::new();
    for ((_, index), micros) in most {
        *intervals.entry(index).or_insert(0) += micros;
    }
    intervals
}
