//! Attacks on AMF0 and on the order of commands.

use recorder_tests::attack::{After, Case, Outcome, case};
use rtmp::amf0::Writer;
use rtmp::client::{Client, Shape, payload};
use rtmp::kind;

fn command(body: &[u8]) -> Vec<u8> {
    Client::new().command(0, body)
}

/// A command without arguments.
fn call(name: &str, transaction: f64) -> Vec<u8> {
    command(&Writer::new().string(name).number(transaction).null().finish())
}

/// `connect` followed by `tail`, which should be another argument.
fn connect_and(tail: &[u8]) -> Vec<u8> {
    let head = b"\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00\x03\x00\x03app\x02\x00\x04live\x00\x00\x09";
    command(&[head, tail].concat())
}

fn metadata_of(value: &[u8]) -> Vec<u8> {
    let head = Writer::new().string("@setDataFrame").string("onMetaData").finish();
    Client::new().message(Shape::full(5, 0), kind::DATA_AMF0, 1, &[&head, value].concat())
}

/// Values that promise more than they hold, or nest without end.
pub fn amf() -> Vec<Case> {
    use After::{Connect, Handshake, Publish};
    let cut = Outcome::Told("cut short");
    let deep = Outcome::Told("nested deeper");
    let object = b"\x03\x00\x01a";
    let array = b"\x0a\x00\x00\x00\x01";
    let ecma = b"\x08\xff\xff\xff\xff\x00\x01a";
    let wide = [&b"\x0a\x00\x00\x10\x00"[..], &[5; 4096]].concat();
    let unknown = [&Writer::new().string("foo").number(1.0).finish()[..], b"\x08\xff\xff\xff\xff"].concat();
    let flat_ecma = [&b"\x08\x00\x00\x00\x01"[..], &b"\x00\x01a\x05".repeat(3_000), b"\x00\x00\x09"].concat();
    vec![
        case("an array of 2^32-1", Handshake, connect_and(b"\x0a\xff\xff\xff\xff"), cut),
        case("an array of 2^22", Handshake, connect_and(b"\x0a\x00\x40\x00\x00"), cut),
        case("an ecma array of 2^32-1", Handshake, connect_and(b"\x08\xff\xff\xff\xff"), cut),
        case("an ecma array of 2^32-1 for an unknown command", Connect, command(&unknown), cut),
        case("a string of 4 GB", Handshake, connect_and(b"\x0c\xff\xff\xff\xffx"), cut),
        case("xml of 4 GB", Handshake, connect_and(b"\x0f\xff\xff\xff\xffx"), cut),
        case("a string of 64 KiB", Handshake, command(b"\x02\xff\xffconnect"), cut),
        case("a key of 64 KiB", Handshake, connect_and(b"\x03\xff\xffa"), cut),
        case("objects 3,000 deep", Handshake, connect_and(&object.repeat(3_000)), deep),
        case("arrays 3,000 deep", Handshake, connect_and(&array.repeat(3_000)), deep),
        case("ecma arrays 2,000 deep", Handshake, connect_and(&ecma.repeat(2_000)), deep),
        case("objects 200,000 deep", Handshake, connect_and(&object.repeat(200_000)), Outcome::Closed),
        case("arrays 200,000 deep", Handshake, connect_and(&array.repeat(200_000)), Outcome::Closed),
        case("arrays 12,000 deep while publishing", Publish, connect_and(&array.repeat(12_000)), Outcome::Closed),
        case("metadata 15,000 deep", Publish, metadata_of(&object.repeat(15_000)), Outcome::Served),
        case("metadata 200,000 deep", Publish, metadata_of(&object.repeat(200_000)), Outcome::Served),
        case("metadata of 4 GB", Publish, metadata_of(b"\x0c\xff\xff\xff\xffx"), Outcome::Served),
        case("metadata of 3,000 entries", Publish, metadata_of(&flat_ecma), Outcome::Served),
        case("4,096 values", Handshake, connect_and(&wide), Outcome::Told("is not valid amf0: more than 1")),
        case(
            "a switch to amf3",
            Handshake,
            connect_and(b"\x11\x0a\x01"),
            Outcome::Told("is not valid amf0: type marker"),
        ),
        case("an object without end", Handshake, connect_and(b"\x03\x00\x01a\x05"), cut),
        case("a command without name", Handshake, command(&[5]), Outcome::Told("lacks a name")),
        case("a name that is not text", Handshake, command(b"\x02\x00\x02\xff\xfe"), Outcome::Told("utf-8")),
        case("noise as command", Connect, command(&super::framing::noise(9, 4_000)), Outcome::Closed),
    ]
}

/// Commands at the wrong time, too often, or with numbers that are none.
pub fn order() -> Vec<Case> {
    use After::{Connect, Handshake, Publish};
    let client = Client::new();
    let connect = client.connect("live", "rtmp://push.example.com/live");
    let odd_numbers: Vec<u8> = [f64::NAN, f64::INFINITY, f64::MIN, -1.0, 1e308]
        .iter()
        .flat_map(|number| call("createStream", *number))
        .collect();
    let again = [client.unpublish("x"), client.create_stream("x"), client.publish("again")].concat();
    let nameless = command(&Writer::new().string("publish").number(1.0).null().finish());
    let bare = command(&Writer::new().string("connect").number(1.0).finish());
    vec![
        case("publish without connect", Handshake, client.publish("x"), Outcome::Told("before connect")),
        case("createStream without connect", Handshake, call("createStream", 1.0), Outcome::Told("before connect")),
        case("media without connect", Handshake, client.video(0, &payload::avc_frame(true, 0, 90_000)), {
            Outcome::TimesOut
        }),
        case("media without publish", Connect, client.video(0, &payload::avc_frame(true, 0, 90_000)), Outcome::Served),
        case("connect twice", Connect, connect.clone(), Outcome::Told("twice")),
        case("connect while publishing", Publish, connect, Outcome::Told("twice")),
        case("connect without app", Handshake, bare, Outcome::Told("lacks an app")),
        case("publish without name", Connect, nameless, Outcome::Told("lacks a stream name")),
        case("publish while publishing", Publish, client.publish("another").repeat(100), Outcome::Served),
        case("publish over and over", Publish, again.repeat(50), Outcome::Served),
        case("5,000 streams created", Connect, call("createStream", 1.0).repeat(5_000), Outcome::Served),
        case("5,000 streams deleted", Connect, call("deleteStream", 1.0).repeat(5_000), Outcome::Served),
        case("10,000 unknown commands", Connect, call("fooBar", 1.0).repeat(10_000), Outcome::Served),
        case("play", Connect, call("play", 0.0), Outcome::Served),
        case("play while publishing", Publish, call("play", 0.0).repeat(1_000), Outcome::Served),
        case("transactions that are no numbers", Connect, odd_numbers, Outcome::Served),
        case("answers nobody asked for", Connect, call("_result", 1.0).repeat(1_000), Outcome::Served),
        case("a command name of 60 KB", Publish, call(&"x".repeat(60_000), 1.0), Outcome::Served),
    ]
}
