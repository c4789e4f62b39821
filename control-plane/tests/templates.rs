//! TemplateService over the wire; tests are named after the lines of the mission they show.

use crate::support::{Control, bad_fields, mask, on_each, reason, refused, seconds};
use recorder_proto::limits;
use recorder_proto::pb::v1::template::{AudioMode, Content, Flv, Hls, Mp4};
use recorder_proto::pb::v1::*;
use tonic::Code;

async fn create(control: &Control, id: &str, template: Template) -> Template {
    let request = CreateTemplateRequest { template_id: id.to_owned(), template: Some(template), ..Default::default() };
    control.templates().create_template(request).await.unwrap().into_inner()
}

async fn get(control: &Control, name: &str, revision: u32) -> Result<tonic::Response<Template>, tonic::Status> {
    control.templates().get_template(GetTemplateRequest { name: name.to_owned(), revision }).await
}

fn update(template: Template, paths: &[&str]) -> UpdateTemplateRequest {
    let update_mask = if paths.is_empty() { None } else { mask(paths) };
    UpdateTemplateRequest { template: Some(template), update_mask, validate_only: false }
}

async fn names(control: &Control, request: ListTemplatesRequest) -> Vec<String> {
    let reply = control.templates().list_templates(request).await.unwrap().into_inner();
    reply.templates.into_iter().map(|template| template.name).collect()
}

#[test]
fn r1_templates_are_created_read_listed_changed_and_deleted() {
    on_each(async |control| {
        let created =
            create(&control, "show", Template { description: "Evening show".into(), ..Default::default() }).await;
        assert_eq!((created.name.as_str(), created.revision), ("templates/show", 1));
        for name in ["show", "templates/show"] {
            assert_eq!(get(&control, name, 0).await.unwrap().into_inner(), created);
        }
        assert_eq!(names(&control, ListTemplatesRequest::default()).await, ["templates/show", "templates/default"]);
        control.advance(1);
        let patch = Template { name: "show".into(), description: "new text".into(), ..Default::default() };
        let updated = control.templates().update_template(update(patch, &[])).await.unwrap().into_inner();
        assert_eq!((updated.description.as_str(), updated.revision), ("new text", 2));
        assert_ne!(updated.etag, created.etag);
        assert!(updated.update_time != created.update_time && updated.create_time == created.create_time);
        assert_eq!(
            updated,
            Template {
                description: updated.description.clone(),
                revision: 2,
                etag: updated.etag.clone(),
                update_time: updated.update_time,
                ..created
            }
        );
        let delete = DeleteTemplateRequest { name: "show".into(), ..Default::default() };
        control.templates().delete_template(delete.clone()).await.unwrap();
        let gone = refused(get(&control, "show", 0).await);
        assert_eq!((gone.code, gone.reason.as_str()), (Code::NotFound, "TEMPLATE_NOT_FOUND"));
        let resource = gone.details.resource.unwrap();
        assert_eq!((resource.kind.as_str(), resource.name.as_str()), ("template", "templates/show"));
        let twice = reason(control.templates().delete_template(delete).await);
        assert_eq!(twice, (Code::NotFound, "TEMPLATE_NOT_FOUND".into()));
    });
}

#[test]
fn the_smallest_request_shows_every_default() {
    on_each(async |control| {
        let request = CreateTemplateRequest { template_id: "t1".into(), ..Default::default() };
        let template = control.templates().create_template(request).await.unwrap().into_inner();
        assert_eq!(template.display_name, "t1");
        assert_eq!(template.storage, "storages/library", "the default storage, by name");
        assert_eq!((template.content(), template.audio()), (Content::Original, AudioMode::Auto));
        assert_eq!((template.time_zone.as_str(), template.path.as_str()), ("UTC", limits::PATH_DEFAULT));
        let hls = template.hls.unwrap();
        assert_eq!((hls.segment_duration, hls.resume_timeout, hls.max_file_duration), (seconds(10), seconds(0), None));
        assert_eq!((template.max_duration, template.pre_roll), (seconds(0), seconds(0)));
        assert!(template.flv.is_none() && template.mp4.is_none() && template.aac.is_none());
        assert!(!template.etag.is_empty() && template.create_time.is_some());
    });
}

#[test]
fn r17_the_default_template_is_built_in_and_records_hls_into_the_default_storage() {
    on_each(async |control| {
        let template = get(&control, "default", 0).await.unwrap().into_inner();
        assert!(template.hls.is_some() && template.storage == "storages/library");
        let delete = DeleteTemplateRequest { name: "default".into(), force: true, ..Default::default() };
        let refusal = reason(control.templates().delete_template(delete).await);
        assert_eq!(refusal, (Code::FailedPrecondition, "BUILT_IN".into()));
        assert_eq!(reason(get(&control, "nowhere", 0).await).0, Code::NotFound, "never a silent default");
    });
}

