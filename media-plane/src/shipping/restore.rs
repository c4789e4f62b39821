//! What an earlier process left: told at registration, and shipped.
//!
//! What was still open is the recording side's to continue or to close: here it is live, and its events come from the
//! reopened writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::register_request::SpoolEntry;
use spool::{ObjectState, StoredOutput};
use store::Stored;

use super::damage;
use super::note::OutputNote;
use super::output::Shipment;
use super::progress::Progress;
use super::{Context, OutputMeta};
use crate::link::Fate;

/// An object of at most this many bytes never went by parts.
const SMALLEST_PART: u64 = 5 << 20;

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

/// The highest sequence of a fact that the spool knows of.
pub fn highest_reported(stored: &[StoredOutput]) -> u64 {
    let objects = stored.iter().flat_map(|output| &output.objects).filter_map(|object| object.reported);
    let playlists = stored.iter().flat_map(|output| &output.playlists).filter_map(|playlist| playlist.reported);
    objects.chain(playlists).max().unwrap_or_default()
}

/// A shipment that goes on where the earlier process was.
pub fn resume(context: &Arc<Context>, meta: OutputMeta, stored: StoredOutput) -> Option<Shipment> {
    let name = meta.storage.name.parse().ok()?;
    let key = stored.key.clone();
    let mut shipment = Shipment::new(Arc::clone(context), key.clone(), meta, name);
    for note in OutputNote::of_stored(&stored) {
        shipment.recall(note);
    }
    for released in &stored.released {
        for object in &released.objects {
            shipment.file(released.file).add_released(object.object, object.size, object.crc32c);
        }
    }
    // A fact that is gone is told again.
    let is_told = |sequence: &u64| context.log.fate(*sequence) != Fate::Lost;
    for (object, loss) in damage::found(&stored) {
        shipment.losses.lose(object, loss);
    }
    for object in stored.objects {
        let (size, crc32c) = match &object.state {
            ObjectState::Closed { size, crc32c, .. } => (*size, *crc32c),
            // It is not over: its own part of the node reopens it.
            ObjectState::Open { bytes, .. } => {
                let file = object.spec.object.file;
                shipment.file(file);
                let upload = object.upload.filter(|_| !shipment.is_elsewhere(file));
                shipment.grow(object.spec, *bytes, Some(Progress::restored(upload, true)));
                continue;
            }
        };
        let id = object.spec.object;
        match (object.committed, object.reported.filter(is_told)) {
            (Some(done), Some(sequence)) => {
                context.releases.add(sequence, key.clone(), id);
                shipment.file(id.file).add_released(id, done.size, crc32c);
            }
            (Some(done), None) => {
                let file = shipment.file(id.file);
                let place = file.close(id);
                file.store(place, &Stored { size: done.size, etag: done.etag, crc32c: None }, crc32c);
            }
            (None, _) => {
                let is_large = object.upload.is_some() || size > SMALLEST_PART;
                // What the journal knows may be the other storage's: there it means nothing, or another upload.
                let upload = object.upload.filter(|_| !shipment.is_elsewhere(id.file));
                let growing = shipment.growing_parts().filter(|_| upload.is_some());
                let head = context.spool.head_len(&key, id);
                let progress = Progress { growing, head, ..Progress::restored(upload, is_large) };
                shipment.queue(object.spec, size, crc32c, Some(progress));
            }
        }
    }
    let mut listed = BTreeSet::new();
    let mut told = BTreeMap::new();
    for playlist in stored.playlists {
        let file = shipment.file(playlist.object.file);
        if let (Some(_), Some(sequence)) = (&playlist.committed, playlist.reported.filter(is_told)) {
            context.releases.add(sequence, key.clone(), playlist.object);
            told.insert(playlist.object.file, sequence);
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
        if file.settled {
            // Told with their playlist; where that is released, its fact is durable.
            let sequence = told.get(&done.file).copied().unwrap_or_default();
            let left = file.take_stored();
            shipment.told_before(left, sequence);
        }
    }
    Some(shipment)
}
