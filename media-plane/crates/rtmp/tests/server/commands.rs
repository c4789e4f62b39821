//! From `connect` to `publish` and back, and what the encoder hears.

use media::ingest::EndCause;
use rtmp::amf0::{Value, Writer};
use rtmp::client::{Shape, payload};
use rtmp::{Refusal, SessionError, SessionEvent, kind};

use crate::peer::Peer;

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn e17_the_whole_conversation() {
    let mut peer = Peer::new();
    let start = peer.client.start("live?a=1", "rtmp://Push.Example:1935/live", "cam?txSecret=s&txTime=t");
    peer.feed(&start).unwrap();
    let request = peer.request();
    assert_eq!(
        (request.domain().as_str(), request.app.as_str(), request.stream.as_str()),
        ("push.example", "live", "cam")
    );
    assert_eq!(request.param("txSecret"), Some("s"));
    assert_eq!(request.param("a"), Some("1"));
    assert_eq!(request.encoder.as_deref(), Some("FMLE/3.0 (compatible; test)"));

    let replies = peer.replies();
    let kinds: Vec<u8> = replies.iter().map(|reply| reply.kind).collect();
    assert_eq!(kinds[..4], [kind::WINDOW_ACK_SIZE, kind::SET_PEER_BANDWIDTH, kind::SET_CHUNK_SIZE, kind::COMMAND_AMF0]);
    let names: Vec<&str> = replies.iter().filter_map(|reply| reply.name()).collect();
    assert_eq!(names, ["_result", "_result", "_result", "onFCPublish", "_result", "onStatus"]);
    assert_eq!(replies[3].code().as_deref(), Some("NetConnection.Connect.Success"));
    let created = replies.iter().rfind(|reply| reply.name() == Some("_result")).unwrap();
    assert_eq!(created.values[1..], [Value::Number(4.0), Value::Null, Value::Number(1.0)]);
    assert_eq!(replies.last().unwrap().code().as_deref(), Some("NetStream.Publish.Start"));

    peer.feed(&peer.client.unpublish("cam")).unwrap();
    assert_eq!(peer.events.len(), 2, "one end for two commands");
    assert_eq!(peer.events[1], SessionEvent::Ended(EndCause::Unpublished));
    assert!(!peer.session.is_closed());
    peer.feed(&peer.client.publish("cam2")).unwrap();
    assert!(matches!(&peer.events[2], SessionEvent::Publish(request) if request.stream == "cam2"));
}

#[test]
fn nothing_is_read_while_a_request_waits() {
    let mut peer = Peer::new();
    peer.auto_accept = false;
    let media =
        [peer.client.audio(0, &payload::aac_header(payload::ASC)), peer.client.audio(23, &payload::aac_frame(50))];
    peer.feed(&[peer.client.start("live", "rtmp://x/live", "k"), media.concat()].concat()).unwrap();
    assert_eq!(peer.events.len(), 1);
    assert!(!peer.session.wants_input());
    assert_eq!(peer.session.next_deadline(), None, "the caller decides in its own time");
    peer.session.accept(peer.now);
    assert!(peer.session.wants_input());
    peer.feed(&[]).unwrap();
    assert_eq!(peer.times(media::TrackKind::Audio), [23]);
}

#[test]
fn a_refusal_names_the_reason() {
    for (refusal, code) in [
        (Refusal::BadName, "NetStream.Publish.BadName"),
        (Refusal::Denied, "NetStream.Publish.Denied"),
        (Refusal::Failed, "NetStream.Publish.Failed"),
    ] {
        let mut peer = Peer::connected();
        peer.auto_accept = false;
        peer.replies();
        peer.feed(&peer.client.publish("k")).unwrap();
        peer.session.reject(refusal, "txTime has passed");
        peer.collect();
        let replies = peer.replies();
        assert_eq!(replies[0].code().as_deref(), Some(code));
        assert_eq!(replies[0].info("description"), Some(&string("txTime has passed")));
        assert!(peer.session.is_closed());
        peer.feed(&peer.client.audio(0, &payload::aac_frame(9))).unwrap();
        assert_eq!(peer.events.len(), 1);
    }
}

#[test]
fn ending_from_this_side_tells_why() {
    for (cause, code) in [
        (EndCause::Replaced, "NetStream.Publish.BadName"),
        (EndCause::IdleTimeout, "NetConnection.Connect.IdleTimeOut"),
        (EndCause::Disconnected("draining".to_owned()), "NetConnection.Connect.Closed"),
        (EndCause::Unpublished, "NetStream.Unpublish.Success"),
    ] {
        let mut peer = Peer::publishing();
        peer.session.finish(&cause);
        peer.collect();
        assert_eq!(peer.codes(), [code]);
        assert!(peer.session.is_closed());
        assert_eq!(peer.session.next_deadline(), None);
    }
}

#[test]
fn playing_and_unknown_commands_get_an_error_and_no_more() {
    let mut peer = Peer::connected();
    peer.replies();
    let play = Writer::new().string("play").number(0.0).null().string("k").finish();
    let unknown = Writer::new().string("getStreamLength").number(9.0).null().finish();
    let silent = Writer::new().string("onBWDone").number(0.0).null().finish();
    peer.feed(&[play, unknown, silent].map(|body| peer.client.command(0, &body)).concat()).unwrap();
    let replies = peer.replies();
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[0].code().as_deref(), Some("NetStream.Play.Failed"));
    assert_eq!(replies[1].name(), Some("_error"));
    assert_eq!(replies[1].values[1], Value::Number(9.0));
    assert!(!peer.session.is_closed());
}

