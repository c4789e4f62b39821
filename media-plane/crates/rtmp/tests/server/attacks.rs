//! What other servers die of, as a table: bytes, and what must come of them.
//!
//! Each case runs whole and one byte at a time; in neither may the connection hold more than its limit.

use rtmp::amf0::{Value, Writer};
use rtmp::client::{Client, Shape, payload};
use rtmp::{Limits, kind};

use crate::peer::Peer;

/// How far the peer behaves before it attacks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Nothing,
    Handshake,
    Connect,
    Publish,
}

struct Case {
    name: &'static str,
    after: After,
    bytes: Vec<u8>,
    /// The start of the error, or that the connection lives on.
    outcome: Result<(), &'static str>,
}

fn case(name: &'static str, after: After, bytes: Vec<u8>, outcome: Result<(), &'static str>) -> Case {
    Case { name, after, bytes, outcome }
}

fn run(cases: Vec<Case>) {
    for Case { name, after, bytes, outcome } in cases {
        for step in [bytes.len().max(1), 1] {
            let mut peer = match after {
                After::Nothing => Peer::new(),
                After::Handshake => Peer::greeted(),
                After::Connect => Peer::connected(),
                After::Publish => Peer::publishing(),
            };
            peer.peak = 0;
            let result = peer.drip(&bytes, step);
            let shown = result.map_err(|error| error.to_string());
            match outcome {
                Ok(()) => assert_eq!(shown, Ok(()), "{name}"),
                Err(start) => {
                    let error = shown.expect_err(name);
                    assert!(error.starts_with(start), "{name}: {error}");
                    assert!(peer.session.is_closed(), "{name}");
                    if after != After::Nothing {
                        let last = peer.replies().pop().expect(name);
                        let told = last.info("description").and_then(Value::as_str);
                        assert_eq!(told, Some(error.as_str()), "{name}: the peer hears which rule it broke");
                    }
                }
            }
            let limits = Limits::default();
            let limit = if after == After::Publish { limits.max_buffered } else { limits.max_buffered_before_publish };
            assert!(peer.peak <= limit + 4096, "{name}: {} bytes held", peer.peak);
        }
    }
}

fn control(message_kind: u8, payload: &[u8]) -> Vec<u8> {
    Client::new().control(message_kind, payload)
}

fn command(body: &[u8]) -> Vec<u8> {
    Client::new().command(0, body)
}

/// `connect` followed by `tail`, which should be another argument.
fn connect_and(tail: &[u8]) -> Vec<u8> {
    let head = b"\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00\x03\x00\x03app\x02\x00\x04live\x00\x00\x09";
    command(&[head, tail].concat())
}

/// A type 0 header that announces `length` bytes, and what follows it.
fn announce(csid: u8, message_kind: u8, length: u32, then: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    [&[csid, 0, 0, 1, a, b, c, message_kind, 1, 0, 0, 0], then].concat()
}

#[test]
fn handshakes() {
    let noise: Vec<u8> = (0..5000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
    run(vec![
        case("nothing at all", After::Nothing, vec![], Ok(())),
        case("a hundred bytes of a handshake", After::Nothing, [&[3][..], &[0; 100]].concat(), Ok(())),
        case("http", After::Nothing, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), Err("rtmp version 71")),
        case("tls", After::Nothing, vec![0x16, 3, 1, 2, 0], Err("rtmp version 22")),
        case("encrypted rtmp", After::Nothing, [&[6][..], &[0; 1536]].concat(), Err("rtmp version 6")),
        case("noise", After::Nothing, noise.clone(), Err("rtmp version")),
        case("noise after the handshake", After::Handshake, noise, Err("chunk stream")),
    ]);
}

#[test]
fn control_messages() {
    let after = After::Connect;
    let maximum = 0x7fff_ffff_u32.to_be_bytes();
    run(vec![
        case("chunk size 0", after, control(kind::SET_CHUNK_SIZE, &[0; 4]), Err("chunk size 0")),
        case("chunk size 2^31", after, control(kind::SET_CHUNK_SIZE, &[0x80, 0, 0, 0]), Err("chunk size 2147483648")),
        case("chunk size 2^32-1", after, control(kind::SET_CHUNK_SIZE, &[0xff; 4]), Err("chunk size 4294967295")),
        case("chunk size 2^31-1", after, control(kind::SET_CHUNK_SIZE, &maximum), Ok(())),
        case("chunk size 1", after, control(kind::SET_CHUNK_SIZE, &[0, 0, 0, 1]), Ok(())),
        case("half a chunk size", after, control(kind::SET_CHUNK_SIZE, &[0]), Err("control message of type 1")),
        case("half an abort", after, control(kind::ABORT, &[0, 0]), Err("control message of type 2")),
        case("half a window", after, control(kind::WINDOW_ACK_SIZE, &[0]), Err("control message of type 5")),
        case("half a user control", after, control(kind::USER_CONTROL, &[0]), Err("control message of type 4")),
        case("a ping without time", after, control(kind::USER_CONTROL, &[0, 6, 1]), Err("control message of type 4")),
        case("an unknown user control", after, control(kind::USER_CONTROL, &[0xff; 6]), Ok(())),
        case("half an acknowledgement", after, control(kind::ACKNOWLEDGEMENT, &[1]), Ok(())),
        case("an abort of nothing", after, control(kind::ABORT, &[0, 0, 0, 9]), Ok(())),
        case("an abort of itself", after, control(kind::ABORT, &[0, 0, 0, 2]), Ok(())),
        case("a long control message", after, control(kind::SET_CHUNK_SIZE, &[1; 300]), Err("message of type 1")),
        case("empty ones", after, [1, 2, 3, 4, 5, 6].map(|kind| control(kind, &[])).concat(), Ok(())),
    ]);
}

