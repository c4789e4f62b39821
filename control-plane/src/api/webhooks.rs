//! WebhookService: receivers of events. Secrets come in, or are made, and are shown once.
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::{AnyConnection, deliveries, events, webhooks};
use recorder_proto::names::WebhookName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::webhook::State;
use recorder_proto::pb::v1::webhook_service_server::WebhookService;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use recorder_runtime::secret::Sealer;
use tonic::{Request, Response, Status, async_trait};

use super::change::{Call, Tx};
use super::validate::{self, etag, expect_etag, only_name};
use super::{Api, answer, deliveries as log, mask, places};
use crate::domain;
use crate::webhooks::client::Client;
use crate::webhooks::secret;

const KIND: &str = "webhook";

/// Secrets that sign at the same time; each makes the header longer.
const SIGNING_MAX: usize = 3;

/// What the service needs: the API, and a way to the receivers.
#[derive(Debug, Clone)]
pub struct Hooks {
    /// What every service needs.
    pub api: Api,
    /// Makes attempts.
    pub client: Client,
}

/// What is sealed of a webhook, opened.
#[derive(Clone, Default)]
pub struct Secrets {
    /// What signs: the current secret first, then those that were rotated and still count.
    pub signing: Vec<String>,
    /// Extra headers, with their values.
    pub headers: BTreeMap<String, String>,
}

#[async_trait]
impl WebhookService for Hooks {
    async fn create_webhook(
        &self,
        request: Request<v1::CreateWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        answer(create(self, request.into_inner()).await)
    }

    async fn get_webhook(&self, request: Request<v1::GetWebhookRequest>) -> Result<Response<v1::Webhook>, Status> {
        answer(get(&self.api, request.into_inner()).await)
    }

    async fn list_webhooks(
        &self,
        request: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        answer(list(&self.api, request.into_inner()).await)
    }

    async fn update_webhook(
        &self,
        request: Request<v1::UpdateWebhookRequest>,
    ) -> Result<Response<v1::Webhook>, Status> {
        answer(update(self, request.into_inner()).await)
    }

    async fn delete_webhook(&self, request: Request<v1::DeleteWebhookRequest>) -> Result<Response<()>, Status> {
        answer(delete(&self.api, request.into_inner()).await)
    }

    async fn rotate_secret(&self, request: Request<v1::RotateSecretRequest>) -> Result<Response<v1::Webhook>, Status> {
        answer(rotate(&self.api, request.into_inner()).await)
    }

    async fn test_webhook(&self, request: Request<v1::TestWebhookRequest>) -> Result<Response<v1::Delivery>, Status> {
        answer(log::test(self, request.into_inner()).await)
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        answer(log::list(&self.api, request.into_inner()).await)
    }

    async fn redeliver(&self, request: Request<v1::RedeliverRequest>) -> Result<Response<v1::Delivery>, Status> {
        answer(log::redeliver(self, request.into_inner()).await)
    }
}

async fn create(hooks: &Hooks, request: v1::CreateWebhookRequest) -> Result<v1::Webhook, Problem> {
    let mut violations = Violations::new();
    let id = match request.webhook_id.as_str() {
        "" => Some(hooks.api.mint.id(WebhookName::COLLECTION, hooks.api.now())),
        given => violations.take("webhook_id", given.parse::<WebhookName>()).map(WebhookName::into_id),
    };
    let given = request.webhook.clone().unwrap_or_default();
    let webhook = domain::webhook::effective(given, hooks.client.policy(), &mut violations);
    violations.finish()?;
    let id = id.unwrap_or_default();
    let method = "recorder.v1.WebhookService/CreateWebhook";
    let call = Call { method, request_id: request.request_id.clone(), validate_only: false };
    // The reply is kept under the request_id, in the clear; the secret is not, and is added to it.
    let webhook = hooks.api.change(call, request, move |tx, _| insert(tx, &id, webhook)).await?;
    let secret = current_secret(&hooks.api, &webhook.name).await?;
    Ok(v1::Webhook { secret, ..webhook })
}

/// The secret that signs; empty when the webhook is gone.
async fn current_secret(api: &Api, name: &str) -> Result<String, Problem> {
    let name: WebhookName = only_name("name", name)?;
    let (sealer, now) = (std::sync::Arc::clone(&api.sealer), api.now());
    let read = move |db: &mut AnyConnection| {
        let Some(row) = webhooks::get(db, name.id())? else { return Ok(String::new()) };
        Ok::<_, Problem>(Secrets::open(db, &sealer, &row, now)?.signing.into_iter().next().unwrap_or_default())
    };
    api.db.read(read).await
}

fn insert(tx: &mut Tx<'_>, id: &str, webhook: v1::Webhook) -> Result<v1::Webhook, Problem> {
    if webhooks::get(tx.connection, id)?.is_some() {
        return Err(Problem::exists(KIND, &full_name(id)));
    }
    validate::quota("webhooks", webhooks::count(tx.connection)?, limits::WEBHOOKS_MAX)?;
    let (public, secret, headers) = domain::webhook::split(webhook);
    let now = tx.micros();
    let row = webhooks::Row {
        id: id.to_owned(),
        uid: tx.uid(),
        rev: 1,
        body: public.encode_to_vec(),
        state: State::Active as i32,
        // What happened before is none of its business.
        position: events::last(tx.connection)?,
        create_time: now,
        update_time: now,
    };
    webhooks::insert(tx.connection, &row)?;
    seal(tx, &row, webhooks::HEADERS, &headers.encode_to_vec())?;
    seal(tx, &row, 1, secret.as_bytes())?;
    changed(tx, "webhook.created", &row)
}