#[test]
fn commands_out_of_order_are_refused_by_name() {
    let create = Writer::new().string("createStream").number(4.0).null().finish();
    let mut peer = Peer::greeted();
    let error = peer.feed(&peer.client.command(0, &create)).unwrap_err();
    assert_eq!(error.to_string(), "createStream came before connect");

    let mut peer = Peer::greeted();
    peer.replies();
    let error = peer.feed(&peer.client.publish("k")).unwrap_err();
    assert_eq!(error, SessionError::OutOfOrder { command: "publish", when: "before connect" });
    let replies = peer.replies();
    assert_eq!(replies[0].info("description"), Some(&string("publish came before connect")));

    let mut peer = Peer::connected();
    let error = peer.feed(&peer.client.connect("live", "rtmp://x/live")).unwrap_err();
    assert_eq!(error.to_string(), "connect came twice");

    let mut peer = Peer::publishing();
    peer.feed(&peer.client.publish("other")).unwrap();
    assert_eq!(peer.codes(), ["NetStream.Publish.BadName"]);
    assert!(peer.events.is_empty(), "the publication goes on");
}

#[test]
fn names_must_be_utf8() {
    let object = b"\x03\x00\x03app\x02\x00\x02\xff\xfe\x00\x05tcUrl\x02\x00\x00\x00\x00\x09";
    let body = [&Writer::new().string("connect").number(1.0).finish()[..], object].concat();
    let mut peer = Peer::greeted();
    let error = peer.feed(&peer.client.command(0, &body)).unwrap_err();
    assert_eq!(error.to_string(), "command is not valid amf0: a string is not utf-8");
}

#[test]
fn hostile_names_reach_the_caller_whole() {
    for name in ["..", "../../etc/passwd", "a/b", "nul\0", "%2e%2e", &"n".repeat(500)] {
        let mut peer = Peer::connected();
        peer.feed(&peer.client.publish(name)).unwrap();
        assert_eq!(peer.request().stream, name);
    }
}

#[test]
fn amf3_commands_are_amf0_after_one_byte() {
    let mut peer = Peer::connected();
    let body = Writer::new().string("publish").number(5.0).null().string("k").string("live").finish();
    let shape = Shape::full(3, 0);
    peer.feed(&peer.client.message(shape, kind::COMMAND_AMF3, 1, &[&[0], &body[..]].concat())).unwrap();
    assert_eq!(peer.request().stream, "k");
}

#[test]
fn e15_capabilities_are_echoed_only_as_far_as_they_go() {
    let mut peer = Peer::greeted();
    let extra =
        [("fourCcList".to_owned(), Value::StrictArray(vec![string("*")])), ("capsEx".to_owned(), Value::Number(15.0))];
    peer.feed(&peer.client.connect_with("live", "rtmp://x/live", &extra)).unwrap();
    let replies = peer.replies();
    let result = replies.iter().find(|reply| reply.name() == Some("_result")).unwrap();
    let taken = ["avc1", "hvc1", "av01", "vp09", "vp08", "mp4a", "Opus"];
    for object in &result.values[2..] {
        assert_eq!(object.get("capsEx"), Some(&Value::Number(5.0)), "reconnect and modifiers");
        assert_eq!(object.get("fourCcList"), Some(&Value::StrictArray(taken.map(string).into())));
        let decoded = object.get("videoFourCcInfoMap").unwrap();
        assert_eq!((decoded.get("hvc1"), decoded.get("vvc1")), (Some(&Value::Number(1.0)), None));
        assert_eq!(object.get("audioFourCcInfoMap").unwrap().get("Opus"), Some(&Value::Number(1.0)));
    }
    assert!(peer.session.request_reconnect(Some("rtmp://other/live"), "draining"));
    peer.collect();
    let replies = peer.replies();
    assert_eq!(replies[0].code().as_deref(), Some("NetConnection.Connect.ReconnectRequest"));
    assert_eq!(replies[0].info("tcUrl"), Some(&string("rtmp://other/live")));

    let mut plain = Peer::connected();
    assert!(!plain.session.request_reconnect(None, "draining"));
    let replies = plain.replies();
    assert!(replies.iter().all(|reply| reply.info("capsEx").is_none()), "old clients hear nothing new");
}

#[test]
fn pings_are_answered_and_windows_acknowledged() {
    let mut peer = Peer::publishing();
    peer.feed(&peer.client.control(kind::USER_CONTROL, &[0, 6, 1, 2, 3, 4])).unwrap();
    assert_eq!(peer.replies()[0].payload[..], [0, 7, 1, 2, 3, 4]);

    peer.feed(&peer.client.control(kind::WINDOW_ACK_SIZE, &5000_u32.to_be_bytes())).unwrap();
    peer.replies();
    peer.feed(&peer.client.audio(0, &[0xaf; 6000])).unwrap();
    let replies = peer.replies();
    assert_eq!((replies.len(), replies[0].kind), (1, kind::ACKNOWLEDGEMENT));
    let acknowledged = u32::from_be_bytes(replies[0].payload[..4].try_into().unwrap());
    assert!((6000..8000).contains(&acknowledged), "{acknowledged}");
    peer.feed(&peer.client.audio(0, &[0xaf; 100])).unwrap();
    assert!(peer.replies().is_empty());
}
