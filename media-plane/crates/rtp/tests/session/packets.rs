//! Packets one by one: what RFC 6184 allows, what senders make of it, and what a loss leaves.

use std::time::Duration;

use bytes::Bytes;
use media::ingest::{Event, Rejection};
use media::{CodecConfig, TrackKind};
use rtp::{Format, Output, Packet, Session, Settings};

use crate::bits::{avcc, pps, sps};
use crate::publisher::{VIDEO, packetise};

const IDR: &[u8] = &[0x65, 0x88, 1, 2, 3];
const IDR_REST: &[u8] = &[0x65, 0x48, 4, 5, 6];
const SLICE: &[u8] = &[0x41, 0x9a, 7, 8];
/// Of a picture that no other builds on.
const UNUSED: &[u8] = &[0x01, 0x9a, 9];
const SEI: &[u8] = &[6, 5, 1, 2, 0x80];
const FRAME: u32 = 3_000;

/// A session fed packet by packet; every packet has the next sequence number and arrives 1 ms after the one before.
pub struct Feed {
    pub session: Session,
    sequence: u16,
    now: Duration,
}

impl Feed {
    pub fn new() -> Self {
        Self::with(&[])
    }

    fn with(parameter_sets: &[Bytes]) -> Self {
        let format = Format::H264 { parameter_sets: parameter_sets.to_vec() };
        let settings = Settings { formats: [(VIDEO, format)].into(), ..Settings::default() };
        Self { session: Session::new(settings), sequence: 65_533, now: Duration::from_secs(5) }
    }

    pub fn send(&mut self, timestamp: u32, marker: bool, payload: impl Into<Bytes>) -> &mut Self {
        let packet = self.packet(timestamp, marker, payload.into());
        self.session.push_rtp(packet);
        self
    }

    fn packet(&mut self, timestamp: u32, marker: bool, payload: Bytes) -> Packet {
        self.lose(1);
        self.now += Duration::from_millis(1);
        Packet {
            payload_type: VIDEO,
            marker,
            sequence_number: self.sequence,
            timestamp,
            ssrc: 7,
            rid: None,
            payload,
            arrival: self.now,
        }
    }

    pub fn lose(&mut self, packets: u16) -> &mut Self {
        self.sequence = self.sequence.wrapping_add(packets);
        self
    }

    /// A key frame with its parameter sets.
    pub fn key(&mut self, timestamp: u32) -> &mut Self {
        self.send(timestamp, false, sps(640, 352)).send(timestamp, false, pps(0, 0)).send(timestamp, true, IDR)
    }

    /// Everything that came out, with the session ended.
    pub fn finish(&mut self) -> Vec<Output> {
        let end = self.now + Duration::from_secs(2);
        while let Some(due) = self.session.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
        }
        self.session.end();
        std::iter::from_fn(|| self.session.poll()).collect()
    }

    fn frames(&mut self) -> Vec<Bytes> {
        frames(&self.finish()).into_iter().map(|(data, _)| data).collect()
    }
}

pub fn frames(outputs: &[Output]) -> Vec<(Bytes, bool)> {
    let frame = |output: &Output| match output {
        Output::Event(Event::Frame(frame)) => Some((frame.data.clone(), frame.keyframe)),
        _ => None,
    };
    outputs.iter().filter_map(frame).collect()
}

fn sizes(outputs: &[Output]) -> Vec<(u32, u32)> {
    let size = |output: &Output| match output {
        Output::Event(Event::Config(TrackKind::Video, CodecConfig::Avc(avc))) => Some((avc.width, avc.height)),
        _ => None,
    };
    outputs.iter().filter_map(size).collect()
}

fn losses(outputs: &[Output]) -> Vec<(u64, u64)> {
    let loss = |output: &Output| match output {
        Output::Event(Event::Lost { packets, frames, .. }) => Some((*packets, *frames)),
        _ => None,
    };
    outputs.iter().filter_map(loss).collect()
}

fn stap(nals: &[&[u8]]) -> Bytes {
    let mut payload = vec![0x78];
    for nal in nals {
        payload.extend((nal.len() as u16).to_be_bytes());
        payload.extend_from_slice(nal);
    }
    payload.into()
}

#[test]
fn single_units_and_aggregates_become_access_units_without_parameter_sets() {
    let mut feed = Feed::new();
    feed.send(0, true, stap(&[&sps(640, 352), &pps(0, 0), SEI, IDR, IDR_REST]));
    feed.send(FRAME, true, SLICE);
    let out = feed.finish();
    assert_eq!(sizes(&out), [(640, 352)]);
    assert_eq!(frames(&out), [(avcc(&[SEI, IDR, IDR_REST]), true), (avcc(&[SLICE]), false)]);
    assert!(losses(&out).is_empty());
}

