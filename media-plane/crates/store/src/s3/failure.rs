//! The SDK's errors in our terms: the provider's code and words, and what follows from them.
use std::num::NonZeroU32;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat as Format};

use crate::error::{Error, Kind, chain};

/// What went wrong, as the provider said it.
pub(super) fn failure<E>(operation: &'static str, key: &str, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            answered(operation, key, service.raw(), meta.code(), meta.message(), &chain(service.err()))
        }
        SdkError::ResponseError(response) => answered(operation, key, response.raw(), None, None, &chain(error)),
        SdkError::DispatchFailure(dispatch) => {
            let mut failed = Error::transport(operation, key, &chain(error));
            if dispatch.is_timeout() {
                (failed.kind, failed.code) = (Kind::Timeout, "Timeout".to_owned());
            }
            failed
        }
        SdkError::TimeoutError(_) => Error::new(operation, key, Kind::Timeout, "Timeout", chain(error)),
        _ => Error::new(operation, key, Kind::Invalid, "InvalidRequest", chain(error)),
    }
}

/// From an HTTP answer: the SDK reads no error out of answers to HEAD, out of 200s, and out of pages of proxies.
fn answered(
    operation: &'static str,
    key: &str,
    raw: &HttpResponse,
    code: Option<&str>,
    message: Option<&str>,
    otherwise: &str,
) -> Error {
    let status = raw.status().as_u16();
    let body = raw.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    let told = body.contains("<Error>");
    let code = code.or_else(|| element(&body, "Code").filter(|_| told));
    let message = message.or_else(|| element(&body, "Message").filter(|_| told));
    let region = raw.headers().get("x-amz-bucket-region").or_else(|| element(&body, "Region"));
    let (kind, code) = match code {
        Some(code) => (kind_of(code, status, region.is_some()), code.to_owned()),
        None => named_by_status(operation, status),
    };
    let message = message.unwrap_or(if body.is_empty() { reason(status) } else { otherwise });
    let mut failed = Error::new(operation, key, kind, &code, unescaped(message)).with_status(status);
    if matches!(kind, Kind::Misconfigured) {
        failed.right_region = region.map(Box::from);
    }
    if kind == Kind::ClockSkew {
        // The SDK signs later requests of this client by the server's clock, which it learns from the same header.
        let date = raw.headers().get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        failed.server_time = date.and_then(|date| NonZeroU32::new(date.secs().try_into().ok()?));
    }
    failed
}

/// Answers to HEAD have no body, so no code.
fn named_by_status(operation: &str, status: u16) -> (Kind, String) {
    let (kind, code) = match status {
        200..=299 => (Kind::Unavailable, "UnreadableAnswer"),
        301 => (Kind::Misconfigured, "PermanentRedirect"),
        400 => (Kind::Misconfigured, "BadRequest"),
        403 => (Kind::Denied, "Forbidden"),
        404 if operation == "head" => (Kind::NotFound, "NotFound"),
        404 => (Kind::Misconfigured, "NotFound"),
        503 => (Kind::Throttled, "ServiceUnavailable"),
        _ => return (Kind::of_status(status), format!("HTTP{status}")),
    };
    (kind, code.to_owned())
}

fn reason(status: u16) -> &'static str {
    match status {
        301 => "the bucket is in another region",
        400 => "the server does not accept the request (wrong region, expired token or clock)",
        403 => "the server refuses these credentials",
        404 => "there is no such bucket or object",
        _ => "the server gave no reason",
    }
}

fn kind_of(code: &str, status: u16, region_told: bool) -> Kind {
    match code {
        "NoSuchKey" | "NotFound" => Kind::NotFound,
        "NoSuchUpload" => Kind::NoSuchUpload,
        "PreconditionFailed" => Kind::AlreadyExists,
        "NoSuchBucket"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "InvalidBucketName"
        | "InvalidStorageClass"
        | "InvalidRegionName"
        | "UserProjectMissing" => Kind::Misconfigured,
        "RequestTimeTooSkewed" | "RequestExpired" => Kind::ClockSkew,
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "NotSignedUp"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "InvalidSecurity" => Kind::Denied,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "ReducedRedundancy" => Kind::Throttled,
        "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "TemporaryRedirect" => Kind::Unavailable,
        "RequestTimeout" => Kind::Timeout,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "IncompleteBody" => Kind::Corrupted,
        "EntityTooSmall" | "EntityTooLarge" | "InvalidPart" | "InvalidPartOrder" | "InvalidArgument"
        | "InvalidRequest" | "InvalidRange" | "KeyTooLongError" | "MetadataTooLarge" | "InvalidURI" => Kind::Invalid,
        "NotImplemented" | "MethodNotAllowed" => Kind::Unsupported,
        _ if code.starts_with("KMS.") => Kind::Misconfigured,
        _ if region_told && (300..500).contains(&status) && status != 403 => Kind::Misconfigured,
        _ => match Kind::of_status(status) {
            // 2xx with an error in its body, and 404s of things we did not ask for.
            Kind::Unexpected => Kind::Unavailable,
            Kind::NotFound => Kind::Misconfigured,
            kind => kind,
        },
    }
}

/// Text of the first element of that name; enough for the flat error documents of S3.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Blame, Retry};

    #[test]
    fn t3_codes_have_the_right_answers() {
        for (code, status, kind, retry, blame) in [
            ("NoSuchBucket", 404, Kind::Misconfigured, Retry::Never, Blame::Destination),
            ("SignatureDoesNotMatch", 403, Kind::Denied, Retry::Never, Blame::Destination),
            ("AccessDenied", 403, Kind::Denied, Retry::Never, Blame::Destination),
            ("ExpiredToken", 400, Kind::Denied, Retry::Never, Blame::Destination),
            ("AuthorizationHeaderMalformed", 400, Kind::Misconfigured, Retry::Never, Blame::Destination),
            ("PermanentRedirect", 301, Kind::Misconfigured, Retry::Never, Blame::Destination),
            ("RequestTimeTooSkewed", 403, Kind::ClockSkew, Retry::Backoff, Blame::Node),
            ("SlowDown", 503, Kind::Throttled, Retry::Backoff, Blame::Destination),
            ("InternalError", 200, Kind::Unavailable, Retry::Backoff, Blame::Destination),
            ("KMS.DisabledException", 400, Kind::Misconfigured, Retry::Never, Blame::Destination),
            ("EntityTooSmall", 400, Kind::Invalid, Retry::Never, Blame::Caller),
            ("SomethingNew", 503, Kind::Unavailable, Retry::Backoff, Blame::Destination),
            ("SomethingNew", 403, Kind::Denied, Retry::Never, Blame::Destination),
        ] {
            let found = kind_of(code, status, false);
            assert_eq!((found, found.retry(), found.blame()), (kind, retry, blame), "{code} {status}");
        }
    }

    #[test]
    fn error_documents_are_read_by_element() {
        let xml = "<?xml?><Error><Code>A</Code><Message>Use &lt;b&gt;</Message><Region>eu-west-1</Region></Error>";
        assert_eq!(element(xml, "Code"), Some("A"));
        assert_eq!(element(xml, "Region"), Some("eu-west-1"));
        assert_eq!(element(xml, "Nothing"), None);
        assert_eq!(element("<Code>cut", "Code"), None);
        assert_eq!(unescaped("Use &lt;b&gt;"), "Use <b>");
    }
}
