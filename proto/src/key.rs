//! Object keys: a template is parsed, proven to give every file its own key, and expanded. Pure.
//!
//! Why no two files share a key: every template holds `{RecordId}` or `{RandomID}` (appended when it does not), so
//! every key contains either the recording's ULID, of which 80 bits are random and unknown beforehand, or 80 bits
//! drawn for the purpose. Within one recording the epoch follows that id (`-e2`), the file index follows the base
//! (`-1`), and the format shows in the extension. No value is ever relied upon to tell two recordings apart.

mod expand;
mod object;
mod parse;
mod sanitize;
#[cfg(test)]
mod tests;

pub use expand::{KeyContext, RecordSource};
pub use object::{ObjectPart, object_key};
pub use parse::{KeyError, KeyTemplate, check_prefix};

use chrono_tz::Tz;

use crate::limits;

/// Most bytes [`object_key`] adds to a base: `-{u32}`, the longest part name, and some room for formats to come.
const SUFFIX_MAX_BYTES: usize = 64;

/// Most bytes of an expanded base, so that prefix, `/` and suffix always fit beside it.
const BASE_MAX_BYTES: usize = limits::KEY_MAX_BYTES - limits::PREFIX_MAX_BYTES - 1 - SUFFIX_MAX_BYTES;

/// Shortest length a long value is ever cut to: a few characters of it, `~`, and 16 hexadecimal digits.
const VALUE_MIN_BYTES: usize = 24;

/// Everything a template may name, as it is written there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Variable {
    RecordSource,
    Domain,
    AppName,
    StreamId,
    RecordId,
    RandomId,
    TemplateId,
    Format,
    FileIndex,
    StartYear,
    StartMonth,
    StartDay,
    StartHour,
    StartMinute,
    StartSecond,
    StartMillisecond,
    Label(String),
}

/// Names and variables; the spelling is the vendor's, inconsistent capitals included.
const VARIABLES: [(&str, Variable); 16] = [
    ("RecordSource", Variable::RecordSource),
    ("Domain", Variable::Domain),
    ("AppName", Variable::AppName),
    ("StreamID", Variable::StreamId),
    ("RecordId", Variable::RecordId),
    ("RandomID", Variable::RandomId),
    ("TemplateId", Variable::TemplateId),
    ("Format", Variable::Format),
    ("FileIndex", Variable::FileIndex),
    ("StartYear", Variable::StartYear),
    ("StartMonth", Variable::StartMonth),
    ("StartDay", Variable::StartDay),
    ("StartHour", Variable::StartHour),
    ("StartMinute", Variable::StartMinute),
    ("StartSecond", Variable::StartSecond),
    ("StartMillisecond", Variable::StartMillisecond),
];

/// Time zone of the `Start*` variables; touches nothing else (R8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeZone {
    /// `UTC`, the default.
    #[default]
    Utc,
    /// `UTC+8`, the vendor's other choice: a fixed offset without summer time.
    UtcPlus8,
    /// An IANA zone such as `Europe/Berlin`, summer time included.
    Iana(Tz),
}

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be UTC, UTC+8 or an IANA name such as Europe/Berlin, got {}", crate::names::quoted(.0))]
pub struct UnknownTimeZone(pub String);

impl std::str::FromStr for TimeZone {
    type Err = UnknownTimeZone;
    fn from_str(text: &str) -> Result<Self, UnknownTimeZone> {
        match text {
            "" | "UTC" => Ok(Self::Utc),
            "UTC+8" => Ok(Self::UtcPlus8),
            _ => text.parse().map(Self::Iana).map_err(|_| UnknownTimeZone(text.to_owned())),
        }
    }
}

impl std::fmt::Display for TimeZone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Utc => f.write_str("UTC"),
            Self::UtcPlus8 => f.write_str("UTC+8"),
            Self::Iana(zone) => f.write_str(zone.name()),
        }
    }
}