#[test]
fn fragments_are_put_together_and_a_missing_one_costs_the_picture() {
    let big: Bytes = [IDR, &[5; 5_000]].concat().into();
    for missing in [None, Some(0), Some(2), Some(4)] {
        let mut feed = Feed::new();
        feed.key(0);
        for (n, part) in packetise(&big).into_iter().enumerate() {
            if missing == Some(n) {
                feed.lose(1);
            } else {
                feed.send(FRAME, n == 4, part);
            }
        }
        feed.send(2 * FRAME, true, SLICE);
        feed.key(3 * FRAME);
        let out = feed.finish();
        let whole = missing.is_none();
        let expected =
            if whole { vec![avcc(&[IDR]), avcc(&[&big]), avcc(&[SLICE]), avcc(&[IDR])] } else { vec![avcc(&[IDR]); 2] };
        assert_eq!(frames(&out).into_iter().map(|(data, _)| data).collect::<Vec<_>>(), expected, "without {missing:?}");
        // The picture after the one that is not whole builds on it.
        assert_eq!(losses(&out), if whole { vec![] } else { vec![(1, 2)] }, "without {missing:?}");
    }
}

#[test]
fn a_parameter_set_may_come_in_fragments_too() {
    let set = sps(640, 352);
    let (first, second) = set[1..].split_at(4);
    let mut feed = Feed::new();
    feed.send(0, false, [&[0x7c, 0x87], first].concat()).send(0, false, [&[0x7c, 0x47], second].concat());
    feed.send(0, false, pps(0, 0)).send(0, true, IDR);
    let out = feed.finish();
    assert_eq!((sizes(&out), frames(&out)), (vec![(640, 352)], vec![(avcc(&[IDR]), true)]));
}

#[test]
fn parameter_sets_of_an_earlier_timestamp_belong_to_the_next_picture() {
    let mut feed = Feed::new();
    feed.send(0, true, sps(640, 352)).send(0, true, pps(0, 0)).send(90, false, SEI).send(FRAME, true, IDR);
    let out = feed.finish();
    assert_eq!((sizes(&out), frames(&out)), (vec![(640, 352)], vec![(avcc(&[SEI, IDR]), true)]));
}

#[test]
fn the_marker_may_be_on_every_slice_or_on_none() {
    for marker in [true, false] {
        let mut feed = Feed::new();
        feed.send(0, marker, sps(640, 352)).send(0, marker, pps(0, 0));
        feed.send(0, marker, IDR).send(0, marker, IDR_REST).send(FRAME, marker, SLICE).send(2 * FRAME, marker, SLICE);
        let frames = feed.frames();
        assert_eq!(frames[..2], [avcc(&[IDR, IDR_REST]), avcc(&[SLICE])], "marker {marker}");
        // Nothing tells that the last picture is complete.
        assert_eq!(frames.len(), if marker { 3 } else { 2 });
    }
}

#[test]
fn two_pictures_of_one_timestamp_are_two() {
    let mut feed = Feed::new();
    feed.key(0);
    feed.send(FRAME, true, SLICE).send(FRAME, true, SLICE);
    assert_eq!(feed.frames(), [avcc(&[IDR]), avcc(&[SLICE]), avcc(&[SLICE])]);
}

#[test]
fn a_picture_leaves_after_its_marker_although_nothing_follows() {
    let mut feed = Feed::new();
    feed.key(0);
    feed.now += Duration::from_millis(100);
    feed.session.handle_timeout(feed.now);
    feed.send(FRAME, true, SLICE);
    let due = feed.session.next_timeout().unwrap();
    assert!(due <= feed.now + Duration::from_millis(60), "{due:?}");
    let mut out: Vec<Output> = std::iter::from_fn(|| feed.session.poll()).collect();
    assert_eq!(frames(&out).len(), 1);
    feed.session.handle_timeout(feed.now + Duration::from_millis(60));
    out.extend(std::iter::from_fn(|| feed.session.poll()));
    assert_eq!(frames(&out), [(avcc(&[IDR]), true), (avcc(&[SLICE]), false)]);
}

#[test]
fn other_parameter_sets_are_a_new_configuration_at_their_key_frame() {
    let mut feed = Feed::new();
    feed.key(0);
    feed.key(FRAME);
    feed.send(2 * FRAME, false, sps(352, 640)).send(2 * FRAME, false, pps(0, 0)).send(2 * FRAME, true, IDR);
    let out = feed.finish();
    assert_eq!((sizes(&out), frames(&out).len()), (vec![(640, 352), (352, 640)], 3));
}

#[test]
fn a_new_picture_parameter_set_between_key_frames_stays_in_band() {
    let mut feed = Feed::new();
    let (old, new) = (pps(0, 0), pps(1, 5));
    feed.key(0);
    feed.send(FRAME, false, old.clone()).send(FRAME, true, SLICE);
    feed.send(2 * FRAME, false, new.clone()).send(2 * FRAME, true, SLICE);
    feed.send(3 * FRAME, true, IDR);
    let out = feed.finish();
    let data: Vec<Bytes> = frames(&out).into_iter().map(|(data, _)| data).collect();
    assert_eq!(data, [avcc(&[IDR]), avcc(&[SLICE]), avcc(&[&new, SLICE]), avcc(&[IDR])]);
    let of_pictures = |output: &Output| match output {
        Output::Event(Event::Config(_, CodecConfig::Avc(avc))) => Some(avc.pps.clone()),
        _ => None,
    };
    let configs: Vec<Vec<Bytes>> = out.iter().filter_map(of_pictures).collect();
    assert_eq!(configs, [vec![old.clone()], vec![old, new]]);
}

