//! One access unit while its packets come in.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use media::h264::{self, AUD, IDR, SEI};

use super::{FU_A, STAP_A, is_set, is_slice};
use crate::packet::Packet;

/// An access unit beyond this is an attack: level 6.2 allows 100 MB/s, no picture in real time is near.
const MAX_BYTES: usize = 8 << 20;
/// Parameter sets of one access unit at most, and bytes of each.
const MAX_SETS: usize = 32;
const MAX_SET_BYTES: usize = 4_096;

/// The unit; `data` grows with 4-byte lengths already.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) timestamp: u32,
    /// When its newest packet came.
    pub(super) latest: Duration,
    pub(super) has_slice: bool,
    pub(super) has_idr: bool,
    /// Other pictures may build on it.
    pub(super) is_reference: bool,
    /// Its newest packet had the marker.
    pub(super) ended: bool,
    /// Parameter sets, in order.
    pub(super) sets: Vec<Bytes>,
    data: BytesMut,
    /// Where the length of the NAL unit being put together has to go.
    fragment: Option<usize>,
    has_sei: bool,
    damaged: bool,
    /// Something was lost in front of it, or inside.
    pub(super) after_hole: bool,
}

impl Unit {
    pub(super) fn new(timestamp: u32) -> Self {
        Self {
            timestamp,
            latest: Duration::ZERO,
            has_slice: false,
            has_idr: false,
            is_reference: false,
            ended: false,
            sets: Vec::new(),
            data: BytesMut::new(),
            fragment: None,
            has_sei: false,
            damaged: false,
            after_hole: false,
        }
    }

    /// Takes over the times of its next packet: what comes before the first slice may be of an earlier timestamp.
    pub(super) fn at(&mut self, packet: &Packet) {
        self.latest = packet.arrival;
        if !self.has_slice {
            self.timestamp = packet.timestamp;
        }
    }

    pub(super) fn damage(&mut self) {
        self.damaged = true;
        if let Some(start) = self.fragment.take() {
            self.data.truncate(start);
        }
    }

    /// Something of it is missing.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged || self.fragment.is_some()
    }

    /// A decoder can start here.
    pub(super) fn is_keyframe(&self) -> bool {
        self.has_idr || (self.has_sei && h264::is_keyframe(&self.data))
    }

    /// Adds a whole NAL unit. False when that makes no sense.
    pub(super) fn add(&mut self, nal: Bytes) -> bool {
        let Some(&header) = nal.first() else { return false };
        if self.fragment.is_some() || self.data.len() + nal.len() > MAX_BYTES {
            return false;
        }
        let kind = header & 31;
        if is_set(kind) {
            return self.keep_set(nal);
        }
        self.note(header);
        self.data.reserve(nal.len() + 4);
        self.data.put_u32(nal.len() as u32);
        self.data.put_slice(&nal);
        true
    }

    /// Adds a part of a NAL unit with this header. False when that makes no sense.
    pub(super) fn add_fragment(&mut self, header: u8, first: bool, last: bool, part: Bytes) -> bool {
        if self.data.len() + part.len() > MAX_BYTES || (first && last) {
            return false;
        }
        match (first, self.fragment) {
            (true, None) => {
                self.fragment = Some(self.data.len());
                self.note(header);
                self.data.put_u32(0);
                self.data.put_u8(header);
            }
            (false, Some(_)) => {}
            _ => {
                self.note(header);
                return false;
            }
        }
        self.data.put_slice(&part);
        if last && let Some(start) = self.fragment.take() {
            self.close_fragment(start);
        }
        true
    }

    /// The access unit, with these parameter sets in band in front.
    pub(super) fn into_data(self, sets: Vec<Bytes>) -> Bytes {
        if sets.is_empty() {
            return self.data.freeze();
        }
        let mut data = BytesMut::with_capacity(self.data.len() + sets.iter().map(|set| set.len() + 4).sum::<usize>());
        for set in sets {
            data.put_u32(set.len() as u32);
            data.put_slice(&set);
        }
        data.put_slice(&self.data);
        data.freeze()
    }

    fn keep_set(&mut self, set: Bytes) -> bool {
        let fits = self.sets.len() < MAX_SETS && set.len() <= MAX_SET_BYTES;
        if fits && !self.sets.contains(&set) {
            self.sets.push(set);
        }
        fits
    }

    fn close_fragment(&mut self, start: usize) {
        let length = (self.data.len() - start - 4) as u32;
        let kind = self.data.get(start + 4).map_or(0, |header| header & 31);
        if is_set(kind) {
            let set = self.data.split_off(start).freeze().slice(4..);
            self.keep_set(set);
            return;
        }
        if let Some(prefix) = self.data.get_mut(start..start + 4) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn note(&mut self, header: u8) {
        let kind = header & 31;
        self.has_sei |= kind == SEI;
        self.has_idr |= kind == IDR;
        if is_slice(kind) {
            self.has_slice = true;
            self.is_reference |= header & 0x60 != 0;
        }
    }
}

/// Whether the payload begins an access unit; `None` when it cannot be told (filler, the middle of a NAL unit).
pub(super) fn begins_access_unit(payload: &[u8]) -> Option<bool> {
    let &[header, second, ..] = payload else { return None };
    let (kind, body) = match header & 31 {
        STAP_A => (payload.get(3)? & 31, payload.get(4)),
        FU_A if second & 0x80 != 0 => (second & 31, payload.get(2)),
        FU_A => return None,
        kind => (kind, Some(&second)),
    };
    match kind {
        SEI..=AUD => Some(true),
        // first_mb_in_slice, ue(v) 0, is a single 1 bit on top.
        1 | 2 | IDR => body.map(|byte| byte & 0x80 != 0),
        _ => None,
    }
}
