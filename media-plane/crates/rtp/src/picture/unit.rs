//! One access unit while its packets come in.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::coding::{Coding, Nal};
use super::{h264, h265, vp9};
use crate::packet::Packet;

/// An access unit beyond this is an attack: level 6.2 allows 100 MB/s, no picture in real time is near.
const MAX_BYTES: usize = 8 << 20;
/// Parameter sets of one access unit at most, and bytes of each.
const MAX_SETS: usize = 32;
const MAX_SET_BYTES: usize = 4_096;

/// The unit; `data` grows in the form in which it leaves.
#[derive(Debug)]
pub(super) struct Unit {
    coding: Coding,
    pub(super) timestamp: u32,
    /// When its newest packet came.
    pub(super) latest: Duration,
    /// Something of the picture itself is there.
    pub(super) has_slice: bool,
    /// A decoder can start here, with nothing before it: IDR, random access, key frame.
    pub(super) restarts: bool,
    /// What leads it cannot be shown even if what comes before was.
    pub(super) breaks_link: bool,
    /// It leads the newest picture with random access, and builds on what comes before that.
    pub(super) is_leading: bool,
    /// Other pictures may build on it.
    pub(super) is_reference: bool,
    /// Temporal layers seen in the stream, less one.
    pub(super) highest_layer: u8,
    /// Its newest packet had the marker.
    pub(super) ended: bool,
    /// Parameter sets, in order; of AV1 sequence headers, which stay in the data as well.
    pub(super) sets: Vec<Bytes>,
    data: BytesMut,
    /// Where the piece begins that is being put together: a NAL unit with its length, an OBU, a layer of VP9.
    fragment: Option<usize>,
    /// Bytes of each spatial layer of VP9.
    layers: Vec<usize>,
    /// Size of the pictures of the highest layer, where something says so.
    pub(super) layer_size: Option<(u32, u32)>,
    has_sei: bool,
    damaged: bool,
    /// Something was lost in front of it, or inside.
    pub(super) after_hole: bool,
}

impl Unit {
    pub(super) fn new(coding: Coding, timestamp: u32) -> Self {
        Self {
            coding,
            timestamp,
            latest: Duration::ZERO,
            has_slice: false,
            restarts: false,
            breaks_link: false,
            is_leading: false,
            is_reference: false,
            highest_layer: 0,
            ended: false,
            sets: Vec::new(),
            data: BytesMut::new(),
            fragment: None,
            layers: Vec::new(),
            layer_size: None,
            has_sei: false,
            damaged: false,
            after_hole: false,
        }
    }

