//! Puts packets of one source back into order; waits for missing ones, but only so long (RFC 3550, A.1).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use crate::counts::TrackCounts;
use crate::packet::Packet;

/// A step of the sequence number beyond this is a restarted sender or a long outage (RFC 3550, A.1, `MAX_DROPOUT`).
const MAX_DROPOUT: i64 = 3_000;
/// Steps back beyond this are a restarted sender, not a late packet.
const MAX_MISORDER: i64 = 1_000;
/// So many consecutive packets that look late are a sender that restarted just behind where it was.
const MAX_LATE_RUN: u32 = 64;
/// The very first packets may be out of order too: how long they are collected.
const START_GRACE: Duration = Duration::from_millis(100);
/// Packets held back at most: 1 s of 20 Mbit/s.
const MAX_PACKETS: usize = 2_048;
/// Bytes held back at most.
const MAX_BYTES: usize = 4 << 20;
/// Holes remembered, to tell a late packet from a repeated one.
const MAX_REMEMBERED: usize = 64;

/// What leaves the buffer, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Packet(Packet),
    /// So many packets are lost for good (0 = unknown: the sender began to count anew).
    Lost(u64),
}

/// The buffer of one source.
#[derive(Debug, Default)]
pub(crate) struct Reorder {
    /// The sequence number that is due, extended; `None` before the start.
    next: Option<i64>,
    /// The newest one seen, extended.
    highest: i64,
    held: BTreeMap<i64, Packet>,
    bytes: usize,
    /// When the hole in front of what is held was noticed.
    since: Option<Duration>,
    given_up: VecDeque<Range<i64>>,
    /// A packet far from all others, and how many followed it in sequence.
    stray: Option<(Packet, u32)>,
    out: VecDeque<Item>,
}

impl Reorder {
    /// Takes a packet; holes are given up `wait` after they were noticed.
    pub(crate) fn push(&mut self, packet: Packet, wait: Duration, counts: &mut TrackCounts) {
        let now = packet.arrival;
        if let Some(packet) = self.judge(packet, counts) {
            self.insert(packet, counts);
        }
        self.advance(now, wait, counts);
    }

    /// Gives up what has been waited for long enough.
    pub(crate) fn advance(&mut self, now: Duration, wait: Duration, counts: &mut TrackCounts) {
        if self.next.is_none() {
            let Some((&first, _)) = self.held.first_key_value() else { return };
            if self.since.is_some_and(|since| now < since + START_GRACE) && !self.is_full() {
                return;
            }
            self.next = Some(first);
        }
        self.release();
        while !self.held.is_empty() && (self.is_full() || self.deadline(wait).is_some_and(|at| now >= at)) {
            self.give_up(counts);
            self.release();
        }
    }

    /// When [`Self::advance`] has something to do.
    pub(crate) fn deadline(&self, wait: Duration) -> Option<Duration> {
        let wait = if self.next.is_none() { START_GRACE } else { wait };
        self.since.map(|since| since + wait)
    }

    /// The next item in order.
    pub(crate) fn poll(&mut self) -> Option<Item> {
        self.out.pop_front()
    }

    /// Packets wait here for a missing one.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.held.is_empty()
    }

    /// This packet is missing: it lies in a hole.
    pub(crate) fn misses(&self, sequence: u16) -> bool {
        let position = self.highest + self.step(sequence);
        self.next.is_some_and(|next| position >= next) && position < self.highest && !self.held.contains_key(&position)
    }

    /// Nothing more will come: everything held leaves.
    pub(crate) fn end(&mut self, counts: &mut TrackCounts) {
        if self.next.is_none() {
            self.next = self.held.first_key_value().map(|(&first, _)| first);
        }
        self.release();
        while !self.held.is_empty() {
            self.give_up(counts);
            self.release();
        }
    }

    /// Packets that belong nowhere near the others stay out, until a second one shows that the sender restarted.
    fn judge(&mut self, packet: Packet, counts: &mut TrackCounts) -> Option<Packet> {
        if self.next.is_none() && self.held.is_empty() {
            self.highest = i64::from(packet.sequence_number);
            self.since = Some(packet.arrival);
            return Some(packet);
        }
        let step = self.step(packet.sequence_number);
        let position = self.highest + step;
        let is_late = self.next.is_some_and(|next| position < next);
        if (-MAX_MISORDER..=MAX_DROPOUT).contains(&step) && !is_late {
            self.stray = None;
            return Some(packet);
        }
        let is_near = (-MAX_MISORDER..=MAX_DROPOUT).contains(&step);
        let needed = if is_near { MAX_LATE_RUN } else { 1 };
        let run = match &self.stray {
            Some((last, run)) if last.sequence_number.wrapping_add(1) == packet.sequence_number => run + 1,
            _ => 0,
        };
        if run >= needed {
            let first = self.stray.take().map(|(first, _)| first).filter(|_| !is_near);
            self.restart(first, packet, counts);
            return None;
        }
        if is_near {
            self.count_late(position, counts);
        }
        self.stray = Some((packet, run));
        None
    }

    fn count_late(&self, position: i64, counts: &mut TrackCounts) {
        if self.given_up.iter().any(|hole| hole.contains(&position)) {
            counts.late += 1;
        } else {
            counts.duplicates += 1;
        }
    }

    /// The sender counts from somewhere else now.
    fn restart(&mut self, first: Option<Packet>, second: Packet, counts: &mut TrackCounts) {
        self.end(counts);
        self.out.push_back(Item::Lost(0));
        self.given_up.clear();
        self.highest = i64::from(second.sequence_number);
        self.next = Some(self.highest + 1);
        self.since = None;
        self.out.extend(first.map(Item::Packet));
        self.out.push_back(Item::Packet(second));
    }

    fn step(&self, sequence: u16) -> i64 {
        i64::from(sequence.wrapping_sub(self.highest as u16) as i16)
    }

    fn insert(&mut self, packet: Packet, counts: &mut TrackCounts) {
        let step = self.step(packet.sequence_number);
        let position = self.highest + step;
        if self.held.contains_key(&position) {
            counts.duplicates += 1;
            return;
        }
        if step < 0 {
            counts.recovered += 1;
        }
        self.highest = self.highest.max(position);
        if self.next.is_some() && self.held.is_empty() {
            self.since = Some(packet.arrival);
        }
        self.bytes += packet.payload.len();
        self.held.insert(position, packet);
    }

    fn is_full(&self) -> bool {
        self.held.len() > MAX_PACKETS || self.bytes > MAX_BYTES
    }

    /// Lets go of what is in sequence.
    fn release(&mut self) {
        let Some(mut next) = self.next else { return };
        let mut released = false;
        while let Some(packet) = self.held.remove(&next) {
            self.bytes = self.bytes.saturating_sub(packet.payload.len());
            self.out.push_back(Item::Packet(packet));
            next += 1;
            released = true;
        }
        self.next = Some(next);
        if self.held.is_empty() {
            self.since = None;
        } else if released {
            // Another hole now: it was noticed when the first packet behind it came.
            self.since = self.held.values().map(|packet| packet.arrival).min();
        }
    }

    fn give_up(&mut self, counts: &mut TrackCounts) {
        let (Some(next), Some((&first, _))) = (self.next, self.held.first_key_value()) else { return };
        let missing = u64::try_from(first - next).unwrap_or(0);
        counts.packets_lost += missing;
        self.out.push_back(Item::Lost(missing));
        self.given_up.push_back(next..first);
        if self.given_up.len() > MAX_REMEMBERED {
            self.given_up.pop_front();
        }
        self.next = Some(first);
    }
}
