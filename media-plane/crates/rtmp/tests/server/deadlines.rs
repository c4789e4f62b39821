//! Every phase has an end that drip-feeding does not move.

use std::time::Duration;

use media::ingest::EndCause;
use rtmp::client::payload;
use rtmp::{Phase, SessionError};

use crate::peer::Peer;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn expires(peer: &mut Peer, at: Duration, phase: Phase) {
    assert_eq!(peer.session.next_deadline(), Some(at), "{phase:?}");
    assert_eq!(peer.session.handle_timeout(at - Duration::from_millis(1)), Ok(()));
    assert_eq!(peer.session.handle_timeout(at), Err(SessionError::TimedOut(phase)));
    assert!(peer.session.is_closed());
    assert_eq!(peer.session.next_deadline(), None);
}

#[test]
fn a_silent_connection_ends() {
    expires(&mut Peer::new(), seconds(5), Phase::Handshake);
}

#[test]
fn dripping_a_handshake_gains_no_time() {
    let mut peer = Peer::new();
    peer.feed(&[3]).unwrap();
    for second in 1..5 {
        peer.now = seconds(second);
        peer.feed(&[0; 100]).unwrap();
    }
    expires(&mut peer, seconds(5), Phase::Handshake);
}

#[test]
fn connect_and_publish_have_their_own_deadlines() {
    let mut peer = Peer::new();
    peer.now = seconds(3);
    peer.feed(&peer.client.handshake()).unwrap();
    assert_eq!(peer.session.next_deadline(), Some(seconds(8)));
    peer.now = seconds(7);
    peer.feed(&peer.client.connect("live", "rtmp://x/live")).unwrap();
    peer.now = seconds(12);
    peer.feed(&peer.client.create_stream("k")).unwrap();
    expires(&mut peer, seconds(17), Phase::Publish);

    let mut peer = Peer::greeted();
    expires(&mut peer, seconds(5), Phase::Connect);
}

#[test]
fn e17_silence_while_publishing_is_an_idle_end() {
    let mut peer = Peer::publishing();
    peer.now = seconds(20);
    peer.feed(&peer.client.audio(0, &payload::aac_frame(10))).unwrap();
    assert_eq!(peer.session.next_deadline(), Some(seconds(50)));
    peer.now = seconds(40);
    // Half a message is no sign of life.
    peer.feed(&peer.client.video(0, &payload::avc_frame(true, 0, 5000))[..1000]).unwrap();
    expires(&mut peer, seconds(50), Phase::Media);
    assert_eq!(SessionError::TimedOut(Phase::Media).end_cause(), EndCause::IdleTimeout);
    assert!(matches!(SessionError::Version(6).end_cause(), EndCause::ProtocolError(_)));
}

#[test]
fn after_unpublish_the_publish_deadline_runs_again() {
    let mut peer = Peer::publishing();
    peer.now = seconds(100);
    peer.feed(&peer.client.unpublish("k")).unwrap();
    expires(&mut peer, seconds(110), Phase::Publish);
}
