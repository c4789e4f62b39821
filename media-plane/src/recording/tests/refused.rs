//! A newcomer that the node does not take after all: what waited for a publisher goes on waiting.

use media::ingest::EndCause;
use recorder_proto::pb::v1::template::hls;

use super::starts::{Place, send};
use super::*;
use crate::ingest::publishing::{Publishing, refuse};
use crate::leaving::{Mode, Order};

const DRAIN: Order = Order { mode: Mode::Wait, patience: None };

/// Its recording waits a minute for its publisher.
fn patient() -> Template {
    let hls = Hls { resume_timeout: recorder_proto::time::duration(Duration::from_secs(60)).into(), ..Hls::default() };
    Template { hls: Some(Hls { segment: hls::Segment::Ts.into(), ..hls }), flv: None, mp4: None, ..template() }
}

fn newcomer(life: &Life, number: u8) -> Publisher {
    Publisher { session: SessionId::new(life.node.clock.now(), [number; 10]), ..publisher(&life.node) }
}

/// A publisher that was recorded and is gone; its recording waits.
async fn away(life: &mut Life) -> Vec<RecordingId> {
    bind(life, patient());
    let mut publishing = Publishing::admit(&life.node, publisher(&life.node)).await.unwrap();
    send(life, &mut publishing.publication);
    let recordings = publishing.publication.recordings();
    assert_eq!(recordings.len(), 1);
    publishing.leave(&life.node, &EndCause::ConnectionLost, false, None);
    life.until("a recording that waits", |life| life.node.registry.held() == 1).await;
    recordings
}

/// The next publisher goes on with the same recording.
async fn goes_on(life: &mut Life, recordings: &[RecordingId]) {
    life.until("a recording that waits again", |life| life.node.registry.held() == 1).await;
    let publishing = Publishing::admit(&life.node, newcomer(life, 9)).await.unwrap();
    assert_eq!(publishing.publication.recordings(), recordings);
    assert_eq!(life.node.registry.counts(), (1, 1));
    let ended = life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingEnded(_)));
    assert!(!ended, "{:#?}", life.facts());
}

#[tokio::test]
async fn a_refused_newcomer_took_what_was_not_handed_over_yet() {
    let place = Place::new();
    let mut life = place.start();
    let recordings = away(&mut life).await;
    life.node.leaving.begin(DRAIN);
    assert!(Publishing::admit(&life.node, newcomer(&life, 8)).await.is_err());
    life.node
        .leaving
        .obey(&recorder_proto::pb::node::stream_directives_response::Drain { cancelled: true, ..Default::default() });
    goes_on(&mut life, &recordings).await;
    life.die().await;
}

#[tokio::test]
async fn a_refused_newcomer_took_what_was_handed_over_already() {
    let place = Place::new();
    let mut life = place.start();
    let recordings = away(&mut life).await;
    let refused = newcomer(&life, 8);
    let admission = life.node.registry.admit(&refused.stream, refused.session);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let replaced = admission.replaced.unwrap();
    assert!(!replaced.is_empty(), "it is in the hands of the newcomer");
    refuse(&life.node, &refused.stream, refused.session, Some(replaced));
    goes_on(&mut life, &recordings).await;
    life.die().await;
}
