//! After a restart, before any publisher is let in: every recording that an earlier process left goes on waiting for its
//! publisher or is finished.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use recorder_proto::ids::RecordingId;
use recorder_proto::names::StreamKey;
use spool::StoredOutput;

use crate::hold;
use crate::manifest::RestoredRecording;
use crate::node::Node;
use crate::publication::Publication;
use crate::recording::{self, Recording, Revived};

/// Does so. `stored` is what the spool held at start. Has to be called before shipping runs, within a runtime.
pub fn revive(node: &Arc<Node>, stored: &[StoredOutput]) {
    let (ended, mut running): (Vec<_>, Vec<_>) = node.manifests.restored().into_iter().partition(|left| left.ended);
    let left_running: HashSet<(String, u64)> = running.iter().map(which).collect();
    ended.iter().for_each(|left| recording::retell(node, left));
    recording::finish_leftovers(node, stored, &ended, |output| {
        left_running.contains(&(output.key.recording.clone(), output.key.epoch))
    });
    // Of one recording the newest epoch is the one that may go on.
    running.sort_by_key(|left| std::cmp::Reverse(left.meta.epoch()));
    let mut seen: HashSet<RecordingId> = HashSet::new();
    let mut streams: HashMap<StreamKey, Vec<Revived>> = HashMap::new();
    for left in running {
        let (id, stream) = (left.meta.recording(), left.meta.started.stream.clone());
        let Some(revived) = Recording::revive(node, left, stored) else { continue };
        if seen.insert(id) {
            streams.entry(stream).or_default().push(revived);
        } else {
            revived.recording.orphan();
        }
    }
    for (stream, left) in streams {
        let Some(publication) = Publication::revive(node, left) else { continue };
        if let Some(mailbox) = node.registry.hold(&stream, publication.session()) {
            hold::keep(node, publication, mailbox);
        }
    }
}

fn which(left: &RestoredRecording) -> (String, u64) {
    (left.meta.recording().to_string(), left.meta.epoch().get())
}
