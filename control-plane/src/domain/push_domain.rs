//! Push domains: which protocols they take and how publishers prove themselves.
use recorder_proto::limits;
use recorder_proto::pb::v1::domain::PublishAuth;
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_proto::pb::v1::{Domain, protocol};
use recorder_proto::problem::Violations;

use crate::api::validate;

/// Publish keys in the clear; never leaves the process but towards authenticated nodes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Signs new URLs; empty = none.
    pub primary: String,
    /// Equally valid; empty = none.
    pub secondary: String,
}

/// The domain as it takes effect, keys included: checked, every default filled in, nothing that the server sets.
/// Violations are noted under `domain.`.
pub fn effective(given: Domain, violations: &mut Violations) -> Domain {
    validate::labels(violations, "domain.labels", &given.labels);
    Domain {
        protocols: protocols(&given.protocols, violations),
        publish_auth: Some(publish_auth(given.publish_auth.unwrap_or_default(), violations)),
        labels: given.labels,
        disabled: given.disabled,
        ..Domain::default()
    }
}

fn protocols(given: &[i32], violations: &mut Violations) -> Vec<i32> {
    let mut protocols = Vec::new();
    for (index, number) in given.iter().enumerate() {
        let known = protocol::Kind::try_from(*number).is_ok_and(|kind| kind != protocol::Kind::Unspecified);
        if !known {
            violations.add(format!("domain.protocols[{index}]"), format!("must be RTMP or WHIP, got {number}"));
        } else if !protocols.contains(number) {
            protocols.push(*number);
        }
    }
    protocols
}

fn publish_auth(given: PublishAuth, violations: &mut Violations) -> PublishAuth {
    let mode = validate::choice(violations, "domain.publish_auth.mode", given.mode, Mode::Open);
    for (field, key) in [
        ("domain.publish_auth.primary_key", &given.primary_key),
        ("domain.publish_auth.secondary_key", &given.secondary_key),
    ] {
        let most = limits::PUBLISH_KEY_MAX_CHARACTERS;
        let sound = key.chars().count() <= most && !key.chars().any(|c| c.is_control() || c.is_whitespace());
        violations.check(sound, field, format!("must be at most {most} characters without white space"));
    }
    violations.check(
        given.secondary_key.is_empty() || !given.primary_key.is_empty(),
        "domain.publish_auth.secondary_key",
        "needs a primary_key beside it",
    );
    violations.check(
        !matches!(mode, Mode::SignedUrl | Mode::StreamKey) || !given.primary_key.is_empty(),
        "domain.publish_auth.primary_key",
        format!("is required with mode {}", mode.as_str_name()),
    );
    let external = mode == Mode::External;
    if external || !given.external_url.is_empty() {
        validate::url(violations, "domain.publish_auth.external_url", &given.external_url, &["https"], false);
    }
    PublishAuth { mode: mode.into(), ..given }
}

/// Takes the keys out of a domain.
pub fn split(mut domain: Domain) -> (Domain, Keys) {
    let mut keys = Keys::default();
    if let Some(auth) = &mut domain.publish_auth {
        keys.primary = std::mem::take(&mut auth.primary_key);
        keys.secondary = std::mem::take(&mut auth.secondary_key);
    }
    (domain, keys)
}

/// The reverse of [`split`].
pub fn join(mut domain: Domain, keys: &Keys) -> Domain {
    let auth = domain.publish_auth.get_or_insert_default();
    auth.primary_key.clone_from(&keys.primary);
    auth.secondary_key.clone_from(&keys.secondary);
    domain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: Domain) -> Result<Domain, String> {
        let mut violations = Violations::new();
        let domain = effective(given, &mut violations);
        violations.finish().map(|()| domain).map_err(|problem| problem.message)
    }

    fn auth(mode: Mode, primary: &str, secondary: &str, url: &str) -> Domain {
        let auth = PublishAuth {
            mode: mode.into(),
            primary_key: primary.to_owned(),
            secondary_key: secondary.to_owned(),
            external_url: url.to_owned(),
        };
        Domain { publish_auth: Some(auth), ..Domain::default() }
    }

    #[test]
    fn open_to_every_protocol_by_default() {
        let domain = check(Domain::default()).unwrap();
        assert_eq!(domain.publish_auth.unwrap().mode(), Mode::Open);
        assert!(domain.protocols.is_empty());
        let doubled = Domain { protocols: vec![1, 2, 1], ..Domain::default() };
        assert_eq!(check(doubled).unwrap().protocols, [1, 2]);
        let wrong = Domain { protocols: vec![0, 9], ..Domain::default() };
        assert_eq!(check(wrong).unwrap_err().matches("must be RTMP or WHIP").count(), 2);
    }

    #[test]
    fn modes_need_what_they_work_with() {
        for mode in [Mode::SignedUrl, Mode::StreamKey] {
            check(auth(mode, "k1", "k2", "")).unwrap();
            let missing = check(auth(mode, "", "", "")).unwrap_err();
            assert_eq!(
                missing,
                format!("domain.publish_auth.primary_key: is required with mode {}", mode.as_str_name())
            );
        }
        check(auth(Mode::External, "", "", "https://auth.example.com/publish")).unwrap();
        for url in ["", "http://auth.example.com", "https://u:p@auth.example.com"] {
            let refusal = check(auth(Mode::External, "", "", url)).unwrap_err();
            assert!(refusal.starts_with("domain.publish_auth.external_url: "), "{refusal}");
        }
        assert!(check(auth(Mode::Open, "", "k2", "")).unwrap_err().contains("needs a primary_key"));
    }

    #[test]
    fn keys_are_bounded_and_not_repeated() {
        check(auth(Mode::SignedUrl, &"k".repeat(128), "", "")).unwrap();
        for key in ["k".repeat(129), "hunter2 ".to_owned(), "hunter2\n".to_owned()] {
            let refusal = check(auth(Mode::SignedUrl, &key, "", "")).unwrap_err();
            assert!(refusal.contains("at most 128 characters") && !refusal.contains("hunter2"), "{refusal}");
        }
    }

    #[test]
    fn keys_are_taken_out_and_put_back() {
        let domain = auth(Mode::SignedUrl, "k1", "k2", "");
        let (public, keys) = split(domain.clone());
        assert!(public.publish_auth.as_ref().unwrap().primary_key.is_empty());
        assert_eq!(join(public, &keys), domain);
    }
}
