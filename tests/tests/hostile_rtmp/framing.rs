//! Attacks on the handshake, on chunks and on control messages.

use recorder_tests::attack::{After, Case, Outcome, case};
use rtmp::client::{Client, Shape, payload};
use rtmp::kind;

/// Bytes that look random and are the same in every run.
pub fn noise(seed: u32, length: u32) -> Vec<u8> {
    let mix = |index: u32| (index ^ seed).wrapping_mul(2_654_435_761).rotate_left(index % 31);
    (0..length).map(|index| (mix(index) >> 24) as u8).collect()
}

fn control(message_kind: u8, payload: &[u8]) -> Vec<u8> {
    Client::new().control(message_kind, payload)
}

fn chunk_size(size: u32) -> Vec<u8> {
    control(kind::SET_CHUNK_SIZE, &size.to_be_bytes())
}

/// A type 0 header that announces `length` bytes.
fn announce(csid: u8, message_kind: u8, length: u32) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    vec![csid, 0, 0, 1, a, b, c, message_kind, 1, 0, 0, 0]
}

/// `length` bytes announced on 60 chunk streams, and the first chunk of each.
pub fn announce_everywhere(message_kind: u8, length: u32) -> Vec<u8> {
    (3..63).flat_map(|csid| [announce(csid, message_kind, length), vec![1; 128]].concat()).collect()
}

/// What speaks another protocol, stops early, or never made sense.
pub fn handshakes() -> Vec<Case> {
    use After::{Handshake, Nothing};
    let whole = Client::new().handshake();
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(1, 506)].concat();
    let mut cases = vec![
        case("http", Nothing, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", Outcome::Closed),
        case("tunnelled rtmp", Nothing, "POST /open/1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n\0", Outcome::Closed),
        case("ssh", Nothing, "SSH-2.0-OpenSSH_9.6\r\n", Outcome::Closed),
        case("a tls client hello", Nothing, tls, Outcome::Closed),
        case("encrypted rtmp", Nothing, [&[6][..], &noise(2, 1536)].concat(), Outcome::Closed),
        case("noise", Nothing, [&[0xff][..], &noise(3, 65_536)].concat(), Outcome::Closed),
        case("noise that begins as rtmp does", Nothing, [&[3][..], &noise(4, 65_536)].concat(), Outcome::TimesOut),
        case("a handshake of zeros, then zeros", Nothing, [&[3][..], &[0; 65_536]].concat(), Outcome::TimesOut),
        case("a handshake of ff, then ff", Nothing, [&[3][..], &[0xff; 65_536]].concat(), Outcome::TimesOut),
        case("the handshake twice", Nothing, whole.repeat(2), Outcome::TimesOut),
        case("gone at once", Nothing, [], Outcome::Leaves),
        case("gone within the handshake", Nothing, &whole[..100], Outcome::Leaves),
        case("gone after the handshake", Handshake, [], Outcome::Leaves),
        case("nothing after the handshake", Handshake, [], Outcome::TimesOut),
        case("nothing after connect", After::Connect, [], Outcome::TimesOut),
        case("nothing after publish", After::Publish, [], Outcome::TimesOut),
    ];
    for seed in 0..4 {
        cases.push(case(format!("noise {seed} in connect's place"), Handshake, noise(seed, 8_192), Outcome::TimesOut));
        cases.push(case(
            format!("noise {seed} in media's place"),
            After::Publish,
            noise(seed, 8_192),
            Outcome::TimesOut,
        ));
    }
    for length in [0, 1, 2, 9, 100, 1_536, 1_537, 1_538, 3_072] {
        let name = format!("a handshake of {length} bytes");
        cases.push(case(name, Nothing, &whole[..length], Outcome::TimesOut));
    }
    cases
}

