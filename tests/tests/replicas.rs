//! Several control planes on one database: any serves any call, and one that dies takes nothing along.

use std::time::{Duration, Instant};

use recorder_db::Kind;
use recorder_db::scratch::{Scratch, kinds};
use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::footage::Footage;
use recorder_tests::numbered::Publisher;
use recorder_tests::publisher::Source;
use recorder_tests::scene::Clients;
use recorder_tests::stage::{Stage, seeds};
use recorder_tests::wait;
use v1::event_service_client::EventServiceClient;
use v1::node_service_client::NodeServiceClient;
use v1::recording::State;
use v1::watch_recordings_response::Kind as Change;

/// Recordings that run while a control plane dies.
const CROWD: u32 = 50;

/// Two control planes on one Postgres, and a node that knows both; None where no Postgres is there.
async fn replicated(control_settings: &[(&str, &str)]) -> Option<(Scratch, Cluster)> {
    if !kinds().contains(&Kind::Postgres) {
        eprintln!("no Postgres: several control planes need one");
        return None;
    }
    let scratch = tokio::task::spawn_blocking(|| Scratch::new(Kind::Postgres)).await.unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::on_database(folder, scratch.url.clone(), control_settings).await;
    cluster.start_replica().await;
    cluster.nodes[0].kill();
    cluster.start_node(1).await;
    Some((scratch, cluster))
}

fn flv() -> v1::Template {
    v1::Template { flv: Some(v1::template::Flv::default()), ..Default::default() }
}

/// Kill -9 to one of two control planes in the middle of 50 recordings.
#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_dies_in_the_middle_of_fifty_recordings_loses_nothing() {
    let Some((_scratch, cluster)) = replicated(&[]).await else { return };
    let mut stage = Stage::on(seeds(1)[0], cluster).await;
    let domain = stage.template("crowd", flv()).await;
    let source = Source { seconds: 4, kilobits: 200, ..Default::default() };
    let footage = Footage::encode(&source, stage.cluster.folder());
    let mut crowd: Vec<Publisher> =
        (1..=CROWD).map(|number| Publisher::new(&domain, &format!("cam{number}"), number, &footage)).collect();
    let address = stage.cluster.rtmp(1).to_owned();
    for publisher in &mut crowd {
        publisher.connect(1, &address).await.unwrap();
    }
    crowd[crowd.len() - 1].sent_more(30).await;
    stage.random_pause(Duration::ZERO, Duration::from_secs(2)).await;

    let mut events = EventServiceClient::new(stage.cluster.replica_api(0).await);
    stage.cluster.kill_control();
    let killed = Instant::now();
    // A publisher that comes now is recorded at once; that it is known, the other control plane has heard from the node.
    let mut late = Publisher::new(&domain, "late", CROWD + 1, &footage);
    late.connect(1, &address).await.unwrap();
    let mut clients = Clients::over(&stage.cluster.replica_api(0).await);
    wait::until("the node to have found the other control plane", async || {
        let recordings = clients.recordings_of(&domain, "late").await;
        recordings.iter().any(|recording| recording.state() == State::Recording).then_some(())
    })
    .await;
    let healed = killed.elapsed();
    // A change at the one that lives reaches the node.
    let asked = Instant::now();
    clients.template("after", flv()).await;
    clients.bind("after", "after.example.com").await;
    eprintln!(
        "{CROWD} recordings, kill -9: healed after {} ms, then a binding applied in {} ms",
        healed.as_millis(),
        asked.elapsed().as_millis()
    );

    crowd.push(late);
    for publisher in &mut crowd {
        publisher.leave().await;
    }
    for publisher in &crowd {
        let told = stage.outcome(&domain, &publisher.name, 1).await;
        assert_eq!(told.len(), 1, "{}: one recording", publisher.name);
        assert_eq!(told[0].0.state(), State::Succeeded, "{told:#?}");
        stage.verify(publisher, &told, &["FLV"]).assert_clean(&publisher.name);
    }
    stage.no_open_uploads().await;
    let ended = all_events(&mut events, "recording.ended").await;
    assert_eq!(ended.len(), crowd.len(), "each end is told once");
    assert!(healed < Duration::from_secs(15), "{healed:?}");
}

async fn all_events(events: &mut EventServiceClient<recorder_tests::cluster::Api>, kind: &str) -> Vec<v1::Event> {
    let request = v1::ListEventsRequest { types: vec![kind.to_owned()], page_size: 1_000, ..Default::default() };
    events.list_events(request).await.unwrap().into_inner().events
}

async fn told(events: &mut EventServiceClient<recorder_tests::cluster::Api>, kind: &str) {
    let what = format!("{kind} to be told");
    wait::until(&what, async || all_events(events, kind).await.first().map(drop)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_control_plane_serves_any_call_and_timers_fire_once() {
    let Some((_scratch, mut cluster)) = replicated(&[("RECORDER_LINK_LEASE", "3s")]).await else { return };
    // The node is connected to the first one; everything is asked of the second.
    let api = cluster.replica_api(0).await;
    let mut clients = Clients::over(&api);
    clients.template("all", flv()).await;
    let asked = Instant::now();
    clients.bind("all", "push.example.com").await;
    eprintln!(
        "a binding made at one control plane is applied by a node of the other in {} ms",
        asked.elapsed().as_millis()
    );
    let mut watch =
        clients.recordings.watch_recordings(v1::WatchRecordingsRequest::default()).await.unwrap().into_inner();
    let footage = Footage::encode(&Source { seconds: 4, kilobits: 200, ..Default::default() }, cluster.folder());
    let mut publisher = Publisher::new("push.example.com", "cam1", 1, &footage);
    publisher.connect(1, cluster.rtmp(1)).await.unwrap();
    let seen = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let message = watch.message().await.unwrap().expect("the watch is open");
            if message.kind() == Change::Updated
                && message.recording.as_ref().is_some_and(|recording| recording.state() == State::Recording)
            {
                return message.recording.unwrap_or_default();
            }
        }
    });
    let recording = seen.await.expect("the other's change in time");
    let stop = v1::StopRecordingRequest { name: recording.name.clone() };
    clients.recordings.stop_recording(stop).await.unwrap();
    clients.wait_for("push.example.com", "cam1", 1, State::Succeeded).await;
    assert!(publisher.is_publishing(), "it is only the recording that was stopped");
    publisher.leave().await;

    // Both keep leases; a node that dies is lost once.
    cluster.nodes[0].kill();
    let mut nodes = NodeServiceClient::new(api.clone());
    wait::until("the node to be lost", async || {
        let node = nodes.get_node(v1::GetNodeRequest { name: "nodes/m1".into() }).await.ok()?.into_inner();
        (node.state() == v1::node::State::Lost).then_some(())
    })
    .await;
    // Its state follows from its lease at once; the loss is told at the next tick of a timer.
    let mut events = EventServiceClient::new(api);
    told(&mut events, "node.lost").await;
    cluster.start_node(1).await;
    told(&mut events, "node.returned").await;
    assert_eq!(all_events(&mut events, "node.lost").await.len(), 1, "two timers, one loss");
    assert_eq!(all_events(&mut events, "node.returned").await.len(), 1);
}
