//! DomainService over the wire: domains, bindings and publish URLs.

use crate::support::{Control, EPOCH, bad_fields, mask, on_each, reason, refused, seconds};
use md5::{Digest, Md5};
use recorder_control::api::secrets;
use recorder_db::{node_acks, nodes};
use recorder_proto::pb::v1::domain::PublishAuth;
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_proto::pb::v1::*;
use tonic::Code;

fn auth(mode: Mode, primary: &str, secondary: &str) -> Domain {
    let auth = PublishAuth {
        mode: mode.into(),
        primary_key: primary.into(),
        secondary_key: secondary.into(),
        ..PublishAuth::default()
    };
    Domain { publish_auth: Some(auth), ..Domain::default() }
}

async fn create(control: &Control, id: &str, domain: Domain) -> Domain {
    let request = CreateDomainRequest { domain_id: id.into(), domain: Some(domain), ..Default::default() };
    control.domains().create_domain(request).await.unwrap().into_inner()
}

async fn template(control: &Control, id: &str) {
    let request = CreateTemplateRequest { template_id: id.into(), ..Default::default() };
    control.templates().create_template(request).await.unwrap();
}

fn bind(template: &str, domains: &[&str]) -> BindTemplateRequest {
    let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    BindTemplateRequest { template: template.into(), domains, ..Default::default() }
}

async fn bindings(control: &Control, request: ListBindingsRequest) -> Vec<Binding> {
    control.domains().list_bindings(request).await.unwrap().into_inner().bindings
}

fn names(bindings: &[Binding]) -> Vec<&str> {
    bindings.iter().map(|binding| binding.name.as_str()).collect()
}

async fn directives_version(control: &Control) -> u64 {
    control.system().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner().directives_version
}

/// The templates that would record a stream of a domain.
async fn recorded_by(control: &Control, domain: &str) -> Vec<String> {
    let stream = StreamRef { domain: domain.into(), app: String::new(), stream: "cam1".into() };
    let request = ExplainMatchRequest { stream: Some(stream) };
    control.rules().explain_match(request).await.unwrap().into_inner().templates
}

/// The keys as nodes get them.
async fn keys(control: &Control) -> (String, String) {
    let sealer = crate::support::sealer();
    let keys = control.scratch.db.read(move |c| secrets::publish_keys(c, &sealer, "push.example.com")).await.unwrap();
    (keys.primary, keys.secondary)
}

#[test]
fn domains_are_created_read_listed_changed_and_deleted() {
    on_each(async |control| {
        let created = create(&control, "Push.Example.com", Domain::default()).await;
        assert_eq!(created.name, "domains/push.example.com");
        assert_eq!(created.publish_auth.as_ref().unwrap().mode(), Mode::Open);
        let get = |name: &str| GetDomainRequest { name: name.into() };
        for name in ["push.example.com", "domains/PUSH.example.com"] {
            assert_eq!(control.domains().get_domain(get(name)).await.unwrap().into_inner(), created);
        }
        let taken = CreateDomainRequest { domain_id: "push.example.com".into(), ..Default::default() };
        assert_eq!(reason(control.domains().create_domain(taken).await), (Code::AlreadyExists, "DOMAIN_EXISTS".into()));
        let patch = Domain { name: created.name.clone(), disabled: true, protocols: vec![1], ..Domain::default() };
        let update = UpdateDomainRequest { domain: Some(patch), update_mask: None };
        let updated = control.domains().update_domain(update).await.unwrap().into_inner();
        assert!(updated.disabled && updated.protocols == [1]);
        let list = control.domains().list_domains(ListDomainsRequest::default()).await.unwrap().into_inner();
        assert_eq!(list.domains, [updated]);
        let delete = DeleteDomainRequest { name: "push.example.com".into(), ..Default::default() };
        control.domains().delete_domain(delete.clone()).await.unwrap();
        assert_eq!(reason(control.domains().delete_domain(delete).await).1, "DOMAIN_NOT_FOUND");
        let bad = CreateDomainRequest {
            domain_id: "not a name".into(),
            domain: Some(Domain { protocols: vec![9], ..auth(Mode::SignedUrl, "", "") }),
            ..Default::default()
        };
        let expected = ["domain.protocols[0]", "domain.publish_auth.primary_key", "domain_id"];
        assert_eq!(bad_fields(control.domains().create_domain(bad).await), expected);
    });
}

