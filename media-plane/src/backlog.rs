//! What a live stream keeps of its newest media, so that a recording that is ordered while it is live begins at a key frame
//! from before its start: the last group of pictures, and as much before it as a template's `pre_roll` asks for.
//!
//! Memory is counted: all streams of the node share one budget in equal parts. A stream whose last group of pictures does
//! not fit its part keeps nothing; what is ordered then begins with its next key frame.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use media::{MediaTime, Timed, TrackKind};

use crate::recording::Feed;

/// Orders take some time to get here: media from before they were made is kept for so long, `pre_roll` or not.
const GRACE: Duration = Duration::from_secs(2);
/// Without a picture any sound is one to begin with; this is how far apart such beginnings are kept.
const SOUND_GROUP: MediaTime = MediaTime(MediaTime::SCALE);
/// Items of what is forgotten that are freed for each that comes: then memory is handed out again where it was freed, not
/// returned to the system a group at a time to be asked for again.
const FREED_PER_ITEM: usize = 2;
/// What an item costs beside its payload, in bytes.
const ITEM_BYTES: u64 = 128;

/// The memory that all backlogs of a node may take.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    backlogs: AtomicUsize,
}

impl Budget {
    /// So many bytes for all streams together.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0), backlogs: AtomicUsize::new(0) })
    }

    /// Bytes held at the moment.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What one stream may take.
    fn part(&self) -> u64 {
        self.limit / self.backlogs.load(Ordering::Relaxed).max(1) as u64
    }
}

/// Media that a recording begins with.
#[derive(Debug, Default)]
pub struct Head {
    /// As the stream came.
    pub items: Vec<Timed>,
    /// The same with its sound in AAC, as far as that is ready; `None` while nobody has asked for it.
    pub heard: Option<Vec<Timed>>,
    /// The first frame.
    pub first: MediaTime,
    /// The newest frame there is.
    pub newest: MediaTime,
}

/// See the module.
pub struct Backlog {
    budget: Arc<Budget>,
    original: Lane,
    heard: Option<Lane>,
    keep: Duration,
    charged: u64,
}

impl Backlog {
    /// An empty one of a stream that begins.
    pub fn new(budget: &Arc<Budget>) -> Self {
        budget.backlogs.fetch_add(1, Ordering::Relaxed);
        Self { budget: Arc::clone(budget), original: Lane::default(), heard: None, keep: GRACE, charged: 0 }
    }

    /// How much a recording may want from before its start.
    pub fn keep(&mut self, pre_roll: Duration) {
        self.keep = pre_roll.saturating_add(GRACE);
    }

    /// Nobody publishes any more: what comes next is another beginning.
    pub fn clear(&mut self) {
        (self.original, self.heard) = (Lane::default(), None);
        self.charge();
    }

    /// What comes next is another beginning, of the same publisher.
    pub fn forget_media(&mut self) {
        self.original.forget_all();
        self.heard = None;
        self.charge();
    }

