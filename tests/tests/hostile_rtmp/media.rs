//! Attacks on what reaches the muxers: codec records, frames, times, aggregates.

use recorder_tests::attack::{After, Case, Outcome, case};
use rtmp::client::{Client, Shape, payload};
use rtmp::kind;

/// Sequence headers of both tracks.
fn headers() -> Vec<u8> {
    let client = Client::new();
    let video = client.video(0, &payload::avc_header(payload::AVC_RECORD));
    [video, client.audio(0, &payload::aac_header(payload::ASC))].concat()
}

fn both(time: u32, key: bool) -> Vec<u8> {
    let client = Client::new();
    let video = client.video(time, &payload::avc_frame(key, 0, 300));
    [video, client.audio(time, &payload::aac_frame(100))].concat()
}

/// Two seconds of what an encoder sends, so that something is recorded.
pub fn proper() -> Vec<u8> {
    let frames = (0..50_u32).flat_map(|index| both(index * 40, index % 25 == 0));
    headers().into_iter().chain(frames).collect()
}

/// Frames at these times.
fn at(times: &[u32]) -> Vec<u8> {
    let frames = times.iter().flat_map(|time| both(*time, true));
    headers().into_iter().chain(frames).collect()
}

/// Every case is served: codec garbage is counted and dropped, the connection goes on.
fn served(name: &str, bytes: Vec<u8>) -> Case {
    case(name, After::Publish, bytes, Outcome::Served)
}

/// Decoder records that lie, and frames that do not fit them.
pub fn codecs() -> Vec<Case> {
    let client = Client::new();
    let avc = |record: &[u8]| [client.video(0, &payload::avc_header(record)), proper()].concat();
    let asc = |asc: &[u8]| [client.audio(0, &payload::aac_header(asc)), proper()].concat();
    let sps = |sps: &[u8]| {
        let length = u16::try_from(sps.len()).unwrap().to_be_bytes();
        let record =
            [&[1, 0x42, 0xc0, 0x0d, 0xff, 0xe1][..], &length, sps, &[1, 0, 4, 0x68, 0xce, 0x0f, 0xc8]].concat();
        [client.video(0, &payload::avc_header(&record)), both(0, true), both(40, false)].concat()
    };
    let nal = |length: u32, body: &[u8]| {
        let frame = [&[0x17, 1, 0, 0, 0][..], &length.to_be_bytes(), body].concat();
        [headers(), client.video(0, &frame), both(40, true)].concat()
    };
    let short_tags: Vec<u8> = (0..=255_u8)
        .flat_map(|first| [1_usize, 2, 5, 6, 9, 40].map(|length| vec![first; length]))
        .flat_map(|body| [client.video(0, &body), client.audio(0, &body)].concat())
        .collect();
    let extended: Vec<u8> = (0x80..=0xff_u8)
        .flat_map(|first| [b"hvc1", b"avc1", b"av01", b"xxxx"].map(|codec| [&[first][..], codec, &[0xff; 20]].concat()))
        .flat_map(|body| [client.video(0, &body), client.audio(0, &body)].concat())
        .collect();
    let flips: Vec<u8> = (0..60_u32)
        .flat_map(|index| {
            let record = if index % 2 == 0 { payload::AVC_RECORD_640 } else { payload::AVC_RECORD };
            [client.video(index * 40, &payload::avc_header(record)), both(index * 40, true)].concat()
        })
        .collect();
    vec![
        served("an avc record of ff", avc(&[0xff; 60])),
        served("an avc record of zeros", avc(&[0; 60])),
        served("an avc record of one byte", avc(&[1])),
        served("an avc record that ends in its sps", avc(&payload::AVC_RECORD[..12])),
        served("an avc record with 31 empty sps", avc(&[&[1, 0x42, 0xc0, 0x0d, 0xff, 0xff][..], &[0; 80]].concat())),
        served("an avc record with lengths of three bytes", avc(&[1, 0x42, 0xc0, 0x0d, 0xfe, 0xe1, 0, 1, 0x67, 0])),
        served("an sps of zeros", sps(&[&[0x67, 0x42, 0xc0, 0x0d][..], &[0; 40]].concat())),
        served("an sps of ff", sps(&[&[0x67, 0x42, 0xc0, 0x0d][..], &[0xff; 40]].concat())),
        served(
            "an sps of 60,000 bytes",
            sps(&[&[0x67, 0x64, 0, 0x28][..], &super::framing::noise(7, 60_000)].concat()),
        ),
        served("an sps of noise", sps(&[&[0x67, 0x64, 0, 0x28][..], &super::framing::noise(8, 40)].concat())),
        served("an asc of ff", asc(&[0xff; 60])),
        served("an asc of zeros", asc(&[0; 60])),
        served("an empty asc", asc(&[])),
        served("an asc without rate and channels", asc(&[0x17, 0x80, 0, 0, 0, 0])),
        served("a nal unit of 4 GB", nal(u32::MAX, &[0x65; 50])),
        served("a nal unit one byte too long", nal(51, &[0x65; 50])),
        served("empty nal units", nal(0, &[0; 400])),
        served("frames before their records", [both(0, true), both(40, false), proper()].concat()),
        served("short tags of every kind", [headers(), short_tags].concat()),
        served("enhanced tags of every kind", [headers(), extended].concat()),
        served("60 changes of record", [headers(), flips].concat()),
    ]
}

