//! Google's errors in our terms: the reason it gives, its words, and what follows from them.
use google_cloud_gax::error::{CredentialsError, Error as ClientError};
use serde_json::Value;

use crate::error::{Error, Kind, chain};

/// An answer of the JSON API that is no success.
pub(super) fn answered(operation: &'static str, key: &str, status: u16, body: &[u8]) -> Error {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let first = document.pointer("/error/errors/0");
    let reason = first.and_then(|error| error.get("reason")).and_then(Value::as_str);
    let message = document.pointer("/error/message").and_then(Value::as_str);
    let text = String::from_utf8_lossy(body);
    let message = message.unwrap_or(if text.trim().is_empty() { "the server gave no reason" } else { &text });
    let kind = kind_of(operation, reason.unwrap_or_default(), status, message);
    let code = reason.map_or_else(|| format!("HTTP{status}"), str::to_owned);
    Error::new(operation, key, kind, &code, message).with_status(status)
}

fn kind_of(operation: &str, reason: &str, status: u16, message: &str) -> Kind {
    match reason {
        "conditionNotMet" => Kind::AlreadyExists,
        "rateLimitExceeded" | "userRateLimitExceeded" | "quotaExceeded" | "dailyLimitExceeded" => Kind::Throttled,
        "authError" | "forbidden" | "insufficientPermissions" | "required" if status != 400 => Kind::Denied,
        "backendError" | "internalError" => Kind::Unavailable,
        "notImplemented" => Kind::Unsupported,
        "invalid" | "badRequest" | "parseError" | "required" => Kind::Invalid,
        _ => match Kind::of_status(status) {
            // "The specified bucket does not exist." has the reason of a missing object.
            Kind::NotFound if message.to_ascii_lowercase().contains("bucket") => Kind::Misconfigured,
            Kind::NotFound if matches!(operation, "put" | "upload_stream" | "create_upload" | "list") => {
                Kind::Misconfigured
            }
            Kind::NotFound if matches!(operation, "put_part" | "list_parts" | "complete" | "abort") => {
                Kind::NoSuchUpload
            }
            kind => kind,
        },
    }
}

/// No answer to a request of our own.
pub(super) fn unanswered(operation: &'static str, key: &str, error: &reqwest::Error) -> Error {
    let mut failed = Error::transport(operation, key, &chain(error));
    if error.is_timeout() {
        (failed.kind, failed.code) = (Kind::Timeout, "Timeout".to_owned());
    }
    failed
}

/// No token: a key that is not a key any more, or an identity server that does not answer.
pub(super) fn no_token(operation: &'static str, key: &str, error: &CredentialsError) -> Error {
    let kind = if error.is_transient() { Kind::Unavailable } else { Kind::Denied };
    Error::new(operation, key, kind, "CredentialsRefused", chain(error))
}

/// The reason that Google documents for a status: its own client reads the answer's and does not pass it on.
fn usual_reason(status: u16) -> String {
    let reason = match status {
        400 => "invalid",
        401 => "authError",
        403 => "forbidden",
        404 => "notFound",
        409 => "conflict",
        412 => "conditionNotMet",
        429 => "rateLimitExceeded",
        500 | 502..=504 => "backendError",
        _ => return format!("HTTP{status}"),
    };
    reason.to_owned()
}

/// A failure of Google's own client.
pub(super) fn client_failure(operation: &'static str, key: &str, error: &ClientError) -> Error {
    if let (Some(status), Some(body)) = (error.http_status_code(), error.http_payload()) {
        return answered(operation, key, status, body);
    }
    let words = chain(error);
    if let Some(status) = error.http_status_code() {
        let message = error.status().map_or(words.as_str(), |status| status.message.as_str());
        let kind = kind_of(operation, "", status, message);
        return Error::new(operation, key, kind, &usual_reason(status), message).with_status(status);
    }
    if error.is_authentication() {
        return Error::new(operation, key, Kind::Denied, "CredentialsRefused", words);
    }
    if error.is_timeout() {
        return Error::new(operation, key, Kind::Timeout, "Timeout", words);
    }
    if error.is_serialization() && words.contains("hecksum") {
        return Error::new(operation, key, Kind::Corrupted, "ChecksumMismatch", words);
    }
    if error.is_deserialization() {
        return Error::new(operation, key, Kind::Unexpected, "UnreadableAnswer", words);
    }
    Error::transport(operation, key, &words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Blame, Retry};

    fn document(reason: &str, message: &str) -> Vec<u8> {
        serde_json::json!({"error": {"code": 1, "message": message, "errors": [{"reason": reason}]}})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn reasons_have_the_right_answers() {
        for (operation, status, reason, message, kind) in [
            ("put", 404, "notFound", "The specified bucket does not exist.", Kind::Misconfigured),
            ("get_range", 404, "notFound", "No such object: rec/a.ts", Kind::NotFound),
            ("put_part", 410, "", "gone", Kind::NoSuchUpload),
            ("put", 401, "authError", "Invalid Credentials", Kind::Denied),
            ("put", 403, "forbidden", "x does not have storage.objects.create access.", Kind::Denied),
            ("put", 412, "conditionNotMet", "At least one of the pre-conditions", Kind::AlreadyExists),
            ("put", 429, "rateLimitExceeded", "The object exceeded the rate limit", Kind::Throttled),
            ("put", 503, "backendError", "Backend Error", Kind::Unavailable),
            ("put", 400, "invalid", "Provided CRC32C doesn't match", Kind::Invalid),
        ] {
            let error = answered(operation, "a.ts", status, &document(reason, message));
            assert_eq!((error.kind, error.message.as_str()), (kind, message), "{operation} {reason}");
            assert_eq!(error.status, Some(status));
        }
        let denied = answered("put", "k", 401, &document("authError", "Invalid Credentials"));
        assert_eq!((denied.retry(), denied.blame()), (Retry::Never, Blame::Destination));
    }

    #[test]
    fn a_proxys_page_is_an_error_too() {
        let error = answered("put", "k", 502, b"<html>Bad Gateway</html>");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, "HTTP502"));
        assert!(error.message.contains("Bad Gateway"));
    }
}
