//! A Google service account: a key made for this run, and the checks that Google makes with it.
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{NaiveDateTime, TimeDelta};
use recorder_runtime::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Of the account.
const EMAIL: &str = "recorder@test.iam.gserviceaccount.com";

/// An account and its key.
#[derive(Debug)]
pub(super) struct Account {
    key: KeyPair,
}

impl Account {
    /// With a new key.
    pub(super) fn new() -> Self {
        Self { key: KeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    /// The key file that an operator would download.
    pub(super) fn json(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.key.as_der().unwrap();
        let text = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        json!({
            "type": "service_account",
            "project_id": "test",
            "private_key_id": "test-key",
            "private_key": pem,
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": "https://oauth2.googleapis.com/token",
            "universe_domain": "googleapis.com",
        })
        .to_string()
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key().as_ref());
        key.verify(message, signature).is_ok()
    }

    /// Whether a bearer token is one that this account signed for storage: Google takes self-signed tokens.
    pub(super) fn accepts_token(&self, authorization: &str) -> bool {
        let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let Some((header, claims)) = signed.split_once('.') else { return false };
        let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let header: Value = serde_json::from_slice(&decode(header)).unwrap_or_default();
        let claims: Value = serde_json::from_slice(&decode(claims)).unwrap_or_default();
        let scope = claims["scope"].as_str().unwrap_or_default();
        let lifetime = claims["exp"].as_i64().unwrap_or_default() - claims["iat"].as_i64().unwrap_or_default();
        header["alg"] == "RS256"
            && claims["iss"] == EMAIL
            && scope.split(' ').any(|scope| scope.starts_with("https://www.googleapis.com/auth/devstorage."))
            && (1..=3700).contains(&lifetime)
            && self.verifies(signed.as_bytes(), &decode(signature))
    }

    /// Whether a signed URL's query is ours for this path and host.
    pub(super) fn accepts_url(&self, host: &str, path: &str, query: &str) -> bool {
        let Some((query, signature)) = query.split_once("&X-Goog-Signature=") else { return false };
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
        let scope = value("X-Goog-Credential=").split_once("%2F").unwrap_or_default().1.replace("%2F", "/");
        let signature = hex::decode(signature).unwrap_or_default();
        let made = NaiveDateTime::parse_from_str(value("X-Goog-Date="), "%Y%m%dT%H%M%SZ").unwrap_or_default().and_utc();
        let seconds = value("X-Goog-Expires=").parse().unwrap_or_default();
        if SystemClock::new().now() >= made + TimeDelta::seconds(seconds) {
            return false;
        }
        // Google's client signs the host without its port.
        [host, host.split(':').next().unwrap_or_default()].iter().any(|host| {
            let canonical = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD");
            let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
            let message = format!("GOOG4-RSA-SHA256\n{}\n{scope}\n{hash}", value("X-Goog-Date="));
            self.verifies(message.as_bytes(), &signature)
        })
    }
}