#[test]
fn a_window_of_zero_acknowledges_nothing_and_divides_by_nothing() {
    for window in [0_u32, 1, 100, u32::MAX] {
        let mut peer = Peer::connected();
        peer.feed(&control(kind::WINDOW_ACK_SIZE, &window.to_be_bytes())).unwrap();
        peer.output.clear();
        peer.drip(&control(kind::USER_CONTROL, &[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]).repeat(100), 1).unwrap();
        assert!(peer.output.len() < 100, "{} bytes of acknowledgements", peer.output.len());
    }
}

#[test]
fn amf() {
    let after = After::Handshake;
    let cut = Err("command is not valid amf0: a value is cut short");
    let object_bomb = b"\x03\x00\x01a".repeat(3000);
    let array_bomb = b"\x0a\x00\x00\x00\x01".repeat(3000);
    let ecma_bomb = b"\x08\x00\x00\x00\x01\x00\x01a".repeat(2000);
    let deep = Err("command is not valid amf0: values are nested deeper than 16");
    let wide = [&b"\x0a\x00\x00\x10\x00"[..], &[5; 4096]].concat();
    run(vec![
        case("array of 2^32-1", after, connect_and(b"\x0a\xff\xff\xff\xff"), cut),
        case("array of 2^22", after, connect_and(b"\x0a\x00\x40\x00\x00"), cut),
        case("ecma array of 2^32-1", after, connect_and(b"\x08\xff\xff\xff\xff"), cut),
        case(
            "ecma array in an unknown command",
            After::Connect,
            command(&[&Writer::new().string("foo").number(1.0).finish()[..], b"\x08\xff\xff\xff\xff"].concat()),
            cut,
        ),
        case("long string of 4 GB", after, connect_and(b"\x0c\xff\xff\xff\xffx"), cut),
        case("xml of 4 GB", after, connect_and(b"\x0f\xff\xff\xff\xffx"), cut),
        case("string of 64 KiB that is not there", after, command(b"\x02\xff\xffconnect"), cut),
        case("objects nested 3000 deep", after, connect_and(&object_bomb), deep),
        case("arrays nested 3000 deep", after, connect_and(&array_bomb), deep),
        case("ecma arrays nested 2000 deep", after, connect_and(&ecma_bomb), deep),
        case(
            "objects nested 200 000 deep",
            after,
            connect_and(&b"\x03\x00\x01a".repeat(200_000)),
            Err("message of type"),
        ),
        case(
            "arrays nested 200 000 deep",
            after,
            connect_and(&b"\x0a\0\0\0\x01".repeat(200_000)),
            Err("message of type"),
        ),
        case("4096 values", after, connect_and(&wide), Err("command is not valid amf0: more than 1024 values")),
        case(
            "a switch to amf3",
            after,
            connect_and(b"\x11\x0a\x01"),
            Err("command is not valid amf0: type marker 0x11"),
        ),
        case("a movie clip", after, connect_and(b"\x04"), Err("command is not valid amf0: type marker 0x04")),
        case("a stray end of object", after, connect_and(b"\x09"), Err("command is not valid amf0: type marker 0x09")),
        case("an object without end", after, connect_and(b"\x03\x00\x01a\x05"), cut),
        case("a command without name", after, command(&[5]), Err("a command lacks a name")),
        case("a command of one byte", after, command(&[2]), cut),
        case("an empty command", after, command(&[]), Ok(())),
        case("an empty amf3 command", after, Client::new().message(Shape::full(3, 0), 17, 0, &[]), Ok(())),
        case("an amf3 command of one byte", after, Client::new().message(Shape::full(3, 0), 17, 0, &[0]), Ok(())),
        case("connect without app", after, command(&Writer::new().string("connect").number(1.0).finish()), {
            Err("connect lacks an app")
        }),
        case(
            "publish without name",
            After::Connect,
            command(&Writer::new().string("publish").number(1.0).null().finish()),
            Err("publish lacks a stream name"),
        ),
        case("references and dates", after, connect_and(b"\x07\x00\x09\x0b\0\0\0\0\0\0\0\0\0\0\x0d\x06"), Ok(())),
    ]);
}

