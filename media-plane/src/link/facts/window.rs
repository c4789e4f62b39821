//! The oldest facts in memory, the rest on disk only: what waits for a control plane that is away for days must not fill
//! the memory. No I/O.

use std::collections::VecDeque;

use recorder_proto::pb::node::Fact;

use super::record;

/// Most facts in memory, and most bytes of them, encoded; a single fact may be larger.
const MOST: (usize, u64) = (4_096, 8 << 20);

/// See the module. Facts come in the order of their sequences.
#[derive(Default)]
pub(super) struct Window {
    facts: VecDeque<Fact>,
    bytes: u64,
    /// Facts behind those in memory, which are on disk.
    spilled: u64,
}

impl Window {
    /// Takes the newest fact; false = it stays on disk only.
    pub(super) fn push(&mut self, fact: Fact) -> bool {
        if self.spilled > 0 || !self.has_room(record::len(&fact)) {
            self.spilled += 1;
            return false;
        }
        self.add(fact);
        true
    }

    /// Takes the oldest of those on disk, which has to have room; false = it does not.
    pub(super) fn refill(&mut self, fact: Fact) -> bool {
        if !self.has_room(record::len(&fact)) {
            return false;
        }
        self.spilled = self.spilled.saturating_sub(1);
        self.add(fact);
        true
    }

    fn add(&mut self, fact: Fact) {
        self.bytes += record::len(&fact);
        self.facts.push_back(fact);
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.facts.is_empty() || (self.facts.len() < MOST.0 && self.bytes + bytes <= MOST.1)
    }

    /// Whether it is time to read from the disk.
    pub(super) fn is_low(&self) -> bool {
        self.spilled > 0 && (self.facts.len() <= MOST.0 / 2 && self.bytes <= MOST.1 / 2)
    }

    /// Drops everything up to a sequence.
    pub(super) fn acknowledge(&mut self, sequence: u64) {
        while self.facts.front().is_some_and(|fact| fact.sequence <= sequence) {
            self.bytes -= self.facts.pop_front().map_or(0, |fact| record::len(&fact));
        }
    }

    /// What is on disk behind the oldest `kept` cannot be read: it is gone. Gives how many were lost.
    pub(super) fn lose_spilled(&mut self, kept: u64) -> u64 {
        let lost = self.spilled.saturating_sub(kept);
        self.spilled -= lost;
        lost
    }

    /// Those in memory, oldest first.
    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter()
    }

    /// Bytes of their records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Facts on disk only.
    pub(super) fn spilled(&self) -> u64 {
        self.spilled
    }

    /// All of them.
    pub(super) fn len(&self) -> usize {
        self.facts.len() + usize::try_from(self.spilled).unwrap_or(usize::MAX - self.facts.len())
    }
}
