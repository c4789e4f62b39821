//! One constructor per kind of error, so that the same mistake gets the same code, reason and details everywhere.

use std::time::Duration;

use tonic::Code;

use super::{Blame, Precondition, Problem, Retry, Violations};
use crate::names::quoted;

/// `template` -> `TEMPLATE`, `push domain` -> `PUSH_DOMAIN`.
fn upper(kind: &str) -> String {
    kind.to_ascii_uppercase().replace([' ', '-'], "_")
}

impl Problem {
    /// Bad fields: INVALID_ARGUMENT / INVALID_FIELD, one violation per field, all at once.
    pub fn invalid(violations: Violations) -> Self {
        let fields = violations.into_vec();
        let shown: Vec<String> = fields.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let mut problem = Self::new(Code::InvalidArgument, "INVALID_FIELD", shown.join("; "));
        problem.fields = fields;
        problem
    }

    /// One bad field.
    pub fn invalid_field(field: &str, description: impl Into<String>) -> Self {
        let mut violations = Violations::new();
        violations.add(field, description);
        Self::invalid(violations)
    }

    /// An unknown name: NOT_FOUND / `{KIND}_NOT_FOUND`. `kind` is the singular, e.g. `template`.
    pub fn not_found(kind: &str, name: &str) -> Self {
        let message = format!("there is no {kind} {}", quoted(name));
        Self::new(Code::NotFound, format!("{}_NOT_FOUND", upper(kind)), message).about(kind, name)
    }

    /// A taken id: ALREADY_EXISTS / `{KIND}_EXISTS`.
    pub fn exists(kind: &str, name: &str) -> Self {
        let message = format!("there is a {kind} {} already", quoted(name));
        Self::new(Code::AlreadyExists, format!("{}_EXISTS", upper(kind)), message).about(kind, name)
    }

    /// Refused because others refer to it: FAILED_PRECONDITION / e.g. `TEMPLATE_IN_USE`, every referrer named.
    pub fn in_use(reason: &str, name: &str, referrers: impl IntoIterator<Item = String>, remedy: &str) -> Self {
        let referrers: Vec<String> = referrers.into_iter().collect();
        let message = format!("{name} is used by {}; {remedy}", referrers.join(", "));
        let mut problem = Self::new(Code::FailedPrecondition, reason, message);
        problem.details.preconditions = referrers
            .into_iter()
            .map(|subject| Precondition {
                kind: reason.to_owned(),
                description: format!("{subject} refers to {name}"),
                subject,
            })
            .collect();
        problem
    }

    /// Refused in the resource's present state: FAILED_PRECONDITION with one obstacle.
    pub fn wrong_state(reason: &str, subject: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut problem = Self::new(Code::FailedPrecondition, reason, message.clone());
        problem.details.preconditions =
            vec![Precondition { kind: reason.to_owned(), subject: subject.to_owned(), description: message }];
        problem
    }

    /// The resource has changed since it was read: ABORTED / ETAG_MISMATCH.
    pub fn etag_mismatch(current: &str) -> Self {
        let message = "the resource has changed since it was read; read it again and repeat the change";
        Self::new(Code::Aborted, "ETAG_MISMATCH", message).with_metadata("current_etag", current)
    }

    /// The same request_id with another body: INVALID_ARGUMENT / REQUEST_ID_REUSED.
    pub fn request_id_reused() -> Self {
        let message = "this request_id was used within 24 h for another request; choose a new one";
        let mut problem = Self::new(Code::InvalidArgument, "REQUEST_ID_REUSED", message);
        problem.fields =
            vec![super::FieldViolation { field: "request_id".to_owned(), description: message.to_owned() }];
        problem
    }

    /// A page token that is not ours, is damaged or belongs to other filters: INVALID_ARGUMENT / INVALID_FIELD.
    pub fn bad_page_token() -> Self {
        Self::invalid_field("page_token", "must be the next_page_token of a reply to the same request")
    }