    /// Whether there is something to begin with.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.original.groups.is_empty()
    }

    /// Keeps what the stream has brought. True when a group begins: then `keep` may have changed, too.
    pub fn push(&mut self, feed: Feed, items: &[Timed]) -> bool {
        let mut begins = false;
        for item in items {
            if feed.includes(Feed::Original) {
                begins |= self.original.push(item);
            }
            if feed == Feed::Aac {
                self.heard.get_or_insert_default().push(item);
            }
        }
        self.trim();
        begins
    }

    /// Everything from the newest beginning that is `before` the newest frame by at least so much; from the oldest one
    /// there is when none is that old.
    pub fn head(&self, before: Duration) -> Option<Head> {
        let newest = self.original.newest?;
        let wanted = newest - MediaTime::from_duration(before);
        // Both forms begin at the same picture: the later one decides which there are.
        let ready = |group: &&Group| match &self.heard {
            Some(heard) if self.original.has_picture => heard.groups.iter().any(|other| other.first == group.first),
            _ => true,
        };
        let found = self.original.groups.iter().rev().filter(ready).find(|group| group.first <= wanted);
        let oldest = || self.original.groups.iter().find(ready);
        let first = found.or_else(oldest).or_else(|| self.original.groups.front())?.first;
        let heard = self.heard.as_ref().map(|heard| heard.from(first));
        Some(Head { items: self.original.from(first), heard, first, newest })
    }

    /// Forgets what is too old, or too much.
    fn trim(&mut self) {
        let keep = MediaTime::from_duration(self.keep);
        self.original.forget_before(|newest| newest - keep);
        let part = self.budget.part();
        if self.bytes() > part {
            self.original.free(usize::MAX);
        }
        while self.bytes() > part && !self.original.groups.is_empty() {
            self.original.pop();
        }
        if let Some(heard) = &mut self.heard {
            // What lags behind is kept as long as what it belongs to.
            match self.original.groups.front().map(|group| group.first) {
                Some(oldest) => heard.forget_before(|_| oldest),
                None => heard.forget_all(),
            }
        }
        self.charge();
    }

    /// Pictures are the same bytes in both forms.
    fn bytes(&self) -> u64 {
        self.original.bytes + self.heard.as_ref().map_or(0, |heard| heard.own_bytes)
    }

    fn charge(&mut self) {
        let bytes = self.bytes();
        if bytes != self.charged {
            // Wraps: the difference may be negative.
            self.budget.used.fetch_add(bytes.wrapping_sub(self.charged), Ordering::Relaxed);
            self.charged = bytes;
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.clear();
        self.budget.backlogs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One form of the stream.
#[derive(Default)]
struct Lane {
    groups: VecDeque<Group>,
    /// Configurations in force, picture and sound.
    configs: [Option<Timed>; 2],
    has_picture: bool,
    newest: Option<MediaTime>,
    /// Forgotten, not freed yet; counted as long.
    forgotten: Vec<Timed>,
    bytes: u64,
    /// Without the payload of pictures.
    own_bytes: u64,
}

/// From one frame that a recording can begin with to the next.
struct Group {
    first: MediaTime,
    /// What was in force when it began.
    configs: Vec<Timed>,
    items: Vec<Timed>,
    bytes: u64,
    own_bytes: u64,
}

impl Lane {
    /// True when a group begins.
    fn push(&mut self, item: &Timed) -> bool {
        self.free(FREED_PER_ITEM);
        let mut begins = false;
        match item {
            Timed::Config(TrackKind::Video, _) => self.configs[0] = Some(item.clone()),
            Timed::Config(TrackKind::Audio, _) => self.configs[1] = Some(item.clone()),
            Timed::Frame(frame) => {
                self.newest = Some(self.newest.map_or(frame.dts, |newest| newest.max(frame.dts)));
                begins = match frame.track {
                    TrackKind::Video => frame.keyframe,
                    TrackKind::Audio => {
                        let apart = |group: &Group| frame.dts - group.first >= SOUND_GROUP;
                        !self.has_picture && self.groups.back().is_none_or(apart)
                    }
                };
                self.has_picture |= frame.track == TrackKind::Video;
                if begins {
                    let configs = self.configs.iter().flatten().cloned().collect();
                    let group = Group { first: frame.dts, configs, items: Vec::new(), bytes: 0, own_bytes: 0 };
                    self.groups.push_back(group);
                }
            }
            Timed::Gap(_) => {}
        }
        if let Some(group) = self.groups.back_mut() {
            let (bytes, own) = cost(item);
            group.items.push(item.clone());
            (group.bytes, group.own_bytes) = (group.bytes + bytes, group.own_bytes + own);
            (self.bytes, self.own_bytes) = (self.bytes + bytes, self.own_bytes + own);
        }
        begins
    }

    /// Forgets groups as long as another one begins at or before the horizon, which is counted from the newest frame.
    fn forget_before(&mut self, horizon: impl Fn(MediaTime) -> MediaTime) {
        let Some(horizon) = self.newest.map(horizon) else { return };
        while self.groups.get(1).is_some_and(|next| next.first <= horizon) {
            self.forgotten.extend(self.groups.pop_front().into_iter().flat_map(|group| group.items));
        }
    }

    /// Frees so many items of what is forgotten.
    fn free(&mut self, most: usize) {
        let kept = self.forgotten.len().saturating_sub(most);
        for item in self.forgotten.drain(kept..) {
            let (bytes, own) = cost(&item);
            (self.bytes, self.own_bytes) = (self.bytes - bytes, self.own_bytes - own);
        }
    }

    fn forget_all(&mut self) {
        self.free(usize::MAX);
        while !self.groups.is_empty() {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(group) = self.groups.pop_front() {
            self.bytes -= group.bytes;
            self.own_bytes -= group.own_bytes;
        }
    }

    /// Everything from this frame on, or from the first one after it; configurations first.
    fn from(&self, first: MediaTime) -> Vec<Timed> {
        // Sound in another codec has its frames elsewhere: it begins within the group.
        let begins = self.groups.iter().rposition(|group| group.first <= first).unwrap_or(0);
        let mut items = Vec::new();
        for (index, group) in self.groups.iter().enumerate().skip(begins) {
            if index == begins {
                items.extend_from_slice(&group.configs);
                let is_in = |item: &&Timed| !matches!(item, Timed::Frame(frame) if frame.dts < first);
                // What comes late within a group, such as sound from just before its picture, belongs to it.
                if self.has_picture {
                    items.extend_from_slice(&group.items);
                } else {
                    items.extend(group.items.iter().filter(is_in).cloned());
                }
            } else {
                items.extend_from_slice(&group.items);
            }
        }
        items
    }
}

/// What an item costs, and what of that is not the payload of a picture.
fn cost(item: &Timed) -> (u64, u64) {
    match item {
        Timed::Frame(frame) if frame.track == TrackKind::Video => (frame.data.len() as u64 + ITEM_BYTES, ITEM_BYTES),
        Timed::Frame(frame) => (frame.data.len() as u64 + ITEM_BYTES, frame.data.len() as u64 + ITEM_BYTES),
        Timed::Config(..) | Timed::Gap(_) => (ITEM_BYTES, ITEM_BYTES),
    }
}

#[cfg(test)]
mod tests;
