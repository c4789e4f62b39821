//! Names, descriptions and units of every metric (operations C.2); a test holds the names still, because dashboards and
//! alerts are written against them.
use std::collections::BTreeMap;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::{Error, build_info};

/// What a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

/// One metric of the product.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Prometheus name.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// Label names; their values are bounded, never a stream or an address.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
}

/// Declares the constants and the table from one list, so that no name can be missing in either.
macro_rules! metrics {
    ($($constant:ident = $name:literal $kind:ident [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric there is.
        pub const ALL: &[Metric] =
            &[$(Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help }),*];
    };
}

metrics! {
    BUILD_INFO = "recorder_build_info" Gauge ["version", "sha"] "Always 1; the labels say which build runs.";
    CONNECTIONS_REFUSED_TOTAL = "recorder_connections_refused_total" Counter ["listener"]
        "Connections closed at once because the listener had its maximum.";

    TLS_RELOADS_TOTAL = "recorder_tls_reloads_total" Counter ["listener", "outcome"]
        "Changed TLS files taken up, or found unusable.";
    API_REQUESTS_TOTAL = "recorder_api_requests_total" Counter ["service", "method", "code"] "gRPC requests answered.";
    API_REQUEST_SECONDS = "recorder_api_request_seconds" Histogram ["service", "method"]
        "Time from request to end of reply, of requests that are not streams.";
    DB_QUERY_SECONDS = "recorder_db_query_seconds" Histogram ["operation"] "Time of one database operation.";
    DIRECTIVES_VERSION = "recorder_directives_version" Gauge [] "Latest version of the directives.";
    DIRECTIVE_APPLY_SECONDS = "recorder_directive_apply_seconds" Histogram []
        "Time from a change to its acknowledgement by every node.";
    NODE_LEASE_EXPIRED_TOTAL = "recorder_node_lease_expired_total" Counter [] "Nodes that stopped sending heartbeats.";
    WEBHOOK_DELIVERIES_TOTAL = "recorder_webhook_deliveries_total" Counter ["outcome"]
        "Attempts to deliver an event to a receiver.";

    PUBLICATIONS = "recorder_publications" Gauge ["protocol"] "Publishers connected and accepted.";
    PUBLISH_REJECTED_TOTAL = "recorder_publish_rejected_total" Counter ["protocol", "reason"] "Publishers refused.";
    RECORDINGS = "recorder_recordings" Gauge ["state"] "Recordings on this node.";
    FRAMES_TOTAL = "recorder_frames_total" Counter ["kind"] "Frames taken in.";
    FRAMES_REJECTED_TOTAL = "recorder_frames_rejected_total" Counter ["reason"]
        "Frames that could not be recorded.";
    TIMELINE_GAPS_TOTAL = "recorder_timeline_gaps_total" Counter ["reason"] "Holes and jumps in source timestamps.";
    AV_OFFSET_SECONDS = "recorder_av_offset_seconds" Histogram [] "Sound ahead of picture at arrival, absolute.";
    MUXED_BYTES_TOTAL = "recorder_muxed_bytes_total" Counter ["format"] "Bytes written by muxers.";
    SPOOL_BYTES = "recorder_spool_bytes" Gauge [] "Bytes in the spool.";
    SPOOL_LIMIT_BYTES = "recorder_spool_limit_bytes" Gauge [] "Bytes the spool may hold.";
    SPOOL_SET_ASIDE_BYTES = "recorder_spool_set_aside_bytes" Gauge []
        "Bytes that nobody could make sense of after a crash, kept for a person to look at.";
    SPOOL_FSYNC_SECONDS = "recorder_spool_fsync_seconds" Histogram [] "Time of one fsync in the spool.";
    SPOOL_UNSHIPPED_SECONDS = "recorder_spool_unshipped_seconds" Gauge []
        "Age of the oldest byte that is not in its storage: the number to alert on.";
    UPLOAD_PARTS_TOTAL = "recorder_upload_parts_total" Counter ["storage", "outcome"] "Parts and objects sent.";
    UPLOAD_PART_SECONDS = "recorder_upload_part_seconds" Histogram [] "Time of one part or object.";
    UPLOAD_RETRIES_TOTAL = "recorder_upload_retries_total" Counter ["storage", "class"] "Uploads tried again.";
    UPLOADS_OPEN = "recorder_uploads_open" Gauge [] "Files on their way to a storage.";
    UPLOADS_STALLED = "recorder_uploads_stalled" Gauge []
        "Files of which nothing has moved for longer than upload.stalled_after.";
    UPLOADS_BACKED_UP_TOTAL = "recorder_uploads_backed_up_total" Counter ["storage"]
        "Files stored in a backup storage, by the storage that failed.";
    STORAGE_CLOCK_SKEW_SECONDS = "recorder_storage_clock_skew_seconds" Gauge ["storage"]
        "Clock of the storage minus this node's, where it refused our signatures for it.";
    LINK_CONNECTED = "recorder_link_connected" Gauge [] "1 while the control plane is connected.";
    FACTS_UNREPORTED = "recorder_facts_unreported" Gauge [] "Facts the control plane has not confirmed.";
}

/// Upper bounds in seconds: from a query in memory to a part on a slow uplink.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Makes the process's metrics recorder (once), describes every metric and sets `recorder_build_info`. It opens no
/// listener: the admin port renders the handle.
pub fn install() -> Result<PrometheusHandle, Error> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder).map_err(|error| Error::TelemetryInstalled(error.to_string()))?;
    describe();
    Ok(handle)
}