#[test]
fn parameter_sets_of_the_sdp_are_enough() {
    let mut feed = Feed::with(&[sps(640, 352), pps(0, 0)]);
    feed.send(0, true, IDR).send(FRAME, true, SLICE);
    let out = feed.finish();
    assert_eq!((sizes(&out), frames(&out).len()), (vec![(640, 352)], 2));
}

#[test]
fn a_key_frame_without_any_parameter_sets_is_told() {
    let mut feed = Feed::new();
    feed.send(0, true, IDR).send(FRAME, true, SLICE);
    let out = feed.finish();
    assert!(frames(&out).is_empty());
    assert!(out.contains(&Output::Event(Event::Rejected(TrackKind::Video, Rejection::BeforeConfig))));
}

#[test]
fn nothing_leaves_before_the_first_key_frame_and_that_is_no_loss() {
    let mut feed = Feed::new();
    feed.send(0, true, SLICE).send(FRAME, true, SLICE).key(2 * FRAME);
    let out = feed.finish();
    assert_eq!((frames(&out), losses(&out)), (vec![(avcc(&[IDR]), true)], vec![]));
    assert_eq!(feed.session.counts().video.frames_dropped, 2);
}

#[test]
fn a_loss_between_pictures_breaks_the_chain_until_the_next_key_frame() {
    let mut feed = Feed::new();
    feed.key(0);
    feed.send(FRAME, true, SLICE).lose(3).send(3 * FRAME, true, SLICE).send(4 * FRAME, true, SLICE).key(5 * FRAME);
    let out = feed.finish();
    assert_eq!(frames(&out).len(), 3, "the picture in front of the hole was complete");
    assert_eq!(losses(&out), [(3, 2)]);
}

#[test]
fn a_loss_inside_a_picture_that_none_builds_on_costs_only_that() {
    let big: Bytes = [UNUSED, &[5; 3_000]].concat().into();
    let mut feed = Feed::new();
    feed.key(0);
    for (n, part) in packetise(&big).into_iter().enumerate() {
        if n == 1 {
            feed.lose(1);
        } else {
            feed.send(FRAME, n == 2, part);
        }
    }
    feed.send(2 * FRAME, true, SLICE);
    let out = feed.finish();
    assert_eq!(frames(&out), [(avcc(&[IDR]), true), (avcc(&[SLICE]), false)]);
    assert_eq!(losses(&out), [(1, 1)]);
}

#[test]
fn a_key_frame_whose_parameter_sets_were_lost_is_not_shown_with_old_ones() {
    let mut feed = Feed::new();
    feed.key(0);
    feed.lose(1).send(FRAME, true, IDR).send(2 * FRAME, true, SLICE).key(3 * FRAME);
    let out = feed.finish();
    assert_eq!((frames(&out).len(), losses(&out)), (2, vec![(1, 2)]));
}

#[test]
fn recovery_points_are_enough_where_no_idr_picture_ever_comes() {
    let recovery: &[u8] = &[6, 6, 1, 0x84, 0x80];
    let mut feed = Feed::with(&[sps(640, 352), pps(0, 0)]);
    for n in 0..24 {
        feed.now += Duration::from_millis(499);
        feed.send(n * 45_000, true, stap(&[recovery, SLICE]));
    }
    let frames = frames(&feed.finish());
    assert!((2..=4).contains(&frames.len()), "after ten seconds: {}", frames.len());
    assert_eq!(frames[0], (avcc(&[recovery, SLICE]), true));
}

#[test]
fn padding_is_no_hole() {
    let mut feed = Feed::new();
    feed.key(0);
    feed.send(0, false, Bytes::new()).send(FRAME, true, SLICE).send(FRAME, false, Bytes::new());
    let out = feed.finish();
    assert_eq!((frames(&out).len(), losses(&out)), (2, vec![]));
}

#[test]
fn packets_that_do_not_parse_cost_their_picture_only() {
    let bad: [&[u8]; 6] =
        [&[0x78, 0, 9, 1], &[0x78, 0, 0], &[0x7c], &[0x7c, 0x05, 1], &[0x59, 1, 2, 3], &[0x7c, 0xc5, 1]];
    for payload in bad {
        let mut feed = Feed::new();
        feed.key(0);
        feed.send(FRAME, false, SLICE).send(FRAME, true, payload).key(2 * FRAME);
        let out = feed.finish();
        assert_eq!(frames(&out).len(), 2, "{payload:x?}");
        assert_eq!(feed.session.counts().video.malformed, 1, "{payload:x?}");
    }
}