/// Times that run backwards, jump, or stand still.
pub fn times() -> Vec<Case> {
    let last = u32::MAX;
    let zigzag: Vec<u32> = (0..200).map(|index| if index % 2 == 0 { index * 40 } else { 0 }).collect();
    let wild: Vec<u32> = (0..200_u32).map(|index| index.wrapping_mul(2_654_435_761)).collect();
    let client = Client::new();
    let offsets: Vec<u8> = [0x7f_ffff, -0x80_0000, 0, -1, 1]
        .iter()
        .zip(0_u32..)
        .flat_map(|(offset, index)| client.video(index * 40, &payload::avc_frame(true, *offset, 300)))
        .collect();
    vec![
        served("all times zero", at(&[0; 200])),
        served("all times 2^32-1", at(&[last; 200])),
        served("times around the wrap", at(&[last - 80, last - 40, last, 39, 79])),
        served("back and forth by 2^32-1", at(&[0, last, 0, last, 0, last])),
        served("back and forth by 2^31", at(&[0, 1 << 31, 0, 1 << 31, 40])),
        served("a rollback at every frame", at(&zigzag)),
        served("times at random", at(&wild)),
        served("composition offsets of hours", [headers(), offsets].concat()),
    ]
}

/// Aggregates: `(type, announced length, time, body)` each.
fn aggregate(parts: &[(u8, u32, u32, &[u8])]) -> Vec<u8> {
    let parts = parts.iter().flat_map(|(part, length, time, body)| {
        let [_, l0, l1, l2] = length.to_be_bytes();
        let [t3, t0, t1, t2] = time.to_be_bytes();
        [&[*part, l0, l1, l2, t0, t1, t2, t3, 0, 0, 0][..], body, &[0xff; 4]].concat()
    });
    parts.collect()
}

fn send_aggregate(body: &[u8]) -> Vec<u8> {
    [headers(), Client::new().message(Shape::full(8, 0), kind::AGGREGATE, 1, body)].concat()
}

/// Messages in messages, and amounts.
pub fn amounts() -> Vec<Case> {
    let client = Client::new();
    let frame = payload::aac_frame(5);
    let nested =
        (0..200).fold(vec![0xaf, 1], |inner, _| aggregate(&[(kind::AGGREGATE, inner.len() as u32, 0, &inner)]));
    let resize = aggregate(&[(kind::SET_CHUNK_SIZE, 4, 0, &[0; 4]), (kind::AUDIO, 7, 0, &frame)]);
    let tags: Vec<u8> = (0..100_000_u32).flat_map(|index| client.audio(index, &[0xaf, 1, 0x21])).collect();
    let mut large = Client::new();
    let eight = [headers(), large.set_chunk_size(65_536), large.video(0, &payload::avc_frame(true, 0, 8_388_000))];
    let over = [headers(), large.set_chunk_size(65_536), large.video(0, &payload::avc_frame(true, 0, 8_388_700))];
    vec![
        served("an aggregate that lies", send_aggregate(&aggregate(&[(kind::AUDIO, 0x00ff_ffff, 0, &frame)]))),
        served("an aggregate with a chunk size 0 in it", send_aggregate(&resize)),
        served("aggregates nested 200 deep", send_aggregate(&nested)),
        served("an aggregate of noise", send_aggregate(&super::framing::noise(5, 100_000))),
        served(
            "an aggregate of 70,000 nothings",
            send_aggregate(&aggregate(&vec![(kind::AUDIO, 0, 0, &[][..]); 70_000])),
        ),
        served("an aggregate of 50,000 frames", {
            send_aggregate(&aggregate(&vec![(kind::AUDIO, frame.len() as u32, 0, &frame[..]); 50_000]))
        }),
        served("100,000 tiny tags", [headers(), tags].concat()),
        served("a frame of 8 MB", eight.concat()),
        case("a frame above 8 MB", After::Publish, over.concat(), Outcome::Closed),
    ]
}
