//! RuleService over the wire: exceptions for streams, and what would be recorded.

use crate::support::{Control, bad_fields, mask, on_each, reason, refused};
use recorder_proto::pb::v1::rule::Action;
use recorder_proto::pb::v1::*;
use tonic::Code;

const DOMAIN: &str = "push.example.com";

/// A domain that is bound to template `a`, and template `b`.
async fn prepare(control: &Control) {
    for id in ["a", "b"] {
        let request = CreateTemplateRequest { template_id: id.into(), ..Default::default() };
        control.templates().create_template(request).await.unwrap();
    }
    let bind = BindTemplateRequest {
        template: "a".into(),
        domains: vec![DOMAIN.into()],
        create_domains: true,
        ..Default::default()
    };
    control.domains().bind_template(bind).await.unwrap();
}

fn record(stream: &str, template: &str) -> Rule {
    Rule { domain: DOMAIN.into(), stream: stream.into(), template: template.into(), ..Rule::default() }
}

fn skip(stream: &str) -> Rule {
    Rule { domain: DOMAIN.into(), stream: stream.into(), action: Action::Skip.into(), ..Rule::default() }
}

async fn create(control: &Control, id: &str, rule: Rule) -> Result<tonic::Response<Rule>, tonic::Status> {
    let request = CreateRuleRequest { rule_id: id.into(), rule: Some(rule), ..Default::default() };
    control.rules().create_rule(request).await
}

async fn explain(control: &Control, stream: &str) -> ExplainMatchResponse {
    let stream = StreamRef { domain: DOMAIN.into(), app: String::new(), stream: stream.into() };
    let request = ExplainMatchRequest { stream: Some(stream) };
    control.rules().explain_match(request).await.unwrap().into_inner()
}

#[test]
fn r15_rules_are_created_read_listed_changed_and_deleted() {
    on_each(async |control| {
        prepare(&control).await;
        let vip = create(&control, "vip", record("vip-*", "b")).await.unwrap().into_inner();
        assert_eq!((vip.name.as_str(), vip.app.as_str(), vip.action()), ("rules/vip", "live", Action::Record));
        assert_eq!((vip.domain.as_str(), vip.template.as_str()), ("domains/push.example.com", "templates/b"));
        assert_eq!(vip.state(), rule::State::Pending, "no node has seen it");
        let none = create(&control, "", skip("test-*")).await.unwrap().into_inner();
        assert!(none.name.starts_with("rules/r-"), "{}", none.name);
        let get = GetRuleRequest { name: "vip".into() };
        assert_eq!(control.rules().get_rule(get).await.unwrap().into_inner(), vip);
        let list = |request| {
            let mut client = control.rules();
            async move { client.list_rules(request).await.unwrap().into_inner().rules }
        };
        assert_eq!(list(ListRulesRequest::default()).await, [none.clone(), vip.clone()]);
        let of = ListRulesRequest { template: "b".into(), domain: DOMAIN.into(), ..Default::default() };
        assert_eq!(list(of).await, std::slice::from_ref(&vip));
        let patch = Rule { name: "rules/vip".into(), priority: 10, ..Rule::default() };
        let update = UpdateRuleRequest { rule: Some(patch), ..Default::default() };
        let updated = control.rules().update_rule(update).await.unwrap().into_inner();
        assert_eq!((updated.priority, updated.stream.as_str()), (10, "vip-*"));
        assert_ne!(updated.etag, vip.etag);
        let patch = Rule { name: "rules/vip".into(), ..Rule::default() };
        let update =
            UpdateRuleRequest { rule: Some(patch), update_mask: mask(&["priority", "stream"]), ..Default::default() };
        let cleared = control.rules().update_rule(update).await.unwrap().into_inner();
        assert_eq!((cleared.priority, cleared.stream.as_str()), (0, "*"), "cleared is the default");
        let delete = DeleteRuleRequest { name: "vip".into(), ..Default::default() };
        control.rules().delete_rule(delete.clone()).await.unwrap();
        assert_eq!(reason(control.rules().delete_rule(delete).await), (Code::NotFound, "RULE_NOT_FOUND".into()));
    });
}

