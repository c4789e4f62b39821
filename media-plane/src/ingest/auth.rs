//! May this publisher publish here? Decided from the domain's policy alone.

use chrono::{DateTime, Utc};
use md5::{Digest, Md5};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::directive::DomainPolicy;
use recorder_proto::pb::v1::protocol;
use recorder_proto::time;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Why a publisher is refused; the text goes to the publisher and must not help to guess keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody told this node about the domain.
    #[error("push domain {0:?} is not known here; create it or bind a template to it")]
    UnknownDomain(String),
    /// Switched off.
    #[error("push domain {0:?} is disabled")]
    Disabled(String),
    /// Nobody may publish this stream for a while.
    #[error("this stream may not be published until {until}: {reason}")]
    Blocked {
        /// From when it may again.
        until: DateTime<Utc>,
        /// Why.
        reason: String,
    },
    /// The domain takes other protocols only.
    #[error("push domain {0:?} does not take this protocol")]
    Protocol(String),
    /// `txSecret` or `txTime` is missing.
    #[error("this push domain needs a signed URL: txSecret and txTime are missing")]
    Unsigned,
    /// `txTime` has passed.
    #[error("the signed URL has expired")]
    Expired,
    /// No key gives this signature.
    #[error("the signature of the URL is wrong")]
    WrongSignature,
    /// The stream key is missing.
    #[error("this push domain needs its stream key: as `key` in the query, or as a bearer token over WHIP")]
    Keyless,
    /// It is none of the domain's.
    #[error("the stream key is wrong")]
    WrongKey,
    /// The domain asks for a kind of authentication that this release does not have.
    #[error("push domain authentication {0} is not available in this release")]
    Unavailable(String),
}

/// What a publisher presents.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// `MD5(key + stream + txTime)` in hex.
    pub secret: Option<&'a str>,
    /// Expiry as hexadecimal seconds since the epoch.
    pub time: Option<&'a str>,
    /// The stream key itself.
    pub key: Option<&'a str>,
}

/// Checks a publisher against the policy of its domain (`None` = unknown domain).
pub fn check(
    policy: Option<&DomainPolicy>,
    domain: &str,
    protocol: protocol::Kind,
    stream: &str,
    credentials: Credentials<'_>,
    now: DateTime<Utc>,
) -> Result<(), Denied> {
    let policy = policy.ok_or_else(|| Denied::UnknownDomain(domain.to_owned()))?;
    if policy.disabled {
        return Err(Denied::Disabled(domain.to_owned()));
    }
    if !policy.protocols.is_empty() && !policy.protocols.contains(&protocol.into()) {
        return Err(Denied::Protocol(domain.to_owned()));
    }
    match policy.auth_mode.as_str() {
        "" | "OPEN" | "MODE_UNSPECIFIED" => Ok(()),
        "SIGNED_URL" => check_signature(&policy.signing_keys, stream, credentials, now),
        "STREAM_KEY" => check_key(&policy.key_hashes, credentials.key),
        other => Err(Denied::Unavailable(other.to_owned())),
    }
}

/// Checks that the stream of a publisher who may publish on the domain is not blocked.
pub fn check_block(policy: Option<&DomainPolicy>, stream: &StreamKey, now: DateTime<Utc>) -> Result<(), Denied> {
    let blocks = policy.map(|policy| policy.blocks.as_slice()).unwrap_or_default();
    let of = blocks.iter().filter(|block| block.app == stream.app() && block.stream == stream.stream());
    let until = of.filter_map(|block| Some((time::datetime(block.end_time.as_ref()?)?, &block.reason)));
    match until.max().filter(|(until, _)| *until > now) {
        Some((until, reason)) => Err(Denied::Blocked { until, reason: reason.clone() }),
        None => Ok(()),
    }
}

fn check_key(hashes: &[impl AsRef<[u8]>], key: Option<&str>) -> Result<(), Denied> {
    let key = key.filter(|key| !key.is_empty()).ok_or(Denied::Keyless)?;
    let shown = Sha256::digest(key);
    let matching = hashes.iter().filter(|hash| bool::from(hash.as_ref().ct_eq(shown.as_slice())));
    if matching.count() == 0 { Err(Denied::WrongKey) } else { Ok(()) }
}

