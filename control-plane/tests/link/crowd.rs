//! Many at once: writers that commit in any order, watchers that come and go.
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use recorder_db::Kind;
use recorder_proto::pb::v1::{CreateTemplateRequest, ListTemplatesRequest, Template, WatchRecordingsRequest};

use super::control::{Control, PATIENCE, on_each, refused, until};
use super::node::Node;
use super::story::Story;
use super::watching::{Watch, resumed};

const NODES: u64 = 8;
const FILES: u32 = 12;

/// Messages that one node's recording makes: created, started, opened and closed files, the last one stays open.
const TOLD: usize = 2 + FILES as usize + (FILES as usize - 1);

async fn record(control: Arc<Control>, number: u64) {
    let mut node = Node::register(&control, &format!("m{number}"), "boot-1").await;
    let mut story = Story::new("push.example.com", &format!("cam{number}"));
    let fact = story.started();
    node.report(vec![fact]).await;
    for index in 0..FILES {
        let fact = story.opened(index);
        node.report(vec![fact]).await;
    }
}

/// What a watcher was told, as `name state`, reconnecting after every `stay` messages.
async fn watch(control: Arc<Control>, mut token: String, stay: usize) -> Vec<String> {
    let mut told = Vec::new();
    while told.len() < TOLD * NODES as usize {
        let mut watch = Watch::open(&control, resumed(&token)).await;
        for _ in 0..stay.min(TOLD * NODES as usize - told.len()) {
            let message = watch.next().await;
            let subject = message.file.as_ref().map_or_else(
                || format!("{} {}", message.recording.as_ref().unwrap().name, message.kind().as_str_name()),
                |file| format!("{} {}", file.name, file.state().as_str_name()),
            );
            told.push(subject);
        }
        token = watch.token;
    }
    told
}

#[test]
fn watchers_that_reconnect_at_random_see_every_event_once_and_in_one_order() {
    on_each(async |control| {
        let mut first = Watch::open(&control, WatchRecordingsRequest::default()).await;
        first.any().await;
        let token = first.token.clone();
        let control = Arc::new(control);
        let writers: Vec<_> = (1..=NODES).map(|number| tokio::spawn(record(Arc::clone(&control), number))).collect();
        let watchers: Vec<_> =
            [1, 3, 7, 1_000].map(|stay| tokio::spawn(watch(Arc::clone(&control), token.clone(), stay))).into();
        for writer in writers {
            writer.await.unwrap();
        }
        let mut told = Vec::new();
        for watcher in watchers {
            told.push(watcher.await.unwrap());
        }
        let mut distinct = told[0].clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), TOLD * NODES as usize, "nothing twice");
        assert!(told.iter().all(|one| *one == told[0]), "everybody saw the same in the same order");
    });
}

#[test]
fn an_absent_database_is_told_and_survived() {
    on_each(async |control| {
        if control.scratch.db.kind() == Kind::Sqlite {
            return; // A file does not go away by itself.
        }
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("push.example.com", "cam1");
        let facts = vec![story.started(), story.opened(0)];
        let mut patient = Watch::open(&control, WatchRecordingsRequest::default()).await;
        patient.any().await;
        control.scratch.refuse_connections().unwrap();
        let status = node.try_report(facts.clone()).await.unwrap_err();
        let problem = recorder_proto::Problem::from(&status);
        assert_eq!((problem.code, problem.reason.as_str()), (tonic::Code::Unavailable, "DATABASE_UNAVAILABLE"));
        until("readiness to fail", async || (!serving(&control).await).then_some(())).await;
        control.scratch.accept_connections().unwrap();
        until("readiness to return", async || serving(&control).await.then_some(())).await;
        node.hang_up();
        let mut node = Node::register(&control, "m1", "boot-1").await;
        node.report(facts).await;
        assert_eq!(patient.next().await.recording.unwrap().name, story.name(), "the watch outlived it");
    });
}

async fn serving(control: &Control) -> bool {
    let request = tonic_health::pb::HealthCheckRequest { service: "recorder.v1.RecordingService".into() };
    let mut health = tonic_health::pb::health_client::HealthClient::new(control.api.clone());
    let reply = health.check(request).await.unwrap().into_inner();
    reply.status() == tonic_health::pb::health_check_response::ServingStatus::Serving
}

/// 32 clients send one request until they hold its reply; most replies are lost on their way.
#[test]
fn idempotent_create_storm() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    on_each(async |control| {
        let create = |description: &str| CreateTemplateRequest {
            template: Some(Template { description: description.into(), ..Default::default() }),
            request_id: "storm".into(),
            ..Default::default()
        };
        let calls = (0..32_u64).map(|number| {
            let mut client = control.templates();
            tokio::spawn(async move {
                let mut random = rand::rngs::StdRng::seed_from_u64(seed.wrapping_add(number));
                loop {
                    let patience = Duration::from_micros(random.random_range(0..30_000));
                    // The call is dropped, not its effect; a server may also hang up on who drops too many.
                    let call = client.create_template(create("once"));
                    if let Ok(Ok(reply)) = tokio::time::timeout(patience, call).await {
                        return reply.into_inner();
                    }
                }
            })
        });
        let mut replies = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            replies.push(tokio::time::timeout(PATIENCE, call).await.expect("a reply in time").unwrap());
        }
        assert!(replies.iter().all(|reply| *reply == replies[0]), "identical replies; seed {seed}");
        let listed = control.templates().list_templates(ListTemplatesRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.templates.len(), 2, "one row beside the built-in; seed {seed}");
        let other = refused(control.templates().create_template(create("another")).await);
        assert_eq!(other.reason, "REQUEST_ID_REUSED");
    });
}
