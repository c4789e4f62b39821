//! Tokens: who has which role, for which domains, for how long, and how often.
use std::time::Duration;

use recorder_control::access::Caller;
use recorder_control::access::table::{self, Least};
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::access_service_client::AccessServiceClient;
use recorder_proto::pb::v1::domain_service_client::DomainServiceClient;
use recorder_proto::pb::v1::node_service_client::NodeServiceClient;
use recorder_proto::pb::v1::recording_service_client::RecordingServiceClient;
use recorder_proto::pb::v1::rule_service_client::RuleServiceClient;
use recorder_proto::pb::v1::system_service_client::SystemServiceClient;
use recorder_proto::pb::v1::task_service_client::TaskServiceClient;
use recorder_proto::pb::v1::template_service_client::TemplateServiceClient;
use recorder_proto::pb::v1::token::Role;
use recorder_proto::time::timestamp;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::link::control::{Control, PATIENCE, START, on_each_with, until};
use crate::support::bad_fields;
use crate::unimplemented::{call, methods};

/// The standing tokens of these tests.
const ADMIN: &str = "rec_the-standing-token-of-the-administrator";
const NODE: &str = "rec_the-standing-token-of-every-media-node";

const REQUIRED: &[&str] = &["--access-tokens", "required", "--access-admin-token", ADMIN, "--access-node-token", NODE];

fn on_each(test: impl AsyncFn(Control)) {
    on_each_with(REQUIRED, test);
}

/// A request of whoever holds this token.
fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", header);
    request
}

fn access(control: &Control) -> AccessServiceClient<Channel> {
    AccessServiceClient::new(control.api.clone())
}

fn wanted(roles: &[Role], domains: &[&str]) -> v1::CreateTokenRequest {
    let token = v1::Token {
        display_name: "ci".into(),
        roles: roles.iter().map(|role| i32::from(*role)).collect(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..v1::Token::default()
    };
    v1::CreateTokenRequest { token: Some(token) }
}

async fn create(control: &Control, request: v1::CreateTokenRequest) -> v1::Token {
    access(control).create_token(by(ADMIN, request)).await.unwrap().into_inner()
}

fn refused<T: std::fmt::Debug>(outcome: Result<Response<T>, Status>) -> (Code, String) {
    let problem = Problem::from(&outcome.expect_err("was to be refused"));
    (problem.code, problem.reason)
}

fn no_token() -> (Code, String) {
    (Code::Unauthenticated, "NO_TOKEN".into())
}

fn out_of_scope() -> (Code, String) {
    (Code::PermissionDenied, "DOMAIN_SCOPE".into())
}

#[test]
fn every_rpc_has_a_row_in_the_table_and_every_row_an_rpc() {
    let mut rows: Vec<&str> =
        table::rows().iter().map(|row| row.0).filter(|name| name.starts_with("recorder.")).collect();
    let mut methods = methods();
    rows.sort_unstable();
    methods.sort();
    assert_eq!(rows, methods);
    for row in table::rows() {
        assert_eq!(table::rule(&format!("/{}", row.0)).unwrap().least, row.1, "{}", row.0);
        let of_link = row.0.starts_with("recorder.node.");
        assert_eq!(row.1 == Least::Node, of_link, "{}: NODE is the role of the link, and of nothing else", row.0);
    }
}

#[test]
fn without_a_token_nothing_answers_but_what_needs_no_role() {
    on_each(async |control| {
        for method in methods() {
            let channel = if method.starts_with("recorder.node.") { &control.link } else { &control.api };
            let free = table::rule(&format!("/{method}")).unwrap().least == Least::Anyone;
            match call(channel, &method, None).await {
                Ok(()) => assert!(free, "{method}"),
                Err(status) => {
                    let problem = Problem::from(&status);
                    assert_eq!(
                        (problem.code, problem.reason.as_str()),
                        (Code::Unauthenticated, "NO_TOKEN"),
                        "{method}"
                    );
                    assert!(problem.message.contains("authorization: Bearer"), "{problem}");
                }
            }
        }
        let info = SystemServiceClient::new(control.api.clone()).get_server_info(v1::GetServerInfoRequest {}).await;
        assert_eq!(info.unwrap().into_inner().limits["tokens_max"], "10000");
        for channel in [&control.api, &control.link] {
            let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
            let request = tonic_health::pb::HealthCheckRequest::default();
            assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
        }
        let unknown = call(&control.api, "recorder.v1.RuleService/Explode", None).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented);
    });
}

