//! How sessions end, and how soon.

use std::time::{Duration, Instant};

use rtc::sansio::Protocol;
use whip::limits::{CONNECT_TIMEOUT, CONSENT_TIMEOUT};
use whip::{Cause, Session, SessionEvent};

use crate::media::{connect, converse};
use crate::publisher::{Publisher, Server};

async fn cause(session: &mut Session) -> Cause {
    loop {
        if let SessionEvent::Ended(cause) = session.next().await {
            return cause;
        }
    }
}

#[tokio::test]
async fn w4_delete_ends_the_session_and_frees_its_place() {
    let server = Server::start().await;
    let (mut session, publisher) = connect(&server).await;
    let id = session.id().to_owned();
    let (deleted, cause) = tokio::join!(server.sessions.delete(&id), cause(&mut session));
    assert_eq!((deleted, cause), (Ok(()), Cause::Deleted));
    assert_eq!(server.sessions.delete(&id).await.unwrap_err().status, 404);
    drop((session, publisher));
    assert_eq!((server.sessions.counts(), server.endpoint.sizes()), ((0, 0), (0, 0, 0)));
}

#[tokio::test]
async fn w4_a_goodbye_over_dtls_ends_the_session_at_once() {
    let server = Server::start().await;
    let (mut session, mut publisher) = connect(&server).await;
    publisher.connection.close().unwrap();
    let begun = Instant::now();
    let events = converse(&mut session, &mut publisher, |events, _| {
        events.iter().any(|event| matches!(event, SessionEvent::Ended(_)))
    })
    .await;
    assert!(matches!(events.last(), Some(SessionEvent::Ended(Cause::Closed))), "{events:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn w4_a_publisher_that_vanishes_is_noticed_within_thirty_seconds() {
    let server = Server::with(10, 10, Duration::from_secs(3_600)).await;
    let (mut session, publisher) = connect(&server).await;
    drop(publisher);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(cause(&mut session).await, Cause::Vanished);
    let took = begun.elapsed();
    assert!(took <= CONSENT_TIMEOUT + Duration::from_secs(1) && took <= Duration::from_secs(30), "{took:?}");
}

#[tokio::test]
async fn w4_a_connection_without_media_ends_after_the_idle_timeout() {
    let server = Server::with(10, 10, Duration::from_secs(2)).await;
    let (mut session, mut publisher) = connect(&server).await;
    let events = converse(&mut session, &mut publisher, |events, _| {
        events.iter().any(|event| matches!(event, SessionEvent::Ended(_)))
    })
    .await;
    assert!(matches!(events.last(), Some(SessionEvent::Ended(Cause::Silent))), "{events:?}");
}

#[tokio::test]
async fn an_offer_that_never_connects_is_given_up() {
    let server = Server::start().await;
    let (_publisher, offer) = Publisher::new().await;
    let mut session = server.open(&offer).unwrap().session;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(cause(&mut session).await, Cause::NeverConnected);
    assert!(begun.elapsed() <= CONNECT_TIMEOUT + Duration::from_secs(1));
    drop(session);
    assert_eq!((server.sessions.counts(), server.endpoint.sizes()), ((0, 0), (0, 0, 0)));
}

#[tokio::test]
async fn a_session_that_nobody_reads_keeps_a_bounded_amount_of_media() {
    let server = Server::start().await;
    let (mut session, mut publisher) = connect(&server).await;
    let bound = whip::limits::MAX_HELD_BYTES;
    let packets = u32::try_from(bound / 1_000 + 500).unwrap();
    for index in 0..packets {
        publisher.push(true, index, &[0x65; 1_000]);
        if index % 50 == 0 {
            publisher.step().await;
            while tokio::time::timeout(Duration::from_millis(1), session.work()).await.is_ok() {}
        }
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while session.lost() == 0 {
        assert!(Instant::now() < deadline, "nothing was lost of {packets} packets");
        publisher.step().await;
        while tokio::time::timeout(Duration::from_millis(1), session.work()).await.is_ok() {}
    }
    let mut held = 0;
    while let Some(event) = session.try_next() {
        held += if let SessionEvent::Packet(packet) = event { packet.payload.len() } else { 0 };
    }
    assert!(held <= bound && held > bound / 2, "{held}");
}
