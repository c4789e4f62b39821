//! E1: simple and digest handshakes, whole and in pieces.

use rtmp::SessionError;
use rtmp::client::Hello;

use crate::peer::{HANDSHAKE_REPLY, Peer};

#[test]
fn e1_every_handshake_is_answered_in_its_own_form() {
    for hello in [Hello::Simple, Hello::DigestZero, Hello::DigestOne] {
        for seed in 0..40_u8 {
            let mut peer = Peer::new();
            let c0c1 = hello.bytes([seed; 32]);
            peer.feed(&c0c1).unwrap();
            assert_eq!(peer.output.len(), HANDSHAKE_REPLY, "{hello:?}");
            assert!(hello.verify(&c0c1, &peer.output), "{hello:?} with seed {seed}");
            let s1 = &peer.output[1..1537];
            assert_eq!(s1[4..8] == [0; 4], hello == Hello::Simple, "server version of {hello:?}");
            peer.feed(&[0; 1536]).unwrap();
            peer.feed(&peer.client.connect("live", "rtmp://x/live")).unwrap();
            assert!(peer.output.len() > HANDSHAKE_REPLY);
        }
    }
}

#[test]
fn e1_a_wrong_digest_falls_back_to_the_simple_form() {
    let mut c0c1 = Hello::DigestOne.bytes([1; 32]);
    c0c1[1500] ^= 1;
    let mut peer = Peer::new();
    peer.feed(&c0c1).unwrap();
    assert!(Hello::Simple.verify(&c0c1, &peer.output));
}

#[test]
fn e1_byte_by_byte() {
    let mut peer = Peer::new();
    let start = peer.client.start("live", "rtmp://x/live", "k");
    peer.drip(&start, 1).unwrap();
    assert_eq!(peer.request().stream, "k");
}

#[test]
fn a_partial_hello_says_nothing_yet() {
    let mut peer = Peer::new();
    peer.feed(&[3]).unwrap();
    peer.feed(&[0; 1535]).unwrap();
    assert!(peer.output.is_empty());
    assert_eq!(peer.session.buffered_bytes(), 0);
    peer.feed(&[0]).unwrap();
    assert_eq!(peer.output.len(), HANDSHAKE_REPLY);
}

#[test]
fn other_versions_are_refused() {
    for version in [0, 2, 6, 8, 31, b'G', 255] {
        let mut peer = Peer::new();
        assert_eq!(peer.feed(&[version]), Err(SessionError::Version(version)));
        assert!(peer.session.is_closed());
        assert_eq!(peer.feed(&[0; 4096]), Ok(()), "what comes after the end is dropped");
        assert!(peer.output.is_empty());
    }
}
