//! Facts about publishers.
use prost::Message;
use recorder_db::recordings;
use recorder_db::streams::{self, Row};
use recorder_proto::facts::event_type as kind;
use recorder_proto::facts::{StreamEnded, StreamSnapshot, Track};
use recorder_proto::pb::v1;
use recorder_proto::time;

use super::held::Held;
use super::{Entry, Trouble, presumed};
use crate::directives::{changelog, command};
use crate::feed;

/// A publisher has come.
pub(super) fn started(entry: &mut Entry<'_>, told: &StreamSnapshot) -> Result<(), Trouble> {
    put(entry, told, kind::STREAM_STARTED)
}

/// Its tracks, rates or recordings have changed.
pub(super) fn updated(entry: &mut Entry<'_>, told: &StreamSnapshot) -> Result<(), Trouble> {
    put(entry, told, kind::STREAM_UPDATED)
}

/// A publisher has gone.
pub(super) fn ended(entry: &mut Entry<'_>, told: &StreamEnded) -> Result<(), Trouble> {
    let session = told.session.to_string();
    let mut stream =
        v1::Stream { name: format!("streams/{session}"), stream: Some((&told.stream).into()), ..v1::Stream::default() };
    if let Some(mut row) = streams::get(entry.scribe.db, &session)? {
        stream = row.stream()?;
        if !told.tracks.is_empty() {
            stream.tracks = told.tracks.iter().map(Track::to_pb).collect();
        }
        // A node that registered anew has ended its streams already; only the node knows the true time.
        row.end_time = Some(time::micros(told.end_time));
        row.body = stream.encode_to_vec();
        streams::update(entry.scribe.db, &row)?;
    }
    stream.end = Some(v1::stream::End {
        time: Some(time::timestamp(told.end_time)),
        orderly: told.orderly,
        cause: told.cause.clone(),
    });
    changelog::remove(entry.scribe.db, &command::disconnect_name(&session), entry.scribe.now)?;
    let stamp = entry.scribe.stamp();
    Ok(feed::append(entry.scribe.db, stamp, kind::STREAM_ENDED, &stream.name, stream.encode_to_vec())?)
}

/// What a session is recorded into is not over, whatever was presumed while its node was not heard of.
fn go_on(entry: &mut Entry<'_>, told: &StreamSnapshot) -> Result<(), Trouble> {
    for id in &told.recordings {
        let Some(row) = recordings::get(entry.scribe.db, &id.to_string())? else { continue };
        if row.node == entry.node.id() && row.session == told.session.to_string() {
            presumed::go_on(&mut entry.scribe, &mut Held { body: row.recording()?, row })?;
        }
    }
    Ok(())
}

fn put(entry: &mut Entry<'_>, told: &StreamSnapshot, kind: &str) -> Result<(), Trouble> {
    let stream = told.to_pb(entry.node);
    go_on(entry, told)?;
    let session = told.session.to_string();
    match streams::get(entry.scribe.db, &session)? {
        Some(row) => streams::update(entry.scribe.db, &Row { body: stream.encode_to_vec(), ..row })?,
        None => streams::insert(
            entry.scribe.db,
            &Row {
                session,
                rev: 1,
                domain: told.stream.domain().to_owned(),
                app: told.stream.app().to_owned(),
                stream: told.stream.stream().to_owned(),
                node: entry.node.id().to_owned(),
                start_time: time::micros(told.start_time),
                end_time: None,
                body: stream.encode_to_vec(),
            },
        )?,
    }
    let stamp = entry.scribe.stamp();
    Ok(feed::append(entry.scribe.db, stamp, kind, &stream.name, stream.encode_to_vec())?)
}
