//! BindTemplate, UnbindTemplate and ListBindings: one template for many domains, and how far that has come.
use chrono::{DateTime, Utc};
use recorder_db::{AnyConnection, bindings, domains};
use recorder_proto::names::{DomainName, TemplateName};
use recorder_proto::pb::v1::{
    BindTemplateRequest, BindTemplateResponse, Binding, Domain, ListBindingsRequest, ListBindingsResponse,
    UnbindTemplateRequest, binding,
};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};

use super::change::{Call, Tx};
use super::validate::{self, listed};
use super::{Api, domain as domain_api, template};
use crate::directives::names;
use crate::directives::source::Source;
use crate::directives::status::{self, Stage, Standing};
use crate::domain;
use crate::domain::binding::Selection;

/// Answers BindTemplate.
pub(super) async fn bind(api: &Api, request: BindTemplateRequest) -> Result<BindTemplateResponse, Problem> {
    let selection = selection(&request.template, &request.domains, &request.app)?;
    let call = Call {
        method: "recorder.v1.DomainService/BindTemplate",
        validate_only: request.validate_only,
        ..Call::default()
    };
    let bind = move |tx: &mut Tx<'_>, request: BindTemplateRequest| {
        template::existing(tx.connection, &selection.template)?;
        let missing = missing(tx.connection, &selection.domains)?;
        if request.create_domains {
            missing.iter().try_for_each(|name| open_domain(tx, name))?;
        } else if let Some(first) = missing.first() {
            let mut problem = Problem::not_found("domain", &first.to_string());
            problem.message = format!("there is no {}; create it first or set create_domains:true", listed(&missing));
            return Err(problem);
        }
        let mut rows = Vec::new();
        for name in &selection.domains {
            rows.push(bound(tx, name, &selection)?);
        }
        tx.recompile()?;
        Ok(BindTemplateResponse { bindings: show(tx.connection, &rows, tx.now)? })
    };
    api.change(call, request, bind).await
}

fn selection(template: &str, domains: &[String], app: &str) -> Result<Selection, Problem> {
    let mut violations = Violations::new();
    let selection = Selection::read(template, domains, app, &mut violations);
    violations.finish()?;
    selection.ok_or_else(|| Problem::invalid_field("template", "is required"))
}

