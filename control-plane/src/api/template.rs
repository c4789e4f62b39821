//! TemplateService: recording templates and their revisions.
use prost::Message;
use recorder_db::{AnyConnection, bindings, rules, storages, templates};
use recorder_proto::names::{DomainName, StorageName, TemplateName};
use recorder_proto::pb::v1::template_service_server::TemplateService;
use recorder_proto::pb::v1::{
    CreateTemplateRequest, DeleteTemplateRequest, GetTemplateRequest, ListTemplatesRequest, ListTemplatesResponse,
    Template, UpdateTemplateRequest,
};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::{self, etag, expect_etag, only_name};
use super::{Api, answer, binding, mask, rule, task};
use crate::directives::source::Source;
use crate::{domain, tasks};

/// Id of the template that tasks use when they name none; always there.
pub const BUILT_IN: &str = "default";

const KIND: &str = "template";

#[async_trait]
impl TemplateService for Api {
    async fn create_template(&self, request: Request<CreateTemplateRequest>) -> Result<Response<Template>, Status> {
        answer(create(self, request.into_inner()).await)
    }

    async fn get_template(&self, request: Request<GetTemplateRequest>) -> Result<Response<Template>, Status> {
        answer(get(self, request.into_inner()).await)
    }

    async fn list_templates(
        &self,
        request: Request<ListTemplatesRequest>,
    ) -> Result<Response<ListTemplatesResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    async fn update_template(&self, request: Request<UpdateTemplateRequest>) -> Result<Response<Template>, Status> {
        answer(update(self, request.into_inner()).await)
    }

    async fn delete_template(&self, request: Request<DeleteTemplateRequest>) -> Result<Response<()>, Status> {
        answer(delete(self, request.into_inner()).await)
    }
}

async fn create(api: &Api, request: CreateTemplateRequest) -> Result<Template, Problem> {
    let mut violations = Violations::new();
    let id = match request.template_id.as_str() {
        "" => Some(api.mint.id(TemplateName::COLLECTION, api.now())),
        given => violations.take("template_id", given.parse::<TemplateName>()).map(TemplateName::into_id),
    };
    let given = request.template.clone().unwrap_or_default();
    let template = domain::template::effective(id.as_deref().unwrap_or_default(), given, &mut violations);
    violations.finish()?;
    let id = id.unwrap_or_default();
    let call = Call {
        method: "recorder.v1.TemplateService/CreateTemplate",
        request_id: request.request_id.clone(),
        validate_only: request.validate_only,
    };
    api.change(call, request, move |tx, _| insert(tx, &id, &template)).await
}

/// Adds a checked template to the database.
pub(super) fn insert(tx: &mut Tx<'_>, id: &str, template: &Template) -> Result<Template, Problem> {
    let name = full_name(id);
    if templates::get(tx.connection, id)?.is_some() {
        return Err(Problem::exists(KIND, &name));
    }
    validate::quota("templates", templates::count(tx.connection)?, limits::TEMPLATES_MAX)?;
    check_references(tx.connection, &Template::default(), template)?;
    let now = tx.micros();
    let row = templates::Row {
        id: id.to_owned(),
        uid: tx.uid(),
        rev: 1,
        revision: 1,
        storage: storage_id(template),
        body: template.encode_to_vec(),
        create_time: now,
        update_time: now,
    };
    templates::insert(tx.connection, &row)?;
    changed(tx, "template.created", &row)
}

async fn get(api: &Api, request: GetTemplateRequest) -> Result<Template, Problem> {
    let name: TemplateName = only_name("name", &request.name)?;
    api.db
        .read(move |connection| {
            let row = existing(connection, &name)?;
            if request.revision == 0 || i64::from(request.revision) == row.revision {
                return shown(connection, &row);
            }
            let revision = templates::revision(connection, &row.id, request.revision.into())?;
            let missing = || Problem::not_found("template revision", &format!("{name} revision {}", request.revision));
            let revision = revision.ok_or_else(missing)?;
            let old = templates::Row {
                revision: revision.revision,
                storage: storage_id(&revision.template()?),
                body: revision.body,
                update_time: revision.create_time,
                ..row
            };
            // An old revision cannot be changed, so it has no etag to change it by.
            Ok(Template { etag: String::new(), ..shown(connection, &old)? })
        })
        .await
}

