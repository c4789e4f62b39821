//! What encoders call themselves, at any length and with anything in it.

use media::ingest::Event;
use rtmp::amf0::{Value, Writer};

use crate::peer::Peer;

/// Names as claimed, and as kept.
fn names() -> Vec<(String, String)> {
    vec![
        ("x".repeat(60_000), "x".repeat(256)),
        ("x".repeat(256), "x".repeat(256)),
        // Two and four bytes a character: the cut is between characters, and counts them.
        ("\u{e9}".repeat(300), "\u{e9}".repeat(256)),
        (format!("a{}", "\u{1f3a5}".repeat(300)), format!("a{}", "\u{1f3a5}".repeat(255))),
        (
            "one\r\n{\"level\":\"error\"}\u{1b}[2J\0\u{7f}\u{9b}".to_owned(),
            "one  {\"level\":\"error\"} [2J   ".to_owned(),
        ),
        ("Lavf60.16.100".to_owned(), "Lavf60.16.100".to_owned()),
    ]
}

#[test]
fn an_encoder_in_the_metadata_is_short_and_on_one_line() {
    for (claimed, kept) in names() {
        let mut peer = Peer::publishing();
        peer.feed(&peer.client.metadata(&[("encoder".to_owned(), Value::String(claimed))])).unwrap();
        match peer.media()[..] {
            [Event::Metadata(claims)] => assert_eq!(claims.encoder.as_deref(), Some(kept.as_str())),
            ref other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_flash_version_is_short_and_on_one_line() {
    for (claimed, kept) in names() {
        // A command before `publish` has at most 16 KiB.
        let claimed: String = claimed.chars().take(4_000).collect();
        let mut peer = Peer::greeted();
        peer.feed(&connect(&peer, &claimed)).unwrap();
        peer.feed(&peer.client.create_stream("k")).unwrap();
        peer.feed(&peer.client.publish("k")).unwrap();
        assert_eq!(peer.request().encoder.as_deref(), Some(kept.as_str()));
    }
}

fn connect(peer: &Peer, flash_version: &str) -> Vec<u8> {
    let text = |name: &str, value: &str| (name.to_owned(), Value::String(value.to_owned()));
    let object = vec![text("app", "live"), text("flashVer", flash_version), text("tcUrl", "rtmp://x/live")];
    let body = Writer::new().string("connect").number(1.0).value(&Value::Object(object)).finish();
    peer.client.command(0, &body)
}