#[test]
fn each_role_may_what_the_table_says_and_nothing_else() {
    on_each(async |control| {
        for role in [Role::Viewer, Role::Operator, Role::Admin, Role::Node] {
            let secret = create(&control, wanted(&[role], &[])).await.secret;
            for method in methods() {
                let channel = if method.starts_with("recorder.node.") { &control.link } else { &control.api };
                let least = table::rule(&format!("/{method}")).unwrap().least;
                let outcome = call(channel, &method, Some(&secret)).await;
                let denied = match &outcome {
                    Ok(()) => false,
                    Err(status) => {
                        assert_ne!(status.code(), Code::Unauthenticated, "{method}: {status:?}");
                        let problem = Problem::from(status);
                        if problem.reason == "ROLE_REQUIRED" {
                            assert_eq!(problem.code, Code::PermissionDenied);
                            assert_eq!(problem.metadata["required_role"], least.as_str(), "{method}");
                        }
                        problem.reason == "ROLE_REQUIRED"
                    }
                };
                assert_eq!(denied, !Caller::with("x", vec![role]).may(least), "{role:?} {method}: {outcome:?}");
            }
        }
        for (channel, token) in [(&control.link, NODE), (&control.api, ADMIN)] {
            let method = if token == NODE {
                "recorder.node.v1.NodeLinkService/GetSnapshot"
            } else {
                "recorder.v1.NodeService/ListNodes"
            };
            let outcome = call(channel, method, Some(token)).await;
            assert!(
                outcome.is_ok() || outcome.as_ref().is_err_and(|status| status.code() == Code::InvalidArgument),
                "{outcome:?}"
            );
        }
    });
}

#[test]
fn the_secret_is_shown_once_and_kept_nowhere() {
    on_each(async |control| {
        let events = control.events().await;
        let made = create(
            &control,
            wanted(&[Role::Operator, Role::Viewer, Role::Viewer], &["b.Example.com", "a.example.com"]),
        )
        .await;
        assert!(made.secret.starts_with("rec_") && made.secret.len() > 40, "{made:?}");
        assert_eq!(made.prefix, made.secret[..8]);
        assert_eq!(made.roles, [Role::Viewer as i32, Role::Operator as i32]);
        assert_eq!(made.domains, ["a.example.com", "b.example.com"]);
        assert!(made.name.starts_with("tokens/") && made.create_time == Some(timestamp(time_now(&control))));
        let listed =
            access(&control).list_tokens(by(ADMIN, v1::ListTokensRequest::default())).await.unwrap().into_inner();
        assert_eq!(listed.tokens, [v1::Token { secret: String::new(), ..made.clone() }]);
        assert!(!format!("{made:?}").contains(&made.secret));
        let row =
            control.scratch.db.read(|db| recorder_db::tokens::page(db, &recorder_db::Page { before: None, limit: 9 }));
        let row = row.await.unwrap().remove(0);
        let kept = [row.hash.as_slice(), row.body.as_slice()].concat();
        let random = &made.secret.as_bytes()["rec_".len() + 4..];
        assert!(!kept.windows(random.len()).any(|window| window == random));
        if let Some(file) = control.scratch.file() {
            for path in [file.clone(), file.with_extension("db-wal")] {
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert!(!bytes.windows(random.len()).any(|window| window == random), "{}", path.display());
            }
        }
        assert_eq!(control.events().await, events, "tokens are nobody's news");
    });
}

fn time_now(control: &Control) -> chrono::DateTime<chrono::Utc> {
    use recorder_runtime::clock::Clock;
    control.clock.now()
}

#[test]
fn bad_tokens_are_told_field_by_field() {
    on_each(async |control| {
        let bad = async |token: v1::Token| {
            bad_fields(access(&control).create_token(by(ADMIN, v1::CreateTokenRequest { token: Some(token) })).await)
        };
        let everything = v1::Token {
            display_name: "x".repeat(256),
            roles: vec![0, 9],
            domains: vec!["a.example.com".into(), "no domain".into()],
            expire_time: Some(timestamp(time_now(&control))),
            ..v1::Token::default()
        };
        assert_eq!(
            bad(everything).await,
            ["token.display_name", "token.domains[1]", "token.expire_time", "token.roles"]
        );
        assert_eq!(bad(v1::Token::default()).await, ["token.roles"]);
        let both = v1::Token { roles: vec![Role::Node as i32, Role::Admin as i32], ..v1::Token::default() };
        assert_eq!(bad(both).await, ["token.roles"]);
        let node_of_domain = wanted(&[Role::Node], &["a.example.com"]).token.unwrap();
        assert_eq!(bad(node_of_domain).await, ["token.roles"]);
        let unknown = v1::RevokeTokenRequest { name: "no ulid".into() };
        assert_eq!(bad_fields(access(&control).revoke_token(by(ADMIN, unknown)).await), ["name"]);
    });
}

