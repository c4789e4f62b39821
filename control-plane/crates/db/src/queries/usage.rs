//! What was recorded and delivered, for accounting; outlives the recordings themselves.
use diesel::prelude::*;
use recorder_proto::pb::v1;

use crate::schema::{usage_channels, usage_files, usage_outputs};
use crate::{AnyConnection, Result};

/// One recording as a channel. `body` is a [`v1::Recording`] reduced to what its recorded time is computed from.
#[derive(Debug, Clone, PartialEq, Queryable, Insertable)]
#[diesel(table_name = usage_channels, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct Channel {
    /// Recording id.
    pub recording: String,
    pub domain: String,
    /// Template id.
    pub template: String,
    pub start_time: i64,
    /// When it was or will be free again, as far as is known; None while it is recorded.
    pub end_time: Option<i64>,
    pub body: Vec<u8>,
}

/// A channel without its body.
#[derive(Debug, Clone, PartialEq, Queryable)]
#[allow(missing_docs)]
pub struct Span {
    /// Recording id.
    pub recording: String,
    pub domain: String,
    /// Template id.
    pub template: String,
    pub start_time: i64,
    /// As in [`Channel`].
    pub end_time: Option<i64>,
}

/// A file that became available.
#[derive(Debug, Clone, PartialEq, Queryable, Insertable)]
#[diesel(table_name = usage_files)]
#[allow(missing_docs)]
pub struct File {
    /// Recording id.
    pub recording: String,
    /// [`v1::format::Kind`].
    pub format: i32,
    /// Epoch that wrote it.
    pub epoch: i64,
    /// The index that the node of `epoch` calls it by.
    pub epoch_index: i64,
    pub domain: String,
    pub available_time: i64,
    pub size_bytes: i64,
    /// First frame.
    pub start_time: i64,
    /// Last frame.
    pub end_time: i64,
    pub duration_micros: i64,
    /// Whether the recorder encoded a track of it.
    pub transcoded: bool,
}

/// A stretch of time in microseconds since 1970 and the domains it is asked for; no domains is all.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Window<'a> {
    /// First moment.
    pub start: i64,
    /// First moment after it.
    pub end: i64,
    pub domains: &'a [String],
}

/// The columns of a [`Span`].
const SPAN: (
    usage_channels::recording,
    usage_channels::domain,
    usage_channels::template,
    usage_channels::start_time,
    usage_channels::end_time,
) = (
    usage_channels::recording,
    usage_channels::domain,
    usage_channels::template,
    usage_channels::start_time,
    usage_channels::end_time,
);

impl Channel {
    /// The body, decoded.
    pub fn reduced(&self) -> Result<v1::Recording> {
        crate::error::decode("usage_channels", &self.body)
    }
}

/// The channel of a recording.
pub fn channel(connection: &mut AnyConnection, recording: &str) -> Result<Option<Channel>> {
    Ok(usage_channels::table.find(recording).first(connection).optional()?)
}

/// Puts a channel in place of what was known of it.
pub fn put_channel(connection: &mut AnyConnection, row: &Channel) -> Result<()> {
    diesel::delete(usage_channels::table.find(&row.recording)).execute(connection)?;
    diesel::insert_into(usage_channels::table).values(row).execute(connection)?;
    Ok(())
}

/// Notes the first frame of a format; the earliest one told counts.
pub fn put_output(connection: &mut AnyConnection, recording: &str, format: i32, start_time: i64) -> Result<()> {
    let known: Option<i64> = usage_outputs::table
        .find((recording, format))
        .select(usage_outputs::start_time)
        .first(connection)
        .optional()?;
    match known {
        None => {
            let row = (
                usage_outputs::recording.eq(recording),
                usage_outputs::format.eq(format),
                usage_outputs::start_time.eq(start_time),
            );
            diesel::insert_into(usage_outputs::table).values(row).execute(connection)?;
        }
        Some(known) if start_time < known => {
            diesel::update(usage_outputs::table.find((recording, format)))
                .set(usage_outputs::start_time.eq(start_time))
                .execute(connection)?;
        }
        Some(_) => {}
    }
    Ok(())
}

/// Puts a file in place of what was known of it.
pub fn put_file(connection: &mut AnyConnection, row: &File) -> Result<()> {
    let key = (&row.recording, row.format, row.epoch, row.epoch_index);
    diesel::delete(usage_files::table.find(key)).execute(connection)?;
    diesel::insert_into(usage_files::table).values(row).execute(connection)?;
    Ok(())
}

/// Channels that were taken at some moment of the window.
pub fn spans(connection: &mut AnyConnection, window: Window<'_>) -> Result<Vec<Span>> {
    Ok(taken(window).select(SPAN).load(connection)?)
}

/// [`spans`] with each of their formats and its first frame; no formats is all.
pub fn output_spans(
    connection: &mut AnyConnection,
    window: Window<'_>,
    formats: &[i32],
) -> Result<Vec<(Span, i32, i64)>> {
    let mut query = usage_channels::table
        .inner_join(usage_outputs::table.on(usage_outputs::recording.eq(usage_channels::recording)))
        .filter(usage_outputs::start_time.lt(window.end))
        .filter(usage_channels::end_time.is_null().or(usage_channels::end_time.ge(window.start)))
        .into_boxed();
    if !window.domains.is_empty() {
        query = query.filter(usage_channels::domain.eq_any(window.domains));
    }
    if !formats.is_empty() {
        query = query.filter(usage_outputs::format.eq_any(formats));
    }
    Ok(query.select((SPAN, usage_outputs::format, usage_outputs::start_time)).load(connection)?)
}

/// [`spans`] with their bodies.
pub fn channels(connection: &mut AnyConnection, window: Window<'_>) -> Result<Vec<Channel>> {
    Ok(taken(window).load(connection)?)
}

fn taken(window: Window<'_>) -> usage_channels::BoxedQuery<'_, <AnyConnection as Connection>::Backend> {
    let query = usage_channels::table
        .filter(usage_channels::start_time.lt(window.end))
        .filter(usage_channels::end_time.is_null().or(usage_channels::end_time.ge(window.start)))
        .into_boxed();
    if window.domains.is_empty() { query } else { query.filter(usage_channels::domain.eq_any(window.domains)) }
}

/// When files of the window became available, and their bytes.
pub fn delivered(connection: &mut AnyConnection, window: Window<'_>) -> Result<Vec<(i64, i64)>> {
    let mut query = usage_files::table
        .filter(usage_files::available_time.ge(window.start))
        .filter(usage_files::available_time.lt(window.end))
        .into_boxed();
    if !window.domains.is_empty() {
        query = query.filter(usage_files::domain.eq_any(window.domains));
    }
    Ok(query.select((usage_files::available_time, usage_files::size_bytes)).load(connection)?)
}

/// Transcoded files whose media falls into the window.
pub fn transcoded(connection: &mut AnyConnection, window: Window<'_>) -> Result<Vec<File>> {
    let mut query = usage_files::table
        .filter(usage_files::transcoded)
        .filter(usage_files::end_time.ge(window.start))
        .filter(usage_files::start_time.lt(window.end))
        .into_boxed();
    if !window.domains.is_empty() {
        query = query.filter(usage_files::domain.eq_any(window.domains));
    }
    Ok(query.load(connection)?)
}
