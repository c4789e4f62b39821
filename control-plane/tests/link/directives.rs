//! The directive stream: snapshot, deltas, acknowledgements, fences.
use recorder_proto::matching;
use recorder_proto::pb::node::RegisterRequest;
use recorder_proto::pb::node::directive::Directive as Kind;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::binding::State;
use tonic::Code;

use super::control::{on_each, refused, until};
use super::node::Node;
use super::story::Story;

#[test]
fn a_binding_is_active_once_the_node_has_it_and_not_before() {
    on_each(async |control| {
        let mut node = Node::register(&control, "m1", "boot-1").await;
        node.hello(0).await;
        let (nonce, version, snapshot) = node.snapshot().await;
        assert!(snapshot.last && snapshot.directives.is_empty(), "nothing is bound yet");
        node.ack(&nonce, version).await;

        let bound = control.bind("default", "push.example.com").await;
        assert_eq!(bound.state(), State::Pending);
        let (nonce, version, delta) = node.delta().await;
        let names: Vec<&str> = delta.upserts.iter().map(|directive| directive.name.as_str()).collect();
        assert_eq!(names, ["domain/push.example.com", "binding/push.example.com/default"], "policy comes first");
        let pending = control.binding("push.example.com").await;
        assert_eq!((pending.state(), pending.nodes_applied, pending.nodes_total), (State::Pending, 0, 1));

        node.ack(&nonce, version).await;
        let active = until("the binding to be active", async || {
            Some(control.binding("push.example.com").await).filter(|binding| binding.state() == State::Active)
        })
        .await;
        assert_eq!((active.nodes_applied, active.nodes_total), (1, 1));
        assert_eq!(control.node("m1").await.directives_version, version);
    });
}

#[test]
fn a_standing_directive_needs_nothing_looked_up() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.template("show").await;
        control.bind("show", "push.example.com").await;
        let delta = node.follow().await;
        let Some(Kind::Standing(standing)) = &delta.upserts[1].directive else { panic!("{delta:?}") };
        let plan = standing.plan.as_ref().unwrap();
        let template = plan.template.as_ref().unwrap();
        assert_eq!((template.name.as_str(), template.revision), ("templates/show", 1));
        assert!(template.hls.is_some() && !template.path.is_empty(), "every default is filled in: {template:?}");
        let storage = plan.storage.as_ref().unwrap();
        assert_eq!((storage.name.as_str(), storage.kind.as_str()), ("storages/library", "file_system"));
        assert_eq!(standing.origin, "domains/push.example.com/bindings/show");
        let usable = matching::Standing::try_from(standing).unwrap();
        assert_eq!(usable.level, matching::Level::Domain);
    });
}

#[test]
fn a_change_of_the_storage_reaches_every_directive_that_writes_there() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.bind("default", "push.example.com").await;
        node.follow().await;
        let storage = v1::Storage { name: "storages/library".into(), prefix: "2026".into(), ..v1::Storage::default() };
        let request = v1::UpdateStorageRequest { storage: Some(storage), ..Default::default() };
        control.storages().update_storage(request).await.unwrap();
        let delta = node.follow().await;
        let [directive] = delta.upserts.as_slice() else { panic!("{delta:?}") };
        let Some(Kind::Standing(standing)) = &directive.directive else { panic!("{directive:?}") };
        assert_eq!(standing.plan.as_ref().unwrap().storage.as_ref().unwrap().prefix, "2026");
    });
}

#[test]
fn a_refusal_is_shown_in_the_words_of_the_node_until_it_takes_a_new_version() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.template("show").await;
        control.bind("show", "push.example.com").await;
        let (nonce, version, _) = node.delta().await;
        node.nack(&nonce, version, "binding/push.example.com/show", "this node cannot write HLS").await;
        let rejected = until("the binding to be rejected", async || {
            Some(control.binding("push.example.com").await).filter(|binding| binding.state() == State::Rejected)
        })
        .await;
        assert_eq!(rejected.error.unwrap().message, "this node cannot write HLS");
        assert_eq!(rejected.nodes_applied, 0);
        assert_eq!(control.node("m1").await.rejected_directives, ["binding/push.example.com/show"]);

        let template = v1::Template { name: "templates/show".into(), description: "new".into(), ..Default::default() };
        let request = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
        control.templates().update_template(request).await.unwrap();
        node.follow().await;
        let active = until("the binding to recover", async || {
            Some(control.binding("push.example.com").await).filter(|binding| binding.state() == State::Active)
        })
        .await;
        assert_eq!((active.nodes_applied, active.error), (1, None));
    });
}

#[test]
fn directive_poison() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        let mut story = Story::new("good.example.com", "cam1");
        node.report(vec![story.started()]).await;
        control.template("show").await;
        let request = v1::BindTemplateRequest {
            template: "show".into(),
            domains: vec!["good.example.com".into(), "bad.example.com".into()],
            create_domains: true,
            ..Default::default()
        };
        control.domains().bind_template(request).await.unwrap();
        let (nonce, version, delta) = node.delta().await;
        assert_eq!(delta.upserts.len(), 4, "one delta: {delta:?}");
        node.nack(&nonce, version, "binding/bad.example.com/show", "the path template has no such field").await;
        let rejected = until("the binding to be rejected", async || {
            Some(control.binding("bad.example.com").await).filter(|binding| binding.state() == State::Rejected)
        })
        .await;
        assert_eq!(rejected.error.unwrap().message, "the path template has no such field");
        assert_eq!(control.binding("good.example.com").await.state(), State::Active, "the others are in force");
        assert_eq!(control.node("m1").await.rejected_directives, ["binding/bad.example.com/show"]);
        // The node records on meanwhile.
        let facts = vec![story.opened(0), story.ended(1), story.available(0)];
        node.report(facts).await;
        assert_eq!(control.recording(&story.name()).await.state(), v1::recording::State::Succeeded);

        let template =
            v1::Template { name: "templates/show".into(), path: "{Domain}/{RecordId}".into(), ..Default::default() };
        let request = v1::UpdateTemplateRequest { template: Some(template), ..Default::default() };
        control.templates().update_template(request).await.unwrap();
        node.follow().await;
        until("the repaired binding to be active", async || {
            let binding = control.binding("bad.example.com").await;
            (binding.state() == State::Active && binding.error.is_none()).then_some(())
        })
        .await;
        assert_eq!(control.node("m1").await.rejected_directives, [""; 0]);
    });
}

