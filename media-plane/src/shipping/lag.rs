//! How long closed objects have been waiting for their storage: the number to alert on, and which files stand still.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mux::ObjectId;
use tokio::time::Instant;

use super::OutputMeta;

/// A file on this node.
type Which = (String, u64, &'static str, u32);

fn which(meta: &OutputMeta, file: u32) -> Which {
    (meta.recording.to_string(), meta.epoch.get(), meta.format.as_str(), file)
}

#[derive(Default)]
struct State {
    next: u64,
    objects: BTreeMap<u64, Instant>,
    files: HashMap<Arc<Which>, Standing>,
    /// Files that go on again, and how long they stood still.
    recovered: Vec<(Arc<OutputMeta>, u32, Duration)>,
}

/// A file of which something waits.
struct Standing {
    meta: Arc<OutputMeta>,
    objects: u32,
    bytes: u64,
    /// When bytes last moved, or the first began to wait.
    moved: Instant,
    /// It was told that it stands still.
    stalled: bool,
}

/// Objects on their way, by age, and their files.
#[derive(Clone, Default)]
pub struct Lag(Arc<Mutex<State>>);

/// One of them; ends with its drop. There is one for every object that waits, so that it is small.
pub struct Waiting {
    lag: Lag,
    number: u64,
    file: Arc<Which>,
    bytes: u64,
    since: Instant,
}

/// A file changed between standing still and moving.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing of it has moved for too long.
    Stalled {
        /// Its output.
        meta: Arc<OutputMeta>,
        /// Its index.
        file: u32,
        /// For how long.
        lasted: Duration,
        /// Bytes that wait.
        bytes: u64,
    },
    /// It goes on.
    Recovered {
        /// Its output.
        meta: Arc<OutputMeta>,
        /// Its index.
        file: u32,
        /// How long it stood still.
        lasted: Duration,
    },
}

impl Lag {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object of so many bytes waits from now on.
    pub fn enter(&self, meta: &Arc<OutputMeta>, object: ObjectId, bytes: u64) -> Waiting {
        let (since, file) = (Instant::now(), which(meta, object.file));
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.objects.insert(number, since);
        let fresh = || Standing { meta: Arc::clone(meta), objects: 0, bytes: 0, moved: since, stalled: false };
        let known = state.files.get_key_value(&file).map(|(known, _)| Arc::clone(known));
        let file = known.unwrap_or_else(|| Arc::new(file));
        let standing = state.files.entry(Arc::clone(&file)).or_insert_with(fresh);
        standing.objects += 1;
        standing.bytes += bytes;
        drop(state);
        Waiting { lag: self.clone(), number, file, bytes, since }
    }

    /// Age of the oldest; zero when there is none.
    pub fn oldest(&self) -> Duration {
        // Numbers are given in the order of time.
        self.lock().objects.values().next().map(Instant::elapsed).unwrap_or_default()
    }

    /// How many objects wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().objects.len()
    }

    /// Files that stand still.
    pub fn stalled(&self) -> usize {
        self.lock().files.values().filter(|standing| standing.stalled).count()
    }

    /// What changed since the last look; a file that has not moved for `patience` stands still.
    pub fn look(&self, patience: Duration) -> Vec<Change> {
        let mut state = self.lock();
        let recovered = std::mem::take(&mut state.recovered).into_iter();
        let mut changes: Vec<Change> =
            recovered.map(|(meta, file, lasted)| Change::Recovered { meta, file, lasted }).collect();
        for (which, standing) in &mut state.files {
            let lasted = standing.moved.elapsed();
            if !standing.stalled && lasted >= patience {
                standing.stalled = true;
                let (meta, bytes) = (Arc::clone(&standing.meta), standing.bytes);
                changes.push(Change::Stalled { meta, file: which.3, lasted, bytes });
            }
        }
        changes
    }

    fn moved(&self, which: &Which, finished: Option<u64>) {
        let mut state = self.lock();
        let Some(standing) = state.files.get_mut(which) else { return };
        let lasted = standing.moved.elapsed();
        standing.moved = Instant::now();
        let told = std::mem::take(&mut standing.stalled).then(|| (Arc::clone(&standing.meta), which.3, lasted));
        if let Some(bytes) = finished {
            standing.objects = standing.objects.saturating_sub(1);
            standing.bytes = standing.bytes.saturating_sub(bytes);
            if standing.objects == 0 {
                state.files.remove(which);
            }
        }
        state.recovered.extend(told);
    }
}

impl Waiting {
    /// Some of its bytes have arrived.
    pub fn moved(&self) {
        self.lag.moved(&self.file, None);
    }

    /// It has so many bytes now.
    pub fn resize(&mut self, bytes: u64) {
        if let Some(standing) = self.lag.lock().files.get_mut(&self.file) {
            standing.bytes = standing.bytes.saturating_sub(self.bytes).saturating_add(bytes);
        }
        self.bytes = bytes;
    }

    /// Since when it waits.
    pub fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lag.lock().objects.remove(&self.number);
        self.lag.moved(&self.file, Some(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use mux::ObjectPart;
    use recorder_proto::format::Format;

    use super::*;

    fn object(file: u32) -> ObjectId {
        ObjectId { file, part: ObjectPart::Segment(0) }
    }

    fn meta() -> Arc<OutputMeta> {
        Arc::new(crate::shipping::tests::meta(Format::Hls))
    }

    #[test]
    fn the_oldest_counts_until_it_is_gone() {
        let (lag, meta) = (Lag::default(), meta());
        assert_eq!(lag.oldest(), Duration::ZERO);
        let first = lag.enter(&meta, object(0), 1);
        let second = lag.enter(&meta, object(0), 1);
        let before = lag.oldest();
        while lag.oldest() == before {}
        assert!(lag.oldest() > before);
        drop(first);
        let younger = lag.lock().objects[&second.number];
        assert!(lag.oldest() <= younger.elapsed());
        drop(second);
        assert_eq!(lag.oldest(), Duration::ZERO);
    }

    #[test]
    fn a_file_that_stands_still_is_told_once_and_so_is_that_it_goes_on() {
        const LONG: Duration = Duration::from_secs(3_600);
        let (lag, meta) = (Lag::default(), meta());
        let waiting =
            [lag.enter(&meta, object(0), 10), lag.enter(&meta, object(0), 20), lag.enter(&meta, object(1), 5)];
        assert_eq!(lag.look(LONG), []);
        // Patience of nothing: both stand still.
        let told = lag.look(Duration::ZERO);
        let told: Vec<_> = told
            .iter()
            .map(|change| match change {
                Change::Stalled { file, bytes, .. } => (*file, *bytes),
                Change::Recovered { .. } => panic!("{change:?}"),
            })
            .collect();
        assert!(told.len() == 2 && told.contains(&(0, 30)) && told.contains(&(1, 5)), "{told:?}");
        assert_eq!((lag.look(Duration::ZERO), lag.stalled()), (vec![], 2), "once");
        waiting[1].moved();
        waiting[1].moved();
        let recovered = lag.look(LONG);
        assert!(matches!(recovered[..], [Change::Recovered { file: 0, .. }]), "{recovered:?}");
        assert_eq!((lag.look(LONG), lag.stalled()), (vec![], 1));
        assert_eq!(lag.look(Duration::ZERO).len(), 1, "it stands still once more");
        drop(waiting);
        assert_eq!((lag.look(Duration::ZERO).len(), lag.stalled()), (2, 0));
        assert!(lag.lock().files.is_empty());
    }
}
