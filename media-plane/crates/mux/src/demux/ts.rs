//! Transport stream (ISO/IEC 13818-1): one program of H.264 or H.265, and AAC.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use media::{Codec, MediaTime, TrackKind, h264, h265};

use super::cursor::Cursor;
use super::{Corrupt, Media, Sample, adts};

const PACKET: usize = 188;
/// Timestamps wrap at 2^33.
const WRAP: i64 = 1 << 33;

#[derive(Default)]
struct Demuxer {
    media: Media,
    pmt: Option<u16>,
    streams: BTreeMap<u16, Codec>,
    /// Next continuity counter by PID.
    counters: BTreeMap<u16, u8>,
    open: BTreeMap<u16, Pes>,
    /// Last unwrapped time by track, against which the next is unwrapped.
    clock: BTreeMap<TrackKind, i64>,
}

struct Pes {
    at: usize,
    random_access: bool,
    data: BytesMut,
}

/// Reads a segment, or several in order. Continuity counters must go on, also from segment to segment.
///
/// Samples come in the order in which they are complete, which for interleaved tracks is not that of their times.
pub fn demux(data: &Bytes) -> Result<Media, Corrupt> {
    let mut demuxer = Demuxer::default();
    let mut file = Cursor::new(data.clone());
    while file.remaining() > 0 {
        demuxer.packet(file.part(PACKET)?)?;
    }
    demuxer.finish_all()?;
    Ok(demuxer.media)
}

impl Demuxer {
    fn packet(&mut self, mut packet: Cursor) -> Result<(), Corrupt> {
        let at = packet.at();
        let header = packet.u32()?;
        if header >> 24 != 0x47 {
            return packet.corrupt("no sync byte");
        }
        let (pid, is_start) = ((header >> 8 & 0x1fff) as u16, header & 0x40_0000 != 0);
        let counter = (header & 15) as u8;
        let mut random_access = false;
        if header & 0x20 != 0 {
            let size = packet.u8()? as usize;
            let mut adaptation = packet.part(size)?;
            if size > 0 {
                let flags = adaptation.u8()?;
                random_access = flags & 0x40 != 0;
                if flags & 0x80 != 0 {
                    // The counter of this PID starts anew.
                    self.counters.remove(&pid);
                }
            }
        }
        if header & 0x10 == 0 {
            return Ok(());
        }
        let expected = self.counters.insert(pid, (counter + 1) & 15);
        if expected.is_some_and(|expected| expected != counter) {
            return packet.corrupt(format!("continuity counter {counter} on PID {pid}, {expected:?} expected"));
        }
        if pid == 0 {
            // A segment begins: the one before is complete.
            self.finish_all()?;
            return self.pat(packet);
        }
        if Some(pid) == self.pmt {
            return self.pmt(packet);
        }
        if !self.streams.contains_key(&pid) {
            return packet.corrupt(format!("PID {pid} is in no program"));
        }
        if is_start && let Some(pes) = self.open.remove(&pid) {
            self.finish(pid, pes)?;
        }
        let data = packet.take(packet.remaining())?;
        match self.open.get_mut(&pid) {
            Some(pes) => pes.data.extend_from_slice(&data),
            None if is_start => {
                self.open.insert(pid, Pes { at, random_access, data: BytesMut::from(&data[..]) });
            }
            None => return packet.corrupt("continuation of nothing"),
        }
        Ok(())
    }

    fn pat(&mut self, packet: Cursor) -> Result<(), Corrupt> {
        let mut body = section(packet, 0)?;
        body.skip(2)?;
        self.pmt = Some(body.uint(2)? as u16 & 0x1fff);
        Ok(())
    }

    fn pmt(&mut self, packet: Cursor) -> Result<(), Corrupt> {
        let mut body = section(packet, 2)?;
        let clock = body.uint(2)? as u16 & 0x1fff;
        let info = body.uint(2)? as usize & 0xfff;
        body.skip(info)?;
        self.streams.clear();
        while body.remaining() > 0 {
            let kind = match body.u8()? {
                0x1b => Codec::H264,
                0x24 => Codec::H265,
                0x0f => Codec::Aac,
                kind => return body.corrupt(format!("stream type {kind}")),
            };
            let pid = body.uint(2)? as u16 & 0x1fff;
            let info = body.uint(2)? as usize & 0xfff;
            body.skip(info)?;
            self.streams.insert(pid, kind);
        }
        if !self.streams.contains_key(&clock) {
            return body.corrupt("the clock is on no stream");
        }
        Ok(())
    }