#[test]
fn r2_r3_r26_every_bad_field_is_named_at_once() {
    on_each(async |control| {
        let template = Template {
            display_name: "two words".into(),
            description: "full stop.".into(),
            record_standby: true,
            path: "{RecordId}-{EndSecond}".into(),
            flv: Some(Flv { max_file_duration: seconds(10), ..Default::default() }),
            hls: Some(Hls { resume_timeout: seconds(1801), ..Default::default() }),
            ..Default::default()
        };
        let request = CreateTemplateRequest {
            template_id: "Bad Id".into(),
            template: Some(template),
            validate_only: true,
            ..Default::default()
        };
        let problem = refused(control.templates().create_template(request.clone()).await);
        assert!(
            problem.message.contains("template.flv.max_file_duration: must be 60s to 43200s, got 10s"),
            "{problem}"
        );
        let expected = [
            "template.description",
            "template.display_name",
            "template.flv.max_file_duration",
            "template.hls.resume_timeout",
            "template.path",
            "template.record_standby",
            "template_id",
        ];
        assert_eq!(bad_fields(control.templates().create_template(request).await), expected);
    });
}

#[test]
fn an_id_is_minted_or_taken_once() {
    on_each(async |control| {
        let minted = control.templates().create_template(CreateTemplateRequest::default()).await.unwrap().into_inner();
        assert!(minted.name.starts_with("templates/t-"), "{}", minted.name);
        assert_eq!(get(&control, &minted.name, 0).await.unwrap().into_inner(), minted);
        create(&control, "t1", Template::default()).await;
        let again = CreateTemplateRequest { template_id: "t1".into(), ..Default::default() };
        let taken = refused(control.templates().create_template(again).await);
        assert_eq!((taken.code, taken.reason.as_str()), (Code::AlreadyExists, "TEMPLATE_EXISTS"));
        assert_eq!(taken.details.resource.unwrap().name, "templates/t1");
    });
}

#[test]
fn references_must_exist() {
    on_each(async |control| {
        for (template, expected) in [
            (Template { storage: "nowhere".into(), ..Default::default() }, "STORAGE_NOT_FOUND"),
            (Template { watermark: "logo".into(), ..Default::default() }, "WATERMARK_NOT_FOUND"),
            (Template { transcoding: "hd".into(), ..Default::default() }, "TRANSCODING_NOT_FOUND"),
        ] {
            let request = CreateTemplateRequest { template: Some(template), ..Default::default() };
            assert_eq!(reason(control.templates().create_template(request).await), (Code::NotFound, expected.into()));
        }
    });
}

#[test]
fn a_mask_clears_a_format_and_an_unknown_path_is_refused() {
    on_each(async |control| {
        let both = Template { hls: Some(Hls::default()), aac: Some(template::Aac::default()), ..Default::default() };
        create(&control, "show", both).await;
        let named = || Template { name: "templates/show".into(), ..Default::default() };
        let updated = control.templates().update_template(update(named(), &["aac"])).await.unwrap().into_inner();
        assert!(updated.aac.is_none() && updated.hls.is_some());
        let fields = bad_fields(control.templates().update_template(update(named(), &["acc"])).await);
        assert_eq!(fields, ["update_mask"]);
        let only_hls = control.templates().update_template(update(named(), &["hls"])).await.unwrap().into_inner();
        assert!(only_hls.hls.is_some(), "no format set is HLS");
        let whole = Template { mp4: Some(Mp4::default()), description: "x".into(), ..named() };
        let replaced = control.templates().update_template(update(whole, &["*"])).await.unwrap().into_inner();
        assert!(replaced.hls.is_none() && replaced.mp4.is_some());
        let bad = Template { mp4: Some(Mp4 { max_file_duration: seconds(1), ..Default::default() }), ..named() };
        let fields = bad_fields(control.templates().update_template(update(bad, &[])).await);
        assert_eq!(fields, ["template.mp4.max_file_duration"]);
        assert_eq!(
            bad_fields(control.templates().update_template(UpdateTemplateRequest::default()).await),
            ["template.name"]
        );
    });
}

#[test]
fn every_change_is_a_revision_and_old_ones_stay() {
    on_each(async |control| {
        let first = create(&control, "show", Template::default()).await;
        control.advance(10);
        let patch = Template { name: "show".into(), mp4: Some(Mp4::default()), ..Default::default() };
        let second = control.templates().update_template(update(patch.clone(), &[])).await.unwrap().into_inner();
        let same = control.templates().update_template(update(patch, &[])).await.unwrap().into_inner();
        assert_eq!(same, second, "a change of nothing makes no revision");
        let old = get(&control, "show", 1).await.unwrap().into_inner();
        assert_eq!(old, Template { etag: String::new(), ..first });
        assert_eq!(get(&control, "show", 2).await.unwrap().into_inner(), second);
        let missing = reason(get(&control, "show", 3).await);
        assert_eq!(missing, (Code::NotFound, "TEMPLATE_REVISION_NOT_FOUND".into()));
    });
}

