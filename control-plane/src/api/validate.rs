//! Checks that several resources share; every one of them notes a violation instead of failing, so that a caller hears
//! of all mistakes at once.
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use recorder_proto::names::NameError;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};
use sha2::{Digest, Sha256};
use tonic::transport::Uri;

/// A name that must be there.
pub fn name<N: FromStr<Err = NameError>>(violations: &mut Violations, field: &str, text: &str) -> Option<N> {
    if text.is_empty() {
        violations.add(field, "is required");
        return None;
    }
    violations.take(field, text.parse())
}

/// A name that may be absent.
pub fn optional_name<N: FromStr<Err = NameError>>(violations: &mut Violations, field: &str, text: &str) -> Option<N> {
    if text.is_empty() { None } else { violations.take(field, text.parse()) }
}

/// The name of a request that is about one resource.
///
/// # Errors
/// INVALID_ARGUMENT when it is none.
pub fn only_name<N: FromStr<Err = NameError>>(field: &str, text: &str) -> Result<N, Problem> {
    let mut violations = Violations::new();
    let name = name(&mut violations, field, text);
    violations.finish()?;
    name.ok_or_else(|| Problem::invalid_field(field, "is required"))
}

/// Labels: at most 64, keys `[a-z]([a-z0-9_.-]{0,62})`, values up to 256 bytes without control characters.
pub fn labels(violations: &mut Violations, field: &str, labels: &BTreeMap<String, String>) {
    let most = limits::LABELS_MAX;
    violations.check(labels.len() <= most, field, format!("must be at most {most}, got {}", labels.len()));
    for (key, value) in labels.iter().take(most) {
        let letters = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
        let sound = letters
            && key.starts_with(|c: char| c.is_ascii_lowercase())
            && key.len() <= limits::LABEL_KEY_MAX_CHARACTERS;
        let shown: String = key.chars().filter(|c| !c.is_control()).take(64).collect();
        violations.check(
            sound,
            field,
            format!("key `{shown}` must be a lower-case letter and then up to 62 of a-z 0-9 _ . -"),
        );
        let most = limits::LABEL_VALUE_MAX_BYTES;
        violations.check(
            value.len() <= most && !value.chars().any(char::is_control),
            field,
            format!("value of `{shown}` must be at most {most} bytes without control characters"),
        );
    }
}

/// Bounds of a duration, and what stands for "not set".
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
    /// In place of an absent or zero duration; None when zero is a value of its own ("off").
    pub default: Option<Duration>,
}

impl Span {
    /// Zero, or from `min` to `max`.
    pub const fn or_off(min: Duration, max: Duration) -> Self {
        Self { min, max, default: None }
    }

    /// From `min` to `max`; absent or zero is `default`.
    pub const fn or(min: Duration, max: Duration, default: Duration) -> Self {
        Self { min, max, default: Some(default) }
    }

    /// The effective duration.
    pub fn effective(
        self,
        violations: &mut Violations,
        field: &str,
        given: Option<&prost_types::Duration>,
    ) -> Duration {
        let span = given.map_or(Some(Duration::ZERO), time::std_duration);
        match span {
            Some(Duration::ZERO) => self.default.unwrap_or_default(),
            Some(span) if (self.min..=self.max).contains(&span) => span,
            _ => {
                let off = if self.default.is_none() { "0s or " } else { "" };
                let sent = given.map(time::wire_text).unwrap_or_default();
                let (min, max) = (time::text(self.min), time::text(self.max));
                violations.add(field, format!("must be {off}{min} to {max}, got {sent}"));
                self.min
            }
        }
    }

    /// [`Span::effective`] as the wire carries it.
    pub fn wire(
        self,
        violations: &mut Violations,
        field: &str,
        given: Option<&prost_types::Duration>,
    ) -> Option<prost_types::Duration> {
        Some(time::duration(self.effective(violations, field, given)))
    }
}

/// An enum of the wire: unknown numbers are violations, zero is the default.
pub fn choice<E: TryFrom<i32> + Default + PartialEq>(
    violations: &mut Violations,
    field: &str,
    given: i32,
    default: E,
) -> E {
    match E::try_from(given) {
        Ok(value) if value == E::default() => default,
        Ok(value) => value,
        Err(_) => {
            violations.add(field, format!("must be one of the values of the contract, got {given}"));
            default
        }
    }
}

