//! What every call has in common: request ids, rehearsals, etags, page tokens, events, and a database that goes away.

use crate::support::{Control, bad_fields, on_each, reason, refused};
use prost::Message;
use recorder_db::events;
use recorder_proto::pb::v1::*;
use tonic::Code;

fn create(id: &str, request_id: &str, description: &str) -> CreateTemplateRequest {
    let template = Template { description: description.into(), ..Default::default() };
    CreateTemplateRequest {
        template_id: id.into(),
        template: Some(template),
        request_id: request_id.into(),
        ..Default::default()
    }
}

async fn count(control: &Control) -> usize {
    control.templates().list_templates(ListTemplatesRequest::default()).await.unwrap().into_inner().templates.len()
}

#[test]
fn a_request_id_gives_the_same_reply_for_24_hours() {
    on_each(async |control| {
        let request = || create("", "9f1c7a52", "once");
        let first = control.templates().create_template(request()).await.unwrap().into_inner();
        control.advance(86_399);
        let again = control.templates().create_template(request()).await.unwrap().into_inner();
        assert_eq!(again, first, "not even the minted id differs");
        assert_eq!(count(&control).await, 2);
        let other = refused(control.templates().create_template(create("", "9f1c7a52", "another")).await);
        assert_eq!((other.code, other.reason.as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
        let elsewhere = CreateDomainRequest {
            domain_id: "d.example.com".into(),
            request_id: "9f1c7a52".into(),
            ..Default::default()
        };
        assert_eq!(reason(control.domains().create_domain(elsewhere).await).1, "REQUEST_ID_REUSED");
        control.advance(2);
        let later = control.templates().create_template(request()).await.unwrap().into_inner();
        assert_ne!(later.name, first.name, "forgotten after 24 hours");
    });
}

#[test]
fn a_refused_request_keeps_no_reply() {
    on_each(async |control| {
        let request = || create("show", "r1", "x");
        control.templates().create_template(create("show", "", "x")).await.unwrap();
        assert_eq!(reason(control.templates().create_template(request()).await).0, Code::AlreadyExists);
        let delete = DeleteTemplateRequest { name: "show".into(), ..Default::default() };
        control.templates().delete_template(delete).await.unwrap();
        control.templates().create_template(request()).await.unwrap();
        let long = create("x", &"r".repeat(65), "");
        assert_eq!(bad_fields(control.templates().create_template(long).await), ["request_id"]);
    });
}

#[test]
fn validate_only_checks_everything_and_changes_nothing() {
    on_each(async |control| {
        let before = control.system().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        let rehearse = |request: CreateTemplateRequest| CreateTemplateRequest { validate_only: true, ..request };
        let reply =
            control.templates().create_template(rehearse(create("show", "r1", "x"))).await.unwrap().into_inner();
        assert_eq!((reply.name.as_str(), reply.revision), ("templates/show", 1));
        assert_eq!(count(&control).await, 1);
        let bind = BindTemplateRequest {
            template: "default".into(),
            domains: vec!["d.example.com".into()],
            create_domains: true,
            validate_only: true,
            ..Default::default()
        };
        assert_eq!(control.domains().bind_template(bind).await.unwrap().into_inner().bindings.len(), 1);
        let domains = control.domains().list_domains(ListDomainsRequest::default()).await.unwrap().into_inner();
        assert!(domains.domains.is_empty());
        let after = control.system().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        assert_eq!(after.directives_version, before.directives_version);
        control.templates().create_template(create("show", "r1", "y")).await.unwrap();
        let taken = control.templates().create_template(rehearse(create("show", "", ""))).await;
        assert_eq!(reason(taken).0, Code::AlreadyExists, "what would fail fails");
    });
}

#[test]
fn an_etag_guards_changes() {
    on_each(async |control| {
        let old = control.templates().create_template(create("show", "", "a")).await.unwrap().into_inner();
        let patch = |etag: &str, text: &str| UpdateTemplateRequest {
            template: Some(Template {
                name: "show".into(),
                description: text.into(),
                etag: etag.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let new = control.templates().update_template(patch(&old.etag, "b")).await.unwrap().into_inner();
        let stale = refused(control.templates().update_template(patch(&old.etag, "c")).await);
        assert_eq!((stale.code, stale.reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        assert_eq!(stale.metadata["current_etag"], new.etag);
        let delete = |etag: &str| DeleteTemplateRequest { name: "show".into(), etag: etag.into(), force: false };
        assert_eq!(reason(control.templates().delete_template(delete(&old.etag)).await).0, Code::Aborted);
        control.templates().update_template(patch("", "last write wins")).await.unwrap();
        let current = GetTemplateRequest { name: "show".into(), ..Default::default() };
        let current = control.templates().get_template(current).await.unwrap().into_inner();
        control.templates().delete_template(delete(&current.etag)).await.unwrap();
        let reborn = control.templates().create_template(create("show", "", "a")).await.unwrap().into_inner();
        assert_ne!(reborn.etag, old.etag, "a resource of the same name is another one");
    });
}

#[test]
fn pages_are_bounded_and_tokens_belong_to_their_list() {
    on_each(async |control| {
        for number in 0..60 {
            control.templates().create_template(create(&format!("t{number}"), "", "")).await.unwrap();
        }
        let list = |page_size, page_token: &str, order_by: &str| ListTemplatesRequest {
            page_size,
            page_token: page_token.into(),
            order_by: order_by.into(),
            ..Default::default()
        };
        let first = control.templates().list_templates(list(0, "", "")).await.unwrap().into_inner();
        assert_eq!(first.templates.len(), 50);
        let rest = control.templates().list_templates(list(0, &first.next_page_token, "")).await.unwrap().into_inner();
        assert_eq!((rest.templates.len(), rest.next_page_token.as_str()), (11, ""));
        let all = control.templates().list_templates(list(5000, "", "")).await.unwrap().into_inner();
        assert_eq!(all.templates.len(), 61);
        assert_eq!(bad_fields(control.templates().list_templates(list(-1, "", "")).await), ["page_size"]);
        for token in ["x", "AAAA", &first.next_page_token[1..]] {
            assert_eq!(bad_fields(control.templates().list_templates(list(0, token, "")).await), ["page_token"]);
        }
        let other_order = control.templates().list_templates(list(0, &first.next_page_token, "name")).await;
        assert_eq!(bad_fields(other_order), ["page_token"]);
        let rules = ListRulesRequest { page_token: first.next_page_token.clone(), ..Default::default() };
        assert_eq!(bad_fields(control.rules().list_rules(rules).await), ["page_token"]);
        let deleted = DeleteTemplateRequest { name: first.templates[49].name.clone(), ..Default::default() };
        control.templates().delete_template(deleted).await.unwrap();
        let rest = control.templates().list_templates(list(0, &first.next_page_token, "")).await.unwrap().into_inner();
        assert_eq!(rest.templates.len(), 11, "a token outlives the row it was made at");
    });
}

#[test]
fn tokens_outlive_a_restart() {
    on_each(async |control| {
        control.templates().create_template(create("a", "", "")).await.unwrap();
        let list = |page_token: &str| ListTemplatesRequest {
            page_size: 1,
            page_token: page_token.into(),
            ..Default::default()
        };
        let first = control.templates().list_templates(list("")).await.unwrap().into_inner();
        let url = control.scratch.url.clone();
        let db = tokio::task::spawn_blocking(move || recorder_db::Db::open(&url)).await.unwrap().unwrap();
        let clock = std::sync::Arc::new(control.clock.clone());
        let root = control.library.path().to_owned();
        let restarted = recorder_control::api::Api::start(db, crate::support::sealer(), clock, root).await.unwrap();
        let mut client = template_service_client::TemplateServiceClient::new(crate::support::serve(&restarted).await);
        let second = client.list_templates(list(&first.next_page_token)).await.unwrap().into_inner();
        assert_eq!(second.templates[0].name, "templates/default", "and nothing was seeded twice");
        assert_eq!(second.next_page_token, "");
    });
}

#[test]
fn every_change_leaves_an_event_with_the_resource() {
    on_each(async |control| {
        let from = control.scratch.db.read(events::last).await.unwrap();
        control.templates().create_template(create("show", "", "a")).await.unwrap();
        let bind = BindTemplateRequest {
            template: "show".into(),
            domains: vec!["d.example.com".into()],
            create_domains: true,
            ..Default::default()
        };
        control.domains().bind_template(bind.clone()).await.unwrap();
        control.domains().bind_template(bind).await.unwrap();
        let delete = DeleteTemplateRequest { name: "show".into(), force: true, ..Default::default() };
        control.templates().delete_template(delete).await.unwrap();
        let rows = control.scratch.db.read(move |c| events::after(c, from, 100)).await.unwrap();
        let told: Vec<(&str, &str)> = rows.iter().map(|row| (row.kind.as_str(), row.subject.as_str())).collect();
        let binding = "domains/d.example.com/bindings/show";
        let expected = [
            ("template.created", "templates/show"),
            ("domain.created", "domains/d.example.com"),
            ("binding.created", binding),
            ("binding.deleted", binding),
            ("template.deleted", "templates/show"),
        ];
        assert_eq!(told, expected);
        let template = Template::decode(rows[0].body.as_slice()).unwrap();
        assert_eq!(template.description, "a");
    });
}

#[test]
fn server_info_tells_version_database_and_limits() {
    on_each(async |control| {
        let info = control.system().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
        assert_eq!(info.database, control.scratch.db.kind().as_str());
        assert_eq!(info.now.unwrap().seconds, crate::support::EPOCH);
        assert_eq!(info.limits["file_duration_max"], "43200s");
        assert!(!info.version.is_empty() && !info.git_sha.is_empty());
    });
}

#[test]
fn postgres_going_away_is_unavailable_with_a_time_to_come_back() {
    on_each(async |control| {
        if control.scratch.db.kind() != recorder_db::Kind::Postgres {
            return;
        }
        control.scratch.refuse_connections().unwrap();
        let away = refused(control.templates().list_templates(ListTemplatesRequest::default()).await);
        assert_eq!((away.code, away.reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
        assert!(away.details.retry_after.is_some());
        assert!(!away.message.contains("127.0.0.1"), "{away}");
        control.scratch.accept_connections().unwrap();
        let back = control.templates().list_templates(ListTemplatesRequest::default()).await.unwrap().into_inner();
        assert_eq!(back.templates.len(), 1);
    });
}