#[test]
fn publish_keys_are_kept_replaced_and_never_shown() {
    on_each(async |control| {
        let created = create(&control, "push.example.com", auth(Mode::SignedUrl, "k1", "k2")).await;
        let shown = created.publish_auth.unwrap();
        assert_eq!((shown.mode(), shown.primary_key.as_str(), shown.secondary_key.as_str()), (Mode::SignedUrl, "", ""));
        assert_eq!(keys(&control).await, ("k1".into(), "k2".into()));
        let update = async |domain: Domain, paths: &[&str]| {
            let domain = Some(Domain { name: "push.example.com".into(), ..domain });
            let update_mask = if paths.is_empty() { None } else { mask(paths) };
            control.domains().update_domain(UpdateDomainRequest { domain, update_mask }).await
        };
        update(Domain { disabled: true, ..Domain::default() }, &[]).await.unwrap();
        assert_eq!(keys(&control).await, ("k1".into(), "k2".into()));
        update(auth(Mode::SignedUrl, "k3", ""), &[]).await.unwrap();
        assert_eq!(keys(&control).await, ("k3".into(), "k2".into()), "what is not given stays");
        update(auth(Mode::SignedUrl, "", ""), &["*"]).await.unwrap();
        assert_eq!(keys(&control).await, ("k3".into(), "k2".into()), "nobody can read keys back to repeat them");
        update(Domain::default(), &["publish_auth.secondary_key"]).await.unwrap();
        assert_eq!(keys(&control).await, ("k3".into(), String::new()));
        let without = update(Domain::default(), &["publish_auth.primary_key"]).await;
        assert_eq!(bad_fields(without), ["domain.publish_auth.primary_key"]);
        update(auth(Mode::Open, "", ""), &["publish_auth"]).await.unwrap();
        assert_eq!(keys(&control).await, (String::new(), String::new()));
    });
}

#[test]
fn r11_one_template_is_bound_to_many_domains_at_once() {
    on_each(async |control| {
        template(&control, "show").await;
        create(&control, "a.example.com", Domain::default()).await;
        let missing = refused(control.domains().bind_template(bind("show", &["a.example.com", "b.example.com"])).await);
        assert_eq!((missing.code, missing.reason.as_str()), (Code::NotFound, "DOMAIN_NOT_FOUND"));
        assert!(missing.message.contains("domains/b.example.com"), "{missing}");
        assert!(bindings(&control, ListBindingsRequest::default()).await.is_empty(), "all or nothing");
        let both = BindTemplateRequest { create_domains: true, ..bind("show", &["b.example.com", "a.example.com"]) };
        let first = control.domains().bind_template(both.clone()).await.unwrap().into_inner().bindings;
        let expected = ["domains/b.example.com/bindings/show", "domains/a.example.com/bindings/show"];
        assert_eq!(names(&first), expected);
        let version = directives_version(&control).await;
        let again = control.domains().bind_template(both).await.unwrap().into_inner().bindings;
        assert_eq!(again, first, "idempotent");
        assert_eq!(directives_version(&control).await, version, "the nodes hear nothing of it");
        let app = BindTemplateRequest { app: "live".into(), ..bind("show", &["a.example.com"]) };
        let app = control.domains().bind_template(app).await.unwrap().into_inner().bindings;
        assert_eq!(names(&app), ["domains/a.example.com/bindings/show~live"]);
        let of = ListBindingsRequest { domain: "a.example.com".into(), ..Default::default() };
        let expected = ["domains/a.example.com/bindings/show~live", "domains/a.example.com/bindings/show"];
        assert_eq!(names(&bindings(&control, of).await), expected);
        let of = ListBindingsRequest { template: "default".into(), ..Default::default() };
        assert!(bindings(&control, of).await.is_empty());
        let unknown = control.domains().bind_template(bind("nowhere", &["a.example.com"])).await;
        assert_eq!(reason(unknown).1, "TEMPLATE_NOT_FOUND");
        let bad = control.domains().bind_template(bind("", &["not ok"])).await;
        assert_eq!(bad_fields(bad), ["domains[0]", "template"]);
    });
}

