//! Which of several sources of one track is delivered: simulcast layers, and sources that take over from each other.

use std::sync::Arc;
use std::time::Duration;

/// A source that sent nothing for so long is gone, or switched off by the publisher for want of bandwidth.
const DEAD: Duration = Duration::from_millis(1_500);
/// A source without layer name that sent nothing for so long, while another one does, has been replaced.
const REPLACED: Duration = Duration::from_millis(150);

/// A source, as the choice sees it.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The name of the layer; `None` outside simulcast.
    pub(crate) rid: Option<Arc<str>>,
    /// Size of its pictures; 0 while unknown, and for sound.
    pub(crate) pixels: u64,
    /// Counts sources: a higher one was seen later.
    pub(crate) order: u64,
    /// When its newest packet came.
    pub(crate) latest: Duration,
}

impl Layer {
    /// It still sends.
    pub(crate) fn is_alive(&self, now: Duration) -> bool {
        now < self.latest + DEAD
    }

    /// A key frame of this source is the moment to turn to it.
    pub(crate) fn replaces(&self, current: &Self, now: Duration) -> bool {
        if !current.is_alive(now) {
            return true;
        }
        if self.rid == current.rid {
            // One layer has one source: the sender began anew. Unnamed ones may also be layers of one picture.
            let began_anew = self.order > current.order;
            return began_anew && (self.rid.is_some() || self.pixels == 0 || self.is_better(current))
                || (self.rid.is_none() && now >= current.latest + REPLACED);
        }
        self.is_better(current)
    }

    /// When this source replaces the current one at the latest, unless that sends again.
    pub(crate) fn replaces_at(&self, current: &Self) -> Duration {
        let is_unnamed = self.rid.is_none() && current.rid.is_none();
        current.latest + if is_unnamed { REPLACED } else { DEAD }
    }

    /// Turning to this source as soon as possible is worth asking it for a key frame.
    pub(crate) fn is_wanted(&self, current: &Self, now: Duration) -> bool {
        self.is_alive(now) && self.replaces(current, now)
    }

    fn is_better(&self, current: &Self) -> bool {
        self.pixels > current.pixels
    }
}