async fn get(api: &Api, request: v1::GetWebhookRequest) -> Result<v1::Webhook, Problem> {
    let name: WebhookName = only_name("name", &request.name)?;
    api.db.read(move |db| Ok(shown(&existing(db, &name)?)?)).await
}

async fn list(api: &Api, request: v1::ListWebhooksRequest) -> Result<v1::ListWebhooksResponse, Problem> {
    let mut violations = Violations::new();
    let scope = v1::ListWebhooksRequest::default();
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "WebhookService/ListWebhooks", &scope, size, token);
    violations.finish()?;
    let page = paging.page();
    let mut rows = api.db.read(move |db| webhooks::page(db, &page)).await?;
    let next_page_token = api.tokens.next(&paging, &mut rows, |row| row.uid.clone());
    let webhooks = rows.iter().map(shown).collect::<Result<_, _>>()?;
    Ok(v1::ListWebhooksResponse { webhooks, next_page_token })
}

async fn update(hooks: &Hooks, request: v1::UpdateWebhookRequest) -> Result<v1::Webhook, Problem> {
    let patch = request.webhook.clone().unwrap_or_default();
    let name: WebhookName = only_name("webhook.name", &patch.name)?;
    let policy = hooks.client.policy().clone();
    let replace = move |tx: &mut Tx<'_>, request: v1::UpdateWebhookRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&patch.etag, &etag(&row.uid, row.rev))?;
        let secrets = Secrets::open(tx.connection, &tx.api.sealer, &row, tx.now)?;
        let secret = secrets.signing.first().cloned().unwrap_or_default();
        let current = v1::Webhook { secret, headers: secrets.headers, ..row.webhook()? };
        let mut violations = Violations::new();
        let mask = request.update_mask.as_ref();
        let mut merged = mask::apply(".recorder.v1.Webhook", &current, &patch, mask, &mut violations);
        domain::webhook::keep_secrets(&current, &mut merged);
        let webhook = domain::webhook::effective(merged, &policy, &mut violations);
        violations.finish()?;
        store(tx, row, &current, webhook)
    };
    hooks.api.change(Call::plain("recorder.v1.WebhookService/UpdateWebhook"), request, replace).await
}

/// Writes a changed webhook. Whoever updates one says that it is worth another try.
fn store(
    tx: &mut Tx<'_>,
    row: webhooks::Row,
    current: &v1::Webhook,
    webhook: v1::Webhook,
) -> Result<v1::Webhook, Problem> {
    let suspended = row.state == State::Suspended as i32;
    if webhook == *current && !suspended {
        return Ok(shown(&row)?);
    }
    let refiltered = (&webhook.event_types, &webhook.domains) != (&current.event_types, &current.domains);
    let reheaded = webhook.headers != current.headers;
    let (public, secret, headers) = domain::webhook::split(webhook);
    let state = if suspended { State::Active as i32 } else { row.state };
    let changes = webhooks::Row { body: public.encode_to_vec(), state, update_time: tx.micros(), ..row };
    webhooks::update(tx.connection, &changes)?;
    if reheaded {
        seal(tx, &changes, webhooks::HEADERS, &headers.encode_to_vec())?;
    }
    if secret != current.secret {
        // Replaced and not rotated: the one before counts no more.
        let version = retire(tx, &changes, None)?;
        seal(tx, &changes, version, secret.as_bytes())?;
    }
    if refiltered {
        // The new filter counts for what happens from now on; what was read under the old one is on its way.
        let last = events::last(tx.connection)?;
        if !suspended {
            webhooks::set_position(tx.connection, &changes.id, last)?;
        }
    }
    if suspended {
        deliveries::hasten(tx.connection, &changes.id, tx.micros())?;
    }
    changed(tx, "webhook.updated", &webhooks::Row { rev: changes.rev + 1, ..changes })
}

async fn delete(api: &Api, request: v1::DeleteWebhookRequest) -> Result<(), Problem> {
    let name: WebhookName = only_name("name", &request.name)?;
    let remove = move |tx: &mut Tx<'_>, request: v1::DeleteWebhookRequest| {
        let row = existing(tx.connection, &name)?;
        expect_etag(&request.etag, &etag(&row.uid, row.rev))?;
        let last = shown(&row)?;
        webhooks::delete(tx.connection, &row.id)?;
        tx.event("webhook.deleted", &last.name, &last)
    };
    api.change(Call::plain("recorder.v1.WebhookService/DeleteWebhook"), request, remove).await
}