#[test]
fn r12_r14_delete_is_refused_while_bound_and_names_every_referrer() {
    on_each(async |control| {
        create(&control, "show", Template::default()).await;
        let bind = BindTemplateRequest {
            template: "show".into(),
            domains: vec!["a.example.com".into(), "b.example.com".into()],
            create_domains: true,
            ..Default::default()
        };
        control.domains().bind_template(bind).await.unwrap();
        let rule = Rule {
            domain: "a.example.com".into(),
            stream: "vip-*".into(),
            template: "show".into(),
            ..Default::default()
        };
        let rule = CreateRuleRequest { rule_id: "vip".into(), rule: Some(rule), ..Default::default() };
        control.rules().create_rule(rule).await.unwrap();
        let delete = |force| DeleteTemplateRequest { name: "show".into(), force, ..Default::default() };
        let problem = refused(control.templates().delete_template(delete(false)).await);
        assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, "TEMPLATE_IN_USE"));
        assert!(problem.message.contains("force:true"), "{problem}");
        let subjects: Vec<&str> = problem.details.preconditions.iter().map(|p| p.subject.as_str()).collect();
        let expected = ["domains/a.example.com/bindings/show", "domains/b.example.com/bindings/show", "rules/vip"];
        assert_eq!(subjects, expected);
        control.templates().delete_template(delete(true)).await.unwrap();
        let bindings = control.domains().list_bindings(ListBindingsRequest::default()).await.unwrap().into_inner();
        assert!(bindings.bindings.is_empty());
        let rules = control.rules().list_rules(ListRulesRequest::default()).await.unwrap().into_inner();
        assert!(rules.rules.is_empty());
    });
}

#[test]
fn lists_filter_and_sort() {
    on_each(async |control| {
        let s2 = Storage {
            target: Some(storage::Target::FileSystem(storage::FileSystem { directory: "s2".into() })),
            ..Default::default()
        };
        let s2 = CreateStorageRequest { storage_id: "s2".into(), storage: Some(s2), ..Default::default() };
        control.storages().create_storage(s2).await.unwrap();
        create(&control, "b", Template { storage: "s2".into(), ..Default::default() }).await;
        create(&control, "c", Template { storage: "library".into(), ..Default::default() }).await;
        create(&control, "a", Template::default()).await;
        let bind = BindTemplateRequest {
            template: "a".into(),
            domains: vec!["d.example.com".into()],
            create_domains: true,
            ..Default::default()
        };
        control.domains().bind_template(bind).await.unwrap();
        let by = |order_by: &str| ListTemplatesRequest { order_by: order_by.into(), ..Default::default() };
        let full = |ids: &[&str]| ids.iter().map(|id| format!("templates/{id}")).collect::<Vec<_>>();
        assert_eq!(names(&control, by("")).await, full(&["a", "c", "b", "default"]));
        assert_eq!(names(&control, by("create_time desc")).await, full(&["a", "c", "b", "default"]));
        assert_eq!(names(&control, by("create_time")).await, full(&["default", "b", "c", "a"]));
        assert_eq!(names(&control, by("name")).await, full(&["a", "b", "c", "default"]));
        assert_eq!(bad_fields(control.templates().list_templates(by("size")).await), ["order_by"]);
        let of = |storage: &str| ListTemplatesRequest { storage: storage.into(), ..Default::default() };
        assert_eq!(names(&control, of("storages/s2")).await, full(&["b"]));
        assert_eq!(names(&control, of("library")).await, full(&["a", "c", "default"]), "by name and by default");
        let bound = ListTemplatesRequest { domain: "d.example.com".into(), ..Default::default() };
        assert_eq!(names(&control, bound).await, full(&["a"]));
    });
}

#[test]
fn every_order_can_be_paged() {
    on_each(async |control| {
        for id in ["a", "b", "c", "d"] {
            create(&control, id, Template::default()).await;
        }
        for order_by in ["", "create_time", "name"] {
            let all = names(&control, ListTemplatesRequest { order_by: order_by.into(), ..Default::default() }).await;
            let mut request = ListTemplatesRequest { order_by: order_by.into(), page_size: 2, ..Default::default() };
            let mut paged = Vec::new();
            loop {
                let page = control.templates().list_templates(request.clone()).await.unwrap().into_inner();
                assert!(page.templates.len() <= 2);
                paged.extend(page.templates.into_iter().map(|template| template.name));
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(paged, all, "{order_by}");
            assert_eq!(paged.len(), 5);
        }
    });
}
