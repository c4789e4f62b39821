//! Which columns a list of each resource has.

use crate::table::{Cell, Column};
use Cell::{At, Bytes, BytesOfAll, Place, Ratio, Stream, Which};

/// The columns of a resource by its singular.
pub fn of(singular: &str) -> &'static [Column] {
    match singular {
        "storage" => STORAGES,
        "template" => TEMPLATES,
        "domain" => DOMAINS,
        "binding" => BINDINGS,
        "rule" => RULES,
        "recording" => RECORDINGS,
        "file" => FILES,
        "task" => TASKS,
        "stream" => STREAMS,
        "node" => NODES,
        "webhook" => WEBHOOKS,
        "delivery" => DELIVERIES,
        "token" => TOKENS,
        "event" => EVENTS,
        _ => &[("NAME", At("name"))],
    }
}

const STORAGES: &[Column] = &[
    ("NAME", At("name")),
    ("WHERE", Place),
    ("STATE", At("state")),
    ("DEFAULT", At("is_default")),
    ("LAST SUCCESS", At("last_success_time")),
    ("ERROR", At("last_error.message")),
];
const TEMPLATES: &[Column] = &[
    ("NAME", At("name")),
    ("REVISION", At("revision")),
    ("FORMATS", Which(&["hls", "flv", "mp4", "aac"])),
    ("STORAGE", At("storage")),
    ("DESCRIPTION", At("description")),
];
const DOMAINS: &[Column] = &[
    ("NAME", At("name")),
    ("WHO MAY PUBLISH", At("publish_auth.mode")),
    ("PROTOCOLS", At("protocols")),
    ("DISABLED", At("disabled")),
    ("CREATED", At("create_time")),
];
const BINDINGS: &[Column] = &[
    ("NAME", At("name")),
    ("APP", At("app")),
    ("TEMPLATE", At("template")),
    ("STATE", At("state")),
    ("NODES", Ratio("nodes_applied", "nodes_total")),
    ("ERROR", At("error.message")),
];
const RULES: &[Column] = &[
    ("NAME", At("name")),
    ("DOMAIN", At("domain")),
    ("APP", At("app")),
    ("STREAM", At("stream")),
    ("ACTION", At("action")),
    ("TEMPLATE", At("template")),
    ("PRIORITY", At("priority")),
    ("STATE", At("state")),
];
const RECORDINGS: &[Column] = &[
    ("NAME", At("name")),
    ("STREAM", Stream("stream")),
    ("STATE", At("state")),
    ("STARTED", At("start_time")),
    ("DURATION", At("media_duration")),
    ("RECORDED", BytesOfAll("outputs", "bytes_recorded")),
    ("UPLOADED", BytesOfAll("outputs", "bytes_uploaded")),
    ("ENDED BY", At("end_reason")),
];
const FILES: &[Column] = &[
    ("NAME", At("name")),
    ("STATE", At("state")),
    ("SIZE", Bytes("size_bytes")),
    ("DURATION", At("duration")),
    ("URI", At("uri")),
    ("ERROR", At("error.message")),
];
const TASKS: &[Column] = &[
    ("NAME", At("name")),
    ("STREAM", Stream("stream")),
    ("STATE", At("state")),
    ("START", At("start_time")),
    ("END", At("end_time")),
    ("TEMPLATE", At("template")),
];
const STREAMS: &[Column] = &[
    ("NAME", At("name")),
    ("STREAM", Stream("stream")),
    ("PROTOCOL", At("protocol")),
    ("NODE", At("node")),
    ("FROM", At("remote_address")),
    ("STARTED", At("start_time")),
];
const NODES: &[Column] = &[
    ("NAME", At("name")),
    ("STATE", At("state")),
    ("VERSION", At("version")),
    ("STREAMS", At("streams")),
    ("RECORDINGS", At("recordings")),
    ("SPOOL", Bytes("spool_bytes")),
    ("OF", Bytes("spool_limit_bytes")),
    ("LAG", At("upload_lag")),
    ("DIRECTIVES", Ratio("directives_version", "directives_version_wanted")),
];
const WEBHOOKS: &[Column] = &[
    ("NAME", At("name")),
    ("URL", At("url")),
    ("SIGNATURE", At("signature")),
    ("EVENTS", At("event_types")),
    ("STATE", At("state")),
];
const DELIVERIES: &[Column] = &[
    ("NAME", At("name")),
    ("EVENT", At("event_type")),
    ("STATE", At("state")),
    ("ATTEMPTS", At("attempt")),
    ("STATUS", At("http_status")),
    ("ERROR", At("error")),
];
const TOKENS: &[Column] = &[
    ("NAME", At("name")),
    ("FOR", At("display_name")),
    ("ROLES", At("roles")),
    ("DOMAINS", At("domains")),
    ("PREFIX", At("prefix")),
    ("LAST USED", At("last_used_time")),
    ("EXPIRES", At("expire_time")),
];
const EVENTS: &[Column] =
    &[("SEQUENCE", At("sequence")), ("TIME", At("time")), ("TYPE", At("type")), ("SUBJECT", At("subject"))];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    /// A column that names a field which is not there would be empty for ever.
    #[test]
    fn every_column_is_a_field_of_the_contract() {
        for resource in contract::RESOURCES {
            let mut letters = resource.singular.chars();
            let message: String = letters.next().unwrap().to_uppercase().chain(letters).collect();
            let message = contract::pool().get_message_by_name(&format!("recorder.v1.{message}")).unwrap();
            let check = |path: &str| {
                let field = message.get_field_by_name(path.split('.').next().unwrap());
                let field = field.unwrap_or_else(|| panic!("{path}"));
                if let Some((_, rest)) = path.split_once('.') {
                    let nested = field.kind().as_message().unwrap().clone();
                    assert!(nested.get_field_by_name(rest).is_some(), "{path}");
                }
            };
            for (_, cell) in of(resource.singular) {
                match *cell {
                    At(path) | Bytes(path) | Stream(path) => check(path),
                    Ratio(part, whole) => [part, whole].into_iter().for_each(check),
                    BytesOfAll(list, field) => check(&format!("{list}.{field}")),
                    Which(fields) => fields.iter().copied().for_each(check),
                    Place => ["s3", "gcs", "file_system", "prefix"].into_iter().for_each(check),
                }
            }
        }
    }
}
