//! What encoders and payloaders of others make of a picture (`captured/capture.py`): whole, out of order, and with every
//! packet lost once.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use media::ingest::Event;
use media::{CodecConfig, av1, h265};
use rtp::{Format, Output, Packet, Session, Settings};

/// Frames as the encoder gave them, and packets as they were sent.
struct Capture {
    format: Format,
    frames: Vec<Bytes>,
    packets: Vec<Packet>,
}

type Form = fn(&[u8]) -> Bytes;

/// Name, format, how a frame leaves, and whether a decoder can start at every sixth frame.
const CAPTURES: [(&str, Format, Form); 8] = [
    ("gstreamer-h265", H265, nals),
    ("gstreamer-h265-reordered", H265, nals),
    ("ffmpeg-h265", H265, nals),
    ("ffmpeg-av1", Format::Av1, obus),
    ("gstreamer-vp9", Format::Vp9, Bytes::copy_from_slice),
    ("ffmpeg-vp9", Format::Vp9, Bytes::copy_from_slice),
    ("gstreamer-vp8", Format::Vp8, Bytes::copy_from_slice),
    ("ffmpeg-vp8", Format::Vp8, Bytes::copy_from_slice),
];
const H265: Format = Format::H265 { parameter_sets: Vec::new() };

/// Without parameter sets, each with its length.
fn nals(frame: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    for nal in h265::annex_b_nals(frame).filter(|nal| !(h265::VPS..=h265::PPS).contains(&h265::nal_type(nal).unwrap()))
    {
        out.put_u32(nal.len() as u32);
        out.put_slice(nal);
    }
    out.freeze()
}

fn obus(frame: &[u8]) -> Bytes {
    av1::normalise(Bytes::copy_from_slice(frame)).unwrap()
}

impl Capture {
    fn load((name, format, form): &(&str, Format, Form)) -> Self {
        let path = format!("{}/tests/session/captured/{name}.rtp", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut frames, mut packets) = (&bytes[..], Vec::new(), Vec::new());
        while let Some((&[kind, a, b, c, d], tail)) = rest.split_first_chunk::<5>() {
            let (record, tail) = tail.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
            rest = tail;
            match kind {
                0 => frames.push(form(record)),
                _ => packets.push(packet(record, packets.len())),
            }
        }
        assert_eq!(frames.len(), 12, "{name}");
        assert!(packets.len() > frames.len(), "{name}: some frames take several packets");
        Self { format: format.clone(), frames, packets }
    }

    /// What comes out of these packets.
    fn run(&self, packets: impl IntoIterator<Item = Packet>) -> Vec<Output> {
        let settings = Settings { formats: [(96, self.format.clone())].into(), ..Settings::default() };
        let mut session = Session::new(settings);
        for packet in packets {
            while let Some(due) = session.next_timeout().filter(|due| *due <= packet.arrival) {
                session.handle_timeout(due);
            }
            session.push_rtp(packet);
        }
        session.end();
        std::iter::from_fn(|| session.poll()).collect()
    }
}

/// RFC 3550, 5.1: these senders use neither extensions nor padding.
fn packet(bytes: &[u8], index: usize) -> Packet {
    assert_eq!(bytes[0], 0x80);
    Packet {
        payload_type: bytes[1] & 127,
        marker: bytes[1] & 128 != 0,
        sequence_number: u16::from_be_bytes([bytes[2], bytes[3]]),
        timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        ssrc: 7,
        rid: None,
        payload: Bytes::copy_from_slice(&bytes[12..]),
        arrival: Duration::from_millis(1_000 + index as u64),
    }
}

fn frames(outputs: &[Output]) -> Vec<(Bytes, bool)> {
    let frame = |output: &Output| match output {
        Output::Event(Event::Frame(frame)) => Some((frame.data.clone(), frame.keyframe)),
        _ => None,
    };
    outputs.iter().filter_map(frame).collect()
}

#[test]
fn every_frame_leaves_as_its_encoder_gave_it() {
    for which in &CAPTURES {
        let (name, capture) = (which.0, Capture::load(which));
        let outputs = capture.run(capture.packets.clone());
        let out = frames(&outputs);
        assert_eq!(out.len(), capture.frames.len(), "{name}");
        for (index, ((data, keyframe), expected)) in out.iter().zip(&capture.frames).enumerate() {
            assert_eq!(data, expected, "{name}: frame {index}");
            assert!(*keyframe || index != 0, "{name}");
        }
        assert!(out.iter().filter(|(_, keyframe)| *keyframe).count() >= 2, "{name}: some frame to start from");
        let configs: Vec<_> = outputs.iter().filter_map(config).collect();
        assert_eq!(configs.len(), 1, "{name}: {configs:?}");
        assert_eq!(configs[0].picture_size(), Some((96, 64)), "{name}");
        assert!(
            matches!(outputs.iter().find(|output| matches!(output, Output::Event(_))), Some(first) if config(first).is_some())
        );
    }
}