async fn list(api: &Api, request: ListTemplatesRequest) -> Result<ListTemplatesResponse, Problem> {
    let mut violations = Violations::new();
    let storage: Option<StorageName> = validate::optional_name(&mut violations, "storage", &request.storage);
    let domain: Option<DomainName> = validate::optional_name(&mut violations, "domain", &request.domain);
    let order = order(&mut violations, &request.order_by);
    let scope = ListTemplatesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "TemplateService/ListTemplates", &scope, size, token);
    violations.finish()?;
    let page = paging.page();
    let (mut rows, shown) = api
        .db
        .read(move |connection| {
            let default = storages::default(connection)?.map(|row| row.id);
            let storage = storage.map(|name| {
                let open_too = default.as_deref() == Some(name.id());
                (name.into_id(), open_too)
            });
            let filter = templates::Filter { storage, domain: domain.map(DomainName::into_id) };
            let rows = templates::page(connection, &filter, order, &page)?;
            let shown = rows.iter().map(|row| show(row, default.as_deref())).collect::<Result<Vec<_>, _>>()?;
            Ok::<_, Problem>((rows, shown))
        })
        .await?;
    let next_page_token = api.tokens.next(&paging, &mut rows, |row| match order {
        templates::Order::Name => row.id.clone(),
        templates::Order::Newest | templates::Order::Oldest => row.uid.clone(),
    });
    Ok(ListTemplatesResponse { templates: shown.into_iter().take(rows.len()).collect(), next_page_token })
}

fn order(violations: &mut Violations, text: &str) -> templates::Order {
    match text.split_whitespace().collect::<Vec<_>>().as_slice() {
        [] | ["create_time", "desc"] => templates::Order::Newest,
        ["create_time"] | ["create_time", "asc"] => templates::Order::Oldest,
        ["name"] | ["name", "asc"] => templates::Order::Name,
        _ => {
            violations.add("order_by", "must be `create_time desc`, `create_time` or `name`");
            templates::Order::Newest
        }
    }
}

async fn update(api: &Api, request: UpdateTemplateRequest) -> Result<Template, Problem> {
    let patch = request.template.clone().unwrap_or_default();
    let name: TemplateName = only_name("template.name", &patch.name)?;
    let call = Call {
        method: "recorder.v1.TemplateService/UpdateTemplate",
        validate_only: request.validate_only,
        ..Call::default()
    };
    let revise = move |tx: &mut Tx<'_>, request: UpdateTemplateRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&patch.etag, &etag(&row.uid, row.rev))?;
        let current = row.template()?;
        let mut violations = Violations::new();
        let mask = request.update_mask.as_ref();
        let merged = mask::apply(".recorder.v1.Template", &current, &patch, mask, &mut violations);
        let template = domain::template::effective(&row.id, merged, &mut violations);
        violations.finish()?;
        if template == current {
            return shown(tx.connection, &row);
        }
        check_references(tx.connection, &current, &template)?;
        let changes = templates::Row {
            revision: row.revision + 1,
            storage: storage_id(&template),
            body: template.encode_to_vec(),
            update_time: tx.micros(),
            ..row
        };
        templates::update(tx.connection, &changes)?;
        changed(tx, "template.updated", &templates::Row { rev: changes.rev + 1, ..changes })
    };
    api.change(call, request, revise).await
}