/// A recorder as [`install`] makes it, for tests that use it locally.
pub fn recorder() -> Result<PrometheusRecorder, Error> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS);
    Ok(builder.map_err(|error| Error::TelemetryInstalled(error.to_string()))?.build_recorder())
}

/// Gives the current recorder the descriptions and the build.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => ::metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => ::metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => ::metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    ::metrics::gauge!(BUILD_INFO, "version" => build_info::VERSION, "sha" => build_info::SHA).set(1.0);
}

/// `name{labels} kind` of every metric, sorted: what the snapshot holds, and what documentation can print.
pub fn dictionary() -> Vec<String> {
    let line = |metric: &Metric| {
        let labels = if metric.labels.is_empty() { String::new() } else { format!("{{{}}}", metric.labels.join(",")) };
        (metric.name, format!("{}{labels} {:?}", metric.name, metric.kind))
    };
    ALL.iter().map(line).collect::<BTreeMap<_, _>>().into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renaming a metric breaks somebody's alert: add here, change never.
    const SNAPSHOT: &str = "\
recorder_api_request_seconds{service,method} Histogram
recorder_api_requests_total{service,method,code} Counter
recorder_av_offset_seconds Histogram
recorder_build_info{version,sha} Gauge
recorder_connections_refused_total{listener} Counter
recorder_db_query_seconds{operation} Histogram
recorder_directive_apply_seconds Histogram
recorder_directives_version Gauge
recorder_facts_unreported Gauge
recorder_frames_rejected_total{reason} Counter
recorder_frames_total{kind} Counter
recorder_link_connected Gauge
recorder_muxed_bytes_total{format} Counter
recorder_node_lease_expired_total Counter
recorder_publications{protocol} Gauge
recorder_publish_rejected_total{protocol,reason} Counter
recorder_recordings{state} Gauge
recorder_spool_bytes Gauge
recorder_spool_fsync_seconds Histogram
recorder_spool_limit_bytes Gauge
recorder_spool_set_aside_bytes Gauge
recorder_spool_unshipped_seconds Gauge
recorder_storage_clock_skew_seconds{storage} Gauge
recorder_timeline_gaps_total{reason} Counter
recorder_tls_reloads_total{listener,outcome} Counter
recorder_upload_part_seconds Histogram
recorder_upload_parts_total{storage,outcome} Counter
recorder_upload_retries_total{storage,class} Counter
recorder_uploads_backed_up_total{storage} Counter
recorder_uploads_open Gauge
recorder_uploads_stalled Gauge
recorder_webhook_deliveries_total{outcome} Counter";

    #[test]
    fn names_are_what_dashboards_expect() {
        assert_eq!(dictionary().join("\n"), SNAPSHOT);
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in ALL {
            assert!(metric.name.starts_with("recorder_"), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(!metric.labels.contains(&"stream") && metric.help.ends_with('.') || metric.help.contains(':'));
        }
    }

    #[test]
    fn rendered_metrics_have_help_type_buckets_and_the_build() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            ::metrics::histogram!(DB_QUERY_SECONDS, "operation" => "list").record(0.02);
            ::metrics::counter!(FRAMES_TOTAL, "kind" => "video").increment(3);
        });
        let text = handle.render();
        for line in [
            "# HELP recorder_frames_total Frames taken in.",
            "# TYPE recorder_frames_total counter",
            "recorder_frames_total{kind=\"video\"} 3",
            "recorder_db_query_seconds_bucket{operation=\"list\",le=\"0.025\"} 1",
            "recorder_db_query_seconds_bucket{operation=\"list\",le=\"0.01\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "missing {line}\n{text}");
        }
        let build = format!("recorder_build_info{{version=\"{}\",sha=\"{}\"}} 1", build_info::VERSION, build_info::SHA);
        assert!(text.contains(&build), "{text}");
    }
}
