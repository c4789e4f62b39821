//! Filling in a key template.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, FixedOffset, Timelike, Utc};

use super::parse::Piece;
use super::{BASE_MAX_BYTES, KeyTemplate, TimeZone, VALUE_MIN_BYTES, Variable, sanitize};
use crate::format::Format;
use crate::ids::{Entropy, Epoch, FileIndex, RecordingId};
use crate::limits;

/// `{RecordSource}`: which version of the stream was recorded (R39).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordSource<'a> {
    /// As published or watermarked: `origin`.
    Origin,
    /// Transcoded: the id of the transcoding.
    Transcoding(&'a str),
}

/// Everything a key can be made of.
#[derive(Debug, Clone)]
pub struct KeyContext<'a> {
    /// Which version of the stream.
    pub source: RecordSource<'a>,
    /// Push domain.
    pub domain: &'a str,
    /// Push path; its `/` stays a hierarchy, cleaned part by part.
    pub app: &'a str,
    /// Stream id.
    pub stream: &'a str,
    /// The recording; `{RecordId}`, followed by `-e{epoch}` when the epoch is above 1.
    pub recording: RecordingId,
    /// In place of the recording's id: that of its task, which the caller has made sure no other recording is given.
    pub record_id: Option<&'a str>,
    /// Epoch of the writer.
    pub epoch: Epoch,
    /// When the recording (or, for keys of single files, the file) started.
    pub start: DateTime<Utc>,
    /// Zone of the `Start*` variables.
    pub time_zone: TimeZone,
    /// `{RandomID}`: to be drawn anew at the start and after every interruption (R40).
    pub random: Entropy,
    /// Id of the recording template.
    pub template: &'a str,
    /// Container.
    pub format: Format,
    /// `{FileIndex}`.
    pub file_index: FileIndex,
    /// Labels of the recording; a missing one expands to `_`.
    pub labels: &'a BTreeMap<String, String>,
}

impl KeyTemplate {
    /// The key of one file without storage prefix and extension, at most 703 bytes, each part at most 200.
    /// Long values are cut evenly, with a fingerprint in place of what is lost.
    pub fn expand(&self, context: &KeyContext<'_>) -> String {
        let fields = Fields { context, clock: Clock::new(context), alone: !self.has(&Variable::RecordId) };
        let mut most = limits::STREAM_MAX_BYTES;
        loop {
            let key = self.fill(&fields, most);
            if most <= VALUE_MIN_BYTES || fits(&key) {
                return key;
            }
            most = (most * 3 / 4).max(VALUE_MIN_BYTES);
        }
    }

    fn fill(&self, fields: &Fields<'_>, most: usize) -> String {
        let mut key = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => key.push_str(text),
                Piece::Variable(variable) => key.push_str(&fields.value(variable, most)),
            }
        }
        // Dots of neighbours can still meet ("a." and "b" around a literal dot); the length stays, so nothing shifts.
        key.replace("..", "__")
    }
}

fn fits(key: &str) -> bool {
    key.len() <= BASE_MAX_BYTES && key.split('/').all(|part| part.len() <= limits::KEY_SEGMENT_MAX_BYTES)
}

/// The start as a wall clock in the wanted zone shows it.
struct Clock {
    year: i32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    millisecond: u32,
}

impl Clock {
    fn new(context: &KeyContext<'_>) -> Self {
        const EIGHT_HOURS_EAST: i32 = 8 * 3600;
        match context.time_zone {
            TimeZone::Utc => Self::read(&context.start),
            TimeZone::UtcPlus8 => match FixedOffset::east_opt(EIGHT_HOURS_EAST) {
                Some(offset) => Self::read(&context.start.with_timezone(&offset)),
                None => Self::read(&context.start),
            },
            TimeZone::Iana(zone) => Self::read(&context.start.with_timezone(&zone)),
        }
    }

    fn read<Z: chrono::TimeZone>(at: &DateTime<Z>) -> Self {
        Self {
            // A year before 1 needs a sign, and a sign is one more way to write a key; no recording is that old.
            year: at.year().max(0),
            month: at.month(),
            day: at.day(),
            hour: at.hour(),
            minute: at.minute(),
            second: at.second(),
            // chrono shows a leap second as 1000 ms and more; three digits have no room for it.
            millisecond: at.timestamp_subsec_millis().min(999),
        }
    }
}

struct Fields<'a> {
    context: &'a KeyContext<'a>,
    clock: Clock,
    /// `{RandomID}` stands without `{RecordId}` and has to carry the epoch itself.
    alone: bool,
}

impl Fields<'_> {
    fn value(&self, variable: &Variable, most: usize) -> String {
        let (context, clock) = (self.context, &self.clock);
        let part = |value: &str| sanitize::shorten(&sanitize::segment(value), most);
        match variable {
            Variable::RecordSource => match context.source {
                RecordSource::Origin => "origin".to_owned(),
                RecordSource::Transcoding(id) => part(id),
            },
            Variable::Domain => part(context.domain),
            Variable::AppName => sanitize::shorten(&sanitize::hierarchy(context.app), most),
            Variable::StreamId => part(context.stream),
            Variable::RecordId => match context.record_id {
                Some(id) => format!("{}{}", part(id), self.epoch_mark()),
                None => format!("{}{}", context.recording, self.epoch_mark()),
            },
            Variable::RandomId => {
                let digits: String = context.random.iter().map(|byte| format!("{byte:02x}")).collect();
                if self.alone { digits + &self.epoch_mark() } else { digits }
            }
            Variable::TemplateId => part(context.template),
            Variable::Format => context.format.as_str().to_owned(),
            Variable::FileIndex => context.file_index.to_string(),
            Variable::StartYear => format!("{:04}", clock.year),
            Variable::StartMonth => format!("{:02}", clock.month),
            Variable::StartDay => format!("{:02}", clock.day),
            Variable::StartHour => format!("{:02}", clock.hour),
            Variable::StartMinute => format!("{:02}", clock.minute),
            Variable::StartSecond => format!("{:02}", clock.second),
            Variable::StartMillisecond => format!("{:03}", clock.millisecond),
            Variable::Label(name) => part(context.labels.get(name).map_or("", String::as_str)),
        }
    }

    fn epoch_mark(&self) -> String {
        if self.context.epoch > Epoch::FIRST { format!("-e{}", self.context.epoch) } else { String::new() }
    }
}
