//! MPEG-2 transport stream packets (ISO/IEC 13818-1): tables, PES and continuity, into a growing buffer.

use bytes::{BufMut, BytesMut};

/// Size of a packet.
pub(super) const PACKET: usize = 188;
/// What a packet holds besides its four-byte header.
const BODY: usize = PACKET - 4;

const PAT_PID: u16 = 0;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
const STREAM_H264: u8 = 0x1b;
const STREAM_H265: u8 = 0x24;
const STREAM_AAC: u8 = 0x0f;

/// Timestamps have 33 bits.
const TIME_MASK: i64 = 0x1_ffff_ffff;
/// The program clock runs this far behind the decode times, in 1/90 000 s: the decoder's time to receive a picture.
const CLOCK_DELAY: i64 = 63_000;

/// The elementary streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streams {
    pub(super) video: bool,
    pub(super) audio: bool,
}

/// Which elementary stream a PES packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Video,
    Audio,
}

/// What stands in the head of a PES packet. Times are in 1/90 000 s; only their lower 33 bits are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pes {
    pub(super) stream: Stream,
    pub(super) pts: i64,
    pub(super) dts: i64,
    /// A decoder can start here.
    pub(super) random_access: bool,
    /// Carries the program clock reference.
    pub(super) clock: bool,
}

/// Continuity counters, which go on from segment to segment.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    pat: Counter,
    pmt: Counter,
    video: Counter,
    audio: Counter,
}

/// The counter of one PID.
#[derive(Debug, Default)]
struct Counter {
    next: u8,
    /// Nobody knows where the packets before have ended: the next one says so (`discontinuity_indicator`).
    broken: bool,
}

impl Counter {
    /// The value for a packet with payload, and whether the packet must say that it does not continue the last.
    fn advance(&mut self) -> (u8, bool) {
        let now = self.next;
        self.next = (now + 1) & 15;
        (now, std::mem::take(&mut self.broken))
    }
}

impl Continuity {
    /// Counts anew, behind packets of an earlier process.
    pub(super) fn broken() -> Self {
        let counter = || Counter { next: 0, broken: true };
        Self { pat: counter(), pmt: counter(), video: counter(), audio: counter() }
    }

    /// Program association and map: two packets. `is_hevc`: the picture is H.265, not H.264.
    pub(super) fn tables(&mut self, out: &mut BytesMut, streams: Streams, is_hevc: bool) {
        let [high, low] = PMT_PID.to_be_bytes();
        section(out, PAT_PID, &mut self.pat, &[0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | high, low]);
        let clock_pid = if streams.video { VIDEO_PID } else { AUDIO_PID };
        let [high, low] = clock_pid.to_be_bytes();
        let count = u8::from(streams.video) + u8::from(streams.audio);
        let mut map = Vec::with_capacity(22);
        map.extend_from_slice(&[2, 0xb0, 13 + 5 * count, 0, 1, 0xc1, 0, 0, 0xe0 | high, low, 0xf0, 0]);
        let picture = if is_hevc { STREAM_H265 } else { STREAM_H264 };
        for (present, kind, pid) in [(streams.video, picture, VIDEO_PID), (streams.audio, STREAM_AAC, AUDIO_PID)] {
            if present {
                let [high, low] = pid.to_be_bytes();
                map.extend_from_slice(&[kind, 0xe0 | high, low, 0xf0, 0]);
            }
        }
        section(out, PMT_PID, &mut self.pmt, &map);
    }

    /// Starts a PES packet of `payload` bytes, which must follow through [`Writer::write`].
    pub(super) fn pes<'a>(&'a mut self, out: &'a mut BytesMut, pes: Pes, payload: usize) -> Writer<'a> {
        let (pid, id, counter) = match pes.stream {
            Stream::Video => (VIDEO_PID, 0xe0, &mut self.video),
            Stream::Audio => (AUDIO_PID, 0xc0, &mut self.audio),
        };
        let two_times = pes.pts != pes.dts;
        let times = if two_times { 10 } else { 5 };
        let header = 9 + times;
        // The most packets there can be: the first one also holds the clock.
        out.reserve(((header + payload + 8) / BODY + 2) * PACKET);
        let mut writer = Writer { out, counter, pid, remaining: header + payload, room: 0 };
        writer.packet(Some((pes.random_access, pes.clock.then_some(pes.dts - CLOCK_DELAY))));
        // A picture may be longer than the length field; zero means "until the next start".
        let length = match pes.stream {
            Stream::Video => 0,
            Stream::Audio => u16::try_from(header - 6 + payload).unwrap_or(0),
        };
        let [high, low] = length.to_be_bytes();
        let flags = if two_times { 0xc0 } else { 0x80 };
        writer.write(&[0, 0, 1, id, high, low, 0x84, flags, times as u8]);
        writer.write(&time(if two_times { 3 } else { 2 }, pes.pts));
        if two_times {
            writer.write(&time(1, pes.dts));
        }
        writer
    }
}

