//! A delivery as the request that is sent: body, signature and headers.
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Uri};
use prost::Message;
use recorder_db::{AnyConnection, deliveries, events, storages, webhooks};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::webhook::Signature;
use recorder_proto::{limits, time};
use serde_json::Value;

use super::client::Call;
use super::{body, sign, vendor};
use crate::api::webhooks::{Secrets, shown};
use crate::event_data;

/// What receivers may know of who calls them.
const AGENT: &str = concat!("recorder/", env!("CARGO_PKG_VERSION"));

/// One receiver, ready to be told something.
#[derive(Clone)]
pub struct Receiver {
    /// Its row.
    pub row: webhooks::Row,
    /// Its body, decoded.
    pub webhook: v1::Webhook,
    /// What signs, and its headers.
    pub secrets: Secrets,
}

/// The request of a delivery at `now`; None when its event is not kept any more.
///
/// # Errors
/// When the database fails.
pub fn call(
    db: &mut AnyConnection,
    receiver: &Receiver,
    delivery: &deliveries::Row,
    now: DateTime<Utc>,
) -> recorder_db::Result<Option<Call>> {
    let event = match delivery.event_type.as_str() {
        body::TEST => None,
        _ => match events::of_sequences(db, &[delivery.event_seq])?.pop() {
            Some(event) => Some(event),
            None => return Ok(None),
        },
    };
    let made = match receiver.webhook.signature() {
        Signature::TencentMd5 => of_vendor(db, receiver, delivery, event.as_ref(), now)?,
        Signature::Standard | Signature::Unspecified => Some(standard(receiver, delivery, event.as_ref(), now)?),
    };
    let Some((bytes, mut headers)) = made else { return Ok(None) };
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in &receiver.secrets.headers {
        // Checked when they were set.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let timeout = receiver.webhook.timeout.as_ref().and_then(time::std_duration);
    Ok(Some(Call {
        url: receiver.webhook.url.parse().unwrap_or_else(|_| Uri::default()),
        headers,
        body: bytes,
        timeout: timeout.unwrap_or(limits::WEBHOOK_TIMEOUT_DEFAULT),
    }))
}

fn standard(
    receiver: &Receiver,
    delivery: &deliveries::Row,
    event: Option<&events::Row>,
    now: DateTime<Utc>,
) -> recorder_db::Result<(Bytes, HeaderMap)> {
    let data = match event {
        Some(event) => event_data::data(event),
        None => event_data::json("recorder.v1.Webhook", &shown(&receiver.row)?.encode_to_vec()),
    };
    let bytes = encoded(&body::cloud_event(delivery, &data));
    let signature = sign::standard(&receiver.secrets.signing, &delivery.event_id, now.timestamp(), &bytes);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(body::CONTENT_TYPE));
    for (name, value) in [
        ("webhook-id", delivery.event_id.clone()),
        ("webhook-timestamp", now.timestamp().to_string()),
        ("webhook-signature", signature),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Ok((bytes, headers))
}

/// The vendor's body holds one signature. While two keys count, the attempts take turns: whichever one the receiver
/// knows, the next attempt at the latest is signed with it.
fn of_vendor(
    db: &mut AnyConnection,
    receiver: &Receiver,
    delivery: &deliveries::Row,
    event: Option<&events::Row>,
    now: DateTime<Utc>,
) -> recorder_db::Result<Option<(Bytes, HeaderMap)>> {
    let keys = &receiver.secrets.signing;
    let turn = usize::try_from(delivery.attempt).unwrap_or_default().checked_rem(keys.len()).unwrap_or_default();
    let seal = vendor::Seal { key: keys.get(turn).map_or("", String::as_str), now };
    let made = match event {
        None => Some(vendor::test(&format!("webhooks/{}", receiver.row.id), seal)),
        Some(event) => {
            let storage = match vendor::storage_of(event) {
                Some(id) => storages::get(db, &id)?.map(|row| row.storage()).transpose()?,
                None => None,
            };
            let part = usize::try_from(delivery.part).unwrap_or_default();
            vendor::body(event, part, storage.as_ref(), seal)
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(made.map(|made| (encoded(&made), headers)))
}

fn encoded(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}
