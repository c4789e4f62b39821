//! Many nodes at once: everything to each of them, exactly what the database says, and every change to all.
use std::collections::BTreeMap;

use prost::Message as _;
use recorder_control::directives::{changelog, compile};
use recorder_db::{Kind, domains, rules};
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::stream_directives_request::Heartbeat;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::rule_service_client::RuleServiceClient;
use recorder_proto::time;
use tokio::task::JoinSet;

use super::control::{Control, on_each, until};
use super::node::Node;
use super::story::at;

/// As if it had grown through the API.
async fn grow(control: &Control, domain_count: usize, rule_count: usize) {
    let name = |number: usize| format!("push-{number}.example.com");
    let grown = control.scratch.db.write(move |db| {
        let at = time::micros(at(0));
        for number in 0..domain_count {
            let (id, uid, body) = (name(number), format!("d{number:025}"), v1::Domain::default().encode_to_vec());
            domains::insert(db, &domains::Row { id, uid, rev: 1, body, create_time: at, update_time: at })?;
        }
        for number in 0..rule_count {
            let row = rules::Row {
                id: format!("rule-{number}"),
                uid: format!("r{number:025}"),
                rev: 1,
                domain: name(number % domain_count),
                app: "live".to_owned(),
                stream: format!("cam-{number}"),
                template: Some("default".to_owned()),
                body: v1::Rule { action: v1::rule::Action::Record.into(), ..Default::default() }.encode_to_vec(),
                create_time: at,
                update_time: at,
            };
            rules::insert(db, &row)?;
        }
        compile::recompile(db, super::story::at(0))
    });
    assert!(grown.await.unwrap() > 0);
}

async fn in_force(control: &Control) -> BTreeMap<String, Directive> {
    let effect = control.scratch.db.read(changelog::snapshot).await.unwrap();
    effect.upserts.into_iter().map(|directive| (directive.name.clone(), directive)).collect()
}

/// Joins that many nodes at once.
async fn join(control: &std::sync::Arc<Control>, count: usize) -> Vec<Node> {
    let mut joining = JoinSet::new();
    for number in 0..count {
        let control = std::sync::Arc::clone(control);
        joining.spawn(async move { Node::ready(&control, &format!("m{number}")).await });
    }
    joining.join_all().await
}

async fn create_rule(control: &Control, id: &str) {
    let rule = v1::Rule {
        domain: "push-0.example.com".into(),
        stream: format!("new-{id}"),
        template: "default".into(),
        ..Default::default()
    };
    let request = v1::CreateRuleRequest { rule_id: id.into(), rule: Some(rule), ..Default::default() };
    RuleServiceClient::new(control.api.clone()).create_rule(request).await.unwrap();
}

#[test]
fn every_node_of_a_fleet_holds_what_the_database_says() {
    on_each(async |control| {
        grow(&control, 200, 2_000).await;
        let control = std::sync::Arc::new(control);
        let mut nodes = join(&control, 20).await;
        for number in 0..3 {
            let id = format!("late-{number}");
            create_rule(&control, &id).await;
            for node in &mut nodes {
                let delta = node.follow().await;
                let told: Vec<_> = delta.upserts.iter().map(|directive| directive.name.as_str()).collect();
                assert_eq!(told, [format!("rule/{id}")], "a change concerns what was changed");
            }
            until("every node's answer to count", async || {
                let request = v1::GetRuleRequest { name: format!("rules/{id}") };
                let rule = RuleServiceClient::new(control.api.clone()).get_rule(request).await.unwrap().into_inner();
                (rule.state() == v1::rule::State::Active).then_some(())
            })
            .await;
        }
        let expected = in_force(&control).await;
        assert_eq!(expected.len(), 2_203);
        for node in &nodes {
            assert!(node.held == expected, "{} holds something else", node.name);
            assert_eq!(control.node(&node.name).await.directives_version, node.version);
        }
    });
}

/// Regression: each read all of it for itself, in the transaction that keeps the others from writing.
#[test]
fn nodes_that_join_at_once_were_refused_on_sqlite() {
    on_each(async |control| {
        if control.scratch.db.kind() != Kind::Sqlite {
            return; // Its readers have snapshots, but the same code.
        }
        grow(&control, 100, 8_000).await;
        let expected = in_force(&control).await;
        // One that does not read what it is told, but says that it lives.
        let mut slow = Node::register(&control, "slow", "boot-1").await;
        slow.hello(0).await;
        slow.heartbeat(Heartbeat { streams: 7, ..Default::default() }).await;
        until("a slow node to be heard", async || (control.node("slow").await.streams == 7).then_some(())).await;
        slow.settle().await;
        assert!(slow.held == expected, "nothing is lost on a node that takes its time");
        let control = std::sync::Arc::new(control);
        let nodes = join(&control, 30).await;
        assert!(nodes.iter().all(|node| node.held == expected), "everything, for everyone");
    });
}
