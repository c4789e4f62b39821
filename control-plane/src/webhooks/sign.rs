//! Signatures of deliveries: Standard Webhooks 1.0, and the vendor's MD5, which does not cover the body.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use super::secret;

/// The header `webhook-signature`: one signature for each secret that is a sound one, separated by spaces.
pub fn standard(secrets: &[String], id: &str, timestamp: i64, body: &[u8]) -> String {
    let sign = |text: &String| {
        let key = secret::key(text)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    };
    secrets.iter().filter_map(sign).collect::<Vec<_>>().join(" ")
}

/// The field `sign` of the vendor's bodies: MD5 of key and expiry in hex.
pub fn vendor(key: &str, expiry: i64) -> String {
    hex::encode(Md5::new().chain_update(key).chain_update(expiry.to_string()).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries.
    #[test]
    fn standard_known_answer() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let body = br#"{"test": 2432232314}"#;
        let signed = standard(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let bare = vec![secret.trim_start_matches("whsec_").to_owned()];
        assert_eq!(
            standard(&bare, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body),
            signed,
            "the prefix may be missing"
        );
    }

    #[test]
    fn during_a_rotation_both_sign() {
        let secrets = [secret::fresh(Default::default()), secret::fresh(Default::default())];
        let both = standard(&secrets, "id", 1, b"body");
        let alone: Vec<String> =
            secrets.iter().map(|one| standard(std::slice::from_ref(one), "id", 1, b"body")).collect();
        assert_eq!(both, alone.join(" "));
        assert_ne!(alone[0], alone[1]);
        for (id, time, body) in [("ie", 1, &b"body"[..]), ("id", 2, b"body"), ("id", 1, b"bodz")] {
            assert_ne!(standard(&secrets, id, time, body), both, "everything is covered");
        }
    }

    /// md5("5d41402abc4b2a76b9719d911017c592" + "1545030873"), computed with md5sum.
    #[test]
    fn vendor_known_answer() {
        assert_eq!(vendor("5d41402abc4b2a76b9719d911017c592", 1_545_030_873), "969cec6cedd74a764dccf10ecac5fc39");
    }
}
