//! Every bound and default of the API, each once. `GetServerInfo` shows them under the names of [`table`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

macro_rules! limits {
    ($($(#[$doc:meta])+ $name:ident: $kind:ident = $value:expr;)+) => {
        $($(#[$doc])+ pub const $name: limits!(@type $kind) = $value;)+

        /// Every limit by its lower-case name, durations as `3600s`.
        pub fn table() -> BTreeMap<String, String> {
            BTreeMap::from([$((stringify!($name).to_ascii_lowercase(), limits!(@show $kind, $name))),+])
        }
    };
    (@type count) => { usize };
    (@type bytes) => { u64 };
    (@type number) => { i32 };
    (@type span) => { Duration };
    (@type text) => { &'static str };
    (@show span, $name:ident) => { time::text($name) };
    (@show $kind:ident, $name:ident) => { $name.to_string() };
}

limits! {
    // Names and texts.
    /// Characters of an id the caller chooses (`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`).
    ID_MAX_CHARACTERS: count = 63;
    /// Characters of a push domain: what DNS allows.
    DOMAIN_MAX_CHARACTERS: count = 253;
    /// Characters of an app.
    APP_MAX_CHARACTERS: count = 255;
    /// The app of a stream that names none.
    APP_DEFAULT: text = "live";
    /// Bytes of a stream id.
    STREAM_MAX_BYTES: count = 512;
    /// Bytes of a template's name for people (R2).
    DISPLAY_NAME_MAX_BYTES: count = 255;
    /// Bytes of a template's description (R3).
    DESCRIPTION_MAX_BYTES: count = 1024;
    /// Labels on one resource.
    LABELS_MAX: count = 64;
    /// Characters of a label's key.
    LABEL_KEY_MAX_CHARACTERS: count = 63;
    /// Bytes of a label's value.
    LABEL_VALUE_MAX_BYTES: count = 256;

    // Templates and their formats.
    /// Length of an HLS segment when none is given (R24).
    HLS_SEGMENT_DEFAULT: span = Duration::from_secs(10);
    /// Shortest HLS segment.
    HLS_SEGMENT_MIN: span = Duration::from_secs(1);
    /// Longest HLS segment.
    HLS_SEGMENT_MAX: span = Duration::from_secs(60);
    /// Shortest file of any format (R24, R26-R28).
    FILE_DURATION_MIN: span = Duration::from_secs(MINUTE);
    /// Longest HLS, FLV or MP4 file: 720 min (R24, R26, R27).
    FILE_DURATION_MAX: span = Duration::from_secs(12 * HOUR);
    /// Longest AAC file: 120 min (R28).
    AAC_FILE_DURATION_MAX: span = Duration::from_secs(2 * HOUR);
    /// Length of an FLV, MP4 or AAC file when none is given (R29).
    FILE_DURATION_DEFAULT: span = Duration::from_secs(30 * MINUTE);
    /// Longest wait for a lost publisher; 0 = no wait (R25).
    RESUME_TIMEOUT_MAX: span = Duration::from_secs(30 * MINUTE);
    /// Shortest wait for a lost publisher that is not 0 (R25).
    RESUME_TIMEOUT_MIN: span = Duration::from_secs(1);
    /// Most media kept from before a start.
    PRE_ROLL_MAX: span = Duration::from_secs(60);
    /// Shortest time between thumbnails.
    THUMBNAIL_INTERVAL_MIN: span = Duration::from_secs(1);
    /// Longest time between thumbnails.
    THUMBNAIL_INTERVAL_MAX: span = Duration::from_secs(HOUR);
    /// Time between thumbnails when none is given.
    THUMBNAIL_INTERVAL_DEFAULT: span = Duration::from_secs(10);
    /// Narrowest thumbnail, pixels.
    THUMBNAIL_WIDTH_MIN: number = 64;
    /// Widest thumbnail, pixels.
    THUMBNAIL_WIDTH_MAX: number = 1920;
    /// Width of a thumbnail when none is given, pixels.
    THUMBNAIL_WIDTH_DEFAULT: number = 320;

    // Object keys.
    /// Bytes of a key template.
    PATH_MAX_BYTES: count = 1024;
    /// Bytes of a finished object key, prefix and extension included (R41; S3 and Google agree on it).
    KEY_MAX_BYTES: count = 1024;
    /// Bytes of one folder or file name within a key, before extension: file systems stop at 255.
    KEY_SEGMENT_MAX_BYTES: count = 200;
    /// Bytes of a storage's prefix.
    PREFIX_MAX_BYTES: count = 256;
    /// The key template of a template that names none (R38), byte for byte the vendor's.
    PATH_DEFAULT: text = "{RecordSource}/{Domain}/{AppName}/{StreamID}/{RecordId}/{StartYear}-{StartMonth}-{StartDay}-{StartHour}-{StartMinute}-{StartSecond}";

    // Storages.
    /// Characters of a bucket's name (R35).
    BUCKET_MAX_CHARACTERS: count = 100;
    /// Characters of a region (R36).
    REGION_MAX_CHARACTERS: count = 100;
    /// Characters of an access key id.
    ACCESS_KEY_ID_MAX_CHARACTERS: count = 128;
    /// Bytes of a secret of any kind; a service account's key file is the longest.
    SECRET_MAX_BYTES: count = 16 * 1024;
    /// Characters of an endpoint or another URL.
    URL_MAX_CHARACTERS: count = 2048;

    // Domains, bindings and rules.
    /// Characters of a publish key.
    PUBLISH_KEY_MAX_CHARACTERS: count = 128;
    /// Domains in one call of BindTemplate or UnbindTemplate.
    BIND_DOMAINS_MAX: count = 100;
    /// Bytes of a rule's pattern for apps or streams.
    PATTERN_MAX_BYTES: count = 512;
    /// Lowest priority of a rule.
    PRIORITY_MIN: number = -1000;
    /// Highest priority of a rule.
    PRIORITY_MAX: number = 1000;
    /// Validity of a publish URL when none is given.
    PUBLISH_URL_TTL_DEFAULT: span = Duration::from_secs(DAY);
    /// Longest validity of a publish URL.
    PUBLISH_URL_TTL_MAX: span = Duration::from_secs(30 * DAY);

    // Tasks.
    /// How far ahead a task may start or end.
    TASK_HORIZON_MAX: span = Duration::from_secs(7 * DAY);
    /// Longest task.
    TASK_DURATION_MAX: span = Duration::from_secs(DAY);
    /// Length of a task that gives no end.
    TASK_DURATION_DEFAULT: span = Duration::from_secs(DAY);
    /// Tasks that may record one stream at the same moment.
    TASKS_AT_ONCE_MAX: count = 3;
    /// Tasks that wait for their start or their end; every media node knows them all.
    TASKS_OPEN_MAX: count = 10_000;

    // Recordings.
    /// Validity of a playback URL when none is given.
    PLAYBACK_URL_TTL_DEFAULT: span = Duration::from_secs(HOUR);
    /// Longest validity of a playback URL: what signature version 4 allows.
    PLAYBACK_URL_TTL_MAX: span = Duration::from_secs(7 * DAY);

    // Streams.
    /// Bytes of what a disconnected publisher is told.
    DISCONNECT_REASON_MAX_BYTES: count = 255;
    /// Longest time for which a disconnected publisher is kept away.
    BLOCK_FOR_MAX: span = Duration::from_secs(DAY);

    // Calls.
    /// Results of a list when no page size is given.
    PAGE_SIZE_DEFAULT: number = 50;
    /// Most results of one page; a larger page size counts as this.
    PAGE_SIZE_MAX: number = 1000;
    /// Characters of a request id.
    REQUEST_ID_MAX_CHARACTERS: count = 64;
    /// How long a request id gives the same reply.
    REQUEST_ID_RETENTION: span = Duration::from_secs(DAY);
    /// How long a watch token stays valid.
    EVENT_RETENTION: span = Duration::from_secs(7 * DAY);
    /// Longest silence on a watch before a bookmark.
    BOOKMARK_INTERVAL: span = Duration::from_secs(15);
    /// Bytes of one request; a standby clip is the largest thing ever sent.
    REQUEST_MAX_BYTES: bytes = 72 * 1024 * 1024;

    // Nodes.
    /// How long a node counts as alive after a heartbeat.
    LEASE_DEFAULT: span = Duration::from_secs(15);
    /// Recordings in one ValidateEpochs.
    VALIDATE_EPOCHS_MAX: count = 1000;
    /// Facts in one ReportFacts message.
    FACTS_PER_MESSAGE_MAX: count = 500;
    /// Directives in one chunk of a snapshot.
    SNAPSHOT_CHUNK_MAX: count = 500;

    // Quotas: far above the vendor's 50, there to keep a runaway script from filling the database.
    /// Templates on one server.
    TEMPLATES_MAX: count = 10_000;
    /// Storages on one server.
    STORAGES_MAX: count = 1_000;
    /// Domains on one server.
    DOMAINS_MAX: count = 10_000;
    /// Bindings of one domain.
    BINDINGS_PER_DOMAIN_MAX: count = 100;
    /// Rules on one server.
    RULES_MAX: count = 100_000;
    /// Webhooks on one server.
    WEBHOOKS_MAX: count = 100;

    // Webhooks.
    /// Shortest time a receiver may have to answer.
    WEBHOOK_TIMEOUT_MIN: span = Duration::from_secs(1);
    /// Longest time a receiver may have to answer.
    WEBHOOK_TIMEOUT_MAX: span = Duration::from_secs(MINUTE);
    /// Time a receiver has to answer when none is given: the vendor's.
    WEBHOOK_TIMEOUT_DEFAULT: span = Duration::from_secs(20);
    /// Extra headers of one webhook.
    WEBHOOK_HEADERS_MAX: count = 16;
    /// Longest time that a secret signs on after it was rotated.
    SECRET_OVERLAP_MAX: span = Duration::from_secs(7 * DAY);
    /// How long a secret signs on when nothing is said.
    SECRET_OVERLAP_DEFAULT: span = Duration::from_secs(DAY);
    /// Tokens on one server.
    TOKENS_MAX: count = 10_000;

    // Access and usage.
    /// Domains that one token can be limited to.
    TOKEN_DOMAINS_MAX: count = 100;
    /// Longest span of a usage query.
    USAGE_SPAN_MAX: span = Duration::from_secs(31 * DAY);
    /// Domains in one usage query.
    USAGE_DOMAINS_MAX: count = 100;
    /// Points of all series of one usage reply together.
    USAGE_POINTS_MAX: count = 200_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_within_their_bounds() {
        assert!((HLS_SEGMENT_MIN..=HLS_SEGMENT_MAX).contains(&HLS_SEGMENT_DEFAULT));
        assert!((FILE_DURATION_MIN..=AAC_FILE_DURATION_MAX).contains(&FILE_DURATION_DEFAULT));
        assert!(PAGE_SIZE_DEFAULT <= PAGE_SIZE_MAX && TASK_DURATION_DEFAULT <= TASK_DURATION_MAX);
        assert!(PATH_DEFAULT.len() <= PATH_MAX_BYTES);
    }

    /// Spelled out once more by hand, so that a typo in a constant does not pass as its own expectation.
    #[test]
    fn r24_to_r29_r35_r36_bounds_are_the_missions() {
        let table = table();
        for (name, value) in [
            ("hls_segment_default", "10s"),
            ("file_duration_min", "60s"),
            ("file_duration_max", "43200s"),
            ("aac_file_duration_max", "7200s"),
            ("file_duration_default", "1800s"),
            ("resume_timeout_max", "1800s"),
            ("bucket_max_characters", "100"),
            ("region_max_characters", "100"),
            ("key_max_bytes", "1024"),
        ] {
            assert_eq!(table.get(name).map(String::as_str), Some(value), "{name}");
        }
    }
}
