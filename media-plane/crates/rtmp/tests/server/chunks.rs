//! Chunk streams in every legal shape, and the illegal ones encoders are known for.

use media::TrackKind::{Audio, Video};
use rtmp::client::{Shape, payload};
use rtmp::{SessionError, kind};

use crate::peer::Peer;

/// Publishing, with both configurations sent.
fn ready() -> Peer {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.video(0, &payload::avc_header(payload::AVC_RECORD))).unwrap();
    peer.feed(&peer.client.audio(0, &payload::aac_header(payload::ASC))).unwrap();
    peer.events.clear();
    peer
}

#[test]
fn e2_interleaved_messages_come_out_whole() {
    let mut peer = ready();
    let (sound, picture) = (payload::aac_frame(298), payload::avc_frame(true, 0, 191));
    let a = peer.client.chunks(Shape::full(4, 100), kind::AUDIO, 1, &sound);
    let v = peer.client.chunks(Shape::full(6, 100), kind::VIDEO, 1, &picture);
    assert_eq!((a.len(), v.len()), (3, 2));
    let mixed = [&a[0], &v[0], &a[1], &v[1], &a[2]].map(Vec::as_slice).concat();
    peer.feed(&mixed).unwrap();
    peer.drip(&mixed, 1).unwrap();
    assert_eq!(peer.frames(Audio).len(), 2);
    assert_eq!(peer.frames(Video).len(), 2);
    for frame in peer.frames(Audio) {
        assert_eq!(frame.data[..], sound[2..]);
    }
    for frame in peer.frames(Video) {
        assert_eq!(frame.data[..], picture[5..]);
        assert!(frame.keyframe);
    }
    assert_eq!(peer.session.buffered_bytes(), 0);
}

#[test]
fn e2_chunk_stream_ids_of_two_and_three_bytes() {
    for csid in [2, 63, 64, 100, 319, 320, 5000, 65_599] {
        for step in [1, 2, 1000] {
            let mut peer = ready();
            for time in 0..5 {
                let chunks = peer.client.message(Shape::full(csid, time), kind::AUDIO, 1, &payload::aac_frame(200));
                peer.drip(&chunks, step).unwrap();
            }
            assert_eq!(peer.times(Audio), [0, 1, 2, 3, 4], "csid {csid}");
        }
    }
}

#[test]
fn e2_the_chunk_size_changes_between_any_two_chunks() {
    let mut peer = ready();
    let body = payload::avc_frame(true, 0, 70_000);
    for size in [1, 2, 127, 4096, 60_000, 1 << 20, 0x7fff_ffff] {
        let change = peer.client.set_chunk_size(size);
        peer.feed(&change).unwrap();
        peer.feed(&peer.client.video(size & 0xffff, &body)).unwrap();
        assert_eq!(peer.frames(Video).last().unwrap().data[..], body[5..], "chunk size {size}");
    }
    // In the middle of a message: its first chunk has the old size.
    let mut peer = ready();
    let sound = payload::aac_frame(300);
    let first = peer.client.chunks(Shape::full(4, 7), kind::AUDIO, 1, &sound).swap_remove(0);
    let change = peer.client.set_chunk_size(4096);
    peer.feed(&[&first[..], &change, &[0xc4], &sound[128..]].concat()).unwrap();
    assert_eq!(peer.frames(Audio)[0].data[..], sound[2..]);
}

#[test]
fn e2_empty_messages_are_harmless() {
    let mut peer = ready();
    for message_kind in 0..=22 {
        peer.feed(&peer.client.message(Shape::full(7, 0), message_kind, 1, &[])).unwrap();
    }
    peer.feed(&[0xc7; 5000]).unwrap();
    assert!(peer.events.is_empty());
    peer.feed(&peer.client.audio(5, &payload::aac_frame(9))).unwrap();
    assert_eq!(peer.times(Audio), [5]);
}

#[test]
fn e2_abort_drops_what_was_begun() {
    let mut peer = ready();
    let chunks = peer.client.chunks(Shape::full(4, 100), kind::AUDIO, 1, &payload::aac_frame(298));
    peer.feed(&chunks[0]).unwrap();
    assert!(peer.session.buffered_bytes() >= 128);
    peer.feed(&peer.client.control(kind::ABORT, &4_u32.to_be_bytes())).unwrap();
    assert_eq!(peer.session.buffered_bytes(), 0);
    // A type 3 header now begins a message of the same shape.
    let again = payload::aac_frame(298);
    let pieces: Vec<u8> = again.chunks(128).flat_map(|piece| [&[0xc4], piece].concat()).collect();
    peer.feed(&pieces).unwrap();
    assert_eq!(peer.frames(Audio).len(), 1);
    assert_eq!(peer.times(Audio), [200], "and adds the type 0 header's time");
    peer.feed(&peer.client.control(kind::ABORT, &999_u32.to_be_bytes())).unwrap();
}

#[test]
fn an_abandoned_message_gives_way_to_the_next() {
    let mut peer = ready();
    let long = peer.client.chunks(Shape::full(4, 100), kind::AUDIO, 1, &payload::aac_frame(298));
    peer.feed(&long[0]).unwrap();
    peer.feed(&peer.client.audio(110, &payload::aac_frame(1))).unwrap();
    peer.feed(&peer.client.audio(200, &payload::aac_frame(298))).unwrap();
    assert_eq!(peer.times(Audio), [110, 200]);
    assert_eq!(peer.session.buffered_bytes(), 0);
}