/// Control messages with values that divide, allocate or loop elsewhere.
pub fn controls() -> Vec<Case> {
    use After::Connect;
    let rule = Outcome::Told("chunk size");
    let short = Outcome::Told("control message of type");
    let tiny_window = [control(kind::WINDOW_ACK_SIZE, &[0, 0, 0, 1]), control(99, &[0; 100]).repeat(500)].concat();
    let ping = control(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4]);
    let mut cases = vec![
        case("chunk size 0", Connect, chunk_size(0), rule),
        case("chunk size 0 while publishing", After::Publish, chunk_size(0), rule),
        case("chunk size 2^31", Connect, chunk_size(1 << 31), rule),
        case("chunk size 2^32-1", Connect, chunk_size(u32::MAX), rule),
        case("chunk size 2^31-1", Connect, chunk_size(0x7fff_ffff), Outcome::Served),
        case("half a chunk size", Connect, control(kind::SET_CHUNK_SIZE, &[0]), short),
        case("half an abort", Connect, control(kind::ABORT, &[0]), short),
        case("half a window", Connect, control(kind::WINDOW_ACK_SIZE, &[0]), short),
        case("half a ping", Connect, control(kind::USER_CONTROL, &[0, 6, 1]), short),
        case("window 0", Connect, control(kind::WINDOW_ACK_SIZE, &[0; 4]), Outcome::Served),
        case("window 1", Connect, tiny_window, Outcome::Served),
        case("bandwidth 0", Connect, control(kind::SET_PEER_BANDWIDTH, &[0; 5]), Outcome::Served),
        case("an acknowledgement of 2^32-1", Connect, control(kind::ACKNOWLEDGEMENT, &[0xff; 4]), Outcome::Served),
        case("an abort of nothing", Connect, control(kind::ABORT, &[0xff; 4]), Outcome::Served),
        case("an abort of itself", Connect, control(kind::ABORT, &[0, 0, 0, 2]), Outcome::Served),
        case("a control message of 300 bytes", Connect, control(kind::ABORT, &[1; 300]), Outcome::Closed),
        case("10,000 pings", Connect, ping.repeat(10_000), Outcome::Served),
    ];
    for message_kind in 0..=22 {
        // One byte of these is half of something; the others ignore it.
        let outcome = match message_kind {
            kind::SET_CHUNK_SIZE | kind::ABORT | kind::USER_CONTROL | kind::WINDOW_ACK_SIZE => Outcome::Closed,
            kind::COMMAND_AMF0 => Outcome::Closed,
            _ => Outcome::Served,
        };
        let message = Client::new().message(Shape::full(3, 0), message_kind, 1, &[2]);
        cases.push(case(format!("one byte of type {message_kind}"), After::Publish, message, outcome));
    }
    let empty: Vec<u8> = (0..=255).flat_map(|kind| Client::new().message(Shape::full(3, 0), kind, 1, &[])).collect();
    cases.push(case("empty messages of every type", Connect, empty.clone(), Outcome::Served));
    cases.push(case("empty media of every type", After::Publish, empty, Outcome::Served));
    cases
}

/// Lengths that are announced and not sent, and headers out of order.
pub fn chunks() -> Vec<Case> {
    use After::{Connect, Handshake, Publish};
    let too_large = Outcome::Told("announces 16777215");
    let sixteen = 0x00ff_ffff;
    let eight = 8 * 1024 * 1024;
    let begun = [announce(6, 9, 100_000), vec![0x17; 128]].concat();
    let client = Client::new();
    let headers = [
        client.video(0, &payload::avc_header(payload::AVC_RECORD)),
        client.audio(0, &payload::aac_header(payload::ASC)),
    ]
    .concat();
    let two_byte = client.message(Shape::full(100, 0), kind::AUDIO, 1, &payload::aac_frame(300)).repeat(3);
    let three_byte = client.message(Shape::full(65_599, 0), kind::AUDIO, 1, &payload::aac_frame(300)).repeat(3);
    let many: Vec<u8> =
        (0..80).flat_map(|index| client.message(Shape::full(100 + index, 0), kind::AUDIO, 1, &[0xaf, 1])).collect();
    let mut one_byte_chunks = Client::new();
    let size_one = one_byte_chunks.set_chunk_size(1);
    let small = [size_one, one_byte_chunks.video(0, &payload::avc_frame(true, 0, 60_000))].concat();
    let small = [small, one_byte_chunks.set_chunk_size(128)].concat();
    vec![
        case("16 MB of picture", Publish, announce(6, 9, sixteen), too_large),
        case("16 MB of command", Handshake, announce(3, 20, sixteen), too_large),
        case("16 MB of everything at 60", Publish, announce_everywhere(9, sixteen), Outcome::Closed),
        case("8 MB of picture at 60", Publish, announce_everywhere(9, eight), Outcome::Served),
        case("8 MB before publish at 60", Connect, announce_everywhere(9, eight), Outcome::Served),
        case("16 KB of command at 60", Connect, announce_everywhere(20, 16 << 10), Outcome::Served),
        case(
            "one chunk of 16 MB",
            Publish,
            [chunk_size(0x7fff_ffff), announce(6, 9, sixteen), vec![1; 40_000]].concat(),
            Outcome::Closed,
        ),
        case("80 chunk streams", Publish, many, Outcome::Told("more than 64 chunk streams")),
        case("type 3 first", Handshake, [0xc3], Outcome::Closed),
        case("type 2 first", Publish, [0x8a, 0, 0, 1], Outcome::Closed),
        case("type 1 first", Publish, client.message(Shape { format: 1, ..Shape::full(9, 0) }, 8, 1, &[0xaf, 1]), {
            Outcome::Served
        }),
        case("1,000 abandoned messages", Publish, begun.repeat(1_000), Outcome::Served),
        case(
            "1,000 aborted messages",
            Publish,
            [begun, control(kind::ABORT, &[0, 0, 0, 6])].concat().repeat(1_000),
            Outcome::Served,
        ),
        case("two-byte chunk stream ids, torn", Publish, [headers.clone(), two_byte].concat(), Outcome::Served)
            .in_steps_of(1),
        case("three-byte chunk stream ids, torn", Publish, [headers.clone(), three_byte].concat(), Outcome::Served)
            .in_steps_of(1),
        case("chunks of one byte", Publish, [headers, small].concat(), Outcome::Served),
        case("half a header", Publish, [6, 0, 0], Outcome::Leaves),
        case("half a message", Publish, announce_everywhere(9, 1_000_000), Outcome::Leaves),
    ]
}