#[test]
fn r13_one_domain_is_unbound_and_unbinding_again_is_fine() {
    on_each(async |control| {
        template(&control, "show").await;
        let both = BindTemplateRequest { create_domains: true, ..bind("show", &["a.example.com", "b.example.com"]) };
        control.domains().bind_template(both).await.unwrap();
        let unbind = |template: &str, domain: &str, app: &str| UnbindTemplateRequest {
            template: template.into(),
            domains: vec![domain.into()],
            app: app.into(),
        };
        control.domains().unbind_template(unbind("show", "a.example.com", "live")).await.unwrap();
        assert_eq!(bindings(&control, ListBindingsRequest::default()).await.len(), 2, "another app is another binding");
        assert_eq!(recorded_by(&control, "a.example.com").await, ["templates/show"]);
        for _ in 0..2 {
            control.domains().unbind_template(unbind("show", "a.example.com", "")).await.unwrap();
        }
        let left = bindings(&control, ListBindingsRequest::default()).await;
        assert_eq!(names(&left), ["domains/b.example.com/bindings/show"]);
        assert!(recorded_by(&control, "a.example.com").await.is_empty(), "the next publish is not recorded");
        assert_eq!(recorded_by(&control, "b.example.com").await, ["templates/show"]);
        let unknown = control.domains().unbind_template(unbind("show", "c.example.com", "")).await;
        assert_eq!(reason(unknown).1, "DOMAIN_NOT_FOUND", "a typing error is no success");
        let unknown = control.domains().unbind_template(unbind("nowhere", "a.example.com", "")).await;
        assert_eq!(reason(unknown).1, "TEMPLATE_NOT_FOUND");
    });
}

#[test]
fn a_domain_in_use_is_deleted_by_force_only() {
    on_each(async |control| {
        let request = BindTemplateRequest { create_domains: true, ..bind("default", &["a.example.com"]) };
        control.domains().bind_template(request).await.unwrap();
        let rule = Rule { domain: "a.example.com".into(), action: rule::Action::Skip.into(), ..Rule::default() };
        let rule = CreateRuleRequest { rule_id: "none".into(), rule: Some(rule), ..Default::default() };
        control.rules().create_rule(rule).await.unwrap();
        let delete = |force| DeleteDomainRequest { name: "a.example.com".into(), force, ..Default::default() };
        let used = refused(control.domains().delete_domain(delete(false)).await);
        assert_eq!((used.code, used.reason.as_str()), (Code::FailedPrecondition, "DOMAIN_IN_USE"));
        let subjects: Vec<&str> = used.details.preconditions.iter().map(|p| p.subject.as_str()).collect();
        assert_eq!(subjects, ["domains/a.example.com/bindings/default", "rules/none"]);
        control.domains().delete_domain(delete(true)).await.unwrap();
        assert!(bindings(&control, ListBindingsRequest::default()).await.is_empty());
        let rules = control.rules().list_rules(ListRulesRequest::default()).await.unwrap().into_inner();
        assert!(rules.rules.is_empty());
    });
}

