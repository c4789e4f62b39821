//! Anything at all, in any order: no panic, order, and memory that follows what is recent, not what came.

use std::time::Duration;

use bytes::Bytes;
use media::TrackKind;
use media::ingest::Event;
use proptest::prelude::*;
use rtp::{Format, Output, Packet, Session, Settings};

use crate::bits::{pps, sps};
use crate::publisher::{AUDIO, VIDEO};
use crate::world::formats;

const RTX: u8 = 97;

#[derive(Clone, Debug)]
enum Step {
    Packet(Packet),
    Report { ssrc: u32, ntp: u64, rtp: u32 },
    Wait(u32),
    Cut,
}

fn payload() -> impl Strategy<Value = Bytes> {
    let garbage = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let header = prop::sample::select(vec![0x65u8, 0x41, 0x01, 0x06, 0x67, 0x68, 0x78, 0x7c, 0x5c, 0x09, 0xfc, 0x79]);
    let nal = (header, proptest::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(header, rest)| Bytes::from([&[header][..], &rest].concat()));
    let sets = prop_oneof![Just(sps(640, 352)), Just(sps(16, 16)), Just(pps(0, 0)), Just(pps(3, 9))];
    let key = Just(Bytes::from_static(&[0x65, 0x88, 1, 2]));
    prop_oneof![garbage, nal, sets, key]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..40, any::<u16>(), 65_500u16..=65_535]
}

fn packet() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![VIDEO, VIDEO, AUDIO, RTX, 5]);
    let time = prop_oneof![(0u32..30).prop_map(|n| n * 3_000), any::<u32>()];
    (kind, any::<bool>(), number(), time, 0u32..20, payload()).prop_map(
        |(payload_type, marker, sequence_number, timestamp, ssrc, payload)| {
            let rid = (ssrc % 5 == 1).then(|| format!("{ssrc}").into());
            let arrival = Duration::ZERO;
            Step::Packet(Packet { payload_type, marker, sequence_number, timestamp, ssrc, rid, payload, arrival })
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => packet(),
        1 => (0u32..20, any::<u64>(), any::<u32>()).prop_map(|(ssrc, ntp, rtp)| Step::Report { ssrc, ntp, rtp }),
        2 => prop_oneof![0u32..50, any::<u32>()].prop_map(Step::Wait),
        1 => Just(Step::Cut),
    ]
}

/// What came out: frames per track have to be in order.
#[derive(Default)]
struct Watch {
    video: Option<u32>,
    audio: Option<u32>,
    bytes: usize,
}

impl Watch {
    fn drain(&mut self, session: &mut Session) {
        while let Some(output) = session.poll() {
            let Output::Event(Event::Frame(frame)) = output else { continue };
            self.bytes += frame.data.len();
            let last = if frame.track == TrackKind::Video { &mut self.video } else { &mut self.audio };
            if let Some(last) = *last {
                assert!(frame.time.value.wrapping_sub(last) as i32 > 0, "{} after {last}", frame.time.value);
            }
            *last = Some(frame.time.value);
        }
    }
}

fn session() -> Session {
    let mut formats = formats();
    formats.insert(RTX, Format::Retransmission { primary: VIDEO });
    Session::new(Settings { formats, ..Settings::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_publisher_sends_breaks_the_session(steps in proptest::collection::vec(step(), 1..300)) {
        let (mut session, mut watch) = (session(), Watch::default());
        let (mut now, mut bytes) = (Duration::from_secs(3), 0);
        for step in steps {
            now += Duration::from_millis(3);
            match step {
                Step::Packet(packet) => {
                    bytes += packet.payload.len() + 8;
                    session.push_rtp(Packet { arrival: now, ..packet });
                }
                Step::Report { ssrc, ntp, rtp } => session.push_sender_report(ssrc, ntp, rtp, now),
                Step::Cut => session.request_key_frame(),
                Step::Wait(millis) => {
                    // Five hours at most all together: after six and a half, 32 bits cannot tell a step on from one back.
                    now += Duration::from_millis(u64::from(millis % 60_000));
                    let mut rounds = 0;
                    while let Some(due) = session.next_timeout().filter(|due| *due <= now) {
                        session.handle_timeout(due);
                        rounds += 1;
                        prop_assert!(rounds < 2_000, "a timeout that never passes");
                    }
                }
            }
            watch.drain(&mut session);
        }
        session.end();
        watch.drain(&mut session);
        prop_assert!(watch.bytes <= bytes, "{} bytes out of {bytes}", watch.bytes);
    }
}

/// What a flood leaves behind in the session, in bytes of payload: every packet's memory is counted by its drop.
fn held_after(make: impl Fn(u32) -> Packet, packets: u32) -> usize {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Counted(Vec<u8>, Arc<AtomicUsize>);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
        }
    }
    let (held, mut session, mut most) = (Arc::new(AtomicUsize::new(0)), session(), 0);
    for n in 0..packets {
        let packet = make(n);
        held.fetch_add(packet.payload.len(), Ordering::Relaxed);
        let payload = Bytes::from_owner(Counted(packet.payload.to_vec(), Arc::clone(&held)));
        // 20 Mbit/s of packets of 1 kB.
        let arrival = Duration::from_micros(u64::from(n) * 400);
        session.push_rtp(Packet { payload, arrival, ..packet });
        while session.poll().is_some() {}
        most = most.max(held.load(Ordering::Relaxed));
    }
    most
}

fn flood(payload_type: u8, ssrc: u32, sequence_number: u16, timestamp: u32, first: u8) -> Packet {
    let mut payload = vec![7; 1_000];
    payload[0] = first;
    Packet {
        payload_type,
        marker: false,
        sequence_number,
        timestamp,
        ssrc,
        rid: None,
        payload: payload.into(),
        arrival: Duration::ZERO,
    }
}

#[test]
fn floods_of_any_kind_are_held_within_bounds() {
    const MIB: usize = 1 << 20;
    // Every second packet missing; every packet of a source of its own; sound with no picture; one endless picture.
    let holes = held_after(|n| flood(VIDEO, 1, (n * 2) as u16, n * 90, 0x41), 50_000);
    let sources = held_after(|n| flood(VIDEO, n, n as u16, n * 90, 0x41), 50_000);
    let sound = held_after(|n| flood(AUDIO, 1, n as u16, n * 960, 0xfc), 50_000);
    let endless = held_after(|n| flood(VIDEO, 1, n as u16, 0, 0x41), 50_000);
    let sets = held_after(|n| flood(VIDEO, 1, n as u16, n, 0x67), 50_000);
    println!("holes {holes}, sources {sources}, sound {sound}, endless {endless}, sets {sets}");
    assert!(holes <= 5 * MIB && sources <= MIB && sound <= 17 * MIB && endless <= 9 * MIB && sets <= MIB);
}
