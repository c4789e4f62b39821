//! Writes the seed corpus: `cargo run --example seeds`, in this directory. The result is committed.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use media::{AacConfig, AvcConfig, CodecConfig, Frame, MediaTime, TrackKind};
use mux::{Format, Layout, Mark, Options, Output};
use rtmp::amf0::{Value, Writer};
use rtmp::client::{Client, Hello, Shape, payload};
use rtmp::kind;

fn main() -> io::Result<()> {
    chunk_reader()?;
    amf0()?;
    flv_tag()?;
    session()?;
    records()?;
    mux_notes()?;
    journal()?;
    opus_sound()?;
    rtp_h264()?;
    rtp_pictures()?;
    rtp_session()?;
    key_template()
}

/// A voice and silence by libopus, with a loss, a gap and a pause.
fn opus_sound() -> io::Result<()> {
    let voice: [&[u8]; 2] = [
        &[
            0x48, 0xa6, 0x63, 0x99, 0x7a, 0x3e, 0x80, 0x44, 0x4b, 0x48, 0x9b, 0x94, 0x2e, 0x7c, 0xf3, 0x8d, 0x63, 0xc8,
            0xc6, 0x4c, 0x5b, 0x04, 0x68, 0x71, 0xbf, 0x3a, 0xae, 0xc7, 0xbf, 0xf4,
        ],
        &[
            0x48, 0xa6, 0x59, 0x94, 0xc2, 0xd2, 0x35, 0x48, 0x15, 0xd7, 0x1c, 0x77, 0xe5, 0xae, 0x9e, 0xac, 0x3d, 0xd3,
            0xe6, 0x88, 0xa6, 0xd4, 0xa4, 0x35, 0x43, 0x4e, 0xb4, 0xd4, 0xf7, 0xfc, 0x56, 0x39, 0x55, 0xa4,
        ],
    ];
    let [first, second] = voice;
    for channels in [1u8, 2] {
        let mut seed = vec![channels, 0];
        let mut record = |kind: u8, step: u16, packet: &[u8]| {
            seed.push(kind);
            seed.extend_from_slice(&step.to_be_bytes());
            seed.push(packet.len() as u8);
            seed.extend_from_slice(packet);
        };
        for (kind, step) in [(2, 0), (2, 0), (0x81, 900), (2, 0), (0x82, 9_000), (0, 0), (0x82, 30_000)] {
            record(kind, step, first);
            record(2, 0, second);
            record(2, 0, &[0xfc, 0xff, 0xfe]);
            record(2, 0, &[0x48]);
        }
        write("opus_sound", &format!("{channels}-channels"), &seed)?;
    }
    Ok(())
}