#[test]
fn r18_a_binding_shows_how_many_nodes_have_applied_it() {
    on_each(async |control| {
        let request = BindTemplateRequest { create_domains: true, ..bind("default", &["a.example.com"]) };
        control.domains().bind_template(request).await.unwrap();
        let seen = async || {
            let binding = bindings(&control, ListBindingsRequest::default()).await.remove(0);
            (binding.state(), binding.nodes_applied, binding.nodes_total, binding.error.map(|error| error.message))
        };
        assert_eq!(seen().await, (binding::State::Pending, 0, 0, None));
        let version = i64::try_from(directives_version(&control).await).unwrap();
        let db = &control.scratch.db;
        db.write(move |c| {
            nodes::insert(c, &node("m1", version))?;
            nodes::insert(c, &node("m2", version - 1))
        })
        .await
        .unwrap();
        assert_eq!(seen().await, (binding::State::Pending, 1, 2, None));
        db.write(move |c| nodes::update(c, &node("m2", version))).await.unwrap();
        assert_eq!(seen().await, (binding::State::Active, 2, 2, None));
        let error = tonic_types::pb::Status { code: 3, message: "disk full".into(), details: vec![] };
        let refusal = node_acks::Row {
            node: "m2".into(),
            directive: recorder_control::directives::names::binding("a.example.com", "default", ""),
            version,
            error: prost::Message::encode_to_vec(&error),
        };
        db.write(move |c| node_acks::put(c, &refusal)).await.unwrap();
        assert_eq!(seen().await, (binding::State::Rejected, 1, 2, Some("disk full".into())));
    });
}

fn node(id: &str, applied_version: i64) -> nodes::Row {
    nodes::Row {
        id: id.into(),
        rev: 1,
        epoch: 1,
        boot_id: "b".into(),
        lease_until: (EPOCH + 15) * 1_000_000,
        applied_version,
        state: 1,
        body: vec![],
        create_time: 1,
        update_time: 1,
        drain: None,
    }
}

#[test]
fn publish_urls_are_signed_when_the_domain_asks_for_it() {
    on_each(async |control| {
        create(&control, "open.example.com", Domain::default()).await;
        create(&control, "signed.example.com", auth(Mode::SignedUrl, "k1", "k2")).await;
        let url = |domain: &str, app: &str, stream: &str, ttl| GeneratePublishUrlRequest {
            domain: domain.into(),
            app: app.into(),
            stream: stream.into(),
            ttl,
        };
        let open = control.domains().generate_publish_url(url("open.example.com", "", "cam1", None)).await;
        let open = open.unwrap().into_inner();
        assert_eq!(open.rtmp_url, "rtmp://open.example.com/live/cam1");
        assert_eq!(open.whip_url, "http://open.example.com:8080/whip/live/cam1");
        assert_eq!(open.expire_time, None);
        let signed = url("domains/signed.example.com", "studio/a", "直播 1", seconds(3600));
        let signed = control.domains().generate_publish_url(signed).await.unwrap().into_inner();
        let expires = EPOCH + 3600;
        assert_eq!(signed.expire_time.unwrap().seconds, expires);
        let time = format!("{expires:X}");
        let secret = hex::encode(Md5::digest(format!("k1直播 1{time}")));
        let query = format!("?txSecret={secret}&txTime={time}");
        assert_eq!(signed.rtmp_url, format!("rtmp://signed.example.com/studio/a/直播 1{query}"));
        let path = "/whip/studio/a/%E7%9B%B4%E6%92%AD%201";
        assert_eq!(signed.whip_url, format!("http://signed.example.com:8080{path}{query}"));
        let unknown = control.domains().generate_publish_url(url("nowhere", "", "cam1", None)).await;
        assert_eq!(reason(unknown), (Code::NotFound, "DOMAIN_NOT_FOUND".into()), "R23: the domain must exist");
        let long = control.domains().generate_publish_url(url("open.example.com", "", "", seconds(2_592_001))).await;
        assert_eq!(bad_fields(long), ["stream", "ttl"]);
        for stream in ["a/b", "a?b", "a\n"] {
            let bad = control.domains().generate_publish_url(url("open.example.com", "", stream, None)).await;
            assert_eq!(bad_fields(bad), ["stream"]);
        }
    });
}