    /// Takes over the times of its next packet: what comes before the first slice may be of an earlier timestamp.
    pub(super) fn at(&mut self, packet: &Packet, highest_layer: u8) {
        self.latest = packet.arrival;
        self.highest_layer = highest_layer;
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

    /// What belongs to a picture does not parse: it is not whole, and others may build on it. Always false.
    pub(super) fn spoil(&mut self) -> bool {
        (self.has_slice, self.is_reference) = (true, true);
        false
    }

    /// Something of it is missing.
    pub(super) fn is_damaged(&self) -> bool {
        self.damaged || self.fragment.is_some()
    }

    /// A decoder can start here.
    pub(super) fn is_keyframe(&self) -> bool {
        let recovers = match self.coding {
            Coding::H264 => media::h264::is_keyframe,
            Coding::H265 => media::h265::is_keyframe,
            Coding::Av1 | Coding::Vp9 | Coding::Vp8 => return self.restarts,
        };
        self.restarts || (self.has_sei && recovers(&self.data))
    }

    /// What has come so far.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Adds a whole NAL unit. False when that makes no sense.
    pub(super) fn add(&mut self, nal: Bytes) -> bool {
        if nal.is_empty() || self.fragment.is_some() || self.data.len() + nal.len() > MAX_BYTES {
            return false;
        }
        match self.coding.nal(&nal) {
            Nal::Set(_) => return self.keep_set(nal),
            Nal::Foreign => return true,
            kind => self.note(kind, &nal),
        }
        self.data.reserve(nal.len() + 4);
        self.data.put_u32(nal.len() as u32);
        self.data.put_slice(&nal);
        true
    }

    /// Adds a part of a NAL unit with this header. False when that makes no sense.
    pub(super) fn add_fragment(&mut self, header: &[u8], first: bool, last: bool, part: Bytes) -> bool {
        if self.data.len() + part.len() > MAX_BYTES || (first && last) {
            return false;
        }
        match (first, self.fragment) {
            (true, None) => {
                self.fragment = Some(self.data.len());
                self.note(self.coding.nal(header), header);
                self.data.put_u32(0);
                self.data.put_slice(header);
            }
            (false, Some(_)) => {}
            _ => {
                self.note(self.coding.nal(header), header);
                return false;
            }
        }
        self.data.put_slice(&part);
        if last && let Some(start) = self.fragment.take() {
            self.close_fragment(start);
        }
        true
    }

    /// Begins a piece that has no length in front. False when one is being put together, or there are too many.
    pub(super) fn begin_piece(&mut self) -> bool {
        let begins = self.fragment.is_none();
        if begins {
            self.fragment = Some(self.data.len());
        }
        begins
    }

    /// Goes on with it. False when there is none, or it is too large.
    pub(super) fn add_piece(&mut self, part: &[u8]) -> bool {
        let fits = self.fragment.is_some() && self.data.len() + part.len() <= MAX_BYTES;
        if fits {
            self.data.put_slice(part);
        }
        fits
    }

    /// The piece is complete: takes it out.
    pub(super) fn take_piece(&mut self) -> Option<BytesMut> {
        self.fragment.take().map(|start| self.data.split_off(start))
    }

    /// The piece is complete, and a spatial layer.
    pub(super) fn close_layer(&mut self) {
        if let Some(start) = self.fragment.take() {
            self.layers.push(self.data.len() - start);
        }
    }

    /// Spatial layers that are complete.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Size of what is shown of several layers; `None` = what the picture itself says.
    pub(super) fn shown_size(&self) -> Option<(u32, u32)> {
        self.layer_size.filter(|_| self.layers.len() > 1)
    }

    /// Adds bytes in the form in which they leave. False when there are too many.
    pub(super) fn append(&mut self, bytes: &[u8]) -> bool {
        let fits = self.data.len() + bytes.len() <= MAX_BYTES;
        if fits {
            self.data.put_slice(bytes);
        }
        fits
    }

    /// The access unit, with these parameter sets in band in front.
    pub(super) fn into_data(mut self, sets: Vec<Bytes>) -> Bytes {
        if self.layers.len() > 1 {
            vp9::put_index(&mut self.data, &self.layers);
        }
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

    /// Keeps a parameter set. False when there are too many, or it is too large.
    pub(super) fn keep_set(&mut self, set: Bytes) -> bool {
        let fits = self.sets.len() < MAX_SETS && set.len() <= MAX_SET_BYTES;
        if fits && !self.sets.contains(&set) {
            self.sets.push(set);
        }
        fits
    }

    fn close_fragment(&mut self, start: usize) {
        let length = (self.data.len() - start - 4) as u32;
        let kind = self.coding.nal(self.data.get(start + 4..).unwrap_or_default());
        if matches!(kind, Nal::Set(_)) {
            let set = self.data.split_off(start).freeze().slice(4..);
            self.keep_set(set);
        } else if kind == Nal::Foreign {
            self.data.truncate(start);
        } else if let Some(prefix) = self.data.get_mut(start..start + 4) {
            prefix.copy_from_slice(&length.to_be_bytes());
        }
    }

    fn note(&mut self, kind: Nal, header: &[u8]) {
        self.has_sei |= kind == Nal::Sei;
        if kind == Nal::Slice {
            self.has_slice = true;
            match self.coding {
                Coding::H265 => h265::note_slice(self, header),
                _ => h264::note_slice(self, header),
            }
        }
    }
}