#[test]
fn tokens_are_listed_newest_first_page_by_page() {
    on_each(async |control| {
        let mut names = Vec::new();
        for _ in 0..5 {
            names.insert(0, create(&control, wanted(&[Role::Viewer], &[])).await.name);
        }
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListTokensRequest { page_size: 2, page_token };
            let page = access(&control).list_tokens(by(ADMIN, request)).await.unwrap().into_inner();
            found.extend(page.tokens.into_iter().map(|token| token.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(found, names);
    });
}

#[test]
fn a_revoked_token_ends_at_once_with_what_it_holds_open() {
    on_each(async |control| {
        let token = create(&control, wanted(&[Role::Viewer], &[])).await;
        let mut nodes = NodeServiceClient::new(control.api.clone());
        let request = v1::WatchNodesRequest::default();
        let mut watch = nodes.watch_nodes(by(&token.secret, request)).await.unwrap().into_inner();
        let other = create(&control, wanted(&[Role::Viewer], &[])).await;
        let mut unaffected =
            nodes.watch_nodes(by(&other.secret, v1::WatchNodesRequest::default())).await.unwrap().into_inner();
        let revoke = || by(ADMIN, v1::RevokeTokenRequest { name: token.name.clone() });
        access(&control).revoke_token(revoke()).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, async {
            loop {
                match watch.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the end says why"),
                    Err(status) => return status,
                }
            }
        });
        let problem = Problem::from(&ended.await.expect("it ends soon"));
        assert_eq!((problem.code, problem.reason.as_str()), (Code::Unauthenticated, "NO_TOKEN"));
        assert!(problem.message.contains("revoked"), "{problem}");
        let list = nodes.list_nodes(by(&token.secret, v1::ListNodesRequest::default())).await;
        assert_eq!(refused(list), no_token());
        assert_eq!(refused(access(&control).revoke_token(revoke()).await), (Code::NotFound, "TOKEN_NOT_FOUND".into()));
        nodes.list_nodes(by(&other.secret, v1::ListNodesRequest::default())).await.unwrap();
        let still = tokio::time::timeout(Duration::from_millis(200), async {
            while let Ok(Some(_)) = unaffected.message().await {}
        });
        assert!(still.await.is_err(), "the other token's watch goes on");
    });
}

#[test]
fn a_token_counts_until_it_expires_and_its_use_is_noted_to_the_minute() {
    on_each(async |control| {
        let mut request = wanted(&[Role::Viewer], &[]);
        request.token.as_mut().unwrap().expire_time = Some(prost_types::Timestamp { seconds: START + 100, nanos: 0 });
        let token = create(&control, request).await;
        let mut templates = TemplateServiceClient::new(control.api.clone());
        let mut list = async || templates.list_templates(by(&token.secret, v1::ListTemplatesRequest::default())).await;
        control.clock.advance(Duration::from_secs(99));
        list().await.unwrap();
        let used = until("the use to be noted", async || {
            let request = v1::ListTokensRequest::default();
            let listed = access(&control).list_tokens(by(ADMIN, request)).await.unwrap().into_inner();
            listed.tokens[0].last_used_time
        });
        let minute = (START + 99) - (START + 99) % 60;
        assert_eq!(used.await, prost_types::Timestamp { seconds: minute, nanos: 0 });
        control.clock.advance(Duration::from_secs(1));
        assert_eq!(refused(list().await), no_token());
    });
}

