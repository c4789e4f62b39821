//! What frames keep alive, and how often bytes are copied.

use std::time::Duration;

use bytes::BytesMut;
use media::ingest::Event;
use rtmp::client::{Client, payload};
use rtmp::{Limits, READ_BUFFER_BYTES, Session, SessionEvent};

/// A publishing session that sends in chunks of 60 000 bytes, as ffmpeg does, and its input buffer.
fn publishing() -> (Session, Client, BytesMut) {
    let mut client = Client::new();
    let mut session = Session::new(Limits::default(), [0; 32], Duration::ZERO);
    let mut input = BytesMut::from(&client.start("live", "rtmp://x/live", "k")[..]);
    session.handle(&mut input, Duration::ZERO).unwrap();
    assert!(matches!(session.poll_event(), Some(SessionEvent::Publish(_))));
    session.accept(Duration::ZERO);
    let setup = [
        client.set_chunk_size(60_000),
        client.video(0, &payload::avc_header(payload::AVC_RECORD)),
        client.audio(0, &payload::aac_header(payload::ASC)),
    ];
    input.extend_from_slice(&setup.concat());
    session.handle(&mut input, Duration::ZERO).unwrap();
    while session.poll_event().is_some() {}
    session.take_output();
    (session, client, BytesMut::with_capacity(READ_BUFFER_BYTES))
}

fn next_frame(session: &mut Session) -> bytes::Bytes {
    match session.poll_event() {
        Some(SessionEvent::Media(Event::Frame(frame))) => frame.data,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_picture_that_lies_whole_in_the_buffer_is_not_copied() {
    let (mut session, client, mut input) = publishing();
    let message = client.video(40, &payload::avc_frame(false, 0, 10_000));
    input.extend_from_slice(&message);
    let range = input.as_ptr_range();
    session.handle(&mut input, Duration::ZERO).unwrap();
    let data = next_frame(&mut session);
    assert_eq!(data.len(), 10_004);
    assert!(range.contains(&data.as_ptr()), "the frame lies in the read buffer");
}

#[test]
fn sound_is_copied_so_that_it_keeps_no_picture_alive() {
    let (mut session, client, mut input) = publishing();
    input.extend_from_slice(&client.audio(40, &payload::aac_frame(350)));
    let range = input.as_ptr_range();
    session.handle(&mut input, Duration::ZERO).unwrap();
    let data = next_frame(&mut session);
    assert_eq!(data.len(), 350);
    assert!(!range.contains(&data.as_ptr()));
    assert!(input.try_reclaim(READ_BUFFER_BYTES), "the read buffer is free again");
}

#[test]
fn an_assembled_picture_has_no_slack() {
    let (mut session, client, mut input) = publishing();
    let message = client.video(40, &payload::avc_frame(true, 0, 150_000));
    let mut held = 0;
    for piece in message.chunks(READ_BUFFER_BYTES) {
        input.extend_from_slice(piece);
        session.handle(&mut input, Duration::ZERO).unwrap();
        held = held.max(session.buffered_bytes());
        assert!(input.is_empty());
    }
    assert!(held <= 150_100, "never more than the message: {held}");
    let data = next_frame(&mut session);
    assert_eq!(data.len(), 150_004);
    let unique = data.try_into_mut().expect("nobody else holds it");
    assert!(unique.capacity() <= 150_009, "{}", unique.capacity());
    assert_eq!(session.buffered_bytes(), 0);
}

#[test]
fn growth_follows_what_came_not_what_was_announced() {
    let (mut session, _, mut input) = publishing();
    // 8 MB announced, sent in chunks up to half a megabyte.
    let mut sent = 0;
    input.extend_from_slice(&[6, 0, 0, 1, 0x7f, 0xff, 0xff, 9, 1, 0, 0, 0]);
    while sent < 500_000 {
        let piece = if sent % 60_000 == 0 && sent > 0 { vec![0xc6] } else { vec![] };
        input.extend_from_slice(&piece);
        input.extend_from_slice(&[0x27; 10_000]);
        sent += 10_000;
        session.handle(&mut input, Duration::ZERO).unwrap();
        assert!(session.buffered_bytes() <= (2 * sent).max(65_536), "{} for {sent}", session.buffered_bytes());
    }
}

#[test]
fn a_flood_of_tiny_messages_waits_in_the_input() {
    let (mut session, client, mut input) = publishing();
    let tiny = client.audio(1, &payload::aac_frame(1)).repeat(5_000);
    input.extend_from_slice(&tiny);
    session.handle(&mut input, Duration::ZERO).unwrap();
    assert!(!input.is_empty());
    let mut rounds = 0;
    let mut frames = 0;
    while !input.is_empty() {
        rounds += 1;
        while session.poll_event().is_some() {
            frames += 1;
        }
        session.handle(&mut input, Duration::ZERO).unwrap();
    }
    while session.poll_event().is_some() {
        frames += 1;
    }
    assert_eq!(frames, 5_000);
    assert!(rounds >= 5_000 / 256);
}
