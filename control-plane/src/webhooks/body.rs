//! The body of a delivery: a CloudEvents 1.0 event in structured JSON.
use chrono::SecondsFormat;
use recorder_db::deliveries;
use recorder_proto::time;
use serde_json::{Value, json};

/// `content-type` of such a body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Where events come from, as CloudEvents want to know it.
const SOURCE: &str = "/recorder";

/// The type of the event that TestWebhook sends.
pub const TEST: &str = "webhook.test";

/// The event of a delivery; `data` is the resource it is about.
pub fn cloud_event(delivery: &deliveries::Row, data: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": delivery.event_id,
        "source": SOURCE,
        "type": delivery.event_type,
        "subject": delivery.subject,
        "time": time::from_micros(delivery.event_time).to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "datacontenttype": "application/json",
        "sequence": delivery.event_seq.to_string(),
        "data": data,
    })
}