/// Cuts a PES packet into transport packets as it is written.
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
    counter: &'a mut Counter,
    pid: u16,
    /// Bytes of the PES packet not yet written.
    remaining: usize,
    /// Bytes left in the current packet.
    room: usize,
}

impl Writer<'_> {
    pub(super) fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.room == 0 {
                self.packet(None);
            }
            let (now, later) = data.split_at_checked(self.room).unwrap_or((data, &[]));
            self.out.put_slice(now);
            self.room -= now.len();
            self.remaining = self.remaining.saturating_sub(now.len());
            data = later;
        }
    }

    /// Packet header and adaptation field; the last packet is filled up in the latter.
    fn packet(&mut self, first: Option<(bool, Option<i64>)>) {
        let (random_access, clock) = first.unwrap_or_default();
        let (counter, broken) = self.counter.advance();
        let fields = match (clock, random_access || broken) {
            (Some(_), _) => 8,
            (None, true) => 2,
            (None, false) => 0,
        };
        let stuffing = (BODY - fields).saturating_sub(self.remaining);
        let adaptation = fields + stuffing;
        let [high, low] = self.pid.to_be_bytes();
        let start = if first.is_some() { 0x40 } else { 0 };
        let control = if adaptation > 0 { 0x30 } else { 0x10 };
        self.out.put_slice(&[0x47, start | high, low, control | counter]);
        self.room = BODY - adaptation;
        if adaptation == 0 {
            return;
        }
        self.out.put_u8(adaptation as u8 - 1);
        if adaptation == 1 {
            return;
        }
        self.out.put_u8(u8::from(broken) << 7 | u8::from(random_access) << 6 | u8::from(clock.is_some()) << 4);
        let mut written = 2;
        if let Some(clock) = clock {
            // Base in 33 bits, six reserved bits, extension 0.
            let field = ((clock & TIME_MASK) as u64) << 15 | 0x7e00;
            self.out.put_uint(field, 6);
            written += 6;
        }
        self.out.put_bytes(0xff, adaptation - written);
    }
}

/// A PTS or DTS field.
fn time(marker: u8, time: i64) -> [u8; 5] {
    let time = time & TIME_MASK;
    [
        marker << 4 | (time >> 29) as u8 & 0x0e | 1,
        (time >> 22) as u8,
        (time >> 14) as u8 | 1,
        (time >> 7) as u8,
        (time << 1) as u8 | 1,
    ]
}

/// One section in one packet.
fn section(out: &mut BytesMut, pid: u16, counter: &mut Counter, body: &[u8]) {
    let [high, low] = pid.to_be_bytes();
    let (counter, broken) = counter.advance();
    // An adaptation field with nothing but the flag.
    let adaptation: &[u8] = if broken { &[1, 0x80] } else { &[] };
    let control = if broken { 0x30 } else { 0x10 };
    out.put_slice(&[0x47, 0x40 | high, low, control | counter]);
    out.put_slice(adaptation);
    out.put_u8(0);
    out.put_slice(body);
    out.put_u32(crc32(body));
    out.put_bytes(0xff, (PACKET - 5 - 4).saturating_sub(body.len() + adaptation.len()));
}

/// ISO/IEC 13818-1, annex A. Once a segment over 40 bytes: not worth a table.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_a_known_table() {
        // The PAT every ffmpeg writes for program 1 at PID 0x1000.
        assert_eq!(crc32(&[0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0]), 0x2ab1_04b2);
    }

    #[test]
    fn every_payload_length_fills_whole_packets_and_keeps_its_bytes() {
        for size in 0..600usize {
            let (mut out, mut continuity) = (BytesMut::new(), Continuity::default());
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let pes =
                Pes { stream: Stream::Audio, pts: 900, dts: 900, random_access: size % 2 == 0, clock: size % 3 == 0 };
            continuity.pes(&mut out, pes, size).write(&payload);
            assert_eq!(out.len() % PACKET, 0, "{size} bytes");
            let mut bodies = Vec::new();
            for (index, packet) in out.chunks(PACKET).enumerate() {
                assert_eq!((packet[0], packet[3] & 15), (0x47, index as u8 & 15));
                let skip = if packet[3] & 0x20 != 0 { packet[4] as usize + 1 } else { 0 };
                bodies.extend_from_slice(&packet[4 + skip..]);
            }
            assert_eq!(bodies.len(), 14 + size);
            assert_eq!(&bodies[14..], payload);
        }
    }

    #[test]
    fn times_carry_33_bits() {
        assert_eq!(time(2, 0), [0x21, 0, 1, 0, 1]);
        assert_eq!(time(2, TIME_MASK), [0x2f, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(time(3, TIME_MASK + 1), time(3, 0));
    }
}