#[test]
fn a_node_that_comes_back_gets_what_it_missed_and_nothing_else() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.bind("default", "one.example.com").await;
        node.follow().await;
        until("the acknowledgement to count", async || {
            (control.node("m1").await.directives_version == node.version).then_some(())
        })
        .await;
        let held = node.version;
        node.hang_up();
        control.bind("default", "two.example.com").await;
        node.hello(held).await;
        let (_, version, delta) = node.delta().await;
        let names: Vec<&str> = delta.upserts.iter().map(|directive| directive.name.as_str()).collect();
        assert_eq!(names, ["domain/two.example.com", "binding/two.example.com/default"]);
        assert_eq!(version, held + 1, "one transaction is one delta");

        node.hang_up();
        node.hello(version + 1_000).await;
        let (_, _, snapshot) = node.snapshot().await;
        assert_eq!(snapshot.directives.len(), 4, "a version from elsewhere is answered with everything");
    });
}

#[test]
fn a_node_that_refused_something_gets_everything_again_after_a_restart() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.bind("default", "push.example.com").await;
        let (nonce, version, _) = node.delta().await;
        node.nack(&nonce, version, "binding/push.example.com/default", "too new for me").await;
        until("the refusal to count", async || {
            (!control.node("m1").await.rejected_directives.is_empty()).then_some(())
        })
        .await;
        node.hang_up();
        let mut upgraded = Node::register(&control, "m1", "boot-2").await;
        upgraded.hello(version).await;
        upgraded.settle().await;
        assert!(upgraded.held.contains_key("binding/push.example.com/default"));
        until("the refusal to be over", async || control.node("m1").await.rejected_directives.is_empty().then_some(()))
            .await;
    });
}

#[test]
fn unbinding_removes_the_directive_and_an_unchanged_node_hears_nothing() {
    on_each(async |control| {
        let mut node = Node::ready(&control, "m1").await;
        control.bind("default", "push.example.com").await;
        node.follow().await;
        control.bind("default", "push.example.com").await;
        let request = v1::UnbindTemplateRequest {
            template: "default".into(),
            domains: vec!["push.example.com".into()],
            ..Default::default()
        };
        control.domains().unbind_template(request).await.unwrap();
        let delta = node.follow().await;
        assert_eq!(delta.removed, ["binding/push.example.com/default"], "binding again was no change");
        assert!(delta.upserts.is_empty());
    });
}

/// Reliability test 17, as far as the control plane goes; that the older process exits is shown where processes are.
#[test]
fn same_node_id_twice() {
    on_each(async |control| {
        let mut older = Node::ready(&control, "m1").await;
        let newer = Node::register(&control, "m1", "boot-2").await;
        assert_eq!(newer.epoch, older.epoch + 1);
        assert_eq!(older.fenced().await.current_epoch, newer.epoch);
        assert!(older.heard().await.unwrap().is_none(), "that was the last word");

        let mut story = Story::new("push.example.com", "cam1");
        let refusal = older.try_report(vec![story.published()]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
        let claim = older.client.claim_recording(story.claim(older.epoch)).await;
        assert_eq!(refused(claim).reason, "EPOCH_FENCED");
        older.hang_up();
        older.hello(0).await;
        assert_eq!(older.fenced().await.current_epoch, newer.epoch, "a late hello is fenced as well");
    });
}

/// Regression: a process that had been cut off while a newer one took its id came back and fenced that one.
#[test]
fn an_outlived_process_cannot_take_its_node_id_back() {
    // ULIDs of two moments, the older first.
    const OLDER: &str = "01JD0000000000000000000000";
    const NEWER: &str = "01JE0000000000000000000000";
    on_each(async |control| {
        let mut newer = Node::register(&control, "m1", NEWER).await;
        newer.hello(0).await;
        let mut client = newer.client.clone();
        let request = RegisterRequest { node: "m1".into(), boot_id: OLDER.into(), ..Default::default() };
        let refusal = refused(client.register(request).await);
        assert_eq!(refusal.reason, "EPOCH_FENCED");
        assert_eq!(refusal.metadata.get("current_epoch"), Some(&newer.epoch.to_string()));
    });
}

#[test]
fn a_process_that_registers_twice_does_not_fence_itself() {
    on_each(async |control| {
        let first = Node::register(&control, "m1", "boot-1").await;
        let again = Node::register(&control, "m1", "boot-1").await;
        assert_eq!(first.epoch, again.epoch);
        let other = Node::register(&control, "m2", "boot-1").await;
        assert_ne!(first.epoch, other.epoch, "an epoch belongs to one node");
    });
}