async fn rotate(api: &Api, request: v1::RotateSecretRequest) -> Result<v1::Webhook, Problem> {
    let mut violations = Violations::new();
    let name: Option<WebhookName> = validate::name(&mut violations, "name", &request.name);
    // Zero is a value of its own: the old secret stops at once.
    let overlap = match &request.overlap {
        None => limits::SECRET_OVERLAP_DEFAULT,
        given => domain::webhook::OVERLAP.effective(&mut violations, "overlap", given.as_ref()),
    };
    violations.finish()?;
    let Some(name) = name else { return Err(Problem::invalid_field("name", "is required")) };
    let replace = move |tx: &mut Tx<'_>, _| {
        let row = existing(tx.connection, &name)?;
        let signature = row.webhook()?.signature();
        let until = tx.now.checked_add_signed(chrono::TimeDelta::from_std(overlap).unwrap_or_default());
        let version = retire(tx, &row, until.filter(|_| !overlap.is_zero()))?;
        let secret = secret::fresh(signature);
        seal(tx, &row, version, secret.as_bytes())?;
        let changes = webhooks::Row { update_time: tx.micros(), ..row };
        webhooks::update(tx.connection, &changes)?;
        let webhook = changed(tx, "webhook.updated", &webhooks::Row { rev: changes.rev + 1, ..changes })?;
        Ok(v1::Webhook { secret, ..webhook })
    };
    api.change(Call::plain("recorder.v1.WebhookService/RotateSecret"), request, replace).await
}

/// Takes the signing secrets out of office: the current one signs until then, if at all, those before it as was said
/// when they were rotated. Returns the version of its successor.
fn retire(tx: &mut Tx<'_>, row: &webhooks::Row, until: Option<DateTime<Utc>>) -> Result<i64, Problem> {
    let mut next = 1;
    let stored = webhooks::secrets(tx.connection, &row.id)?;
    for (age, stored) in stored.iter().filter(|stored| stored.version > webhooks::HEADERS).enumerate() {
        next = next.max(stored.version + 1);
        match until.filter(|_| age < SIGNING_MAX - 1) {
            None => webhooks::delete_secret(tx.connection, &row.id, stored.version)?,
            Some(until) if stored.expire_time.is_none() => {
                webhooks::expire_secret(tx.connection, &row.id, stored.version, time::micros(until))?;
            }
            Some(_) => {}
        }
    }
    Ok(next)
}

fn seal(tx: &mut Tx<'_>, row: &webhooks::Row, version: i64, clear: &[u8]) -> Result<(), Problem> {
    let place = places::webhook_secret(&row.uid, version);
    let sealed = tx.api.sealer.seal(clear, &place).map_err(failed)?;
    let key_id = tx.api.sealer.key_id();
    let secret = webhooks::Secret { webhook: row.id.clone(), version, key_id, sealed, expire_time: None };
    Ok(webhooks::put_secret(tx.connection, &secret)?)
}

impl Secrets {
    /// Opens what counts at `now`.
    ///
    /// # Errors
    /// When the database fails, or was sealed with another key.
    pub fn open(
        db: &mut AnyConnection,
        sealer: &Sealer,
        row: &webhooks::Row,
        now: DateTime<Utc>,
    ) -> Result<Self, Problem> {
        let mut secrets = Self::default();
        for stored in webhooks::secrets(db, &row.id)? {
            if stored.expire_time.is_some_and(|until| until <= time::micros(now)) {
                continue;
            }
            let clear =
                sealer.open(&stored.sealed, &places::webhook_secret(&row.uid, stored.version)).map_err(failed)?;
            if stored.version == webhooks::HEADERS {
                secrets.headers = v1::Webhook::decode(clear.as_slice()).unwrap_or_default().headers;
            } else {
                secrets.signing.push(String::from_utf8_lossy(&clear).into_owned());
            }
        }
        Ok(secrets)
    }
}

fn changed(tx: &mut Tx<'_>, kind: &str, row: &webhooks::Row) -> Result<v1::Webhook, Problem> {
    let webhook = shown(row)?;
    tx.event(kind, &webhook.name, &webhook)?;
    Ok(webhook)
}

/// A webhook that must be there.
pub(super) fn existing(db: &mut AnyConnection, name: &WebhookName) -> Result<webhooks::Row, Problem> {
    webhooks::get(db, name.id())?.ok_or_else(|| Problem::not_found(KIND, &name.to_string()))
}

/// A row as users see it: without secrets.
///
/// # Errors
/// When the row is damaged.
pub fn shown(row: &webhooks::Row) -> recorder_db::Result<v1::Webhook> {
    let timestamp = |micros| Some(time::timestamp(time::from_micros(micros)));
    Ok(v1::Webhook {
        name: full_name(&row.id),
        state: row.state,
        create_time: timestamp(row.create_time),
        update_time: timestamp(row.update_time),
        etag: etag(&row.uid, row.rev),
        ..row.webhook()?
    })
}

fn full_name(id: &str) -> String {
    format!("{}/{id}", WebhookName::COLLECTION)
}

fn failed(error: recorder_runtime::Error) -> Problem {
    tracing::error!(%error, "a webhook's secret cannot be sealed or opened");
    Problem::internal("a secret cannot be sealed or opened; the server's log says why")
}
