//! What an earlier process left: told at registration, closed where it was open, and shipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use media::MediaTime;
use mux::{ObjectPart, Output, Summary};
use recorder_proto::format::Format;
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::register_request::SpoolEntry;
use spool::{ObjectState, Spool, StoredOutput};
use store::Stored;

use super::file::File;
use super::output::Shipment;
use super::upload::Progress;
use super::{Context, OutputMeta};

/// What the spool held at start, as registration tells it.
pub fn inventory(stored: &[StoredOutput]) -> Vec<SpoolEntry> {
    let mut entries: BTreeMap<(String, u64), SpoolEntry> = BTreeMap::new();
    for output in stored {
        let Ok(recording) = output.key.recording.parse() else { continue };
        let key = (output.key.recording.clone(), output.key.epoch);
        let entry = entries.entry(key).or_insert_with(|| SpoolEntry {
            recording: RecordingName(recording).to_string(),
            epoch: output.key.epoch,
            ..SpoolEntry::default()
        });
        entry.open |= !output.finished;
        let unshipped = output.objects.iter().filter(|object| object.committed.is_none());
        entry.bytes_unshipped += unshipped
            .map(|object| match object.state {
                ObjectState::Open { bytes, .. } => bytes,
                ObjectState::Closed { size, .. } => size,
            })
            .sum::<u64>();
    }
    entries.into_values().collect()
}

/// Ends an output whose process died while it grew: every object becomes what its last durable mark made of it. A
/// fast-start MP4 has no index yet and stays as it is. Returns whether the output is finished now.
pub fn close(spool: &Spool, meta: &OutputMeta, stored: &StoredOutput) -> Result<bool, spool::Error> {
    if stored.finished {
        return Ok(true);
    }
    let is_indexless =
        |object: &spool::StoredObject| object.spec.extension == "mp4" && object.spec.object.part == ObjectPart::Whole;
    if stored.objects.iter().any(|object| is_indexless(object) && matches!(object.state, ObjectState::Open { .. })) {
        tracing::warn!(output = %stored.key, "an MP4 without its index stays in the spool");
        return Ok(false);
    }
    let mut writer = spool.reopen(&stored.key)?;
    let mut files: BTreeMap<u32, Summary> = BTreeMap::new();
    for object in &stored.objects {
        let id = object.spec.object;
        let file = files.entry(id.file).or_insert_with(|| starting_at(meta.wall.media));
        match &object.state {
            ObjectState::Closed { summary, .. } => join(file, summary),
            ObjectState::Open { ends_at, .. } => {
                let ends_at = ends_at.unwrap_or(file.ends_at);
                let summary = Summary { starts_at: file.ends_at, ends_at, ..starting_at(file.ends_at) };
                join(file, &summary);
                writer.apply(Output::Close(id, summary))?;
            }
        }
    }
    for playlist in stored.playlists.iter().filter(|playlist| !playlist.last) {
        let body = Bytes::from([playlist.body.as_ref(), b"#EXT-X-ENDLIST\n"].concat());
        writer.apply(Output::Playlist { object: playlist.object, body, last: true })?;
        files.entry(playlist.object.file).or_insert_with(|| starting_at(meta.wall.media));
    }
    for (file, summary) in files {
        let is_done = stored.files.iter().any(|done| done.file == file);
        let is_reachable = meta.format != Format::Hls || stored.playlists.iter().any(|list| list.object.file == file);
        if !is_done && is_reachable {
            writer.apply(Output::FileDone(file, summary))?;
        }
    }
    writer.finish();
    Ok(true)
}

fn starting_at(time: MediaTime) -> Summary {
    Summary { starts_at: time, ends_at: time, ..Summary::default() }
}

/// Adds an object's media to its file's.
fn join(file: &mut Summary, object: &Summary) {
    if file.video_frames + file.audio_frames == 0 && object.starts_at > file.starts_at {
        file.starts_at = object.starts_at;
    }
    file.ends_at = file.ends_at.max(object.ends_at);
    file.video_frames += object.video_frames;
    file.audio_frames += object.audio_frames;
    file.video = object.video.clone().or(file.video.take());
    file.audio = object.audio.clone().or(file.audio.take());
}

/// A shipment that goes on where the earlier process was.
pub fn resume(context: &Arc<Context>, meta: OutputMeta, stored: StoredOutput) -> Option<Shipment> {
    let name = meta.storage.name.parse().ok()?;
    let key = stored.key.clone();
    let mut shipment = Shipment::new(Arc::clone(context), key.clone(), meta, name);
    for released in &stored.released {
        shipment.set_file(released.file, File::with_released(released.objects, released.bytes));
    }
    for object in stored.objects {
        let ObjectState::Closed { size, crc32c, .. } = object.state else { continue };
        let id = object.spec.object;
        match (object.committed, object.reported) {
            (Some(done), Some(sequence)) => {
                context.releases.add(sequence, key.clone(), id);
                shipment.file(id.file).add_released(done.size);
            }
            (Some(done), None) => {
                let file = shipment.file(id.file);
                let place = file.close(id);
                file.store(place, &Stored { size: done.size, etag: done.etag, crc32c: None }, crc32c);
            }
            (None, _) => {
                let progress = object.upload.map(|upload| Progress::resumed(&upload.upload_id)).unwrap_or_default();
                shipment.queue(object.spec, size, crc32c, progress);
            }
        }
    }
    let mut listed = BTreeSet::new();
    for playlist in stored.playlists {
        let file = shipment.file(playlist.object.file);
        if let (Some(_), Some(sequence)) = (&playlist.committed, playlist.reported) {
            context.releases.add(sequence, key.clone(), playlist.object);
        } else {
            listed.insert(playlist.object.file);
            file.playlist(playlist.object, playlist.body, playlist.last);
        }
    }
    for done in stored.files {
        shipment.set_ends_at(done.summary.ends_at);
        let file = shipment.file(done.file);
        file.summary = Some(done.summary);
        // Its main object is reported, or even gone: the control plane knows it as available.
        file.settled = file.main().is_none() && file.is_idle() && !listed.contains(&done.file);
    }
    Some(shipment)
}
