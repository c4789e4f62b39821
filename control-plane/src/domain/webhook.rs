//! Receivers of events: which URLs, types, headers and secrets they may have.
use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use recorder_proto::limits;
use recorder_proto::names::DomainName;
use recorder_proto::pb::v1::Webhook;
use recorder_proto::pb::v1::webhook::Signature;
use recorder_proto::problem::Violations;

use super::event::Types;
use crate::api::validate::{self, Span};
use crate::webhooks::client::refusal;
use crate::webhooks::{Policy, secret};

/// Every type.
const EVERYTHING: &str = "*";

/// Push domains that one webhook can be limited to.
const DOMAINS_MAX: usize = 100;

/// Characters of a header's name.
const HEADER_NAME_MAX_CHARACTERS: usize = 64;

/// Bytes of a header's value.
const HEADER_VALUE_MAX_BYTES: usize = 1024;

/// Headers that the server sets itself, or that would change how the request is read.
const RESERVED: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "user-agent",
];

/// What the headers of Standard Webhooks begin with.
const RESERVED_PREFIX: &str = "webhook-";

const TIMEOUT: Span =
    Span::or(limits::WEBHOOK_TIMEOUT_MIN, limits::WEBHOOK_TIMEOUT_MAX, limits::WEBHOOK_TIMEOUT_DEFAULT);

/// How long a rotated secret signs on.
pub const OVERLAP: Span = Span::or_off(std::time::Duration::ZERO, limits::SECRET_OVERLAP_MAX);

/// The webhook as it takes effect, secrets included: checked, every default filled in, nothing that the server sets but a
/// secret if there is none. Violations are noted under `webhook.`.
pub fn effective(given: Webhook, policy: &Policy, violations: &mut Violations) -> Webhook {
    url(violations, &given.url, policy);
    Types::read(violations, "webhook.event_types", &given.event_types);
    let signature = validate::choice(violations, "webhook.signature", given.signature, Signature::Standard);
    let secret = if given.secret.is_empty() { secret::fresh(signature) } else { given.secret };
    secret::check(violations, "webhook.secret", &secret, signature);
    headers(violations, &given.headers);
    let everything = || vec![EVERYTHING.to_owned()];
    Webhook {
        url: given.url,
        event_types: if given.event_types.is_empty() { everything() } else { given.event_types },
        domains: domains(violations, &given.domains),
        signature: signature.into(),
        secret,
        disabled: given.disabled,
        timeout: TIMEOUT.wire(violations, "webhook.timeout", given.timeout.as_ref()),
        headers: given.headers,
        ..Webhook::default()
    }
}

fn url(violations: &mut Violations, text: &str, policy: &Policy) {
    let field = "webhook.url";
    if !violations.check(!text.is_empty(), field, "is required") {
        return;
    }
    let schemes: &[&str] = if policy.http { &["https", "http"] } else { &["https"] };
    validate::url(violations, field, text, schemes, false);
    // A name is looked up, and checked, when something is sent; an address says at once where it is.
    let uri = text.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_matches(['[', ']']);
    if let Ok(address) = host.parse::<IpAddr>()
        && !policy.networks.admit(address)
    {
        violations.add(field, refusal(address));
    }
}

fn domains(violations: &mut Violations, given: &[String]) -> Vec<String> {
    let field = "webhook.domains";
    violations.check(given.len() <= DOMAINS_MAX, field, format!("must be at most {DOMAINS_MAX}, got {}", given.len()));
    let mut domains: Vec<String> = Vec::new();
    for (index, text) in given.iter().take(DOMAINS_MAX).enumerate() {
        let name = violations.take(&format!("{field}[{index}]"), text.parse::<DomainName>());
        domains.extend(name.map(|name| name.to_string()).filter(|name| !domains.contains(name)));
    }
    domains
}

fn headers(violations: &mut Violations, given: &std::collections::BTreeMap<String, String>) {
    let (field, most) = ("webhook.headers", limits::WEBHOOK_HEADERS_MAX);
    violations.check(given.len() <= most, field, format!("must be at most {most}, got {}", given.len()));
    for (name, value) in given.iter().take(most) {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(HEADER_NAME_MAX_CHARACTERS).collect();
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
            violations.add(field, format!("`{shown}` is set by the server"));
            continue;
        }
        let sound = name.len() <= HEADER_NAME_MAX_CHARACTERS && HeaderName::try_from(name.as_str()).is_ok();
        violations.check(
            sound,
            field,
            format!("`{shown}` must be a header name of at most {HEADER_NAME_MAX_CHARACTERS} characters"),
        );
        let sound = value.len() <= HEADER_VALUE_MAX_BYTES && value.is_ascii() && HeaderValue::from_str(value).is_ok();
        violations.check(
            sound,
            field,
            format!(
                "value of `{shown}` must be at most {HEADER_VALUE_MAX_BYTES} bytes of ASCII without control characters"
            ),
        );
    }
}

