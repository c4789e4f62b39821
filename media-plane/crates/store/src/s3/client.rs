//! The SDK's client for a target: endpoint, signing, and everything the SDK would do by itself turned off.
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};

use crate::error::{Error, Kind, Secrets};
use crate::key::percent_encode;
use crate::open::{Credential, Dialect, Target, TargetKind};

/// Google's S3-compatible API.
const GOOGLE: &str = "https://storage.googleapis.com";

/// Of one TCP and TLS connection: longer means that nobody is there.
const CONNECT: Duration = Duration::from_secs(10);

/// How the server behind a target wants to be spoken to.
pub(super) fn dialect(target: &Target) -> Dialect {
    let host = target.endpoint.split("://").last().unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    let derived = match target.kind {
        TargetKind::GcsHmac => Dialect::Google,
        _ if host == "storage.googleapis.com" => Dialect::Google,
        _ if host.is_empty() || host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") => Dialect::Aws,
        _ => Dialect::Compatible,
    };
    target.dialect.unwrap_or(derived)
}

/// A client and the strings that must not show up in its errors.
pub(super) fn connect(target: &Target, dialect: Dialect, credential: Credential) -> Result<(Client, Secrets), Error> {
    let wrong = |code, message: &str| Error::new("open", &target.bucket, Kind::Misconfigured, code, message);
    let Credential::AccessKey { access_key_id, secret_access_key, session_token } = credential else {
        return Err(wrong("MissingCredentials", "an access key id and a secret access key are needed"));
    };
    if target.bucket.is_empty() {
        return Err(wrong("InvalidBucketName", "no bucket is named"));
    }
    let session_token = session_token.filter(|token| !token.is_empty());
    let secrets = Secrets::new([secret_access_key.clone()].into_iter().chain(session_token.clone()));
    let endpoint = match (target.endpoint.as_str(), dialect) {
        ("", Dialect::Google) => Some(GOOGLE.to_owned()),
        ("", _) => None,
        (endpoint, _) if endpoint.starts_with("http://") || endpoint.starts_with("https://") => {
            Some(endpoint.trim_end_matches('/').to_owned())
        }
        _ => return Err(wrong("InvalidEndpoint", "the endpoint must begin with http:// or https://")),
    };
    let region = match (target.region.as_str(), dialect) {
        // Google signs for "auto" wherever the bucket is; its location names are not signing regions.
        (_, Dialect::Google) => "auto",
        ("", _) => "us-east-1",
        (region, _) => region,
    };
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .force_path_style(target.path_style || dialect == Dialect::Google)
        .credentials_provider(Credentials::new(access_key_id, secret_access_key, session_token, None, "storage"))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build());
    config.set_endpoint_url(endpoint);
    Ok((Client::from_conf(config.build()), secrets))
}

/// Labels as `x-amz-meta-…`: headers are ASCII, so other values are percent-encoded.
pub(super) fn metadata(user: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    const PLAIN: &[u8] = b" !#$&'()*+,/:;=?@[]{}|^<>";
    let encoded = user.iter().map(|(key, value)| (key.clone(), percent_encode(value, PLAIN)));
    (!user.is_empty()).then(|| encoded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: TargetKind, endpoint: &str) -> Target {
        Target { bucket: "rec".into(), endpoint: endpoint.into(), ..Target::of(kind) }
    }

    fn key_pair() -> Credential {
        Credential::AccessKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "secretsecret".into(),
            session_token: Some("tokentoken".into()),
        }
    }

    #[test]
    fn r37_dialect_follows_the_server() {
        for (kind, endpoint, dialect_) in [
            (TargetKind::S3, "", Dialect::Aws),
            (TargetKind::S3, "https://s3.eu-west-1.amazonaws.com", Dialect::Aws),
            (TargetKind::S3, "https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com:443/", Dialect::Aws),
            (TargetKind::S3, "http://127.0.0.1:9000", Dialect::Compatible),
            (TargetKind::S3, "https://amazonaws.com.evil.example", Dialect::Compatible),
            (TargetKind::S3, "https://storage.googleapis.com", Dialect::Google),
            (TargetKind::GcsHmac, "", Dialect::Google),
            (TargetKind::GcsHmac, "http://127.0.0.1:9000", Dialect::Google),
        ] {
            assert_eq!(dialect(&target(kind, endpoint)), dialect_, "{kind:?} {endpoint}");
        }
    }

    #[test]
    fn bad_descriptions_are_refused_before_any_request() {
        let code = |target: &Target, credential| connect(target, Dialect::Aws, credential).unwrap_err().code;
        assert_eq!(code(&target(TargetKind::S3, ""), Credential::None), "MissingCredentials");
        assert_eq!(code(&target(TargetKind::S3, "ftp://x"), key_pair()), "InvalidEndpoint");
        let nameless = Target { bucket: String::new(), ..target(TargetKind::S3, "") };
        assert_eq!(code(&nameless, key_pair()), "InvalidBucketName");
    }

    #[test]
    fn secrets_are_in_no_debug_text() {
        let (client, secrets) = connect(&target(TargetKind::S3, ""), Dialect::Aws, key_pair()).unwrap();
        let text = format!("{client:?} {:?} {secrets:?} {:?}", client.config(), key_pair());
        assert!(!text.contains("secretsecret") && !text.contains("tokentoken"), "{text}");
    }

    #[test]
    fn labels_are_ascii_headers() {
        let user = BTreeMap::from([("name".to_owned(), "Zoë 7%\r\n".to_owned())]);
        assert_eq!(metadata(&user).unwrap().get("name").unwrap(), "Zo%C3%AB 7%25%0D%0A");
        assert_eq!(metadata(&BTreeMap::new()), None);
    }
}
