//! For any input: the way it is cut into reads changes nothing, nothing panics, and memory stays within its limit.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rtmp::amf0::{Reader, Text, Value, Writer};
use rtmp::client::{Client, Shape, payload};
use rtmp::flv::TagReader;
use rtmp::{Aggregate, ChunkReader, Limits, Message, Policy, kind};

use crate::peer::Peer;

/// One message of a publisher.
#[derive(Clone, Debug)]
struct Sent {
    csid: u32,
    format: u8,
    time: u32,
    repeat_extended: bool,
    kind: u8,
    body: Vec<u8>,
}

fn body() -> impl Strategy<Value = (u8, Vec<u8>)> {
    prop_oneof![
        (1..3000_usize).prop_map(|size| (kind::AUDIO, payload::aac_frame(size))),
        (any::<bool>(), -80..80_i32, 2..9000_usize)
            .prop_map(|(key, offset, size)| (kind::VIDEO, payload::avc_frame(key, offset, size))),
        Just((kind::VIDEO, payload::avc_header(payload::AVC_RECORD))),
        Just((kind::VIDEO, payload::avc_header(payload::AVC_RECORD_640))),
        Just((kind::AUDIO, payload::aac_header(payload::ASC))),
        (1..70_000_u32).prop_map(|size| (kind::SET_CHUNK_SIZE, size.to_be_bytes().to_vec())),
        (0..9000_u32).prop_map(|size| (kind::WINDOW_ACK_SIZE, size.to_be_bytes().to_vec())),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|body| (kind::AGGREGATE, body)),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|body| (kind::VIDEO, body)),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|body| (kind::DATA_AMF0, body)),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let time = prop_oneof![0..100_u32, Just(0x00ff_ffff), 0x0100_0000..u32::MAX];
    let csid = prop_oneof![3..8_u32, 64..70_u32, 400..404_u32];
    (csid, 0..4_u8, time, any::<bool>(), body()).prop_map(|(csid, format, time, repeat_extended, (kind, body))| Sent {
        csid,
        format,
        time,
        repeat_extended,
        kind,
        body,
    })
}

/// The bytes of a script; every second pair of messages on different chunk streams is interleaved.
fn script(messages: &[Sent]) -> Vec<u8> {
    let mut client = Client::new();
    let mut bytes = Vec::new();
    let mut waiting: Option<(u32, Vec<Vec<u8>>)> = None;
    for (index, sent) in messages.iter().enumerate() {
        let shape =
            Shape { csid: sent.csid, format: sent.format, time: sent.time, repeat_extended: sent.repeat_extended };
        let chunks = client.chunks(shape, sent.kind, 1, &sent.body);
        match waiting.take() {
            Some((csid, first)) if csid != sent.csid => {
                let mut second = chunks.into_iter();
                for chunk in first {
                    bytes.extend(chunk);
                    bytes.extend(second.next().unwrap_or_default());
                }
                bytes.extend(second.flatten());
            }
            Some((_, first)) => bytes.extend(first.concat().into_iter().chain(chunks.concat())),
            None if index % 3 == 0 && sent.kind != kind::SET_CHUNK_SIZE => waiting = Some((sent.csid, chunks)),
            None => bytes.extend(chunks.concat()),
        }
        if sent.kind == kind::SET_CHUNK_SIZE && waiting.is_none() {
            let size = u32::from_be_bytes(sent.body[..4].try_into().unwrap());
            let _ = client.set_chunk_size(size);
        }
    }
    bytes.extend(waiting.into_iter().flat_map(|(_, chunks)| chunks).flatten());
    bytes
}

