//! The log of deliveries, and attempts that somebody asks for.
use recorder_db::deliveries::{self, Row};
use recorder_db::{AnyConnection, webhooks};
use recorder_proto::names::WebhookName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::delivery::State;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, time};
use std::time::Duration;

use super::Api;
use super::validate::{self, only_name};
use super::webhooks::{Hooks, Secrets, existing};
use crate::webhooks::render::{self, Receiver};
use crate::webhooks::schedule::Answer;
use crate::webhooks::{body, dispatch, queue};

/// What separates a webhook from its deliveries in a name.
const COLLECTION: &str = "/deliveries/";

/// Lists attempts, newest first.
pub(super) async fn list(api: &Api, request: v1::ListDeliveriesRequest) -> Result<v1::ListDeliveriesResponse, Problem> {
    let mut violations = Violations::new();
    let parent: Option<WebhookName> = validate::name(&mut violations, "parent", &request.parent);
    for state in &request.states {
        let known = State::try_from(*state).is_ok();
        violations.check(known, "states", format!("must be PENDING, DELIVERED or FAILED, got {state}"));
    }
    let scope = v1::ListDeliveriesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let (size, token) = (request.page_size, &request.page_token);
    let paging = api.tokens.paging(&mut violations, "WebhookService/ListDeliveries", &scope, size, token);
    violations.finish()?;
    let Some(parent) = parent else { return Err(Problem::invalid_field("parent", "is required")) };
    let states: Vec<i32> = request.states.into_iter().filter(|state| *state != 0).collect();
    let page = paging.page();
    let mut rows = api
        .db
        .read(move |db| {
            let webhook = existing(db, &parent)?;
            Ok::<_, Problem>(deliveries::page(db, &webhook.id, &states, &page)?)
        })
        .await?;
    let next_page_token = api.tokens.next(&paging, &mut rows, |row| row.id.clone());
    Ok(v1::ListDeliveriesResponse { deliveries: rows.iter().map(shown).collect(), next_page_token })
}

/// Sends an event that is none, and keeps what came of it in the log.
pub(super) async fn test(hooks: &Hooks, request: v1::TestWebhookRequest) -> Result<v1::Delivery, Problem> {
    let name: WebhookName = only_name("name", &request.name)?;
    let now = hooks.api.now();
    let row = Row {
        id: hooks.api.mint.ulid(now).to_string(),
        webhook: name.id().to_owned(),
        event_seq: 0,
        part: 0,
        event_id: hooks.api.mint.ulid(now).to_string(),
        event_type: body::TEST.to_owned(),
        subject: name.to_string(),
        event_time: time::micros(now),
        // Nobody but this call is to send it.
        state: State::Failed as i32,
        attempt: 0,
        http_status: 0,
        error: String::new(),
        next_attempt_time: None,
        answer_time: None,
        create_time: time::micros(now),
    };
    let kept = row.clone();
    let write = move |db: &mut AnyConnection| {
        open(&existing(db, &name)?)?;
        Ok::<_, Problem>(deliveries::insert(db, &kept)?)
    };
    hooks.api.db.write(write).await?;
    attempt(hooks, row).await
}

/// Sends a delivery once more, now and out of turn.
pub(super) async fn redeliver(hooks: &Hooks, request: v1::RedeliverRequest) -> Result<v1::Delivery, Problem> {
    let (name, id) = read_name(&request.name)?;
    let read = move |db: &mut AnyConnection| {
        let webhook = existing(db, &name)?;
        let found = deliveries::get(db, &webhook.id, &id)?;
        let row = found.ok_or_else(|| Problem::not_found("delivery", &format!("{name}{COLLECTION}{id}")))?;
        open(&webhook)?;
        Ok::<_, Problem>(row)
    };
    let row = hooks.api.db.read(read).await?;
    attempt(hooks, row).await
}

/// A webhook that is disabled is sent nothing; one that is suspended is, since somebody wants to know.
fn open(row: &webhooks::Row) -> Result<(), Problem> {
    if !row.webhook()?.disabled {
        return Ok(());
    }
    let name = format!("{}/{}", WebhookName::COLLECTION, row.id);
    Err(Problem::wrong_state("WEBHOOK_DISABLED", &name, format!("{name} is disabled; set disabled:false first")))
}

/// In a task of its own: what was sent is written down even when the caller has hung up.
async fn attempt(hooks: &Hooks, row: Row) -> Result<v1::Delivery, Problem> {
    let trying = tokio::spawn(try_once(hooks.clone(), row));
    trying.await.map_err(|_| Problem::internal("the attempt was not finished"))?
}

async fn try_once(hooks: Hooks, row: Row) -> Result<v1::Delivery, Problem> {
    let (api, tried) = (hooks.api.clone(), row.clone());
    let render = move |db: &mut AnyConnection| {
        let Some(webhook) = webhooks::get(db, &tried.webhook)? else { return Ok(None) };
        let secrets = Secrets::open(db, &api.sealer, &webhook, api.now())?;
        let receiver = Receiver { webhook: webhook.webhook()?, row: webhook, secrets };
        Ok::<_, Problem>(render::call(db, &receiver, &tried, api.now())?)
    };
    let answer = match hooks.api.db.read(render).await? {
        Some(call) => hooks.client.post(call).await,
        None => Answer::Lost,
    };
    dispatch::count(&answer);
    let (now, tried) = (hooks.api.now(), row.clone());
    let landing = move |db: &mut AnyConnection| queue::land(db, &tried, &answer, true, 0.0, now);
    // Tried meanwhile by the schedule as well: that is what the log shows.
    let landed = match hooks.api.db.write(landing).await? {
        Some(landed) => Some(landed),
        None => hooks.api.db.read(move |db| deliveries::get(db, &row.webhook, &row.id)).await?,
    };
    let gone = || Problem::wrong_state("WEBHOOK_DELETED", "delivery", "its webhook was deleted meanwhile");
    landed.as_ref().map(shown).ok_or_else(gone)
}

fn read_name(text: &str) -> Result<(WebhookName, String), Problem> {
    let wrong = || Problem::invalid_field("name", "must be webhooks/{webhook}/deliveries/{delivery}");
    let (webhook, id) = text.split_once(COLLECTION).ok_or_else(wrong)?;
    let sound = id.len() == 26 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    if !sound {
        return Err(wrong());
    }
    Ok((only_name("name", webhook)?, id.to_ascii_uppercase()))
}

fn shown(row: &Row) -> v1::Delivery {
    let at = |micros: i64| time::from_micros(micros);
    let latency = row.answer_time.map(|answered| u64::try_from(answered - row.event_time).unwrap_or_default());
    v1::Delivery {
        name: format!("{}/{}{COLLECTION}{}", WebhookName::COLLECTION, row.webhook, row.id),
        event_id: row.event_id.clone(),
        event_type: row.event_type.clone(),
        attempt: u32::try_from(row.attempt).unwrap_or(u32::MAX),
        http_status: row.http_status,
        error: row.error.clone(),
        state: row.state,
        next_attempt_time: row.next_attempt_time.map(|next| time::timestamp(at(next))),
        latency: latency.map(|micros| time::duration(Duration::from_micros(micros))),
    }
}
