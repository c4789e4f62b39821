//! How far recordings are, for people who watch them: told with the heartbeat, never stored, and lost without harm.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use recorder_proto::facts::OutputTotals;
use recorder_proto::format::Format;
use recorder_proto::ids::{Epoch, RecordingId};
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::stream_directives_request::{Progress as Wire, progress::Item};
use recorder_proto::time;

/// Recordings in one heartbeat: 200 KB, and more than a node makes.
const MOST: usize = 2_000;

/// See the module. Recordings write, the heartbeat reads.
#[derive(Debug, Default)]
pub struct Progress {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    recordings: BTreeMap<(RecordingId, Epoch), Entry>,
    has_news: bool,
}

#[derive(Debug, Default)]
struct Entry {
    media: Duration,
    outputs: Vec<OutputTotals>,
    /// Bytes of objects that are in their storage.
    uploaded: BTreeMap<Format, u64>,
}

impl Progress {
    /// A recording is so far.
    pub fn note(&self, id: RecordingId, epoch: Epoch, media: Duration, outputs: Vec<OutputTotals>) {
        let mut state = self.lock();
        let entry = state.recordings.entry((id, epoch)).or_default();
        (entry.media, entry.outputs) = (media, outputs);
        state.has_news = true;
    }

    /// An object of so many bytes is in its storage.
    pub fn uploaded(&self, id: RecordingId, epoch: Epoch, format: Format, bytes: u64) {
        let mut state = self.lock();
        // Of what has ended the facts tell.
        if let Some(entry) = state.recordings.get_mut(&(id, epoch)) {
            *entry.uploaded.entry(format).or_default() += bytes;
            state.has_news = true;
        }
    }

    /// A recording is over.
    pub fn forget(&self, id: RecordingId, epoch: Epoch) {
        self.lock().recordings.remove(&(id, epoch));
    }

    /// What to tell; `None` when nothing has changed since the last time.
    pub fn tell(&self) -> Option<Wire> {
        let mut state = self.lock();
        if !std::mem::take(&mut state.has_news) {
            return None;
        }
        // The newest are watched.
        let newest = state.recordings.iter().rev().take(MOST);
        Some(Wire { recordings: newest.map(|((id, epoch), entry)| entry.wire(*id, *epoch)).collect() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn wire(&self, id: RecordingId, epoch: Epoch) -> Item {
        let output = |totals: &OutputTotals| {
            let bytes_uploaded = self.uploaded.get(&totals.format).copied().unwrap_or_default();
            OutputTotals { bytes_uploaded, ..totals.clone() }.to_pb()
        };
        Item {
            recording: RecordingName(id).to_string(),
            epoch: epoch.get(),
            media_duration: Some(time::duration(self.media)),
            outputs: self.outputs.iter().map(output).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn id(number: u16) -> RecordingId {
        let [high, low] = number.to_be_bytes();
        RecordingId::new(chrono::DateTime::UNIX_EPOCH, [0, 0, 0, 0, 0, 0, 0, 0, high, low])
    }

    fn totals(format: Format, bytes_recorded: u64) -> OutputTotals {
        OutputTotals { format, files: 1, bytes_recorded, bytes_uploaded: 0, upload_lag_micros: 0, error: None }
    }

    #[test]
    fn what_has_not_changed_is_not_told_and_what_is_over_neither() {
        let progress = Progress::default();
        assert_eq!(progress.tell(), None);
        progress.note(id(1), Epoch(1), Duration::from_secs(1), vec![totals(Format::Hls, 500)]);
        progress.note(id(1), Epoch(1), Duration::from_secs(2), vec![totals(Format::Hls, 900)]);
        progress.uploaded(id(1), Epoch(1), Format::Hls, 400);
        progress.uploaded(id(1), Epoch(2), Format::Hls, 7);
        let told = progress.tell().unwrap();
        let [item] = &told.recordings[..] else { panic!("{told:?}") };
        let [output] = &item.outputs[..] else { panic!("{item:?}") };
        assert_eq!((output.bytes_recorded, output.bytes_uploaded), (900, 400));
        assert_eq!((item.epoch, item.media_duration.unwrap().seconds), (1, 2));
        assert_eq!(progress.tell(), None, "told");
        progress.note(id(2), Epoch(1), Duration::from_secs(1), Vec::new());
        assert_eq!(progress.tell().unwrap().recordings.len(), 2, "all that run, so that what is told is all there is");
        progress.note(id(2), Epoch(1), Duration::from_secs(2), Vec::new());
        progress.forget(id(1), Epoch(1));
        progress.uploaded(id(1), Epoch(1), Format::Hls, 1);
        assert_eq!(progress.tell().unwrap().recordings.len(), 1);
    }

    #[test]
    fn a_heartbeat_is_bounded_whatever_is_recorded() {
        let progress = Progress::default();
        let outputs: Vec<OutputTotals> = Format::ALL.map(|format| totals(format, u64::MAX)).to_vec();
        for number in 0..3_000 {
            progress.note(id(number), Epoch(1), Duration::from_secs(1), outputs.clone());
        }
        let told = progress.tell().unwrap();
        println!("{} bytes for {} recordings", told.encoded_len(), told.recordings.len());
        assert!(told.recordings.len() == MOST && told.encoded_len() < 400_000);
        assert_eq!(told.recordings[0].recording, RecordingName(id(2_999)).to_string());
    }
}