fn value() -> impl Strategy<Value = Value> {
    let name = "[a-z]{0,6}";
    let leaf = prop_oneof![
        (-1e9..1e9).prop_map(Value::Number),
        any::<bool>().prop_map(Value::Boolean),
        ".{0,20}".prop_map(Value::String),
        (-1e15..1e15).prop_map(Value::Date),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<u16>().prop_map(Value::Reference),
        Just(Value::String("x".repeat(70_000))),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        let properties = prop::collection::vec((name, inner.clone()), 0..8);
        prop_oneof![
            properties.clone().prop_map(Value::Object),
            properties.prop_map(Value::EcmaArray),
            prop::collection::vec(inner, 0..8).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cutting_the_input_changes_nothing(
        messages in prop::collection::vec(sent(), 1..12),
        cuts in prop::collection::vec(1..2000_usize, 1..6),
    ) {
        let bytes = script(&messages);
        let mut whole = Peer::publishing();
        let expected = whole.feed(&bytes);
        for sizes in [&cuts[..], &[1]] {
            let mut pieces = Peer::publishing();
            let mut rest = &bytes[..];
            let mut outcome = Ok(());
            for size in sizes.iter().cycle() {
                if rest.is_empty() || outcome.is_err() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                rest = after;
                outcome = pieces.feed(piece);
            }
            prop_assert_eq!(&outcome, &expected);
            prop_assert_eq!(&pieces.events, &whole.events);
        }
    }

    #[test]
    fn noise_never_panics_nor_piles_up(
        noise in prop::collection::vec(any::<u8>(), 0..4000),
        step in 1..600_usize,
        start in 0..4_u8,
    ) {
        let mut peer = match start {
            0 => Peer::new(),
            1 => Peer::greeted(),
            2 => Peer::connected(),
            _ => Peer::publishing(),
        };
        let _ = peer.drip(&noise, step);
        prop_assert!(peer.peak <= 128 * 1024, "{} bytes", peer.peak);
    }

    #[test]
    fn a_damaged_stream_never_panics_nor_piles_up(
        messages in prop::collection::vec(sent(), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        step in 1..5000_usize,
    ) {
        let mut bytes = script(&messages);
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let mut peer = Peer::publishing();
        let _ = peer.drip(&bytes, step);
        prop_assert!(peer.peak <= Limits::default().max_buffered + 300_000, "{} bytes", peer.peak);
        // Growth is by doubling: never more than twice what was sent, or the trust of one message.
        prop_assert!(peer.peak <= 2 * bytes.len() + 80_000, "{} of {}", peer.peak, bytes.len());
    }

    #[test]
    fn amf_values_survive_the_way_there_and_back(values in prop::collection::vec(value(), 0..4)) {
        let bytes = values.iter().fold(Writer::new(), Writer::value).finish();
        let mut reader = Reader::new(&bytes, Text::Strict);
        for value in &values {
            prop_assert_eq!(reader.read(), Ok(Some(value.clone())));
        }
        prop_assert_eq!(reader.read(), Ok(None));
    }

    #[test]
    fn amf_noise_never_panics(noise in prop::collection::vec(0..20_u8, 0..2000)) {
        for text in [Text::Strict, Text::Lossy] {
            let mut reader = Reader::new(&noise, text);
            while let Ok(Some(_)) = reader.read() {}
        }
    }

    #[test]
    fn tags_never_panic(tags in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut reader = TagReader::new();
        reader.video(0, payload::avc_header(payload::AVC_RECORD).into());
        for (first, rest) in tags {
            let body: Bytes = [&[first], &rest[..]].concat().into();
            reader.video(1, body.clone());
            reader.audio(1, body.clone());
            reader.data(&body);
            let message = Message { kind: kind::AGGREGATE, timestamp: 1, stream_id: 1, payload: body };
            let length = message.payload.len();
            let split: usize = Aggregate::new(message).map(|part| part.payload.len() + 11).sum();
            prop_assert!(split <= length);
        }
        while reader.poll().is_some() {}
    }

    #[test]
    fn chunk_noise_leaves_no_more_than_a_header(noise in prop::collection::vec(any::<u8>(), 0..3000)) {
        let mut reader = ChunkReader::new(Policy::publishing(&Limits::default()));
        let mut input = BytesMut::from(&noise[..]);
        let outcome = loop {
            match reader.read(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        prop_assert!(outcome.is_err() || input.len() <= 17, "{} bytes stay", input.len());
    }
}