#[test]
fn a_token_limited_to_domains_sees_and_changes_nothing_else() {
    on_each(async |control| {
        let secret = create(&control, wanted(&[Role::Admin], &["a.example.com"])).await.secret;
        let mut domains = DomainServiceClient::new(control.api.clone());
        let mut rules = RuleServiceClient::new(control.api.clone());
        let make = |id: &str| v1::CreateDomainRequest { domain_id: id.into(), ..Default::default() };
        domains.create_domain(by(&secret, make("A.example.com"))).await.unwrap();
        assert_eq!(refused(domains.create_domain(by(&secret, make("b.example.com"))).await), out_of_scope());
        domains.create_domain(by(ADMIN, make("b.example.com"))).await.unwrap();
        let bind = |domains: &[&str]| v1::BindTemplateRequest {
            template: "default".into(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Default::default()
        };
        domains.bind_template(by(&secret, bind(&["a.example.com"]))).await.unwrap();
        for beyond in [&["a.example.com", "b.example.com"][..], &["domains/b.example.com"], &[""], &[]] {
            assert_eq!(refused(domains.bind_template(by(&secret, bind(beyond))).await), out_of_scope(), "{beyond:?}");
        }
        let rule = |id: &str, domain: &str| {
            let rule = v1::Rule {
                domain: domain.into(),
                stream: "vip-*".into(),
                template: "default".into(),
                ..Default::default()
            };
            v1::CreateRuleRequest { rule_id: id.into(), rule: Some(rule), ..Default::default() }
        };
        rules.create_rule(by(&secret, rule("own", "a.example.com"))).await.unwrap();
        rules.create_rule(by(ADMIN, rule("foreign", "b.example.com"))).await.unwrap();
        assert_eq!(refused(rules.create_rule(by(&secret, rule("x", "b.example.com"))).await), out_of_scope());
        let get = |name: &str| v1::GetRuleRequest { name: name.into() };
        rules.get_rule(by(&secret, get("own"))).await.unwrap();
        assert_eq!(refused(rules.get_rule(by(&secret, get("rules/foreign"))).await), out_of_scope());
        assert_eq!(
            refused(rules.get_rule(by(&secret, get("missing"))).await),
            out_of_scope(),
            "nobody learns what is there"
        );
        let moved = v1::Rule { name: "rules/own".into(), domain: "b.example.com".into(), ..Default::default() };
        let moved = v1::UpdateRuleRequest { rule: Some(moved), ..Default::default() };
        assert_eq!(refused(rules.update_rule(by(&secret, moved)).await), out_of_scope());
        let list = |domain: &str| v1::ListRulesRequest { domain: domain.into(), ..Default::default() };
        assert_eq!(rules.list_rules(by(&secret, list("a.example.com"))).await.unwrap().into_inner().rules.len(), 1);
        assert_eq!(refused(rules.list_rules(by(&secret, list(""))).await), out_of_scope(), "a list must name a domain");

        let mut recordings = RecordingServiceClient::new(control.api.clone());
        let stream = |domain: &str| Some(v1::StreamRef { domain: domain.into(), ..Default::default() });
        let watch = |domain: &str| v1::WatchRecordingsRequest { stream: stream(domain), ..Default::default() };
        recordings.watch_recordings(by(&secret, watch("a.example.com"))).await.unwrap();
        assert_eq!(refused(recordings.watch_recordings(by(&secret, watch("b.example.com"))).await), out_of_scope());
        assert_eq!(
            refused(recordings.watch_recordings(by(&secret, v1::WatchRecordingsRequest::default())).await),
            out_of_scope()
        );
        let mut tasks = TaskServiceClient::new(control.api.clone());
        let order = |id: &str, domain: &str| {
            let stream = v1::StreamRef { domain: domain.into(), stream: "cam".into(), ..Default::default() };
            let task = v1::Task { stream: Some(stream), ..Default::default() };
            v1::CreateTaskRequest { task_id: id.into(), task: Some(task), ..Default::default() }
        };
        tasks.create_task(by(&secret, order("own", "a.example.com"))).await.unwrap();
        tasks.create_task(by(ADMIN, order("foreign", "b.example.com"))).await.unwrap();
        assert_eq!(refused(tasks.create_task(by(&secret, order("x", "b.example.com"))).await), out_of_scope());
        let get = |name: &str| v1::GetTaskRequest { name: name.into() };
        tasks.get_task(by(&secret, get("own"))).await.unwrap();
        for name in ["foreign", "tasks/foreign", "missing", ""] {
            assert_eq!(refused(tasks.get_task(by(&secret, get(name))).await), out_of_scope(), "{name}");
        }
        let stop = |name: &str| v1::StopTaskRequest { name: name.into() };
        assert_eq!(refused(tasks.stop_task(by(&secret, stop("foreign"))).await), out_of_scope());
        tasks.stop_task(by(&secret, stop("own"))).await.unwrap();
        let cancel = v1::CancelTaskRequest { name: "foreign".into() };
        assert_eq!(refused(tasks.cancel_task(by(&secret, cancel)).await), out_of_scope());
        let list = |domain: &str| v1::ListTasksRequest { stream: stream(domain), ..Default::default() };
        assert_eq!(tasks.list_tasks(by(&secret, list("a.example.com"))).await.unwrap().into_inner().tasks.len(), 1);
        assert_eq!(refused(tasks.list_tasks(by(&secret, list("b.example.com"))).await), out_of_scope());
        assert_eq!(refused(tasks.list_tasks(by(&secret, v1::ListTasksRequest::default())).await), out_of_scope());
        // The whole server is nobody's who is limited, whatever the role; templates may be read, to be bound.
        assert_eq!(
            refused(access(&control).create_token(by(&secret, wanted(&[Role::Viewer], &[]))).await),
            out_of_scope()
        );
        let mut templates = TemplateServiceClient::new(control.api.clone());
        templates.list_templates(by(&secret, v1::ListTemplatesRequest::default())).await.unwrap();
        let create = v1::CreateTemplateRequest::default();
        assert_eq!(refused(templates.create_template(by(&secret, create)).await), out_of_scope());
    });
}

#[test]
fn a_limited_token_reaches_the_recordings_of_its_domains_only() {
    use crate::link::story::Story;
    on_each(async |control| {
        let secret = create(&control, wanted(&[Role::Viewer], &["a.example.com"])).await.secret;
        let mut link =
            recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient::new(control.link.clone());
        let register =
            recorder_proto::pb::node::RegisterRequest { node: "m1".into(), boot_id: "b".into(), ..Default::default() };
        let epoch = link.register(by(NODE, register)).await.unwrap().into_inner().node_epoch;
        let (own, foreign) = (Story::new("a.example.com", "cam1"), Story::new("b.example.com", "cam1"));
        for story in [&own, &foreign] {
            link.claim_recording(by(NODE, story.claim(epoch))).await.unwrap();
        }
        let mut recordings = RecordingServiceClient::new(control.api.clone());
        let get = |name: String| v1::GetRecordingRequest { name };
        recordings.get_recording(by(&secret, get(own.name()))).await.unwrap();
        assert_eq!(refused(recordings.get_recording(by(&secret, get(foreign.name()))).await), out_of_scope());
        let file = |story: &Story| v1::GetFileRequest { name: format!("{}/files/mp4-0", story.name()) };
        assert_eq!(refused(recordings.get_file(by(&secret, file(&own))).await).0, Code::NotFound);
        assert_eq!(refused(recordings.get_file(by(&secret, file(&foreign))).await), out_of_scope());
    });
}

#[test]
fn who_calls_too_often_is_told_how_long_to_wait() {
    let slow = [REQUIRED, &["--api-rate-limit", "5"]].concat();
    on_each_with(&slow, async |control| {
        let mut templates = TemplateServiceClient::new(control.api.clone());
        let mut list = async |token: &str| {
            templates.list_templates(by(token, v1::ListTemplatesRequest::default())).await.map(drop)
        };
        for _ in 0..10 {
            list(ADMIN).await.unwrap();
        }
        let problem = Problem::from(&list(ADMIN).await.unwrap_err());
        assert_eq!((problem.code, problem.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
        assert_eq!(problem.details.retry_after, Some(Duration::from_millis(200)));
        assert_eq!(Problem::from(&list(NODE).await.unwrap_err()).reason, "ROLE_REQUIRED", "others are not held up");
        control.clock.advance(Duration::from_millis(200));
        list(ADMIN).await.unwrap();
        assert_eq!(Problem::from(&list(ADMIN).await.unwrap_err()).reason, "RATE_LIMITED");
    });
}

#[test]
fn guessing_tokens_is_slowed_down_by_address() {
    on_each(async |control| {
        let mut templates = TemplateServiceClient::new(control.api.clone());
        let known = create(&control, wanted(&[Role::Viewer], &[])).await.secret;
        let mut other = templates.clone();
        let mut list = async || other.list_templates(by(&known, v1::ListTemplatesRequest::default())).await;
        list().await.unwrap();
        let mut guess = async |number: u32| {
            let outcome =
                templates.list_templates(by(&format!("rec_{number}"), v1::ListTemplatesRequest::default())).await;
            refused(outcome)
        };
        for number in 0..20 {
            assert_eq!(guess(number).await, no_token());
        }
        assert_eq!(guess(20).await, (Code::ResourceExhausted, "RATE_LIMITED".into()));
        list().await.expect("a token that counted before is not held up by somebody else's failures");
        control.clock.advance(Duration::from_millis(200));
        assert_eq!(guess(21).await, no_token());
    });
}