    fn finish_all(&mut self) -> Result<(), Corrupt> {
        let mut open: Vec<(u16, Pes)> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort_by_key(|(_, pes)| pes.at);
        open.into_iter().try_for_each(|(pid, pes)| self.finish(pid, pes))
    }

    fn finish(&mut self, pid: u16, pes: Pes) -> Result<(), Corrupt> {
        let corrupt = |problem: &str| Err(Corrupt { at: pes.at, problem: problem.to_owned() });
        let Some(codec) = self.streams.get(&pid).copied() else { return corrupt("stream is gone") };
        let track = if codec == Codec::Aac { TrackKind::Audio } else { TrackKind::Video };
        let mut body = Cursor::new(pes.data.freeze());
        if body.uint(3)? != 1 {
            return corrupt("no PES start code");
        }
        body.u8()?;
        let length = body.uint(2)? as usize;
        if length != 0 && length != body.remaining() || length == 0 && track == TrackKind::Audio {
            return corrupt("PES length");
        }
        let flags = body.uint(2)?;
        let size = body.u8()? as usize;
        let mut header = body.part(size)?;
        if flags & 0x80 == 0 {
            return corrupt("no PTS");
        }
        let pts = self.unwrap(track, time(&mut header)?);
        let dts = if flags & 0x40 != 0 { self.unwrap(track, time(&mut header)?) } else { pts };
        if dts > pts {
            return corrupt("PTS before DTS");
        }
        self.clock.insert(track, dts);
        let (dts, pts) = (MediaTime(dts), MediaTime(pts));
        let data = body.take(body.remaining())?;
        if track == TrackKind::Audio {
            return adts::frames(&data, dts, &mut self.media);
        }
        let mut nals = h264::annex_b_nals(&data).peekable();
        let is_delimiter = |nal: &&[u8]| match codec {
            Codec::H265 => h265::nal_type(nal) == Some(h265::AUD),
            _ => h264::nal_type(nal) == Some(h264::AUD),
        };
        if nals.next_if(is_delimiter).is_none() {
            return corrupt("no access unit delimiter");
        }
        let mut payload = BytesMut::with_capacity(data.len());
        for nal in nals {
            payload.put_u32(nal.len() as u32);
            payload.put_slice(nal);
        }
        let (keyframe, payload) = (pes.random_access, payload.freeze());
        self.media.samples.push(Sample { track, dts, pts, keyframe, codec, payload });
        Ok(())
    }

    fn unwrap(&self, track: TrackKind, time: i64) -> i64 {
        let Some(last) = self.clock.get(&track) else { return time };
        let step = (time - last).rem_euclid(WRAP);
        last + if step >= WRAP / 2 { step - WRAP } else { step }
    }
}

/// The body of a section after its number bytes, with its CRC checked.
fn section(mut packet: Cursor, table: u8) -> Result<Cursor, Corrupt> {
    let pointer = packet.u8()? as usize;
    packet.skip(pointer)?;
    let mut whole = packet.clone();
    if packet.u8()? != table {
        return packet.corrupt("table id");
    }
    let length = packet.uint(2)? as usize & 0xfff;
    let Some(body) = length.checked_sub(9) else { return packet.corrupt("section length") };
    // The CRC of a section with its CRC is 0.
    if crate::hls::crc32(&whole.take(length + 3)?) != 0 {
        return packet.corrupt("section CRC");
    }
    packet.skip(5)?;
    packet.part(body)
}

fn time(header: &mut Cursor) -> Result<i64, Corrupt> {
    let field = header.uint(5)?;
    if field & 0x1_0001_0001 != 0x1_0001_0001 {
        return header.corrupt("marker bits of a time");
    }
    Ok((field >> 3 & 0x1_c000_0000 | field >> 2 & 0x3fff_8000 | field >> 1 & 0x7fff) as i64)
}