/// Takes what is input only out of a webhook: the secret, and a webhook with the header values only.
pub fn split(mut webhook: Webhook) -> (Webhook, String, Webhook) {
    let secret = std::mem::take(&mut webhook.secret);
    let headers = Webhook { headers: webhook.headers.clone(), ..Webhook::default() };
    webhook.headers.values_mut().for_each(String::clear);
    (webhook, secret, headers)
}

/// What an update leaves empty stays as it is: nobody can read the values back to repeat them.
pub fn keep_secrets(current: &Webhook, updated: &mut Webhook) {
    if updated.secret.is_empty() {
        updated.secret.clone_from(&current.secret);
    }
    for (name, value) in &mut updated.headers {
        if value.is_empty() {
            value.clone_from(current.headers.get(name).unwrap_or(&String::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use recorder_proto::time;

    use super::*;
    use crate::webhooks::address::Networks;

    fn given() -> Webhook {
        Webhook { url: "https://ops.example.com/hook?x=1".to_owned(), ..Webhook::default() }
    }

    fn fields(given: Webhook, policy: &Policy) -> Vec<String> {
        let mut violations = Violations::new();
        effective(given, policy, &mut violations);
        match violations.finish() {
            Ok(()) => Vec::new(),
            Err(problem) => problem.fields.into_iter().map(|violation| violation.field).collect(),
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let mut violations = Violations::new();
        let webhook = effective(given(), &Policy::default(), &mut violations);
        assert!(violations.is_empty(), "{violations:?}");
        assert_eq!((webhook.event_types.as_slice(), webhook.signature()), (&["*".to_owned()][..], Signature::Standard));
        assert_eq!(webhook.timeout.as_ref().map(time::wire_text).as_deref(), Some("20s"));
        assert!(webhook.secret.starts_with("whsec_"));
    }

    #[test]
    fn urls_follow_the_policy() {
        let local = Networks(vec!["127.0.0.0/8".parse().unwrap()]);
        let open = Policy { http: true, networks: local, ca_file: None };
        for (url, strict, lenient) in [
            ("https://ops.example.com", true, true),
            ("http://ops.example.com", false, true),
            ("https://127.0.0.1/hook", false, true),
            ("http://169.254.169.254/latest/meta-data", false, false),
            ("https://[::1]/", false, false),
            ("https://[::ffff:10.0.0.1]/", false, false),
            ("https://8.8.8.8/", true, true),
            ("ftp://ops.example.com", false, false),
            ("https://user:pass@ops.example.com", false, false),
            ("", false, false),
        ] {
            let of = |policy| fields(Webhook { url: url.to_owned(), ..Webhook::default() }, policy).is_empty();
            assert_eq!((of(&Policy::default()), of(&open)), (strict, lenient), "{url}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let bad = Webhook {
            url: "nonsense".to_owned(),
            event_types: vec!["File available".to_owned()],
            domains: vec!["-".to_owned()],
            signature: 99,
            secret: "short".to_owned(),
            timeout: Some(prost_types::Duration { seconds: 61, nanos: 0 }),
            headers: [("Webhook-Id".to_owned(), "x".to_owned())].into(),
            ..Webhook::default()
        };
        let mut found = fields(bad, &Policy::default());
        found.sort();
        let expected = ["domains[0]", "event_types[0]", "headers", "secret", "signature", "timeout", "url"];
        assert_eq!(found, expected.map(|field| format!("webhook.{field}")));
    }

    #[test]
    fn headers_cannot_change_the_request() {
        let one = |name: &str, value: &str| {
            fields(Webhook { headers: [(name.to_owned(), value.to_owned())].into(), ..given() }, &Policy::default())
        };
        assert_eq!(one("Authorization", "Bearer t0ken"), Vec::<String>::new());
        for (name, value) in [
            ("Host", "x"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("webhook-signature", "v1,x"),
            ("a b", "x"),
            ("", "x"),
            ("x", "a\r\nevil: 1"),
            ("x", &"v".repeat(1025)),
        ] {
            assert_eq!(one(name, value), ["webhook.headers"], "{name} {value}");
        }
    }

    #[test]
    fn what_is_input_only_is_split_off_and_kept() {
        let headers = [("authorization".to_owned(), "Bearer t0ken".to_owned())];
        let whole = Webhook { secret: "s".to_owned(), headers: headers.into(), ..given() };
        let (public, secret, sealed) = split(whole.clone());
        assert_eq!((public.secret.as_str(), public.headers["authorization"].as_str(), secret.as_str()), ("", "", "s"));
        assert_eq!(sealed.headers, whole.headers);
        let mut updated = public;
        keep_secrets(&whole, &mut updated);
        assert_eq!(updated, whole);
    }
}
