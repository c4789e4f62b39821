//! Order, duplicates, holes and restarts of the sequence number.

use std::time::Duration;

use media::ingest::Event;
use rtp::{Format, Output, Packet, Session, Settings};

use crate::publisher::AUDIO;

const WAIT: Duration = Duration::from_millis(400);
const RTX: u8 = 112;

/// Packets of sound: the payload is the sequence number.
struct Feed {
    session: Session,
    now: Duration,
    out: Vec<u16>,
    lost: u64,
}

impl Feed {
    fn new(retransmission: bool) -> Self {
        let formats = [(AUDIO, Format::Opus { channels: 2 }), (RTX, Format::Retransmission { primary: AUDIO })].into();
        let settings = Settings { formats, retransmission, ..Settings::default() };
        Self { session: Session::new(settings), now: Duration::from_secs(1), out: Vec::new(), lost: 0 }
    }

    fn packet(&self, sequence: u16) -> Packet {
        let [high, low] = sequence.to_be_bytes();
        Packet {
            payload_type: AUDIO,
            marker: false,
            sequence_number: sequence,
            timestamp: u32::from(sequence) * 960,
            ssrc: 9,
            rid: None,
            payload: vec![0xfc, high, low].into(),
            arrival: self.now,
        }
    }

    fn send(&mut self, sequences: impl IntoIterator<Item = u16>) -> &mut Self {
        for sequence in sequences {
            self.now += Duration::from_millis(1);
            let packet = self.packet(sequence);
            self.session.push_rtp(packet);
            self.poll();
        }
        self
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.session.handle_timeout(self.now);
        self.poll();
        self
    }

    fn poll(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Event(Event::Frame(frame)) => self.out.push(u16::from_be_bytes([frame.data[1], frame.data[2]])),
                Output::Event(Event::Lost { packets, .. }) => self.lost += packets,
                _ => {}
            }
        }
    }

    fn counts(&self) -> rtp::TrackCounts {
        self.session.counts().audio
    }
}

#[test]
fn packets_leave_in_order_whatever_order_they_come_in() {
    let mut feed = Feed::new(true);
    feed.send([65_534, 65_533, 65_535, 2, 0, 1, 4, 3, 5]).wait(Duration::from_millis(100));
    assert_eq!(feed.out, [65_533, 65_534, 65_535, 0, 1, 2, 3, 4, 5]);
    assert_eq!((feed.counts().packets_lost, feed.counts().duplicates, feed.counts().recovered), (0, 0, 4));
}

#[test]
fn duplicates_are_dropped_wherever_they_come() {
    let mut feed = Feed::new(true);
    feed.send([1, 1, 2, 3, 2, 5, 5, 4, 4, 5, 1]).wait(Duration::from_millis(100));
    assert_eq!((feed.out.clone(), feed.counts().duplicates), (vec![1, 2, 3, 4, 5], 6));
}

#[test]
fn a_hole_is_given_up_when_a_retransmission_would_have_come() {
    let mut feed = Feed::new(true);
    feed.send(0..10).wait(Duration::from_millis(100)).send(11..15);
    assert_eq!(feed.out.len(), 10);
    assert_eq!(feed.session.next_timeout(), Some(feed.now - Duration::from_millis(3) + WAIT));
    feed.wait(WAIT - Duration::from_millis(10));
    assert_eq!(feed.out.len(), 10, "waits for it");
    feed.wait(Duration::from_millis(10));
    assert_eq!((feed.out.len(), feed.counts().packets_lost), (14, 1));
    feed.send([10]);
    assert_eq!((feed.out.len(), feed.counts().late), (14, 1), "too late, and not out of order");
}

#[test]
fn the_wait_follows_the_round_trip_and_has_bounds() {
    for (round_trip, wait) in [(1, 250), (100, 300), (300, 700), (5_000, 1_000)] {
        let mut feed = Feed::new(true);
        feed.session.set_round_trip(Duration::from_millis(round_trip));
        feed.send(0..2).wait(Duration::from_millis(100)).send([3]);
        assert_eq!(feed.session.next_timeout(), Some(feed.now + Duration::from_millis(wait)));
    }
    let mut feed = Feed::new(false);
    feed.session.set_round_trip(Duration::from_secs(5));
    feed.send(0..2).wait(Duration::from_millis(100)).send([3]);
    assert_eq!(feed.session.next_timeout(), Some(feed.now + Duration::from_millis(100)), "nobody asks for it");
}

#[test]
fn each_hole_is_waited_for_from_when_it_was_noticed() {
    let mut feed = Feed::new(true);
    feed.send(0..2).wait(Duration::from_millis(100)).send([3]).wait(Duration::from_millis(200)).send([5]);
    feed.wait(Duration::from_millis(200));
    assert_eq!((feed.out.clone(), feed.counts().packets_lost), (vec![0, 1, 3], 1));
    feed.wait(Duration::from_millis(200));
    assert_eq!((feed.out.clone(), feed.counts().packets_lost), (vec![0, 1, 3, 5], 2));
}

#[test]
fn a_retransmission_in_its_own_stream_fills_the_hole() {
    let mut feed = Feed::new(true);
    feed.send(0..5).wait(Duration::from_millis(100)).send([6, 7]);
    let original = feed.packet(5);
    let payload = [&5u16.to_be_bytes()[..], &original.payload].concat().into();
    feed.session.push_rtp(Packet { payload_type: RTX, ssrc: 10, sequence_number: 777, payload, ..original });
    feed.poll();
    assert_eq!((feed.out.len(), feed.counts().recovered, feed.counts().packets_lost), (8, 1, 0));
}

#[test]
fn a_sender_that_counts_from_elsewhere_is_followed_after_two_packets() {
    for start in [20_000u16, 50_000] {
        let mut feed = Feed::new(true);
        feed.send(100..110).wait(Duration::from_millis(100)).send([start]);
        assert_eq!(feed.out.len(), 10, "one stray packet is nothing");
        feed.send(start + 1..start + 5);
        assert_eq!(feed.out[10..], (start..start + 5).collect::<Vec<_>>());
    }
}

#[test]
fn a_sender_that_begins_anew_just_behind_is_followed_too() {
    let mut feed = Feed::new(true);
    feed.send(500..520).wait(Duration::from_millis(100)).send(400..500).send([500]);
    assert!(feed.out.len() > 20 && feed.out.last() == Some(&500), "{:?}", feed.out);
}

#[test]
fn what_is_held_back_is_bounded() {
    let mut feed = Feed::new(true);
    feed.send(0..2).wait(Duration::from_millis(100));
    let now = feed.now;
    for sequence in 3..2_600u16 {
        feed.now = now;
        feed.send([sequence]);
    }
    assert!(feed.out.len() > 500, "a hole is not waited for at any price: {}", feed.out.len());
}

#[test]
fn a_hole_in_the_sound_is_told_only_if_it_can_be_heard() {
    let mut feed = Feed::new(false);
    feed.send(0..5).wait(Duration::from_millis(100)).send([9, 10]).wait(WAIT);
    assert_eq!((feed.counts().packets_lost, feed.lost), (4, 0), "80 ms any decoder makes up");
    feed.send([30, 31]).wait(WAIT);
    assert_eq!((feed.counts().packets_lost, feed.lost), (23, 19));
}