async fn delete(api: &Api, request: DeleteTemplateRequest) -> Result<(), Problem> {
    let name: TemplateName = only_name("name", &request.name)?;
    let call = Call::plain("recorder.v1.TemplateService/DeleteTemplate");
    let remove = move |tx: &mut Tx<'_>, request: DeleteTemplateRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&request.etag, &etag(&row.uid, row.rev))?;
        if row.id == BUILT_IN {
            let message = format!("{name} is built in: tasks that name no template use it");
            return Err(Problem::wrong_state("BUILT_IN", &name.to_string(), message));
        }
        let bound = bindings::of_template(tx.connection, &row.id)?;
        let ruled = rules::of_template(tx.connection, &row.id)?;
        let ordered = task::of_template(tx.connection, &row.id)?;
        let referred = bound.len() + ruled.len() > 0;
        if (referred && !request.force) || !ordered.is_empty() {
            let of_bindings = bound.iter().map(binding::full_name);
            let of_rules = ruled.iter().map(|rule| rule::full_name(&rule.id));
            let referrers = of_bindings.chain(of_rules).chain(ordered.iter().map(|row| tasks::full_name(&row.id)));
            let remedy = match ordered.len() {
                0 => "unbind it and delete the rules first, or set force:true",
                _ => "stop or cancel the tasks first: force:true unbinds and deletes rules only",
            };
            return Err(Problem::in_use("TEMPLATE_IN_USE", &name.to_string(), referrers, remedy));
        }
        bound.iter().try_for_each(|row| binding::remove(tx, row))?;
        ruled.iter().try_for_each(|row| rule::remove(tx, row))?;
        let last = shown(tx.connection, &row)?;
        templates::delete(tx.connection, &row.id)?;
        tx.touch(Source::Template(row.id.clone()));
        tx.event("template.deleted", &last.name, &last)?;
        tx.recompile()
    };
    api.change(call, request, remove).await
}

/// Event, directives and reply after a change.
fn changed(tx: &mut Tx<'_>, kind: &str, row: &templates::Row) -> Result<Template, Problem> {
    let template = shown(tx.connection, row)?;
    tx.event(kind, &template.name, &template)?;
    tx.touch(Source::Template(row.id.clone()));
    tx.recompile()?;
    Ok(template)
}

/// A template that must be there.
pub(super) fn existing(connection: &mut AnyConnection, name: &TemplateName) -> Result<templates::Row, Problem> {
    templates::get(connection, name.id())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}

/// `templates/{id}`.
pub(super) fn full_name(id: &str) -> String {
    format!("{}/{id}", TemplateName::COLLECTION)
}

fn shown(connection: &mut AnyConnection, row: &templates::Row) -> Result<Template, Problem> {
    let default = storages::default(connection)?.map(|row| row.id);
    Ok(show(row, default.as_deref())?)
}

/// A row as users see it: with the storage that takes effect.
fn show(row: &templates::Row, default_storage: Option<&str>) -> recorder_db::Result<Template> {
    let storage = row.storage.as_deref().or(default_storage);
    Ok(Template {
        name: full_name(&row.id),
        storage: storage.map(|id| format!("{}/{id}", StorageName::COLLECTION)).unwrap_or_default(),
        revision: u32::try_from(row.revision).unwrap_or(u32::MAX),
        create_time: Some(time::timestamp(time::from_micros(row.create_time))),
        update_time: Some(time::timestamp(time::from_micros(row.update_time))),
        etag: etag(&row.uid, row.rev),
        ..row.template()?
    })
}

fn storage_id(template: &Template) -> Option<String> {
    template.storage.parse::<StorageName>().ok().map(StorageName::into_id)
}

/// What a template newly refers to must exist. Watermarks and transcodings do not exist in this release, but a
/// reference that was legal once stays legal: the recording falls back (R5).
fn check_references(connection: &mut AnyConnection, before: &Template, after: &Template) -> Result<(), Problem> {
    if let Some(id) = storage_id(after)
        && storages::get(connection, &id)?.is_none()
    {
        return Err(Problem::not_found("storage", &after.storage));
    }
    for (kind, old, new) in
        [("watermark", &before.watermark, &after.watermark), ("transcoding", &before.transcoding, &after.transcoding)]
    {
        if !new.is_empty() && new != old {
            return Err(Problem::not_found(kind, new));
        }
    }
    Ok(())
}