/// A text of `min..=max` characters without control characters and white space.
pub fn word(violations: &mut Violations, field: &str, text: &str, min: usize, max: usize) -> bool {
    let characters = text.chars().count();
    let sound = (min..=max).contains(&characters) && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    violations.check(
        sound,
        field,
        format!("must be {min} to {max} characters without white space, got {characters} characters"),
    )
}

/// A secret: like [`word`], but the message tells nothing of it.
pub fn secret(violations: &mut Violations, field: &str, text: &str, max_bytes: usize) -> bool {
    let sound = text.len() <= max_bytes && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    violations.check(
        sound,
        field,
        format!("must be at most {max_bytes} bytes without white space (was a line end copied with it?)"),
    )
}

/// An http or https URL, up to 2048 characters. `origin` forbids anything after host and port.
pub fn url(violations: &mut Violations, field: &str, text: &str, schemes: &[&str], origin: bool) {
    let fault = url_fault(text, schemes, origin);
    if let Some(fault) = fault {
        violations.add(field, fault);
    }
}

fn url_fault(text: &str, schemes: &[&str], origin: bool) -> Option<String> {
    let most = limits::URL_MAX_CHARACTERS;
    if text.chars().count() > most {
        return Some(format!("must be at most {most} characters"));
    }
    let expected = format!("must be a URL like {}://host:port", schemes.first().copied().unwrap_or("https"));
    let Ok(uri) = text.parse::<Uri>() else { return Some(expected) };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Some(expected) };
    if !schemes.contains(&scheme) {
        return Some(format!("must begin with {}://", schemes.join(":// or ")));
    }
    if authority.as_str().contains('@') {
        return Some("must not contain a user or password".to_owned());
    }
    if authority.host().is_empty() || authority.as_str().ends_with(':') {
        return Some(expected);
    }
    if origin && (!matches!(uri.path(), "" | "/") || uri.query().is_some()) {
        return Some("must end after host and port".to_owned());
    }
    None
}

/// The etag of a row: opaque, different after every change, and never that of a row deleted before.
pub fn etag(uid: &str, rev: i64) -> String {
    let digest = Sha256::new().chain_update(uid).chain_update(rev.to_be_bytes()).finalize();
    hex::encode(digest.get(..8).unwrap_or_default())
}

/// Compares the etag that a change expects, if any.
///
/// # Errors
/// ABORTED / ETAG_MISMATCH.
pub fn expect_etag(expected: &str, current: &str) -> Result<(), Problem> {
    if expected.is_empty() || expected == current { Ok(()) } else { Err(Problem::etag_mismatch(current)) }
}

/// Notes a violation when a count is outside `1..=max`.
pub fn count(violations: &mut Violations, field: &str, found: usize, max: usize) {
    violations.check((1..=max).contains(&found), field, format!("must be 1 to {max}, got {found}"));
}

/// What a limit on the number of resources says.
///
/// # Errors
/// RESOURCE_EXHAUSTED when it is reached.
pub fn quota(kinds: &str, found: i64, max: usize) -> Result<(), Problem> {
    let reached = usize::try_from(found).is_ok_and(|found| found >= max);
    if reached { Err(Problem::too_many(kinds, max)) } else { Ok(()) }
}

