//! Parameter sets and sequence headers: what came so far, and the configuration they amount to at each key frame.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use media::{Av1Config, AvcConfig, CodecConfig, ConfigError, HevcConfig, VpxConfig};

use super::coding::{Coding, Nal};
use super::unit::Unit;

/// Sets kept at most; encoders use two or three.
const MAX_KEPT: usize = 64;
/// The sequence parameter set of H.265 begins with its id only after this: header, layers, general profile and level.
const HEVC_LEVELS_END: usize = 15;
/// Its sub-layers are described before the id too: that is all of them, with emulation prevention.
const HEVC_HEAD: usize = 160;

/// The sets of one source.
#[derive(Debug)]
pub(super) struct Configs {
    coding: Coding,
    /// By kind and id, the newest of each; video parameter sets first, then sequence parameter sets.
    known: Vec<((u8, u32), Bytes)>,
    active: Option<(Vec<Bytes>, CodecConfig)>,
}

impl Configs {
    pub(super) fn new(coding: Coding, sets: &[Bytes]) -> Self {
        let mut new = Self { coding, known: Vec::new(), active: None };
        new.learn(sets);
        new
    }

    /// Remembers sets for the next key frame.
    pub(super) fn learn(&mut self, sets: &[Bytes]) {
        for set in sets {
            let Some(id) = identity(self.coding, set) else { continue };
            let is_full = self.known.len() >= MAX_KEPT;
            match self.known.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => known.clone_from(set),
                None if !is_full => self.known.push((id, set.clone())),
                None => {}
            }
        }
        self.known.sort_by_key(|(id, _)| *id);
    }

    /// Those among `sets` that a decoder does not have yet and that are not in the picture anyway.
    pub(super) fn news(&self, sets: &[Bytes]) -> Vec<Bytes> {
        let is_known = |set: &Bytes| self.coding == Coding::Av1 || self.known.iter().any(|(_, known)| known == set);
        sets.iter().filter(|set| !is_known(set)).cloned().collect()
    }

    /// A key frame that came with `sets` decides the configuration from here on.
    pub(super) fn activate(&mut self, sets: &[Bytes], unit: &Unit) -> Result<(), ConfigError> {
        match self.coding {
            Coding::H264 | Coding::H265 => self.activate_sets(sets),
            Coding::Av1 => {
                let Some((_, newest)) = self.known.last() else { return Ok(()) };
                let newest = newest.clone();
                let make = || Ok(CodecConfig::Av1(Arc::new(Av1Config::from_sequence_header(&newest)?)));
                self.renew(vec![newest.clone()], make)
            }
            Coding::Vp9 => {
                let config = VpxConfig::from_vp9_keyframe(unit.data())?;
                // What the first layer of several says of itself is not what is shown.
                let (width, height) = unit.shown_size().unwrap_or((config.width, config.height));
                self.replace(CodecConfig::Vp9(Arc::new(VpxConfig { width, height, ..config })))
            }
            Coding::Vp8 => {
                let config = VpxConfig::from_vp8_keyframe(unit.data())?;
                self.replace(CodecConfig::Vp8(Arc::new(config)))
            }
        }
    }

    fn activate_sets(&mut self, sets: &[Bytes]) -> Result<(), ConfigError> {
        let (sequence, picture) = if self.coding == Coding::H265 { (1, 2) } else { (0, 1) };
        let has = |wanted: u8| sets.iter().any(|set| self.coding.nal(set) == Nal::Set(wanted));
        if has(sequence) && has(picture) {
            // What it came with is all it needs; older sets belong to what the encoder did before.
            self.known.retain(|((kind, _), _)| *kind < sequence);
            self.learn(sets);
        }
        let of_kind = |wanted: u8| {
            let chosen = self.known.iter().filter(move |((kind, _), _)| *kind == wanted);
            chosen.map(|(_, set)| set.clone()).collect::<Vec<_>>()
        };
        let [first, second, third] = [0, 1, 2].map(of_kind);
        let all: Vec<Bytes> = self.known.iter().map(|(_, set)| set.clone()).collect();
        if self.coding == Coding::H265 {
            if second.is_empty() || third.is_empty() {
                return Ok(());
            }
            return self.renew(all, || {
                Ok(CodecConfig::Hevc(Arc::new(HevcConfig::from_parameter_sets(first, second, third)?)))
            });
        }
        if first.is_empty() || second.is_empty() {
            return Ok(());
        }
        let mut byte_stream = BytesMut::new();
        for set in &all {
            byte_stream.put_slice(&[0, 0, 0, 1]);
            byte_stream.put_slice(set);
        }
        self.renew(all, || Ok(CodecConfig::Avc(Arc::new(AvcConfig::parse(byte_stream.freeze())?))))
    }

    /// Makes the configuration anew if its sets are others.
    fn renew(
        &mut self,
        sets: Vec<Bytes>,
        make: impl FnOnce() -> Result<CodecConfig, ConfigError>,
    ) -> Result<(), ConfigError> {
        if self.active.as_ref().is_none_or(|(active, _)| *active != sets) {
            self.active = Some((sets, make()?));
        }
        Ok(())
    }

    fn replace(&mut self, config: CodecConfig) -> Result<(), ConfigError> {
        if self.active.as_ref().is_none_or(|(_, active)| *active != config) {
            self.active = Some((Vec::new(), config));
        }
        Ok(())
    }

    /// The configuration of the newest key frame.
    pub(super) fn active(&self) -> Option<CodecConfig> {
        self.active.as_ref().map(|(_, config)| config.clone())
    }
}

/// Kind and id.
fn identity(coding: Coding, set: &[u8]) -> Option<(u8, u32)> {
    if coding == Coding::Av1 {
        // There is one at a time.
        return Some((0, 0));
    }
    let Nal::Set(kind) = coding.nal(set) else { return None };
    let id = match (coding, kind) {
        // A video parameter set has it in the upper half of its first byte.
        (Coding::H265, 0) => u32::from(set.get(2)? >> 4),
        (Coding::H265, 1) => hevc_sequence_id(set)?,
        (Coding::H265, _) => unsigned_golomb(set.get(2..)?)?,
        // An SPS has profile, constraints and level in front of its id (ISO/IEC 14496-10, 7.3.2.1.1).
        (_, 0) => unsigned_golomb(set.get(4..)?)?,
        _ => unsigned_golomb(set.get(1..)?)?,
    };
    Some((kind, id))
}

/// ITU-T H.265, 7.3.2.2.1 and 7.3.3: profiles and levels of sub-layers stand in front of the id, all in whole bytes.
fn hevc_sequence_id(set: &[u8]) -> Option<u32> {
    let (mut head, mut zeros) = (Vec::with_capacity(HEVC_HEAD), 0);
    for &byte in set.iter().take(HEVC_HEAD) {
        // Emulation prevention (7.3.1.1).
        let is_inserted = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if !is_inserted {
            head.push(byte);
        }
    }
    let sub_layers = head.get(2)? >> 1 & 7;
    let mut position = HEVC_LEVELS_END;
    if sub_layers > 0 {
        let &[first, second] = head.get(position..position + 2)? else { return None };
        let present = u16::from_be_bytes([first, second]);
        position += 2;
        for layer in 0..u32::from(sub_layers) {
            let bits = present << (2 * layer);
            position += if bits & 0x8000 != 0 { 11 } else { 0 } + usize::from(bits & 0x4000 != 0);
        }
    }
    unsigned_golomb(head.get(position..)?)
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