#[test]
fn mistakes_are_told_at_once_and_references_must_exist() {
    on_each(async |control| {
        prepare(&control).await;
        let bad = Rule { template: "a".into(), priority: 2000, ..skip("a/b") };
        let expected = ["rule.priority", "rule.stream", "rule.template"];
        assert_eq!(bad_fields(create(&control, "x", bad).await), expected);
        let nowhere = Rule { domain: "nowhere.example.com".into(), ..record("x", "a") };
        assert_eq!(reason(create(&control, "x", nowhere).await).1, "DOMAIN_NOT_FOUND");
        assert_eq!(reason(create(&control, "x", record("x", "nowhere")).await).1, "TEMPLATE_NOT_FOUND");
        create(&control, "x", record("x", "a")).await.unwrap();
        let same = refused(create(&control, "y", record("x", "a")).await);
        assert_eq!((same.code, same.reason.as_str()), (Code::AlreadyExists, "RULE_EXISTS"));
        assert_eq!(same.details.resource.unwrap().name, "rules/x", "the one that does the same already");
        assert_eq!(reason(create(&control, "x", record("y", "a")).await).1, "RULE_EXISTS");
    });
}

#[test]
fn r15_what_is_explained_is_what_the_nodes_are_told() {
    on_each(async |control| {
        prepare(&control).await;
        assert_eq!(explain(&control, "vip-7").await.templates, ["templates/a"]);
        create(&control, "vip", record("vip-*", "b")).await.unwrap();
        create(&control, "no-tests", skip("test-*")).await.unwrap();
        create(&control, "this", record("vip-7", "a")).await.unwrap();
        control.advance(1);
        create(&control, "that", record("vip-7", "b")).await.unwrap();
        assert_eq!(explain(&control, "vip-8").await.templates, ["templates/b"], "a glob beats the binding");
        assert_eq!(explain(&control, "vip-7").await.templates, ["templates/a", "templates/b"], "exact beats glob");
        assert!(explain(&control, "test-1").await.templates.is_empty());
        let seven = explain(&control, "vip-7").await;
        let sources: Vec<(&str, bool)> =
            seven.candidates.iter().map(|candidate| (candidate.source.as_str(), candidate.chosen)).collect();
        let binding = "domains/push.example.com/bindings/a";
        assert_eq!(sources, [("rules/this", true), ("rules/that", true), ("rules/vip", false), (binding, false)]);
        assert!(seven.candidates.iter().all(|candidate| !candidate.why.is_empty()));
        let off = Rule { name: "rules/vip".into(), disabled: true, ..Rule::default() };
        let off = UpdateRuleRequest { rule: Some(off), ..Default::default() };
        let off = control.rules().update_rule(off).await.unwrap().into_inner();
        assert_eq!(off.state(), rule::State::Unspecified);
        assert_eq!(explain(&control, "vip-8").await.templates, ["templates/a"]);
    });
}

#[test]
fn explaining_needs_a_stream_of_a_known_domain() {
    on_each(async |control| {
        let ask = |domain: &str, stream: &str| ExplainMatchRequest {
            stream: Some(StreamRef { domain: domain.into(), app: String::new(), stream: stream.into() }),
        };
        let unknown = control.rules().explain_match(ask("nowhere.example.com", "x")).await;
        assert_eq!(reason(unknown), (Code::NotFound, "DOMAIN_NOT_FOUND".into()));
        assert_eq!(bad_fields(control.rules().explain_match(ask(DOMAIN, "a/b")).await), ["stream"]);
        let nothing = control.rules().explain_match(ExplainMatchRequest::default()).await;
        assert_eq!(bad_fields(nothing), ["stream"]);
    });
}