    /// A watch token that is too old or from another server: OUT_OF_RANGE / RESUME_TOKEN_EXPIRED.
    pub fn token_expired() -> Self {
        let message = "the resume_token is too old or from another server; list again and watch from the new token";
        Self::new(Code::OutOfRange, "RESUME_TOKEN_EXPIRED", message)
    }

    /// A watcher that does not read: ABORTED / WATCHER_TOO_SLOW; it may go on from the last token it has seen.
    pub fn watcher_too_slow(resume_token: &str) -> Self {
        Self::new(Code::Aborted, "WATCHER_TOO_SLOW", "the watch was read too slowly; go on from resume_token")
            .with_metadata("resume_token", resume_token)
    }

    /// Too many calls: RESOURCE_EXHAUSTED / RATE_LIMITED.
    pub fn rate_limited(retry_after: Duration) -> Self {
        let mut problem = Self::new(Code::ResourceExhausted, "RATE_LIMITED", "too many calls; try again later");
        problem.details.retry_after = Some(retry_after);
        problem
    }

    /// Too many resources: RESOURCE_EXHAUSTED / `TOO_MANY_{KINDS}`. `kinds` is the plural, e.g. `templates`.
    pub fn too_many(kinds: &str, limit: usize) -> Self {
        let message = format!("this server holds at most {limit} {kinds}");
        let mut problem = Self::new(Code::ResourceExhausted, format!("TOO_MANY_{}", upper(kinds)), message.clone());
        problem.details.quotas = vec![(kinds.to_owned(), message)];
        problem.retry = Retry::Never;
        problem
    }

    /// No token, or none that counts: UNAUTHENTICATED / NO_TOKEN.
    pub fn unauthenticated(message: &str) -> Self {
        Self::new(Code::Unauthenticated, "NO_TOKEN", message)
    }

    /// A token without the role: PERMISSION_DENIED / ROLE_REQUIRED.
    pub fn role_required(role: &str) -> Self {
        Self::new(Code::PermissionDenied, "ROLE_REQUIRED", format!("this call needs the role {role}"))
            .with_metadata("required_role", role)
    }

    /// The database is away: UNAVAILABLE / DATABASE_UNAVAILABLE.
    pub fn database_unavailable(retry_after: Duration) -> Self {
        let mut problem =
            Self::new(Code::Unavailable, "DATABASE_UNAVAILABLE", "the database cannot be reached; try again later");
        problem.details.retry_after = Some(retry_after);
        problem
    }

    /// The server is going down: UNAVAILABLE / SHUTTING_DOWN.
    pub fn shutting_down(retry_after: Duration) -> Self {
        let mut problem = Self::new(Code::Unavailable, "SHUTTING_DOWN", "the server is going down; try again later");
        problem.details.retry_after = Some(retry_after);
        problem
    }

    /// A stale epoch: FAILED_PRECONDITION / EPOCH_FENCED.
    pub fn fenced(subject: &str, current: u64) -> Self {
        Self::wrong_state("EPOCH_FENCED", subject, format!("{subject} belongs to epoch {current} now"))
            .with_metadata("current_epoch", current.to_string())
            .blaming(Blame::Node)
    }

    /// Not built yet: UNIMPLEMENTED / NOT_IMPLEMENTED, with a sentence that says so.
    pub fn unimplemented(rpc: &str, sentence: &str) -> Self {
        Self::new(Code::Unimplemented, "NOT_IMPLEMENTED", format!("{rpc}: {sentence}")).with_metadata("rpc", rpc)
    }

    /// Our own fault: INTERNAL / INTERNAL. The caller gets the words given here, so they must hold nothing private.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, "INTERNAL", message)
    }

    /// The customer's bucket or receiver refused: FAILED_PRECONDITION with the provider's own words.
    pub fn destination(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, reason, message).blaming(Blame::Destination)
    }
}
