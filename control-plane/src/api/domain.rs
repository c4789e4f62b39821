//! DomainService: push domains, and by delegation the templates bound to them and their publish URLs.
use prost::Message;
use recorder_db::{AnyConnection, bindings, domains, rules};
use recorder_proto::names::DomainName;
use recorder_proto::pb::v1::domain_service_server::DomainService;
use recorder_proto::pb::v1::{
    BindTemplateRequest, BindTemplateResponse, CreateDomainRequest, DeleteDomainRequest, Domain,
    GeneratePublishUrlRequest, GeneratePublishUrlResponse, GetDomainRequest, ListBindingsRequest, ListBindingsResponse,
    ListDomainsRequest, ListDomainsResponse, UnbindTemplateRequest, UpdateDomainRequest,
};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use tonic::{Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::{self, etag, expect_etag, only_name};
use super::{Api, answer, binding, mask, publish_url, rule, secrets, task};
use crate::directives::source::Source;
use crate::domain;
use crate::domain::push_domain::Keys;
use crate::tasks;

const KIND: &str = "domain";

#[async_trait]
impl DomainService for Api {
    async fn create_domain(&self, request: Request<CreateDomainRequest>) -> Result<Response<Domain>, Status> {
        answer(create(self, request.into_inner()).await)
    }

    async fn get_domain(&self, request: Request<GetDomainRequest>) -> Result<Response<Domain>, Status> {
        answer(get(self, request.into_inner()).await)
    }

    async fn list_domains(
        &self,
        request: Request<ListDomainsRequest>,
    ) -> Result<Response<ListDomainsResponse>, Status> {
        answer(list(self, request.into_inner()).await)
    }

    async fn update_domain(&self, request: Request<UpdateDomainRequest>) -> Result<Response<Domain>, Status> {
        answer(update(self, request.into_inner()).await)
    }

    async fn delete_domain(&self, request: Request<DeleteDomainRequest>) -> Result<Response<()>, Status> {
        answer(delete(self, request.into_inner()).await)
    }

    async fn bind_template(
        &self,
        request: Request<BindTemplateRequest>,
    ) -> Result<Response<BindTemplateResponse>, Status> {
        answer(binding::bind(self, request.into_inner()).await)
    }

    async fn unbind_template(&self, request: Request<UnbindTemplateRequest>) -> Result<Response<()>, Status> {
        answer(binding::unbind(self, request.into_inner()).await)
    }

    async fn list_bindings(
        &self,
        request: Request<ListBindingsRequest>,
    ) -> Result<Response<ListBindingsResponse>, Status> {
        answer(binding::list(self, request.into_inner()).await)
    }

    async fn generate_publish_url(
        &self,
        request: Request<GeneratePublishUrlRequest>,
    ) -> Result<Response<GeneratePublishUrlResponse>, Status> {
        answer(publish_url::generate(self, request.into_inner()).await)
    }
}

async fn create(api: &Api, request: CreateDomainRequest) -> Result<Domain, Problem> {
    let mut violations = Violations::new();
    let name: Option<DomainName> = validate::name(&mut violations, "domain_id", &request.domain_id);
    let given = request.domain.clone().unwrap_or_default();
    let domain = domain::push_domain::effective(given, &mut violations);
    violations.finish()?;
    let Some(name) = name else { return Err(Problem::invalid_field("domain_id", "is required")) };
    let call = Call {
        method: "recorder.v1.DomainService/CreateDomain",
        request_id: request.request_id.clone(),
        validate_only: request.validate_only,
    };
    let insert = move |tx: &mut Tx<'_>, _| {
        let domain = insert(tx, &name, domain)?;
        tx.recompile()?;
        Ok(domain)
    };
    api.change(call, request, insert).await
}

/// Adds a checked domain to the database, its keys sealed; the caller recompiles.
pub(super) fn insert(tx: &mut Tx<'_>, name: &DomainName, domain: Domain) -> Result<Domain, Problem> {
    if domains::get(tx.connection, name.id())?.is_some() {
        return Err(Problem::exists(KIND, &name.to_string()));
    }
    validate::quota("domains", domains::count(tx.connection)?, limits::DOMAINS_MAX)?;
    let (public, keys) = domain::push_domain::split(domain);
    let now = tx.micros();
    let row = domains::Row {
        id: name.id().to_owned(),
        uid: tx.uid(),
        rev: 1,
        body: public.encode_to_vec(),
        create_time: now,
        update_time: now,
    };
    domains::insert(tx.connection, &row)?;
    tx.touch(Source::Domain(row.id.clone()));
    secrets::put_publish_keys(tx.connection, &tx.api.sealer, &row.id, &Keys::default(), &keys)?;
    let domain = show(&row)?;
    tx.event("domain.created", &domain.name, &domain)?;
    Ok(domain)
}

async fn get(api: &Api, request: GetDomainRequest) -> Result<Domain, Problem> {
    let name: DomainName = only_name("name", &request.name)?;
    api.db.read(move |connection| Ok(show(&existing(connection, &name)?)?)).await
}

