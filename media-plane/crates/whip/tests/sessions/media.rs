//! What is sent is what is handed on, with sender reports; key frames are asked for.

use std::time::{Duration, Instant};

use whip::{KeyFrameRequest, Packet, SenderReport, Session, SessionEvent};

use crate::publisher::{AUDIO, Publisher, Server, VIDEO};

/// Everything the session says while the publisher goes on, until `enough`.
pub async fn converse(
    session: &mut Session,
    publisher: &mut Publisher,
    mut enough: impl FnMut(&[SessionEvent], &Publisher) -> bool,
) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !enough(&events, publisher) {
        assert!(Instant::now() < deadline, "not enough: {events:?}");
        tokio::select! {
            event = session.next() => events.push(event),
            () = publisher.step() => {}
        }
    }
    events
}

pub fn packets(events: &[SessionEvent]) -> Vec<&Packet> {
    events
        .iter()
        .filter_map(|event| if let SessionEvent::Packet(packet) = event { Some(packet) } else { None })
        .collect()
}

pub async fn connect(server: &Server) -> (Session, Publisher) {
    let (mut publisher, offer) = Publisher::new().await;
    let opened = server.open(&offer).unwrap();
    publisher.accept(&opened.answer);
    let mut session = opened.session;
    let events = converse(&mut session, &mut publisher, |events, publisher| {
        publisher.connected && events.iter().any(|event| matches!(event, SessionEvent::Connected))
    })
    .await;
    assert_eq!(events.len(), 1, "{events:?}");
    (session, publisher)
}

#[tokio::test]
async fn packets_of_both_tracks_and_sender_reports_arrive() {
    let server = Server::start().await;
    let (mut session, mut publisher) = connect(&server).await;
    for index in 0..20_u32 {
        publisher.push(true, index * 3_000, &[0x65, u8::try_from(index).unwrap()]);
        publisher.push(false, index * 960, &[0xfc, u8::try_from(index).unwrap()]);
    }
    publisher.report(0x1234_5678_9abc_def0, 90_000);
    let is_report = |event: &SessionEvent| matches!(event, SessionEvent::Report(_));
    let events =
        converse(&mut session, &mut publisher, |events, _| packets(events).len() >= 40 && events.iter().any(is_report))
            .await;
    let of = |ssrc: u32| packets(&events).into_iter().filter(move |packet| packet.ssrc == ssrc).collect::<Vec<_>>();
    let video = of(VIDEO);
    assert_eq!((video.len(), of(AUDIO).len()), (20, 20));
    assert!(video.iter().all(|packet| packet.payload_type == 96 && packet.marker && packet.layer.is_none()));
    let sent: Vec<u32> = (0..20).map(|index| index * 3_000).collect();
    assert_eq!(video.iter().map(|packet| packet.timestamp).collect::<Vec<_>>(), sent);
    assert_eq!(&video[7].payload[..], [0x65, 7]);
    let report =
        events.iter().find_map(|event| if let SessionEvent::Report(report) = event { Some(*report) } else { None });
    let SenderReport { ssrc, ntp_time, rtp_time, .. } = report.unwrap();
    assert_eq!((ssrc, ntp_time, rtp_time), (VIDEO, 0x1234_5678_9abc_def0, 90_000));
}

#[tokio::test]
async fn key_frames_are_asked_for_by_both_kinds_of_request() {
    let server = Server::start().await;
    let (mut session, mut publisher) = connect(&server).await;
    publisher.push(true, 0, &[0x41, 0]);
    converse(&mut session, &mut publisher, |events, _| !packets(events).is_empty()).await;
    session.request_key_frame(VIDEO, KeyFrameRequest::PictureLoss);
    converse(&mut session, &mut publisher, |_, publisher| publisher.asked == (1, 0)).await;
    session.request_key_frame(VIDEO, KeyFrameRequest::FullIntra);
    converse(&mut session, &mut publisher, |_, publisher| publisher.asked == (1, 1)).await;
}
