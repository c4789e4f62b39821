//! A WHIP publisher whose successor comes at another node: what it has sent is kept.

use media::TrackKind;
use recorder_proto::pb::v1;
use recorder_tests::footage::Footage;
use recorder_tests::link::Link;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::{Clients, all_formats_waiting};
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::webrtc::{Fate, Film, Look, Packet, Peer};
use recorder_tests::{probe, wait};
use v1::node_service_client::NodeServiceClient;
use v1::recording::State;

/// A packet that is missing is waited for 0.4 s, in which 12 pictures come. What is sent between the order to let go and
/// the end of the connection may be missing: a few.
const MISSING: usize = 5;

/// Every picture stands alone and comes behind a hole, so that at any moment those of the last 0.4 s wait for packets that
/// never come. Nobody hears of the first node for longer than its lease, so that another one goes on; when it heard of
/// that, it threw them away.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_pictures_were_lost_when_another_node_went_on() {
    let mut stage = Stage::start_with(seeds(1)[0], &[], &[("RECORDER_LINK_LEASE", "3s")]).await;
    let link = Link::to(stage.cluster.link()).await;
    stage.cluster.set("RECORDER_LINK_CONTROL", &format!("http://{}", link.address));
    stage.cluster.start_node(2).await;
    let domain = stage.template("orphan", all_formats_waiting(20)).await;
    let film = Film::encode(stage.cluster.folder(), Look { seconds: 60, gop: 1, ..Look::default() });
    let mut clients = Clients::of(&stage.cluster).await;
    let mut peer = Peer::publish(stage.cluster.nodes[1].address("http"), &domain, "cam1").await;
    let first = tokio::spawn(async move {
        let (mut pictures, mut sounds) = (0_usize, 0_u32);
        let fate = |packet: &Packet, _: f64| {
            pictures += usize::from(packet.marker);
            sounds += u32::from(packet.track == TrackKind::Audio);
            let begins = packet.track == TrackKind::Video && packet.payload[0] & 31 == 24;
            if begins { Fate::BehindHole } else { Fate::Sent }
        };
        peer.play(&film, fate).await;
        assert!(peer.is_closed(), "the node lets go of it");
        (pictures, sounds)
    });
    clients.wait_for(&domain, "cam1", 1, State::Recording).await;
    let source = Source { seconds: 4, ..Default::default() };
    let footage = Footage::encode(&source, stage.cluster.folder());
    let mut second = Publisher::new(&domain, "cam1", 1, &footage);
    link.close();
    let mut nodes = NodeServiceClient::new(stage.cluster.api().await);
    wait::until("the node to be lost", async || {
        let request = v1::GetNodeRequest { name: "nodes/m2".into() };
        (nodes.get_node(request).await.ok()?.into_inner().state() == v1::node::State::Lost).then_some(())
    })
    .await;
    second.connect(1, stage.cluster.rtmp(1)).await.unwrap();
    second.sent_more(60).await;
    link.open();
    let (pictures, sounds) = first.await.unwrap();
    second.sent_more(30).await;
    second.leave().await;
    let request = v1::StopRecordingRequest {
        name: clients.wait_for(&domain, "cam1", 1, State::Interrupted).await.remove(0).name,
    };
    clients.recordings.stop_recording(request).await.unwrap();
    let told = stage.outcome(&domain, "cam1", 1).await;
    let folder = stage.cluster.folder().join("downloads");
    stage.download(&told, &folder);
    let files = told.iter().flat_map(|(_, files)| files).filter(|file| file.epoch == 1);
    let flv = files.clone().find(|file| file.format() == v1::format::Kind::Flv).expect("the first node's file");
    let recorded = probe::packets(&folder.join(&flv.object_key));
    println!("{} of {pictures} pictures, sound until {:?}", recorded.video.len(), recorded.audio.last());
    assert!(recorded.video.len() + MISSING >= pictures, "{} of {pictures} pictures", recorded.video.len());
    let (ends, sent) = (recorded.audio.last().unwrap().dts - recorded.audio[0].dts, f64::from(sounds) * 0.02);
    assert!(ends + 0.3 >= sent, "{ends} s of {sent} s of sound");
}