async fn list(api: &Api, request: ListDomainsRequest) -> Result<ListDomainsResponse, Problem> {
    let mut violations = Violations::new();
    let scope = ListDomainsRequest::default();
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "DomainService/ListDomains", &scope, size, token);
    violations.finish()?;
    let page = paging.page();
    let mut rows = api.db.read(move |connection| domains::page(connection, &page)).await?;
    let next_page_token = api.tokens.next(&paging, &mut rows, |row| row.uid.clone());
    let domains = rows.iter().map(show).collect::<Result<_, _>>()?;
    Ok(ListDomainsResponse { domains, next_page_token })
}

async fn update(api: &Api, request: UpdateDomainRequest) -> Result<Domain, Problem> {
    let patch = request.domain.clone().unwrap_or_default();
    let name: DomainName = only_name("domain.name", &patch.name)?;
    let call = Call::plain("recorder.v1.DomainService/UpdateDomain");
    let replace = move |tx: &mut Tx<'_>, request: UpdateDomainRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&patch.etag, &etag(&row.uid, row.rev))?;
        let before = secrets::publish_keys(tx.connection, &tx.api.sealer, &row.id)?;
        let current = domain::push_domain::join(row.domain()?, &before);
        let mut violations = Violations::new();
        let mask = request.update_mask.as_ref();
        let mut merged = mask::apply(".recorder.v1.Domain", &current, &patch, mask, &mut violations);
        if mask::is_whole(mask) {
            keep_keys(&before, &mut merged);
        }
        let domain = domain::push_domain::effective(merged, &mut violations);
        violations.finish()?;
        if domain == current {
            return Ok(show(&row)?);
        }
        let (public, after) = domain::push_domain::split(domain);
        let changes = domains::Row { body: public.encode_to_vec(), update_time: tx.micros(), ..row };
        domains::update(tx.connection, &changes)?;
        tx.touch(Source::Domain(changes.id.clone()));
        secrets::put_publish_keys(tx.connection, &tx.api.sealer, &changes.id, &before, &after)?;
        let domain = show(&domains::Row { rev: changes.rev + 1, ..changes })?;
        tx.event("domain.updated", &domain.name, &domain)?;
        tx.recompile()?;
        Ok(domain)
    };
    api.change(call, request, replace).await
}

/// Replacing the whole resource cannot mean to drop keys that nobody can read back.
fn keep_keys(before: &Keys, merged: &mut Domain) {
    let auth = merged.publish_auth.get_or_insert_default();
    if auth.primary_key.is_empty() {
        auth.primary_key.clone_from(&before.primary);
        if auth.secondary_key.is_empty() {
            auth.secondary_key.clone_from(&before.secondary);
        }
    }
}

async fn delete(api: &Api, request: DeleteDomainRequest) -> Result<(), Problem> {
    let name: DomainName = only_name("name", &request.name)?;
    let call = Call::plain("recorder.v1.DomainService/DeleteDomain");
    let remove = move |tx: &mut Tx<'_>, request: DeleteDomainRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&request.etag, &etag(&row.uid, row.rev))?;
        let bound = bindings::of_domain(tx.connection, &row.id)?;
        let ruled = rules::of_domain(tx.connection, &row.id)?;
        let ordered = task::of_domain(tx.connection, &row.id)?;
        let referred = bound.len() + ruled.len() + ordered.len() > 0;
        if referred && !request.force {
            let of_bindings = bound.iter().map(binding::full_name);
            let of_rules = ruled.iter().map(|rule| rule::full_name(&rule.id));
            let referrers = of_bindings.chain(of_rules).chain(ordered.iter().map(|row| tasks::full_name(&row.id)));
            let remedy = "unbind its templates, delete its rules and stop its tasks first, or set force:true";
            return Err(Problem::in_use("DOMAIN_IN_USE", &name.to_string(), referrers, remedy));
        }
        bound.iter().try_for_each(|row| binding::remove(tx, row))?;
        ruled.iter().try_for_each(|row| rule::remove(tx, row))?;
        ordered.into_iter().try_for_each(|row| task::end(tx, row).map(drop))?;
        let last = show(&row)?;
        domains::delete(tx.connection, &row.id)?;
        tx.touch(Source::Domain(row.id.clone()));
        tx.event("domain.deleted", &last.name, &last)?;
        tx.recompile()
    };
    api.change(call, request, remove).await
}

/// A domain that must be there.
pub(super) fn existing(connection: &mut AnyConnection, name: &DomainName) -> Result<domains::Row, Problem> {
    domains::get(connection, name.id())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}

/// A row as users see it: without keys.
fn show(row: &domains::Row) -> recorder_db::Result<Domain> {
    let timestamp = |micros| Some(time::timestamp(time::from_micros(micros)));
    Ok(Domain {
        name: format!("{}/{}", DomainName::COLLECTION, row.id),
        create_time: timestamp(row.create_time),
        update_time: timestamp(row.update_time),
        etag: etag(&row.uid, row.rev),
        ..row.domain()?
    })
}
