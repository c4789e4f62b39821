//! Floods and forgeries: bounded, and no one else's business.

use std::time::Duration;

use whip::{Cause, SessionEvent};

use crate::media::{connect, converse, packets};
use crate::publisher::{Publisher, Server};

#[tokio::test]
async fn a_thousand_offers_without_media_are_bounded_and_disturb_nobody() {
    let server = Server::with(200, 50, Duration::from_secs(30)).await;
    let (mut live, mut publisher) = connect(&server).await;
    let (_, offer) = Publisher::new().await;
    let mut sessions = Vec::new();
    for index in 0..1_000 {
        let opened = server.open_as(&offer, &format!("h/live/flood{index}"), None).unwrap();
        sessions.push(opened.session);
        let (all, pending) = server.sessions.counts();
        assert!(all <= 51 && pending <= 50, "{all} {pending}");
    }
    for session in sessions.iter_mut().take(950) {
        assert!(matches!(session.next().await, SessionEvent::Ended(Cause::Displaced)));
    }
    drop(sessions);
    assert_eq!(server.sessions.counts(), (1, 0));
    assert_eq!(server.endpoint.sizes().0, 1);
    publisher.push(true, 1, &[0x65, 1]);
    converse(&mut live, &mut publisher, |events, _| !packets(events).is_empty()).await;
}

#[tokio::test]
async fn a_newer_offer_for_a_stream_replaces_one_that_has_not_connected() {
    let server = Server::start().await;
    let (_, offer) = Publisher::new().await;
    let mut first = server.open(&offer).unwrap().session;
    let _second = server.open(&offer).unwrap().session;
    assert!(matches!(first.next().await, SessionEvent::Ended(Cause::Displaced)));
    let (mut live, mut publisher) = connect(&server).await;
    let _third = server.open(&offer).unwrap().session;
    publisher.push(true, 1, &[0x65, 1]);
    converse(&mut live, &mut publisher, |events, _| !packets(events).is_empty()).await;
}

#[tokio::test]
async fn a_full_node_says_when_to_come_again() {
    let server = Server::with(2, 2, Duration::from_secs(30)).await;
    let _one = connect(&server).await;
    let (mut publisher, offer) = Publisher::new().await;
    let opened = server.open_as(&offer, "h/live/other", None).unwrap();
    publisher.accept(&opened.answer);
    let mut session = opened.session;
    converse(&mut session, &mut publisher, |_, publisher| publisher.connected).await;
    let refused = server.open_as(&offer, "h/live/third", None).unwrap_err();
    assert_eq!((refused.status, refused.retry_after.is_some()), (503, true));
}

#[tokio::test]
async fn w6_the_token_of_the_offer_is_asked_for_with_every_request() {
    let server = Server::start().await;
    let (_, offer) = Publisher::new().await;
    let session = server.open_as(&offer, "h/live/cam1", Some("s3cret")).unwrap().session;
    assert_eq!(server.sessions.check(session.id(), Some("s3cret")), Ok(()));
    for wrong in [None, Some(""), Some("S3cret"), Some("s3cret2")] {
        assert_eq!(server.sessions.check(session.id(), wrong).unwrap_err().status, 401, "{wrong:?}");
    }
    assert_eq!(server.sessions.check("no-such-session", None).unwrap_err().status, 404);
}

#[tokio::test]
async fn garbage_at_the_socket_disturbs_nobody() {
    let server = Server::start().await;
    let (mut live, mut publisher) = connect(&server).await;
    let (mut stranger, _) = Publisher::new().await;
    stranger.aim(server.reachable.udp[0]);
    let mut seed = 7_u64;
    println!("seed {seed}");
    for length in (0..1_500).step_by(3) {
        let mut data: Vec<u8> = Vec::with_capacity(length);
        for _ in 0..length {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            data.push((seed >> 33) as u8);
        }
        if length % 2 == 0 && length > 20 {
            data[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        }
        stranger.send_raw(&data).await;
        // The same from a proven address: what does not decrypt is nothing.
        publisher.send_raw(&data).await;
    }
    publisher.push(true, 1, &[0x65, 1]);
    converse(&mut live, &mut publisher, |events, _| !packets(events).is_empty()).await;
    assert_eq!(server.sessions.counts(), (1, 0));
}