#[test]
fn lengths() {
    let sixteen = 0x00ff_ffff;
    let on_every_stream = |message_kind: u8, length: u32, then: &[u8]| -> Vec<u8> {
        (3..63).flat_map(|csid| announce(csid, message_kind, length, then)).collect()
    };
    let huge_chunks = control(kind::SET_CHUNK_SIZE, &0x7fff_ffff_u32.to_be_bytes());
    let eight = 8 * 1024 * 1024;
    let too_many: Vec<u8> = (64..140_u8).flat_map(|low| [&[0, low], &announce(3, 99, 1, &[2])[1..]].concat()).collect();
    run(vec![
        case(
            "16 MB of picture",
            After::Publish,
            announce(6, 9, sixteen, &[]),
            Err("message of type 9 announces 16777215"),
        ),
        case("16 MB of command", After::Handshake, announce(3, 20, sixteen, &[]), Err("message of type 20 announces")),
        case("17 KB of command", After::Handshake, announce(3, 20, 17 << 10, &[]), Err("message of type 20 announces")),
        case("65 KB of command", After::Publish, announce(3, 20, 65 << 10, &[]), Err("message of type 20 announces")),
        case(
            "16 MB of picture on 60 chunk streams in one chunk each",
            After::Publish,
            [&huge_chunks[..], &announce(6, 9, sixteen, &[1; 4000])].concat(),
            Err("message of type 9 announces 16777215"),
        ),
        case("8 MB announced on 60 chunk streams", After::Publish, on_every_stream(9, eight, &[1; 128]), Ok(())),
        case(
            "8 MB announced on 60 chunk streams before publish",
            After::Connect,
            on_every_stream(9, eight, &[1; 128]),
            Ok(()),
        ),
        case("commands begun on 60 chunk streams", After::Connect, on_every_stream(20, 16 << 10, &[2; 128]), Ok(())),
        case("80 chunk streams", After::Connect, too_many, Err("more than 64 chunk streams")),
        case(
            "metadata too large to matter",
            After::Publish,
            Client::new().message(Shape::full(5, 0), kind::DATA_AMF0, 1, &vec![2; 70_000]),
            Ok(()),
        ),
        case(
            "media before publish",
            After::Connect,
            Client::new().video(0, &payload::avc_frame(true, 0, 90_000)),
            Ok(()),
        ),
        case("media before connect", After::Handshake, Client::new().video(0, &vec![0x17; 90_000]), Ok(())),
        case("unknown message types", After::Connect, on_every_stream(99, 128, &[9; 128]), Ok(())),
    ]);
}

#[test]
fn a_message_that_grows_on_many_streams_meets_the_budget() {
    let mut peer = Peer::connected();
    // 60 commands of 16 KiB, each sent but for its last byte, in turns.
    let mut outcome = Ok(());
    for csid in 3..63 {
        let begun = announce(csid, 20, 16 << 10, &[2; 128]);
        let more = [&[0xc0 | csid][..], &[2; 128]].concat().repeat(126);
        outcome = peer.feed(&[begun, more].concat());
        if outcome.is_err() {
            break;
        }
    }
    assert_eq!(outcome.unwrap_err().to_string(), "unfinished messages hold more than 32768 bytes");
    assert!(peer.peak <= 33 * 1024 + 4096, "{}", peer.peak);
    assert_eq!(peer.session.buffered_bytes(), 0, "and everything is let go");
}

#[test]
fn codec_garbage_ends_nothing() {
    let mut bytes = Vec::new();
    let client = Client::new();
    for length in [1, 2, 3, 4, 5, 6, 7, 9, 40] {
        for first in 0..=255_u8 {
            let body: Vec<u8> = [first].into_iter().chain((1..length).map(|index| first ^ index as u8)).collect();
            bytes.extend(client.video(0, &body));
            bytes.extend(client.audio(0, &body));
            bytes.extend(client.message(Shape::full(5, 0), kind::DATA_AMF0, 1, &body));
            bytes.extend(client.message(Shape::full(5, 0), kind::DATA_AMF3, 1, &body));
            bytes.extend(client.message(Shape::full(8, 0), kind::AGGREGATE, 1, &body));
        }
    }
    run(vec![
        case("short tags of every kind", After::Publish, bytes, Ok(())),
        case("a record of ff", After::Publish, client.video(0, &payload::avc_header(&[0xff; 60])), Ok(())),
        case("a record of 00", After::Publish, client.video(0, &payload::avc_header(&[0; 60])), Ok(())),
        case("an asc of ff", After::Publish, client.audio(0, &payload::aac_header(&[0xff; 60])), Ok(())),
        case("an asc of 00", After::Publish, client.audio(0, &payload::aac_header(&[0; 60])), Ok(())),
        case("an empty asc", After::Publish, client.audio(0, &payload::aac_header(&[])), Ok(())),
    ]);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_cut_off() {
    let mut peer = Peer::connected();
    let ping = control(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]);
    let mut input = bytes::BytesMut::from(&ping.repeat(50_000)[..]);
    let outcome = peer.session.handle(&mut input, peer.now);
    assert_eq!(outcome.unwrap_err().to_string(), "more than 262144 bytes of answers are waiting to be read");
}
