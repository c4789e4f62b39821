//! How often what was found, and when.

use std::time::Duration;

use super::Kind;

const KINDS: usize = Kind::ALL.len();

/// Everything found of one kind. Times are on the clock of the arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How often; for dropped frames the frames.
    pub count: u64,
    /// The first of them.
    pub first: Duration,
    /// The last of them.
    pub last: Duration,
}

/// What was found since it was last emptied. Of constant size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    found: [Found; KINDS],
    /// A bit for each kind that was found.
    kinds: u32,
}

impl Tally {
    /// Counts something at `at`.
    pub fn add(&mut self, kind: Kind, count: u64, at: Duration) {
        self.put(kind, Found { count, first: at, last: at });
    }

    /// Takes over what another one has.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(kind, found)| self.put(kind, found));
    }

    fn put(&mut self, kind: Kind, new: Found) {
        let Some(found) = self.found.get_mut(kind.index()).filter(|_| new.count > 0) else { return };
        if found.count == 0 {
            *found = new;
        } else {
            found.count = found.count.saturating_add(new.count);
            (found.first, found.last) = (found.first.min(new.first), found.last.max(new.last));
        }
        self.kinds |= 1 << kind.index();
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.kinds == 0
    }

    /// A bit for each kind that was found: what two tallies have in common can be told from it.
    pub fn kinds(&self) -> u32 {
        self.kinds
    }

    /// What was found, by kind.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, Found)> + '_ {
        let found = Kind::ALL.iter().copied().zip(self.found.iter().copied());
        found.filter(|(_, found)| found.count > 0)
    }

    /// How often this was found.
    pub fn count(&self, kind: Kind) -> u64 {
        self.found.get(kind.index()).map_or(0, |found| found.count)
    }

    /// Empties it.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}
