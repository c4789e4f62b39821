//! Identifiers and counters as types, so that one is never passed where another is meant.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Random bytes that go into a ULID: 80 bits, enough that no id can be guessed before it exists.
pub type Entropy = [u8; 10];

/// A text that is not a ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a ULID (26 characters of Crockford base 32)")]
pub struct NotUlid(pub String);

fn ulid(at: DateTime<Utc>, entropy: Entropy) -> Ulid {
    // Times before 1970 count as 1970: a node whose clock was never set must still be able to record.
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    let random = entropy.iter().fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
    Ulid::from_parts(millis, random)
}

fn parse_ulid(text: &str) -> Result<Ulid, NotUlid> {
    // 26 characters hold 130 bits; what does not fit 128 would come back as another id.
    let fits = text.starts_with(|c: char| c.is_digit(8));
    Ulid::from_string(text).ok().filter(|_| fits).ok_or_else(|| NotUlid(text.chars().take(64).collect()))
}

macro_rules! ulid_id {
    ($(#[$doc:meta] $name:ident),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// Makes an id from a moment and fresh random bytes; both are parameters so that tests are repeatable.
            pub fn new(at: DateTime<Utc>, entropy: Entropy) -> Self {
                Self(ulid(at, entropy))
            }

            /// The moment the id was made, to the millisecond.
            pub fn made_at(self) -> DateTime<Utc> {
                i64::try_from(self.0.timestamp_ms()).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotUlid;
            fn from_str(text: &str) -> Result<Self, NotUlid> {
                parse_ulid(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

ulid_id! {
    /// One recording; minted by the media node, made official by a claim.
    RecordingId,
    /// One connection of one publisher.
    SessionId,
    /// One event or fact, the same for every receiver and attempt.
    EventId,
    /// One start of a process.
    BootId,
    /// One attempt chain of an event to a webhook.
    DeliveryId,
    /// One API token.
    TokenId,
}

macro_rules! counter {
    ($(#[$doc:meta] $name:ident($inner:ty)),+ $(,)?) => {$(
        #[$doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number, for the wire and the database.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The one after this; stays at the largest number rather than starting over.
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    )+};
}

counter! {
    /// Fencing epoch of a recording: 1 for its first writer, +1 per takeover; 0 on the wire means "none".
    Epoch(u64),
    /// Fencing epoch of a node: +1 per registration.
    NodeEpoch(u64),
    /// Position of a file within its recording and format, from 0.
    FileIndex(u32),
    /// Position of a fact in its node's log, from 1, or of an event in the server's.
    Sequence(u64),
}

impl Epoch {
    /// The epoch of a recording's first writer.
    pub const FIRST: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn ids_come_from_time_and_entropy_and_sort_by_time() {
        let early = RecordingId::new(at(1_000), [0xff; 10]);
        let late = RecordingId::new(at(1_001), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.made_at(), at(1_000));
        assert_eq!(early, RecordingId::new(at(1_000), [0xff; 10]));
        assert_eq!(early.to_string().len(), 26);
    }

    #[test]
    fn ids_round_trip_as_text_and_json_and_canonicalise_case() {
        let id = SessionId::new(at(1_763_800_000_123), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert_eq!(id.to_string().to_lowercase().parse::<SessionId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<SessionId>(&json).unwrap(), id);
    }

    #[test]
    fn what_is_not_a_ulid_is_refused() {
        for text in ["", "01", "ZZZZZZZZZZZZZZZZZZZZZZZZZZ", "01JDXYZ/..", "01ARZ3NDEKTSV4RRFFQ69G5FAVX"] {
            assert!(text.parse::<RecordingId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_clock_before_1970_still_makes_ids() {
        assert_eq!(RecordingId::new(at(-5), [7; 10]).made_at(), at(0));
    }

    #[test]
    fn counters_stop_at_the_top() {
        assert_eq!(Epoch::FIRST.next(), Epoch(2));
        assert_eq!(FileIndex(u32::MAX).next(), FileIndex(u32::MAX));
    }
}
