//! Ways to the one socket: UDP, ICE-TCP, a change of network, an ICE restart.

use whip::SessionEvent;

use crate::media::{connect, converse, packets};
use crate::publisher::{Publisher, Server};

#[tokio::test]
async fn three_publishers_share_one_port_and_are_never_checked_back() {
    let server = Server::start().await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(connect(&server).await);
    }
    for (index, (_, publisher)) in (0_u8..).zip(&mut all) {
        publisher.push(true, 0, &[0x65, index]);
    }
    for (index, (session, publisher)) in (0_u8..).zip(&mut all) {
        let events = converse(session, publisher, |events, _| !packets(events).is_empty()).await;
        assert_eq!(packets(&events)[0].payload[1], index, "each its own");
        assert_eq!(publisher.checks_received, 0, "a lite agent checks nothing");
    }
    assert_eq!(server.sessions.counts(), (3, 0));
}

#[tokio::test]
async fn w7_ice_tcp_on_one_port() {
    let server = Server::start().await;
    let (mut publisher, offer) = Publisher::over_tcp(server.reachable.tcp[0]).await;
    let opened = server.open(&offer).unwrap();
    assert!(opened.answer.contains(" tcptype passive\r\n"));
    publisher.accept(&opened.answer);
    let mut session = opened.session;
    converse(&mut session, &mut publisher, |_, publisher| publisher.connected).await;
    for index in 0..100 {
        publisher.push(true, index, &[0x65; 1_000]);
    }
    let events = converse(&mut session, &mut publisher, |events, _| packets(events).len() >= 100).await;
    assert_eq!(packets(&events).len(), 100);
}

/// ffmpeg's muxer leaves the beginning to the server.
#[tokio::test]
async fn w15_a_passive_publisher_is_greeted() {
    let server = Server::start().await;
    let (mut publisher, offer) = Publisher::new().await;
    let opened = server.open(&offer.replace("a=setup:actpass", "a=setup:passive")).unwrap();
    assert!(opened.answer.contains("a=setup:active"), "{}", opened.answer);
    publisher.accept(&opened.answer);
    let mut session = opened.session;
    converse(&mut session, &mut publisher, |_, publisher| publisher.connected).await;
    publisher.push(true, 1, &[0x65, 1]);
    converse(&mut session, &mut publisher, |events, _| !packets(events).is_empty()).await;
}

#[tokio::test]
async fn w8_simulcast_layers_are_all_taken() {
    let server = Server::start().await;
    let (_, offer) = Publisher::new().await;
    let layers = "a=rid:h send\r\na=rid:l send\r\na=simulcast:send h;l\r\n\
                  a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n";
    let video = offer.find("m=video").unwrap();
    let end = offer[video..].find("\r\nm=").map_or(offer.len(), |at| video + at + 2);
    let layered = format!("{}{layers}{}", &offer[..end], &offer[end..]);
    let opened = server.open(&layered).unwrap();
    assert_eq!(opened.offer.video.unwrap().layers, ["h", "l"]);
    for line in ["a=rid:h recv", "a=rid:l recv", "a=simulcast:recv h;l", "rtp-stream-id"] {
        assert!(opened.answer.contains(line), "{line} in {}", opened.answer);
    }
}

#[tokio::test]
async fn a_publisher_that_changes_its_network_goes_on() {
    let server = Server::start().await;
    let (mut session, mut publisher) = connect(&server).await;
    publisher.move_to_another_port().await;
    publisher.push(true, 1, &[0x65, 1]);
    // Its next check proves the new address; until then what comes from there is anybody's.
    converse(&mut session, &mut publisher, |_, _| server.endpoint.sizes().2 >= 2).await;
    publisher.push(true, 2, &[0x65, 2]);
    let events = converse(&mut session, &mut publisher, |events, _| !packets(events).is_empty()).await;
    assert_eq!(packets(&events).last().unwrap().payload[1], 2);
}

#[tokio::test]
async fn w3_an_ice_restart_gives_new_credentials_and_a_new_tag() {
    let server = Server::start().await;
    let (mut publisher, offer) = Publisher::new().await;
    let opened = server.open(&offer).unwrap();
    publisher.accept(&opened.answer);
    let (mut session, tag) = (opened.session, opened.etag);
    converse(&mut session, &mut publisher, |_, publisher| publisher.connected).await;
    let id = session.id().to_owned();
    let body = "a=ice-ufrag:newu\r\na=ice-pwd:0123456789012345678901\r\n";
    let patch = server.sessions.patch(&id, Some(whip::FRAGMENT), Some("*"), body);
    tokio::pin!(patch);
    let patched = loop {
        tokio::select! {
            patched = &mut patch => break patched,
            _ = session.next() => {}
            () = publisher.step() => {}
        }
    };
    let (new_tag, fragment) = patched.unwrap().unwrap();
    assert_ne!(new_tag, tag);
    assert!(fragment.contains("a=ice-ufrag:") && fragment.contains("a=candidate:"), "{fragment}");
    // The old path is good until the new one is nominated.
    publisher.push(true, 2, &[0x65, 2]);
    converse(&mut session, &mut publisher, |events, _| !packets(events).is_empty()).await;
    let stale = server.sessions.patch(&id, Some(whip::FRAGMENT), Some(&tag), "a=mid:0\r\n").await;
    assert_eq!(stale.unwrap_err().status, 412);
    let trickled = server.sessions.patch(&id, Some(whip::FRAGMENT), Some(&new_tag), "a=mid:0\r\n").await;
    assert_eq!(trickled, Ok(None));
    assert!(session.try_next().is_none_or(|event| !matches!(event, SessionEvent::Ended(_))));
}
