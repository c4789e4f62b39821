//! Times and durations between Rust, protobuf, the database and messages for people.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// A moment as the wire carries it.
pub fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    // Below a second chrono counts a leap second past 999 999 999; the wire has no such thing.
    let nanos = i32::try_from(at.timestamp_subsec_nanos().min(999_999_999)).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}

/// A moment from the wire; `None` when it lies outside what a calendar can show.
pub fn datetime(wire: &prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(wire.seconds, u32::try_from(wire.nanos).ok()?)
}

/// A duration as the wire carries it; beyond the wire's range it stops at the largest.
pub fn duration(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0) }
}

/// A duration from the wire; `None` when it is negative or malformed.
pub fn std_duration(wire: &prost_types::Duration) -> Option<Duration> {
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(wire.seconds).ok()?, nanos))
}

/// Microseconds since 1970, as the database keeps times.
pub fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// The reverse of [`micros`]; a number outside the calendar becomes 1970.
pub fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// A duration as people and proto JSON write it: `3600s`, `0.5s`.
pub fn text(span: Duration) -> String {
    if span.subsec_nanos() == 0 {
        return format!("{}s", span.as_secs());
    }
    let fraction = format!("{:09}", span.subsec_nanos());
    format!("{}.{}s", span.as_secs(), fraction.trim_end_matches('0'))
}

/// [`text`] for a duration from the wire, negative and malformed ones included: messages quote what was sent.
pub fn wire_text(wire: &prost_types::Duration) -> String {
    match std_duration(wire) {
        Some(span) => text(span),
        None if wire.seconds <= 0 && (-999_999_999..=0).contains(&wire.nanos) => {
            format!("-{}", text(Duration::new(wire.seconds.unsigned_abs(), wire.nanos.unsigned_abs())))
        }
        None => format!("{}s and {}ns", wire.seconds, wire.nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_like_proto_json() {
        assert_eq!(text(Duration::from_secs(3600)), "3600s");
        assert_eq!(text(Duration::from_millis(500)), "0.5s");
        assert_eq!(text(Duration::new(1, 1)), "1.000000001s");
        assert_eq!(wire_text(&prost_types::Duration { seconds: -1, nanos: -500_000_000 }), "-1.5s");
        assert_eq!(wire_text(&prost_types::Duration { seconds: 1, nanos: -5 }), "1s and -5ns");
    }

    #[test]
    fn what_no_calendar_or_clock_has_is_none() {
        assert_eq!(datetime(&prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }), None);
        assert_eq!(datetime(&prost_types::Timestamp { seconds: 0, nanos: -1 }), None);
        assert_eq!(std_duration(&prost_types::Duration { seconds: -1, nanos: 0 }), None);
        assert_eq!(std_duration(&prost_types::Duration { seconds: 0, nanos: 1_000_000_000 }), None);
        assert_eq!(duration(Duration::MAX).seconds, i64::MAX);
    }

    proptest! {
        #[test]
        fn moments_round_trip(micros in 0_i64..4_102_444_800_000_000) {
            let at = from_micros(micros);
            prop_assert_eq!(datetime(&timestamp(at)), Some(at));
            prop_assert_eq!(super::micros(at), micros);
        }

        #[test]
        fn durations_round_trip(seconds in 0_u64..1_000_000, nanos in 0_u32..1_000_000_000) {
            let span = Duration::new(seconds, nanos);
            prop_assert_eq!(std_duration(&duration(span)), Some(span));
        }
    }
}