fn config(output: &Output) -> Option<&CodecConfig> {
    match output {
        Output::Event(Event::Config(_, config)) => Some(config),
        _ => None,
    }
}

#[test]
fn packets_out_of_order_make_the_same_frames() {
    for which in &CAPTURES {
        let capture = Capture::load(which);
        let mut packets = capture.packets.clone();
        for pair in packets.chunks_mut(2) {
            pair.reverse();
        }
        for (index, packet) in packets.iter_mut().enumerate() {
            packet.arrival = Duration::from_millis(1_000 + index as u64);
        }
        assert_eq!(frames(&capture.run(packets)), frames(&capture.run(capture.packets.clone())), "{}", which.0);
    }
}

/// Whatever packet is lost: what leaves is whole, and nothing that builds on what is missing does, and that is told.
#[test]
fn every_packet_lost_once_costs_its_frame_and_those_that_build_on_it_and_no_others() {
    for which in &CAPTURES {
        let (name, capture) = (which.0, Capture::load(which));
        let all = frames(&capture.run(capture.packets.clone()));
        for lost in 0..capture.packets.len() {
            let rest = capture.packets.iter().enumerate().filter(|(index, _)| *index != lost);
            let outputs = capture.run(rest.map(|(_, packet)| packet.clone()));
            let (mut next, mut told) = (0, 0);
            for output in &outputs {
                match output {
                    Output::Event(Event::Lost { .. }) => told += 1,
                    Output::Event(Event::Frame(frame)) => {
                        let found = all[next..].iter().position(|(data, _)| *data == frame.data);
                        let skipped =
                            found.unwrap_or_else(|| panic!("{name}, packet {lost}: a frame that nobody sent"));
                        let is_first = next == 0 && skipped == 0;
                        // Pictures that none builds on may go alone, which H.265 and VP8 tell.
                        let may_go_on = matches!(capture.format, Format::H265 { .. } | Format::Vp8);
                        assert!(is_first || skipped == 0 || frame.keyframe || may_go_on, "{name}, packet {lost}");
                        next += skipped + 1;
                    }
                    _ => {}
                }
            }
            let left = frames(&outputs);
            // The last packet's loss shows in nothing that follows; that of a parameter set may cost nothing.
            let shows = left.len() < all.len() && next == all.len() && left[0] == all[0];
            assert!(told <= 1 && (told == 1 || !shows), "{name}, packet {lost}: {} of {}", left.len(), all.len());
            let second_key = all.iter().skip(1).position(|(_, keyframe)| *keyframe).unwrap() + 1;
            let kept = all[second_key..].len().min(second_key);
            assert!(left.len() + 3 >= kept, "{name}, packet {lost}: {} of {}", left.len(), all.len());
        }
    }
}

#[test]
fn h265_pictures_in_another_order_than_shown_get_decode_times() {
    let capture = Capture::load(&CAPTURES[1]);
    let outputs = capture.run(capture.packets.clone());
    let mut compositions = Vec::new();
    for output in &outputs {
        if let Output::Event(Event::Frame(frame)) = output {
            compositions.push(frame.composition);
        }
    }
    assert!(compositions.iter().any(|composition| *composition > 0), "{compositions:?}");
}

/// An open group of pictures to begin with: pictures that lead it build on what nobody has.
#[test]
fn h265_that_begins_with_an_open_group_begins_without_the_pictures_that_lead_it() {
    let capture = Capture::load(&CAPTURES[1]);
    let kind = |data: &Bytes| h265::nals(data).filter_map(h265::nal_type).find(|kind| *kind < 32).unwrap();
    let all: Vec<u8> = capture.frames.iter().map(kind).collect();
    let open = all.iter().position(|kind| *kind == h265::CRA).expect("an open group");
    let leading = all[open..].iter().filter(|kind| matches!(kind, 8 | 9)).count();
    assert!(leading > 0, "{all:?}");
    let timestamps: Vec<u32> = capture.packets.iter().map(|packet| packet.timestamp).collect();
    let mut starts: Vec<usize> =
        (0..timestamps.len()).filter(|n| *n == 0 || timestamps[n - 1] != timestamps[*n]).collect();
    assert_eq!(starts.len(), all.len());
    let from = starts.swap_remove(open);
    let out: Vec<u8> =
        frames(&capture.run(capture.packets[from..].to_vec())).iter().map(|(data, _)| kind(data)).collect();
    let expected: Vec<u8> = all[open..].iter().copied().filter(|kind| !matches!(kind, 8 | 9)).collect();
    assert_eq!(out[..2], expected[..2], "{all:?}");
    assert!(out.len() < all.len() - open, "{out:?} of {all:?}");
}