fn check_signature(
    keys: &[impl AsRef<[u8]>],
    stream: &str,
    credentials: Credentials<'_>,
    now: DateTime<Utc>,
) -> Result<(), Denied> {
    let (Some(secret), Some(time)) = (credentials.secret, credentials.time) else { return Err(Denied::Unsigned) };
    let expires = i64::from_str_radix(time, 16).map_err(|_| Denied::WrongSignature)?;
    let secret = secret.to_ascii_lowercase();
    // Every key is tried whatever the outcome, and the comparison is constant time: nothing to measure.
    let matching = keys.iter().filter(|key| {
        let digest = Md5::new().chain_update(key).chain_update(stream).chain_update(time).finalize();
        bool::from(hex::encode(digest).as_bytes().ct_eq(secret.as_bytes()))
    });
    if matching.count() == 0 {
        return Err(Denied::WrongSignature);
    }
    // After the signature: whoever cannot sign learns nothing about times.
    if expires < now.timestamp() { Err(Denied::Expired) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use recorder_proto::pb::node::directive::domain_policy;

    use super::*;

    fn policy() -> DomainPolicy {
        DomainPolicy {
            domain: "push.example.com".into(),
            auth_mode: "SIGNED_URL".into(),
            signing_keys: vec!["primary".into(), "secondary".into()],
            ..Default::default()
        }
    }

    fn sign(key: &str, stream: &str, time: &str) -> String {
        hex::encode(Md5::digest(format!("{key}{stream}{time}")))
    }

    fn ask(policy: Option<&DomainPolicy>, secret: Option<&str>, time: Option<&str>) -> Result<(), Denied> {
        let now = DateTime::from_timestamp(0x6000_0000, 0).unwrap();
        check(policy, "push.example.com", protocol::Kind::Rtmp, "cam1", Credentials { secret, time, key: None }, now)
    }

    #[test]
    fn both_keys_sign_and_nothing_else_does() {
        let policy = policy();
        for key in ["primary", "secondary"] {
            let secret = sign(key, "cam1", "60000001");
            assert_eq!(ask(Some(&policy), Some(&secret), Some("60000001")), Ok(()));
            assert_eq!(ask(Some(&policy), Some(&secret.to_uppercase()), Some("60000001")), Ok(()));
        }
        let other_stream = sign("primary", "cam2", "60000001");
        assert_eq!(ask(Some(&policy), Some(&other_stream), Some("60000001")), Err(Denied::WrongSignature));
        let other_time = sign("primary", "cam1", "60000001");
        assert_eq!(ask(Some(&policy), Some(&other_time), Some("60000002")), Err(Denied::WrongSignature));
        assert_eq!(ask(Some(&policy), Some(""), Some("zz")), Err(Denied::WrongSignature));
        assert_eq!(ask(Some(&policy), None, None), Err(Denied::Unsigned));
    }

    #[test]
    fn an_expired_url_is_refused_as_expired_only_when_it_was_genuine() {
        let policy = policy();
        let genuine = sign("primary", "cam1", "5fffffff");
        assert_eq!(ask(Some(&policy), Some(&genuine), Some("5fffffff")), Err(Denied::Expired));
        assert_eq!(ask(Some(&policy), Some("00"), Some("5fffffff")), Err(Denied::WrongSignature));
    }

    #[test]
    fn a_stream_key_opens_its_domain_only() {
        let hashes = ["first", "second"].map(|key| Sha256::digest(key).to_vec().into()).to_vec();
        let policy = DomainPolicy { auth_mode: "STREAM_KEY".into(), key_hashes: hashes, ..Default::default() };
        let ask = |key| {
            let credentials = Credentials { key, ..Credentials::default() };
            check(Some(&policy), "h", protocol::Kind::Whip, "cam1", credentials, DateTime::UNIX_EPOCH)
        };
        assert_eq!((ask(Some("first")), ask(Some("second"))), (Ok(()), Ok(())));
        assert_eq!((ask(Some("third")), ask(Some(""))), (Err(Denied::WrongKey), Err(Denied::Keyless)));
        assert_eq!(ask(None), Err(Denied::Keyless));
    }

    #[test]
    fn a_blocked_stream_is_refused_until_its_time_and_no_other() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let block = domain_policy::Block {
            app: "live".into(),
            stream: "cam1".into(),
            end_time: Some(time::timestamp(at(60))),
            reason: "abuse".into(),
        };
        let policy = DomainPolicy { blocks: vec![block], ..Default::default() };
        let ask = |stream: &str, seconds| {
            let key = StreamKey::new("push.example.com", "live", stream).unwrap();
            check_block(Some(&policy), &key, at(seconds))
        };
        let blocked = Denied::Blocked { until: at(60), reason: "abuse".into() };
        assert_eq!(ask("cam1", 59), Err(blocked));
        assert_eq!((ask("cam1", 60), ask("cam2", 0)), (Ok(()), Ok(())));
        assert_eq!(check_block(None, &StreamKey::new("h", "live", "s").unwrap(), at(0)), Ok(()));
    }

    #[test]
    fn unknown_disabled_and_other_protocol_are_refused() {
        assert!(matches!(ask(None, None, None), Err(Denied::UnknownDomain(_))));
        let disabled = DomainPolicy { disabled: true, ..Default::default() };
        assert!(matches!(ask(Some(&disabled), None, None), Err(Denied::Disabled(_))));
        let whip = DomainPolicy { protocols: vec![protocol::Kind::Whip.into()], ..Default::default() };
        assert!(matches!(ask(Some(&whip), None, None), Err(Denied::Protocol(_))));
    }
}