/// Joins names for a message.
pub fn listed<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use recorder_proto::names::TemplateName;
    use recorder_proto::pb::v1::template::Content;

    use super::*;

    fn messages(check: impl FnOnce(&mut Violations)) -> String {
        let mut violations = Violations::new();
        check(&mut violations);
        violations.finish().err().map(|problem| problem.message).unwrap_or_default()
    }

    fn wire(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn spans() {
        let minute = Duration::from_secs(60);
        let file = Span::or(minute, 10 * minute, 5 * minute);
        let window = Span::or_off(Duration::from_secs(1), minute);
        for (span, given, expected) in [
            (file, None, Ok(300)),
            (file, wire(0), Ok(300)),
            (file, wire(60), Ok(60)),
            (file, wire(600), Ok(600)),
            (file, wire(59), Err("f: must be 60s to 600s, got 59s")),
            (file, wire(601), Err("f: must be 60s to 600s, got 601s")),
            (file, wire(-1), Err("f: must be 60s to 600s, got -1s")),
            (window, None, Ok(0)),
            (window, wire(0), Ok(0)),
            (window, wire(61), Err("f: must be 0s or 1s to 60s, got 61s")),
            (
                window,
                Some(prost_types::Duration { seconds: 0, nanos: 1 }),
                Err("f: must be 0s or 1s to 60s, got 0.000000001s"),
            ),
        ] {
            let mut violations = Violations::new();
            let effective = span.effective(&mut violations, "f", given.as_ref()).as_secs();
            match expected {
                Ok(seconds) => assert_eq!((effective, violations.len()), (seconds, 0), "{given:?}"),
                Err(message) => assert_eq!(violations.finish().unwrap_err().message, message),
            }
        }
    }

    #[test]
    fn urls() {
        let fault = |text: &str, origin| url_fault(text, &["https", "http"], origin);
        for text in ["http://127.0.0.1:9000", "https://s3.example.com", "https://[::1]:9000/"] {
            assert_eq!(fault(text, true), None, "{text}");
        }
        assert_eq!(fault("https://auth.example.com/publish?x=1", false), None);
        let long = format!("https://{}.com", "a".repeat(2048));
        for text in
            ["", "host:9000", "ftp://host", "https://", "https://u:p@host", "https://host/path", "https://a b", &long]
        {
            assert!(fault(text, true).is_some(), "{text}");
        }
    }

    #[test]
    fn names_enums_and_labels() {
        assert_eq!(messages(|v| drop(name::<TemplateName>(v, "name", ""))), "name: is required");
        assert_eq!(messages(|v| drop(optional_name::<TemplateName>(v, "name", ""))), "");
        let mut violations = Violations::new();
        assert_eq!(choice(&mut violations, "c", 0, Content::Original), Content::Original);
        assert_eq!(choice(&mut violations, "c", 2, Content::Original), Content::Watermarked);
        assert!(violations.is_empty());
        assert!(messages(|v| assert_eq!(choice(v, "c", 99, Content::Original), Content::Original)).contains("got 99"));
        let one = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(messages(|v| labels(v, "l", &one("team.x_1-y", &"v".repeat(256)))), "");
        for bad in [one("", "v"), one("Team", "v"), one("1a", "v"), one("a b", "v"), one(&"a".repeat(64), "v")] {
            assert!(messages(|v| labels(v, "l", &bad)).starts_with("l: key "), "{bad:?}");
        }
        for bad in [one("a", &"v".repeat(257)), one("a", "x\ny")] {
            assert!(messages(|v| labels(v, "l", &bad)).starts_with("l: value "), "{bad:?}");
        }
        let many = (0..65).map(|number| (format!("a{number}"), String::new())).collect();
        assert_eq!(messages(|v| labels(v, "l", &many)), "l: must be at most 64, got 65");
    }

    #[test]
    fn secrets_are_not_repeated_in_messages() {
        let message = messages(|v| assert!(!secret(v, "storage.s3.secret_access_key", "hunter2\n", 100)));
        assert!(message.contains("white space") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn quotas() {
        assert!(quota("rules", 9, 10).is_ok());
        let reached = quota("rules", 10, 10).unwrap_err();
        assert_eq!((reached.code, reached.reason.as_str()), (tonic::Code::ResourceExhausted, "TOO_MANY_RULES"));
    }

    #[test]
    fn etags_differ_by_row_and_change() {
        assert_eq!(etag("a", 1), etag("a", 1));
        assert_ne!(etag("a", 1), etag("a", 2));
        assert_ne!(etag("a", 1), etag("b", 1));
        assert!(expect_etag("", "x").is_ok() && expect_etag("x", "x").is_ok());
        let mismatch = expect_etag("y", "x").unwrap_err();
        assert_eq!((mismatch.reason.as_str(), mismatch.metadata["current_etag"].as_str()), ("ETAG_MISMATCH", "x"));
    }
}
