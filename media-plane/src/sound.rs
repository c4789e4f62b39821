//! A publication's sound on its way through the codecs: off the async threads, and once however many recordings want it.
//!
//! Items go in as the timeline gives them and come out with AAC in the place of Opus, in order with the picture, some
//! 100 ms later. The codecs work on the runtime's blocking threads, one piece of a stream at a time; what waits for them is
//! bounded, and a publisher that is faster than they are has to wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use media::{CodecConfig, MediaTime, Timed, TrackKind};
use transcode::{Counts, Stage};

/// So much media goes to the codecs at once: fewer pieces cost less, and the picture does not wait longer than a fifth of
/// a second for its sound.
const PIECE: MediaTime = MediaTime(MediaTime::SCALE * 6 / 100);
/// How often what is ready is looked for, when nothing comes in by whose way it could be taken.
const LOOK: Duration = Duration::from_millis(50);
/// When nothing has come for this long, nothing waits for what may still come.
const IDLE: Duration = Duration::from_millis(250);
/// Bytes and items that wait for the codecs; then the publisher waits too.
const FULL: (usize, usize) = (4 << 20, 1_024);
/// Beyond this nothing waits any more: the publisher's own thread works.
const OVERFULL: (usize, usize) = (16 << 20, 4_096);

/// Whether a stream's sound comes in a codec that is transcoded.
pub fn is_foreign(item: &Timed) -> bool {
    matches!(item, Timed::Config(TrackKind::Audio, CodecConfig::Opus(_)))
}

/// See the module.
pub struct Sound {
    shared: Arc<Shared>,
    /// When something went in, on the monotonic clock.
    newest: Duration,
    next_look: Option<Duration>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    codecs: Mutex<Codecs>,
    ready: Mutex<Vec<Timed>>,
}

/// What the codecs have not taken yet.
#[derive(Default)]
struct Waiting {
    items: Vec<Timed>,
    bytes: usize,
    first: Option<MediaTime>,
    /// Somebody is on the way to take it.
    is_called_for: bool,
}

impl Waiting {
    fn exceeds(&self, (bytes, items): (usize, usize)) -> bool {
        self.bytes >= bytes || self.items.len() >= items
    }
}

#[derive(Default)]
struct Codecs {
    stage: Stage,
    /// The newest configuration of the sound, to begin anew with.
    config: Option<Timed>,
}

impl Sound {
    /// Before the first item.
    pub fn new() -> Self {
        Self { shared: Arc::default(), newest: Duration::ZERO, next_look: None }
    }

    /// Puts items in line at `now`.
    pub fn push(&mut self, items: &[Timed], now: Duration) {
        (self.newest, self.next_look) = (now, Some(now.saturating_add(LOOK)));
        let mut waiting = lock(&self.shared.waiting);
        let mut is_due = false;
        for item in items {
            if let Timed::Frame(frame) = item {
                waiting.bytes += frame.data.len();
                let first = *waiting.first.get_or_insert(frame.dts);
                is_due |= frame.dts - first >= PIECE;
            } else {
                is_due = true;
            }
            waiting.items.push(item.clone());
        }
        let is_overfull = waiting.exceeds(OVERFULL);
        let is_due = (is_due || waiting.exceeds(FULL)) && !waiting.is_called_for;
        drop(waiting);
        if is_overfull {
            self.shared.work(false);
        } else if is_due {
            self.call(false);
        }
    }

    /// Takes what is ready, in order.
    pub fn poll(&self, out: &mut Vec<Timed>) {
        out.append(&mut lock(&self.shared.ready));
    }

    /// No more should be read from the publisher for the moment.
    pub fn is_full(&self) -> bool {
        lock(&self.shared.waiting).exceeds(FULL)
    }

    /// When [`Self::tick`] is due, on the monotonic clock; `None` = nothing is under way.
    pub fn next_look(&self) -> Option<Duration> {
        self.next_look
    }

    /// To be called when it is due, before [`Self::poll`].
    pub fn tick(&mut self, now: Duration) {
        if self.next_look.is_none_or(|at| now < at) {
            return;
        }
        self.next_look = Some(now.saturating_add(LOOK));
        if now.saturating_sub(self.newest) < IDLE {
            return;
        }
        if self.shared.is_idle() {
            // What is inside the codecs stays there until more comes, or the end.
            self.next_look = None;
        } else if !lock(&self.shared.waiting).is_called_for {
            self.call(true);
        }
    }

    /// All that went in comes out; what follows begins anew. Waits for the codecs, for a few milliseconds at most.
    pub fn flush(&self, out: &mut Vec<Timed>) {
        self.shared.work(false);
        let mut codecs = lock(&self.shared.codecs);
        let mut last = Vec::new();
        if catch_unwind(AssertUnwindSafe(|| codecs.stage.finish(&mut last))).is_err() {
            tracing::error!("the codecs panicked at the end of a stream; this is a bug");
        }
        self.poll(out);
        out.append(&mut last);
    }

    /// Logs what had to be done to the sound of a stream that is over.
    pub fn tell(&self) {
        tell(lock(&self.shared.codecs).stage.counts());
    }

    /// Has somebody take what waits; `idle` = and let go of everything.
    fn call(&self, idle: bool) {
        lock(&self.shared.waiting).is_called_for = true;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let shared = Arc::clone(&self.shared);
                runtime.spawn_blocking(move || shared.work(idle));
            }
            Err(_) => self.shared.work(idle),
        }
    }
}

impl Shared {
    /// Takes what waits through the codecs.
    fn work(&self, idle: bool) {
        // First, so that pieces keep their order.
        let mut codecs = lock(&self.codecs);
        let Waiting { items, .. } = std::mem::take(&mut *lock(&self.waiting));
        let mut out = Vec::with_capacity(items.len() + 8);
        for item in &items {
            codecs.push(item, &mut out);
        }
        if idle {
            codecs.stage.release(&mut out);
        }
        lock(&self.ready).append(&mut out);
    }

    fn is_idle(&self) -> bool {
        let nothing_waits = {
            let waiting = lock(&self.waiting);
            waiting.items.is_empty() && !waiting.is_called_for
        };
        nothing_waits && !lock(&self.codecs).stage.is_waiting() && lock(&self.ready).is_empty()
    }
}

impl Codecs {
    /// A panic costs the frame and what is inside the codecs, which begin anew.
    fn push(&mut self, item: &Timed, out: &mut Vec<Timed>) {
        if matches!(item, Timed::Config(TrackKind::Audio, _)) {
            self.config = Some(item.clone());
        }
        let before = out.len();
        if catch_unwind(AssertUnwindSafe(|| self.stage.push(item, out))).is_err() {
            tracing::error!("the codecs panicked; this is a bug");
            out.truncate(before);
            self.stage = Stage::new();
            if let Some(config) = &self.config {
                self.stage.push(config, out);
            }
        }
    }
}

/// What had to be done to the sound of a stream.
fn tell(counts: Counts) {
    let seconds = |samples: u64| samples as f64 / f64::from(media::opus::SAMPLE_RATE);
    tracing::info!(
        packets = counts.packets,
        frames = counts.units,
        bad = counts.bad,
        concealed_seconds = seconds(counts.concealed),
        silent_seconds = seconds(counts.silent),
        added_samples = counts.added,
        removed_samples = counts.removed,
        runs = counts.runs,
        "sound transcoded"
    );
}

/// A thread that panicked has left nothing half done that counts.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