#[test]
fn deltas_of_types_one_two_and_three_add_up() {
    let mut peer = ready();
    let body = payload::aac_frame(20);
    for (format, time) in [(0, 1000), (1, 20), (2, 23), (3, 0), (3, 0), (0, 2000), (3, 0), (1, 5)] {
        let shape = Shape { csid: 4, format, time, repeat_extended: true };
        peer.feed(&peer.client.message(shape, kind::AUDIO, 1, &body)).unwrap();
    }
    assert_eq!(peer.times(Audio), [1000, 1020, 1043, 1066, 1089, 2000, 4000, 4005]);
}

#[test]
fn e3_extended_timestamps_repeated_or_not() {
    for repeat_extended in [true, false] {
        for step in [1, 3, 100_000] {
            let mut peer = ready();
            let body = payload::avc_frame(true, 0, 1000);
            let mut bytes = Vec::new();
            for time in [0x00ff_fffe, 0x00ff_ffff, 0x0100_0000, 0x89ab_cdef, u32::MAX] {
                let shape = Shape { csid: 6, format: 0, time, repeat_extended };
                bytes.extend(peer.client.message(shape, kind::VIDEO, 1, &body));
            }
            peer.drip(&bytes, step).unwrap();
            assert_eq!(peer.times(Video), [0x00ff_fffe, 0x00ff_ffff, 0x0100_0000, 0x89ab_cdef, u32::MAX]);
            assert!(peer.frames(Video).iter().all(|frame| frame.data[..] == body[5..]), "repeated: {repeat_extended}");
        }
    }
}

#[test]
fn e3_an_extended_delta_counts_from_the_message_before() {
    let mut peer = ready();
    let body = payload::aac_frame(300);
    for (format, time) in [(0, 0x0100_0000), (1, 0x0100_0001), (3, 0x0100_0001)] {
        let shape = Shape { csid: 4, format, time, repeat_extended: true };
        peer.feed(&peer.client.message(shape, kind::AUDIO, 1, &body)).unwrap();
    }
    assert_eq!(peer.times(Audio), [0x0100_0000, 0x0200_0001, 0x0300_0002]);
    assert!(peer.frames(Audio).iter().all(|frame| frame.data[..] == body[2..]));
}

#[test]
fn e3_the_absolute_time_in_continuations_is_taken_too() {
    let mut peer = ready();
    let body = payload::aac_frame(200);
    let first = Shape { csid: 4, format: 0, time: 0x0200_0000, repeat_extended: true };
    peer.feed(&peer.client.message(first, kind::AUDIO, 1, &body)).unwrap();
    // A step below the limit, but the sender writes the field and the absolute time after it.
    let step = Shape { csid: 4, format: 1, time: 0x0100_0000, repeat_extended: false };
    let chunks = peer.client.chunks(step, kind::AUDIO, 1, &body);
    let absolute = 0x0300_0000_u32.to_be_bytes();
    peer.feed(&[&chunks[0], &chunks[1][..1], &absolute, &chunks[1][1..]].concat()).unwrap();
    assert_eq!(peer.times(Audio), [0x0200_0000, 0x0300_0000]);
    assert_eq!(peer.frames(Audio)[1].data[..], body[2..]);
}

#[test]
fn e4_time_wraps_at_32_bits() {
    let mut peer = ready();
    let body = payload::aac_frame(20);
    for (format, time) in [(0, u32::MAX - 10), (1, 23), (3, 0)] {
        let shape = Shape { csid: 4, format, time, repeat_extended: true };
        peer.feed(&peer.client.message(shape, kind::AUDIO, 1, &body)).unwrap();
    }
    assert_eq!(peer.times(Audio), [u32::MAX - 10, 12, 35]);
}

#[test]
fn compressed_headers_need_one_to_refer_to() {
    for (format, allowed) in [(1, true), (2, false), (3, false)] {
        let mut peer = ready();
        let shape = Shape { csid: 9, format, time: 1, repeat_extended: true };
        let outcome = peer.feed(&peer.client.message(shape, kind::AUDIO, 1, &payload::aac_frame(9)));
        let expected = if allowed { Ok(()) } else { Err(SessionError::NoPreviousHeader { csid: 9, format }) };
        assert_eq!(outcome, expected);
    }
}

#[test]
fn e2_aggregates_are_split_on_their_own_clock() {
    let mut peer = ready();
    let mut body = Vec::new();
    let sound = payload::aac_frame(40);
    let picture = payload::avc_frame(false, 0, 60);
    for (message_kind, time, part) in [
        (kind::AUDIO, 5000_u32, &sound),
        (kind::VIDEO, 5010, &picture),
        (kind::SET_CHUNK_SIZE, 5010, &vec![0, 0, 0, 1]),
        (kind::COMMAND_AMF0, 5010, &vec![0xff]),
        (kind::AUDIO, 5023, &sound),
    ] {
        let time = time.to_be_bytes();
        body.push(message_kind);
        body.extend_from_slice(&(part.len() as u32).to_be_bytes()[1..]);
        body.extend_from_slice(&[time[1], time[2], time[3], time[0], 0, 0, 0]);
        body.extend_from_slice(part);
        body.extend_from_slice(&(part.len() as u32 + 11).to_be_bytes());
    }
    peer.feed(&peer.client.message(Shape::full(8, 900), kind::AGGREGATE, 1, &body)).unwrap();
    assert_eq!(peer.times(Audio), [900, 923]);
    assert_eq!(peer.times(Video), [910]);
    // Without the last back pointer, and cut inside the last message.
    peer.feed(&peer.client.message(Shape::full(8, 1000), kind::AGGREGATE, 1, &body[..body.len() - 4])).unwrap();
    peer.feed(&peer.client.message(Shape::full(8, 2000), kind::AGGREGATE, 1, &body[..body.len() - 5])).unwrap();
    assert_eq!(peer.times(Audio), [900, 923, 1000, 1023, 2000]);
}
