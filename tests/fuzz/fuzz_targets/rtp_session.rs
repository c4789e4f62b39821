//! A whole RTP session: packets of any source and payload type, sender reports and time in any order. No panic, times of
//! each track increase, timeouts pass, and no more leaves than came.
//!
//! Input: per step one byte that says what it is, then its fields; see `step`.
#![no_main]

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use media::TrackKind;
use media::ingest::Event;
use rtp::{Format, Output, Packet, Session, Settings};

/// Payload types; the last is not negotiated.
const TYPES: [u8; 4] = [102, 111, 97, 5];

/// After six and a half hours without a frame, 32 bits cannot tell a step on from one back.
const LONGEST: Duration = Duration::from_secs(5 * 3_600);

struct Run<'a> {
    rest: &'a [u8],
    session: Session,
    now: Duration,
    times: [Option<u32>; 2],
    given: usize,
    taken: usize,
}

impl Run<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn millis(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(u64::from(u16::from_be_bytes(self.bytes()?))))
    }

    fn step(&mut self) -> Option<()> {
        let [what] = self.bytes()?;
        match what & 7 {
            0 => {
                let ([ssrc], ntp, rtp) = (self.bytes()?, self.bytes()?, self.bytes()?);
                let (ntp, rtp) = (u64::from_be_bytes(ntp), u32::from_be_bytes(rtp));
                self.session.push_sender_report(u32::from(ssrc & 15), ntp, rtp, self.now);
            }
            1 => {
                let time = self.millis()?;
                self.wait(time);
            }
            2 => self.session.request_key_frame(),
            3 => {
                let time = self.millis()?;
                self.session.set_round_trip(time);
            }
            _ => self.packet(what)?,
        }
        Some(())
    }

    fn packet(&mut self, what: u8) -> Option<()> {
        let ([source], sequence_number) = (self.bytes()?, u16::from_be_bytes(self.bytes()?));
        let timestamp = u32::from_be_bytes(self.bytes()?);
        let [length] = self.bytes()?;
        let (payload, rest) = self.rest.split_at(usize::from(length).min(self.rest.len()));
        self.rest = rest;
        self.now += Duration::from_millis(2);
        self.given += payload.len() + 1;
        let rid = (source & 64 != 0).then(|| if source & 32 != 0 { "h".into() } else { "l".into() });
        self.session.push_rtp(Packet {
            payload_type: TYPES[usize::from(what >> 3 & 3)],
            marker: what & 128 != 0,
            sequence_number,
            timestamp,
            ssrc: u32::from(source & 15),
            rid,
            payload: Bytes::copy_from_slice(payload),
            arrival: self.now,
        });
        Some(())
    }

    fn wait(&mut self, time: Duration) {
        self.now = (self.now + time).min(self.now.max(LONGEST));
        let mut rounds = 0;
        while let Some(due) = self.session.next_timeout().filter(|due| *due <= self.now) {
            self.session.handle_timeout(due);
            rounds += 1;
            assert!(rounds < 2_000, "a timeout that never passes");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            let Output::Event(Event::Frame(frame)) = output else { continue };
            let last = &mut self.times[usize::from(frame.track == TrackKind::Video)];
            let forward = last.is_none_or(|last| frame.time.value.wrapping_sub(last) as i32 > 0);
            assert!(forward, "{:?} {} after {last:?}", frame.track, frame.time.value);
            *last = Some(frame.time.value);
            self.taken += frame.data.len();
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let formats = [
        (TYPES[0], Format::H264 { parameter_sets: Vec::new() }),
        (TYPES[1], Format::Opus { channels: 2 }),
        (TYPES[2], Format::Retransmission { primary: TYPES[0] }),
    ];
    let session = Session::new(Settings { formats: formats.into(), ..Settings::default() });
    let mut run = Run { rest: data, session, now: Duration::from_secs(1), times: [None; 2], given: 0, taken: 0 };
    while run.step().is_some() {
        run.drain();
    }
    run.session.end();
    run.drain();
    assert!(run.taken <= 3 * run.given, "{} bytes out of {}", run.taken, run.given);
});