fn missing(connection: &mut AnyConnection, names: &[DomainName]) -> Result<Vec<DomainName>, Problem> {
    let mut missing = Vec::new();
    for name in names {
        if domains::get(connection, name.id())?.is_none() {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

fn open_domain(tx: &mut Tx<'_>, name: &DomainName) -> Result<(), Problem> {
    let mut violations = Violations::new();
    let open = domain::push_domain::effective(Domain::default(), &mut violations);
    violations.finish()?;
    domain_api::insert(tx, name, open).map(drop)
}

/// The binding of one domain: the one that is there, or a new one.
fn bound(tx: &mut Tx<'_>, domain: &DomainName, selection: &Selection) -> Result<bindings::Row, Problem> {
    let (domain, template) = (domain.id(), selection.template.id());
    if let Some(row) = bindings::get(tx.connection, domain, &selection.app, template)? {
        return Ok(row);
    }
    let (found, most) = (bindings::count_of_domain(tx.connection, domain)?, limits::BINDINGS_PER_DOMAIN_MAX);
    validate::quota("bindings", found, most)
        .map_err(|problem| Problem { message: format!("one domain takes at most {most} bindings"), ..problem })?;
    let row = bindings::Row {
        domain: domain.to_owned(),
        app: selection.app.clone(),
        template: template.to_owned(),
        uid: tx.uid(),
        create_time: tx.micros(),
    };
    bindings::insert(tx.connection, &row)?;
    tx.touch(source(&row));
    let event = shown(&row, Standing { stage: Stage::Pending, applied: 0, total: 0, error: None });
    tx.event("binding.created", &event.name, &event)?;
    Ok(row)
}

/// Answers UnbindTemplate: what is not bound is not missed, but what does not exist at all is a mistake.
pub(super) async fn unbind(api: &Api, request: UnbindTemplateRequest) -> Result<(), Problem> {
    let selection = selection(&request.template, &request.domains, &request.app)?;
    let call = Call::plain("recorder.v1.DomainService/UnbindTemplate");
    let unbind = move |tx: &mut Tx<'_>, _| {
        template::existing(tx.connection, &selection.template)?;
        for name in &selection.domains {
            domain_api::existing(tx.connection, name)?;
        }
        for name in &selection.domains {
            let row = bindings::get(tx.connection, name.id(), &selection.app, selection.template.id())?;
            row.iter().try_for_each(|row| remove(tx, row))?;
        }
        tx.recompile()
    };
    api.change(call, request, unbind).await
}

/// Answers ListBindings.
pub(super) async fn list(api: &Api, request: ListBindingsRequest) -> Result<ListBindingsResponse, Problem> {
    let mut violations = Violations::new();
    let domain: Option<DomainName> = validate::optional_name(&mut violations, "domain", &request.domain);
    let template: Option<TemplateName> = validate::optional_name(&mut violations, "template", &request.template);
    let scope = ListBindingsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "DomainService/ListBindings", &scope, size, token);
    violations.finish()?;
    let (page, now, tokens) = (paging.page(), api.now(), api.tokens.clone());
    let filter =
        bindings::Filter { domain: domain.map(DomainName::into_id), template: template.map(TemplateName::into_id) };
    api.db
        .read(move |connection| {
            let mut rows = bindings::page(connection, &filter, &page)?;
            let next_page_token = tokens.next(&paging, &mut rows, |row| row.uid.clone());
            Ok(ListBindingsResponse { bindings: show(connection, &rows, now)?, next_page_token })
        })
        .await
}

/// Removes a binding; the caller recompiles.
pub(super) fn remove(tx: &mut Tx<'_>, row: &bindings::Row) -> Result<(), Problem> {
    let last = show(tx.connection, std::slice::from_ref(row), tx.now)?;
    bindings::delete(tx.connection, row)?;
    tx.touch(source(row));
    last.iter().try_for_each(|last| tx.event("binding.deleted", &last.name, last))
}

fn source(row: &bindings::Row) -> Source {
    Source::Binding(row.domain.clone(), row.app.clone(), row.template.clone())
}

/// `domains/{domain}/bindings/{template}[~{app}]`.
pub(super) fn full_name(row: &bindings::Row) -> String {
    domain::binding::name(&row.domain, &row.app, &row.template)
        // Rows were checked before they were written; whatever is there is still told apart.
        .unwrap_or_else(|_| format!("domains/{}/bindings/{}~{}", row.domain, row.template, row.app))
}

/// Rows as users see them, with how far they have come.
fn show(connection: &mut AnyConnection, rows: &[bindings::Row], now: DateTime<Utc>) -> Result<Vec<Binding>, Problem> {
    let directives: Vec<String> = rows.iter().map(|row| names::binding(&row.domain, &row.template, &row.app)).collect();
    let standings = status::standings(connection, &directives, now)?;
    Ok(rows.iter().zip(standings).map(|(row, standing)| shown(row, standing)).collect())
}

fn shown(row: &bindings::Row, standing: Standing) -> Binding {
    let state = match standing.stage {
        Stage::Pending => binding::State::Pending,
        Stage::Active => binding::State::Active,
        Stage::Rejected => binding::State::Rejected,
    };
    Binding {
        name: full_name(row),
        domain: format!("{}/{}", DomainName::COLLECTION, row.domain),
        app: row.app.clone(),
        template: template::full_name(&row.template),
        state: state.into(),
        nodes_applied: standing.applied,
        nodes_total: standing.total,
        error: standing.error,
        create_time: Some(time::timestamp(time::from_micros(row.create_time))),
    }
}
