//! The one error type: the provider's own code and words, and the answers to "retry?" and "whose fault?".
use std::fmt;
use std::num::NonZeroU32;

/// Longest provider message that is kept; a proxy's HTML page must not fill logs and databases.
const MAX_MESSAGE_CHARS: usize = 600;

/// A failed operation on a bucket. Holds no secret: backends scrub their credentials from the provider's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct Error {
    /// Which operation of [`crate::Bucket`], such as `put`.
    pub operation: &'static str,
    /// The object key (or prefix) it was about.
    pub key: String,
    /// Our classification, from which retry and blame follow.
    pub kind: Kind,
    /// The provider's own code (`NoSuchBucket`, `SlowDown`, `notFound`) or ours when it gave none (`Timeout`).
    pub code: String,
    /// The provider's own words.
    pub message: String,
    /// HTTP status, where one was received.
    pub status: Option<u16>,
    /// The region in which the bucket really is, when the provider said that ours is wrong.
    pub right_region: Option<Box<str>>,
    /// The `Date` of an answer that found our clock wrong ([`Kind::ClockSkew`]), in seconds since 1970.
    pub server_time: Option<NonZeroU32>,
}

/// Classes of failure; each has one answer to retry and blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// No object of that key.
    NotFound,
    /// The upload was completed, aborted or expired.
    NoSuchUpload,
    /// [`crate::If::Absent`] and there is one.
    AlreadyExists,
    /// Credentials unknown, wrong, expired or without permission.
    Denied,
    /// The storage is described wrongly: bucket, region, storage class, KMS key.
    Misconfigured,
    /// The clock of this machine is too far off for signatures.
    ClockSkew,
    /// Asked to slow down.
    Throttled,
    /// The provider fails or is overloaded.
    Unavailable,
    /// No answer within the limit; the request may have been applied.
    Timeout,
    /// No connection.
    Unreachable,
    /// The connection ended before the answer; the request may have been applied.
    Interrupted,
    /// The stored bytes are not ours.
    Corrupted,
    /// The request cannot be right: a bad key, a part too small, parts out of order.
    Invalid,
    /// The store has no such operation.
    Unsupported,
    /// A local disk or directory fails, is full or is not ours.
    Disk,
    /// The source of the bytes failed, not the store.
    Source,
    /// An answer that makes no sense.
    Unexpected,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// At once, within the retry budget.
    Now,
    /// With growing pauses and jitter.
    Backoff,
    /// Not before somebody changes something.
    Never,
}

/// Whose fault it is; log levels and metrics derive from it (architecture.md A.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Who called with wrong arguments.
    Caller,
    /// The storage or its settings: shown on the Storage resource.
    Destination,
    /// This machine: disk, clock.
    Node,
    /// Our code.
    Bug,
}

impl Kind {
    /// By HTTP status alone, for answers without a code that we know.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => Kind::Denied,
            404 | 410 => Kind::NotFound,
            408 => Kind::Timeout,
            409 | 500..=599 if status != 501 => Kind::Unavailable,
            412 => Kind::AlreadyExists,
            429 => Kind::Throttled,
            501 => Kind::Unsupported,
            300..=499 => Kind::Misconfigured,
            _ => Kind::Unexpected,
        }
    }

    /// By the words of a client library for "no answer came".
    pub(crate) fn of_transport(words: &str) -> Self {
        let words = words.to_ascii_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        if says(&["certificate", "tls handshake", "invalidcontenttype"]) {
            Kind::Misconfigured
        } else if says(&["timed out", "timeout", "deadline"]) {
            Kind::Timeout
        } else if says(&["refused", "dns", "resolve", "unreachable", "no route"]) {
            Kind::Unreachable
        } else if says(&["reset", "closed", "broken pipe", "incomplete", "canceled", "aborted", "end of file"]) {
            Kind::Interrupted
        } else {
            Kind::Unreachable
        }
    }

    /// When to try again.
    pub fn retry(self) -> Retry {
        match self {
            Kind::Interrupted | Kind::Corrupted => Retry::Now,
            Kind::ClockSkew
            | Kind::Throttled
            | Kind::Unavailable
            | Kind::Timeout
            | Kind::Unreachable
            | Kind::Disk
            | Kind::Unexpected => Retry::Backoff,
            Kind::NotFound
            | Kind::NoSuchUpload
            | Kind::AlreadyExists
            | Kind::Denied
            | Kind::Misconfigured
            | Kind::Invalid
            | Kind::Unsupported
            | Kind::Source => Retry::Never,
        }
    }

    /// Whose fault it is.
    pub fn blame(self) -> Blame {
        match self {
            Kind::NotFound | Kind::AlreadyExists | Kind::Invalid | Kind::Unsupported | Kind::Source => Blame::Caller,
            Kind::NoSuchUpload
            | Kind::Denied
            | Kind::Misconfigured
            | Kind::Throttled
            | Kind::Unavailable
            | Kind::Timeout
            | Kind::Unreachable
            | Kind::Interrupted
            | Kind::Corrupted => Blame::Destination,
            Kind::ClockSkew | Kind::Disk => Blame::Node,
            Kind::Unexpected => Blame::Bug,
        }
    }
}