/// The notes of three seconds in every format, as a crash finds them.
fn mux_notes() -> io::Result<()> {
    let (avc, aac) = (payload::AVC_RECORD_640, &[0x12, 0x10]);
    let kinds = [(Format::Hls, 0), (Format::Flv, 1), (Format::Aac, 2), (Format::Mp4, 3), (Format::Mp4, 4)];
    for (format, choice) in kinds {
        let layout = if choice == 3 { Layout::Fragmented } else { Layout::FastStart };
        let options = Options { layout, segment_duration: Duration::from_secs(60), ..Options::default() };
        let mut muxer = mux::open(format, &options).map_err(io::Error::other)?;
        let avc = AvcConfig::parse(Bytes::from_static(avc)).map_err(io::Error::other)?;
        let aac = AacConfig::parse(Bytes::from_static(aac)).map_err(io::Error::other)?;
        muxer.config(TrackKind::Video, &CodecConfig::Avc(avc.into()));
        muxer.config(TrackKind::Audio, &CodecConfig::Aac(aac.into()));
        let (mut notes, mut len, mut mark) = (Vec::new(), 0u32, Mark::default());
        for n in 0..90i64 {
            let (dts, keyframe) = (MediaTime::from_millis(n * 1_000 / 30), n % 30 == 0);
            let pts = dts + MediaTime::from_millis(n % 3 * 33);
            let data = Bytes::from_static(&[0, 0, 0, 2, 0x41, 0x9a]);
            let _ = muxer.push(&Frame { track: TrackKind::Video, dts, pts, keyframe, data });
            let data = Bytes::from_static(&[0x21, 0x10]);
            let _ = muxer.push(&Frame { track: TrackKind::Audio, dts, pts: dts, keyframe: true, data });
            while let Some(output) = muxer.poll() {
                match output {
                    Output::Append(_, bytes) => len += bytes.len() as u32,
                    Output::Note(_, bytes) => notes.extend_from_slice(&bytes),
                    Output::Commit(_, newest) => mark = newest,
                    _ => {}
                }
            }
        }
        let counts = [mark.video_frames as u8, mark.audio_frames as u8];
        let head = [&len.to_le_bytes()[..], &mark.media_time.0.to_le_bytes(), &counts].concat();
        for (name, flags) in [("ends", 0), ("comes-back", 16)] {
            let seed = [&[choice | flags], &head[..], &notes].concat();
            write("mux_notes", &format!("{choice}-{name}"), &seed)?;
        }
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new("seeds").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

/// Sound and picture on two chunk streams, their chunks in turns.
fn interleaved(client: &Client) -> Vec<u8> {
    let sound = client.chunks(Shape::full(4, 100), kind::AUDIO, 1, &payload::aac_frame(298));
    let picture = client.chunks(Shape::full(400, 0x0100_0000), kind::VIDEO, 1, &payload::avc_frame(true, -40, 300));
    sound.into_iter().zip(picture).flat_map(|(a, b)| [a, b]).flatten().collect()
}

fn media(client: &Client) -> Vec<u8> {
    let step = Shape { csid: 4, format: 1, time: 23, repeat_extended: true };
    let same = Shape { csid: 4, format: 3, time: 0, repeat_extended: true };
    [
        client.metadata(&[("width".to_owned(), Value::Number(320.0))]),
        client.video(0, &payload::avc_header(payload::AVC_RECORD_640)),
        client.audio(0, &payload::aac_header(&[0x11, 0x90])),
        interleaved(client),
        client.message(step, kind::AUDIO, 1, &payload::aac_frame(20)),
        client.message(same, kind::AUDIO, 1, &payload::aac_frame(20)),
        client.control(kind::ABORT, &[0, 0, 0, 4]),
        client.control(kind::WINDOW_ACK_SIZE, &[0, 0, 0, 0]),
        client.unpublish("k"),
    ]
    .concat()
}

fn chunk_reader() -> io::Result<()> {
    let mut client = Client::new();
    let default = media(&client);
    let small = [client.set_chunk_size(7), media(&client)].concat();
    write("chunk_reader", "default", &[&[200], &default[..]].concat())?;
    write("chunk_reader", "chunks_of_7", &[&[6], &small[..]].concat())?;
    write("chunk_reader", "commands", &[&[255], &Client::new().connect("live", "rtmp://x/live")[..]].concat())
}

fn amf0() -> io::Result<()> {
    let everything = Value::Object(vec![
        ("number".to_owned(), Value::Number(1.5)),
        ("flag".to_owned(), Value::Boolean(true)),
        ("list".to_owned(), Value::StrictArray(vec![Value::Null, Value::Undefined, Value::Reference(3)])),
        ("map".to_owned(), Value::EcmaArray(vec![("at".to_owned(), Value::Date(1e12))])),
        ("text".to_owned(), Value::String("grüße".to_owned())),
    ]);
    write("amf0", "everything", &Writer::new().string("connect").number(1.0).value(&everything).finish())?;
    write("amf0", "others", b"\x0c\0\0\0\x02hi\x0f\0\0\0\x02hi\x10\0\x01c\0\x01a\x05\0\0\x09\x0d")?;
    write("amf0", "bomb", &b"\x03\x00\x01a".repeat(40))
}

fn flv_tag() -> io::Result<()> {
    let record = |tag: u8, body: &[u8]| [&[tag], &(body.len() as u16).to_be_bytes()[..], body].concat();
    let four_cc = |first: u8, rest: &[u8]| [&[first], &b"avc1"[..], rest].concat();
    let metadata = Writer::new()
        .string("@setDataFrame")
        .string("onMetaData")
        .value(&Value::EcmaArray(vec![("videocodecid".to_owned(), Value::String("avc1".to_owned()))]))
        .finish();
    let legacy = [
        record(0, &payload::avc_header(payload::AVC_RECORD)),
        record(0, &payload::avc_frame(true, -1, 30)),
        record(1, &payload::aac_header(payload::ASC)),
        record(1, &payload::aac_frame(20)),
        record(1, &[0xaf, 1, 0xff, 0xf1, 0x50, 0x80, 0x01, 0x3f, 0xfc, 1, 2]),
        record(2, &metadata),
        record(3, &[8, 0, 0, 2, 0, 0, 9, 0, 0, 0, 0, 0xaf, 1, 0, 0, 0, 13]),
    ];
    let frame = [0, 0, 0, 2, 0x65, 0x88];
    let enhanced = [
        record(0, &four_cc(0x90, payload::AVC_RECORD)),
        record(0, &four_cc(0x93, &frame)),
        record(0, &[&[0x97, 2, 1, 2, 3, 3], &b"avc1"[..], &frame].concat()),
        record(0, &[&[0x96, 0x23], &b"hvc1"[..], &[1, 0, 0, 1, 7], b"avc1", &[0, 0, 0, 6], &frame].concat()),
        record(1, &[&[0x90], &b"mp4a"[..], payload::ASC].concat()),
        record(1, &[&[0x95, 0x01], &b"mp4a"[..], &[0, 0x21, 0x10]].concat()),
    ];
    let slice = [0, 0, 0, 4, 0x26, 0x01, 0xaf, 7];
    let unit = [payload::AV1_RECORD.get(4..).unwrap_or_default(), &[0x32, 3, 0x10, 7, 7]].concat();
    let pictures = [
        record(0, &payload::enhanced_video(true, 0, b"hvc1", payload::HEVC_RECORD)),
        record(0, &payload::enhanced_video(true, 1, b"hvc1", &[&[0, 0, 80], &slice[..]].concat())),
        record(0, &payload::enhanced_video(true, 0, b"av01", payload::AV1_RECORD)),
        record(0, &payload::enhanced_video(true, 1, b"av01", &unit)),
        record(0, &payload::enhanced_video(true, 1, b"vp09", payload::VP9_KEY)),
        record(0, &payload::enhanced_video(true, 1, b"vp08", payload::VP8_KEY)),
    ];
    write("flv_tag", "pictures", &pictures.concat())?;
    write("flv_tag", "legacy", &legacy.concat())?;
    write("flv_tag", "enhanced", &enhanced.concat())
}

fn session() -> io::Result<()> {
    let client = Client::new();
    let digest = [Hello::DigestOne.bytes([5; 32]), vec![0; 1536]].concat();
    write("session", "digest", &[&[0, 255], &digest[..]].concat())?;
    write("session", "connect", &[&[1, 50], &client.connect("live?a=1", "rtmp://x:1935/live")[..]].concat())?;
    let publish = [client.create_stream("k"), client.publish("k?txSecret=1"), client.unpublish("k")].concat();
    write("session", "publish", &[&[2, 9], &publish[..]].concat())?;
    write("session", "media", &[&[3, 100], &media(&client)[..]].concat())
}

fn records() -> io::Result<()> {
    let frame = payload::avc_frame(true, 0, 20);
    for (name, record) in [("320", payload::AVC_RECORD), ("640", payload::AVC_RECORD_640)] {
        let unit = frame.get(5..).unwrap_or_default();
        write("avcc", name, &[&[record.len() as u8], record, unit].concat())?;
    }
    write("avcc", "annex_b", &[0, 0, 0, 0, 1, 9, 0xf0, 0, 0, 1, 0x65, 0x88, 0x84])?;
    let slice = [0, 0, 0, 4, 0x26, 0x01, 0xaf, 7];
    let record = payload::HEVC_RECORD;
    write("hvcc", "x265", &[&(record.len() as u16).to_be_bytes()[..], record, &slice].concat())?;
    let record = payload::AV1_RECORD;
    let unit = [&[0x12, 0], record.get(4..).unwrap_or_default(), &[0x32, 3, 0x10, 7, 7]].concat();
    write("av1c", "libaom", &[&[record.len() as u8], record, &unit].concat())?;
    write("vpx", "vp9", payload::VP9_KEY)?;
    write("vpx", "vp8", payload::VP8_KEY)?;
    write("vpx", "record", &[1, 0, 0, 0, 0, 11, 0x82, 2, 2, 2, 0, 0])?;
    write("asc", "lc", payload::ASC)?;
    write("asc", "ffmpeg", &[0x12, 0x08, 0x56, 0xe5, 0x00])?;
    write("asc", "sbr", &[0x2b, 0x11, 0x88, 0x00])?;
    write("asc", "ps", &[0xeb, 0x8a, 0x08, 0x00])
}

fn journal() -> io::Result<()> {
    let record = |body: &[u8]| [&(body.len() as u16).to_le_bytes()[..], body].concat();
    let mut extent = b"X\0\0\0\0\0\0\0\0\0".to_vec();
    // Offset 0, 9 bytes, a checksum, no notes before; the mark is at their end; one note.
    extent.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    extent.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    extent.extend_from_slice(&[0; 8 * 3]);
    extent.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0]);
    extent.extend_from_slice(b"note");
    let records = [
        record(b"F"),
        record(br#"J{"create":{"key":"k","meta":{}}}"#),
        record(br#"J{"open":{"object":"0-whole","extension":"flv","content_type":"video/x-flv"}}"#),
        record(&extent),
        record(b"Q\0\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        record(br#"J{"shipping":{"UploadCreated":{"object":"0-whole","key":"k","upload_id":"u"}}}"#),
        record(br#"J{"truncated":{"object":"0-whole","mark":null}}"#),
        record(br#"J"finished""#),
    ];
    write("journal", "life", &records.concat())
}

/// A baseline SPS of 640x352 and its PPS.
const SETS: [&[u8]; 2] = [&[0x67, 0x42, 0xc0, 0x1f, 0xdb, 0x02, 0x80, 0xb6, 0x40], &[0x68, 0xce, 0x3c, 0x80]];

/// Packets of a key frame and three pictures, in every packetisation, with and without losses.
/// The beginnings of the captures that the RTP crate is tested with.
fn rtp_pictures() -> io::Result<()> {
    for (which, name) in [(0, "gstreamer-h265"), (1, "ffmpeg-av1"), (2, "gstreamer-vp9"), (3, "gstreamer-vp8")] {
        let path = format!("../../media-plane/crates/rtp/tests/session/captured/{name}.rtp");
        let (bytes, mut seed) = (std::fs::read(path)?, vec![which]);
        let (mut rest, mut last, mut packets) = (&bytes[..], None, 0);
        while let Some((&[kind, a, b, c, d], tail)) = rest.split_first_chunk::<5>() {
            let (record, tail) = tail.split_at(u32::from_be_bytes([a, b, c, d]) as usize);
            rest = tail;
            // Packets, each with its header of twelve bytes.
            if kind != 1 || packets >= 24 {
                continue;
            }
            packets += 1;
            let is_next = last.replace(&record[4..8]).is_some_and(|last| last != &record[4..8]);
            seed.push(record[1] >> 7 | u8::from(is_next) << 4);
            seed.extend_from_slice(&((record.len() - 12) as u16).to_be_bytes());
            seed.extend_from_slice(&record[12..]);
        }
        write("rtp_pictures", name, &seed)?;
    }
    Ok(())
}

fn rtp_h264() -> io::Result<()> {
    let packet =
        |choices: u8, payload: &[u8]| [&[choices], &(payload.len() as u16).to_be_bytes()[..], payload].concat();
    let [sps, pps] = SETS;
    let key = [packet(0, sps), packet(0, pps), packet(1, &[0x65, 0x88, 1, 2, 3])].concat();
    let aggregate = [&[0x78, 0, 9][..], sps, &[0, 4], pps, &[0, 3, 0x65, 0x88, 1]].concat();
    let fragments =
        [packet(16, &[0x5c, 0x81, 0x9a, 1]), packet(0, &[0x5c, 1, 2]), packet(1, &[0x5c, 0x41, 3])].concat();
    let slices = [packet(16, &[0x41, 0x9a, 1]), packet(1, &[0x41, 0x4a, 2])].concat();
    let lost = packet(16 | 2 | 1, &[0x41, 0x9a, 1]);
    write("rtp_h264", "single", &[key.clone(), fragments.clone(), slices.clone()].concat())?;
    write("rtp_h264", "aggregate", &[packet(1, &aggregate), slices.clone(), fragments.clone()].concat())?;
    write("rtp_h264", "lossy", &[key.clone(), lost, slices, packet(64, &[]), key, fragments].concat())
}

/// Two layers, a sound, reports, a retransmission and waits.
fn rtp_session() -> io::Result<()> {
    let packet = |what: u8, source: u8, sequence: u16, time: u32, payload: &[u8]| {
        let head = [&[4 | what, source][..], &sequence.to_be_bytes(), &time.to_be_bytes()].concat();
        [&head[..], &[payload.len() as u8], payload].concat()
    };
    let [sps, pps] = SETS;
    let key = |source: u8, sequence: u16, time: u32| {
        let last = packet(128, source, sequence + 2, time, &[0x65, 0x88, 1]);
        [packet(0, source, sequence, time, sps), packet(0, source, sequence + 1, time, pps), last].concat()
    };
    let report =
        |ssrc: u8, rtp: u32| [&[0, ssrc][..], &(0xe870_0000u64 << 32).to_be_bytes(), &rtp.to_be_bytes()].concat();
    let sound = |sequence: u16| packet(8, 3, sequence, u32::from(sequence) * 960, &[0xfc, 1, 2]);
    let wait = |millis: u16| [&[1][..], &millis.to_be_bytes()].concat();
    let start = [key(64 | 1, 65_533, 0), sound(1), sound(2), report(1, 0), report(3, 960), wait(1_000)].concat();
    let repeated = packet(16, 9, 1, 6_000, &[0, 2, 0x41, 0x9a, 7]);
    let hole = [packet(128, 1, 1, 3_000, &[0x41, 0x9a, 1]), packet(128, 1, 3, 9_000, &[0x41, 0x9a, 2])].concat();
    let layer = [key(64 | 32 | 2, 10, 5), sound(3), sound(5), wait(500), vec![2], key(1, 4, 12_000)].concat();
    write("rtp_session", "start", &start)?;
    write("rtp_session", "repair", &[start.clone(), hole.clone(), repeated, wait(500)].concat())?;
    write("rtp_session", "layers", &[start, hole, wait(500), layer, wait(2_000)].concat())
}

fn key_template() -> io::Result<()> {
    let plain =
        "{Domain}/{AppName}/{StreamID}/{StartYear}-{StartMonth}/{RecordId}\nrec\npush.example\nlive/a\ncam\nt\nUTC\n";
    let hostile =
        "{StreamID}{Format}-{FileIndex}{RandomID}\na/b\n..\n../../x\n\u{0}%2e%2e/.\nx\\y\nAsia/Shanghai\n../z";
    write("key_template", "plain", plain.as_bytes())?;
    write("key_template", "hostile", hostile.as_bytes())
}
