//! GeneratePublishUrl: where an encoder pushes to, signed when the domain asks for signatures.
use std::time::Duration;

use chrono::{DateTime, Utc};
use md5::{Digest, Md5};
use recorder_proto::names::{DomainName, StreamKey};
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_proto::pb::v1::{GeneratePublishUrlRequest, GeneratePublishUrlResponse};
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, limits, time};

use super::validate::{self, Span};
use super::{Api, domain as domain_api, secrets};

const TTL: Span = Span::or(Duration::from_secs(1), limits::PUBLISH_URL_TTL_MAX, limits::PUBLISH_URL_TTL_DEFAULT);
/// The media node's HTTP port; RTMP's 1935 needs no mention in a URL.
const HTTP_PORT: u16 = 8080;

/// Answers GeneratePublishUrl.
pub(super) async fn generate(
    api: &Api,
    request: GeneratePublishUrlRequest,
) -> Result<GeneratePublishUrlResponse, Problem> {
    let mut violations = Violations::new();
    let domain: Option<DomainName> = validate::name(&mut violations, "domain", &request.domain);
    let id = domain.as_ref().map(DomainName::id).unwrap_or_default();
    let key = if request.stream.is_empty() || id.is_empty() {
        violations.check(!request.stream.is_empty(), "stream", "is required");
        None
    } else {
        violations.take("stream", StreamKey::new(id, &request.app, &request.stream))
    };
    let unwritable = request.stream.contains(['?', '#']);
    violations.check(!unwritable, "stream", "must not contain `?` or `#`, which end the path of a URL");
    let ttl = TTL.effective(&mut violations, "ttl", request.ttl.as_ref());
    violations.finish()?;
    let (Some(domain), Some(key)) = (domain, key) else { return Err(Problem::invalid_field("stream", "is required")) };
    let sealer = std::sync::Arc::clone(&api.sealer);
    let (mode, keys) = api
        .db
        .read(move |connection| {
            let row = domain_api::existing(connection, &domain)?;
            let auth = row.domain()?.publish_auth.unwrap_or_default();
            Ok::<_, Problem>((auth.mode(), secrets::publish_keys(connection, &sealer, &row.id)?))
        })
        .await?;
    let expires = api.now() + chrono::TimeDelta::from_std(ttl).unwrap_or_default();
    // The other modes leave the proof to the publisher: keys are never returned, and never expire.
    let signed = mode == Mode::SignedUrl;
    let query = if signed { signature(&keys.primary, key.stream(), expires) } else { String::new() };
    Ok(GeneratePublishUrlResponse {
        // Encoders hand the stream over as it is written, so it is written as it is.
        rtmp_url: format!("rtmp://{}/{}/{}{query}", key.domain(), key.app(), key.stream()),
        whip_url: format!(
            "http://{}:{HTTP_PORT}/whip/{}/{}{query}",
            key.domain(),
            key.app(),
            percent_encoded(key.stream())
        ),
        expire_time: signed.then(|| prost_types::Timestamp { nanos: 0, ..time::timestamp(expires) }),
    })
}

/// `?txSecret=MD5(key + stream + hex(time))&txTime=hex(time)`, as the vendor's consoles make it.
fn signature(key: &str, stream: &str, expires: DateTime<Utc>) -> String {
    let hex_time = format!("{:X}", expires.timestamp().max(0));
    let digest = Md5::new().chain_update(key).chain_update(stream).chain_update(&hex_time).finalize();
    format!("?txSecret={}&txTime={hex_time}", hex::encode(digest))
}

/// One step of a path.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vendor's documented example: key, stream and time give this MD5.
    #[test]
    fn signatures_are_md5_of_key_stream_and_time_in_capital_hex() {
        let expires = DateTime::from_timestamp(0x5c2a_3cff, 0).unwrap();
        let expected = hex::encode(Md5::digest(b"secretcam15C2A3CFF"));
        assert_eq!(signature("secret", "cam1", expires), format!("?txSecret={expected}&txTime=5C2A3CFF"));
    }

    #[test]
    fn paths_are_percent_encoded() {
        assert_eq!(percent_encoded("a-b_c.d~e"), "a-b_c.d~e");
        assert_eq!(percent_encoded("直 %/"), "%E7%9B%B4%20%25%2F");
    }
}