impl Error {
    /// With our own words; add the provider's with the other builders.
    pub fn new(operation: &'static str, key: &str, kind: Kind, code: &str, message: impl fmt::Display) -> Self {
        Self {
            operation,
            key: key.to_owned(),
            kind,
            code: code.to_owned(),
            message: bounded(&message.to_string()),
            status: None,
            right_region: None,
            server_time: None,
        }
    }

    /// When to try again.
    pub fn retry(&self) -> Retry {
        self.kind.retry()
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        self.kind.blame()
    }

    /// For requests that got no answer.
    pub(crate) fn transport(operation: &'static str, key: &str, words: &str) -> Self {
        let kind = Kind::of_transport(words);
        let code = match kind {
            Kind::Timeout => "Timeout",
            Kind::Interrupted => "ConnectionClosed",
            Kind::Misconfigured => "TlsFailed",
            _ => "ConnectionFailed",
        };
        Self::new(operation, key, kind, code, words)
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Takes every secret out of the text; providers and proxies sometimes echo what they were sent.
    pub(crate) fn scrubbed(mut self, secrets: &Secrets) -> Self {
        for secret in &secrets.0 {
            self.message = self.message.replace(secret.as_str(), "[secret]");
            self.code = self.code.replace(secret.as_str(), "[secret]");
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.operation, self.key, self.code)?;
        if !self.message.is_empty() && self.message != self.code {
            write!(f, ": {}", self.message)?;
        }
        if let Some(region) = &self.right_region {
            write!(f, " (the bucket is in region {region:?})")?;
        }
        if let Some(status) = self.status {
            write!(f, " (HTTP {status})")?;
        }
        Ok(())
    }
}

/// Strings that must never be shown.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Short strings are left out: replacing them would only garble messages.
    pub(crate) fn new<I: IntoIterator<Item = String>>(secrets: I) -> Self {
        Self(secrets.into_iter().filter(|secret| secret.len() >= 4).collect())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// An error with its causes in one line: SDK errors hide the useful part in their sources.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn bounded(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_words_are_kept_bounded_and_scrubbed() {
        let secrets = Secrets::new(["topsecret".to_owned(), "abc".to_owned()]);
        let error =
            Error::new("put", "a.ts", Kind::Denied, "AccessDenied", format!("abc topsecret {}", "x".repeat(900)))
                .with_status(403)
                .scrubbed(&secrets);
        assert!(!format!("{error} {error:?}").contains("topsecret"));
        assert!(error.message.starts_with("abc [secret] xxx"));
        assert!(error.message.chars().count() <= MAX_MESSAGE_CHARS + 1);
        assert!(error.to_string().starts_with("put \"a.ts\": AccessDenied: abc"));
        assert!(error.to_string().ends_with("(HTTP 403)"));
        assert_eq!(format!("{secrets:?}"), "Secrets(1)");
    }

    #[test]
    fn what_may_heal_is_retried_and_what_cannot_is_not() {
        assert_eq!(Kind::Throttled.retry(), Retry::Backoff);
        assert_eq!(Kind::Interrupted.retry(), Retry::Now);
        assert_eq!(Kind::Denied.retry(), Retry::Never);
        assert_eq!(Kind::Denied.blame(), Blame::Destination);
        assert_eq!(Kind::ClockSkew.blame(), Blame::Node);
        assert_eq!(Kind::AlreadyExists.blame(), Blame::Caller);
        assert_eq!(Kind::Unexpected.blame(), Blame::Bug);
    }
}
