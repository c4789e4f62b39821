//! Sequence and picture parameter sets: what came so far, and the configuration they amount to at each key frame.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::h264::{self, SPS};
use media::{AvcConfig, ConfigError};

/// Sets kept of each kind; encoders use one or two.
const MAX_KEPT: usize = 32;

/// The sets of one source.
#[derive(Debug, Default)]
pub(super) struct ParameterSets {
    /// By kind and id, the newest of each; sequence parameter sets first.
    known: Vec<((bool, u32), Bytes)>,
    active: Option<Arc<AvcConfig>>,
}

impl ParameterSets {
    pub(super) fn new(sets: &[Bytes]) -> Self {
        let mut new = Self::default();
        new.learn(sets);
        new
    }

    /// Remembers sets for the next key frame.
    pub(super) fn learn(&mut self, sets: &[Bytes]) {
        for set in sets {
            let Some(id) = identity(set) else { continue };
            let is_full = self.known.len() >= 2 * MAX_KEPT;
            match self.known.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => known.clone_from(set),
                None if !is_full => self.known.push((id, set.clone())),
                None => {}
            }
        }
        self.known.sort_by_key(|(id, _)| *id);
    }

    /// Those among `sets` that a decoder does not have yet.
    pub(super) fn news(&self, sets: &[Bytes]) -> Vec<Bytes> {
        let is_known = |set: &Bytes| self.known.iter().any(|(_, known)| known == set);
        sets.iter().filter(|set| !is_known(set)).cloned().collect()
    }

    /// A key frame that came with `sets` decides the configuration from here on.
    pub(super) fn activate(&mut self, sets: &[Bytes]) -> Result<(), ConfigError> {
        let is_complete = sets.iter().any(|set| is_sequence(set)) && sets.iter().any(|set| !is_sequence(set));
        if is_complete {
            // What it came with is all it needs; older sets belong to what the encoder did before.
            self.known.clear();
            self.learn(sets);
        }
        let of_kind = |sequence: bool| {
            let chosen = self.known.iter().filter(move |((picture, _), _)| *picture != sequence);
            chosen.map(|(_, set)| set)
        };
        if of_kind(true).next().is_none() || of_kind(false).next().is_none() {
            return Ok(());
        }
        if let Some(active) = &self.active
            && active.sps.iter().eq(of_kind(true))
            && active.pps.iter().eq(of_kind(false))
        {
            return Ok(());
        }
        let mut byte_stream = BytesMut::new();
        for set in of_kind(true).chain(of_kind(false)) {
            byte_stream.put_slice(&[0, 0, 0, 1]);
            byte_stream.put_slice(set);
        }
        self.active = Some(Arc::new(AvcConfig::parse(byte_stream.freeze())?));
        Ok(())
    }

    /// The configuration of the newest key frame.
    pub(super) fn active(&self) -> Option<Arc<AvcConfig>> {
        self.active.clone()
    }
}

fn is_sequence(set: &[u8]) -> bool {
    h264::nal_type(set) == Some(SPS)
}

/// Kind (false = sequence) and id.
fn identity(set: &[u8]) -> Option<(bool, u32)> {
    // An SPS has profile, constraints and level in front of its id (ISO/IEC 14496-10, 7.3.2.1.1).
    let start = if is_sequence(set) { 4 } else { 1 };
    Some((start == 1, unsigned_golomb(set.get(start..)?)?))
}

/// `ue(v)` of up to 15 bits at the start; ids go to 255.
fn unsigned_golomb(data: &[u8]) -> Option<u32> {
    let byte = |n: usize| data.get(n).copied().unwrap_or(0);
    let bits = u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]);
    let zeros = bits.leading_zeros();
    if zeros > 8 || data.is_empty() {
        return None;
    }
    Some((bits << zeros >> (31 - zeros)) - 1)
}
