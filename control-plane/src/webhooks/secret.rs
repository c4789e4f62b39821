//! Signing secrets: how they look, and making one.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;
use recorder_proto::pb::v1::webhook::Signature;
use recorder_proto::problem::Violations;
use zeroize::Zeroizing;

/// What every secret of Standard Webhooks begins with.
const PREFIX: &str = "whsec_";
/// Bytes of key that Standard Webhooks allows.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of key that we make.
const FRESH_BYTES: usize = 32;
/// Characters of a key of the vendor's kind.
const VENDOR_MAX_CHARACTERS: usize = 128;

/// A new secret.
pub fn fresh(signature: Signature) -> String {
    let mut key = Zeroizing::new([0; FRESH_BYTES]);
    rand::rng().fill_bytes(&mut *key);
    match signature {
        Signature::TencentMd5 => hex::encode(key.get(..FRESH_BYTES / 2).unwrap_or_default()),
        Signature::Standard | Signature::Unspecified => format!("{PREFIX}{}", STANDARD.encode(*key)),
    }
}

/// The key inside a secret of Standard Webhooks; None when it is none.
pub fn key(secret: &str) -> Option<Zeroizing<Vec<u8>>> {
    let encoded = secret.strip_prefix(PREFIX).unwrap_or(secret);
    let key = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    KEY_BYTES.contains(&key.len()).then_some(key)
}

/// Notes what is wrong with a secret; the message tells nothing of it.
pub fn check(violations: &mut Violations, field: &str, secret: &str, signature: Signature) {
    match signature {
        Signature::TencentMd5 => {
            let characters = secret.chars().count();
            let sound = (1..=VENDOR_MAX_CHARACTERS).contains(&characters)
                && !secret.chars().any(|c| c.is_control() || c.is_whitespace());
            let most = VENDOR_MAX_CHARACTERS;
            violations.check(sound, field, format!("must be 1 to {most} characters without white space"));
        }
        Signature::Standard | Signature::Unspecified => {
            let (least, most) = (KEY_BYTES.start(), KEY_BYTES.end());
            let message =
                format!("must be {PREFIX} and then base64 of {least} to {most} bytes; empty = made by the server");
            violations.check(key(secret).is_some(), field, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_sound_and_never_twice_the_same() {
        for signature in [Signature::Standard, Signature::TencentMd5] {
            let (one, other) = (fresh(signature), fresh(signature));
            assert_ne!(one, other);
            let mut violations = Violations::new();
            check(&mut violations, "webhook.secret", &one, signature);
            assert!(violations.is_empty(), "{signature:?}");
        }
        assert_eq!(key(&fresh(Signature::Standard)).unwrap().len(), 32);
        assert_eq!(fresh(Signature::TencentMd5).len(), 32);
    }

    #[test]
    fn a_bad_secret_is_refused_without_being_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        for (bad, signature) in [
            (short.as_str(), Signature::Standard),
            ("hunter2", Signature::Standard),
            ("", Signature::Standard),
            ("hunter 2", Signature::TencentMd5),
            ("", Signature::TencentMd5),
        ] {
            let mut violations = Violations::new();
            check(&mut violations, "webhook.secret", bad, signature);
            let message = violations.finish().unwrap_err().message;
            assert!(message.starts_with("webhook.secret: must be"), "{message}");
            assert!(bad.is_empty() || !message.contains(bad), "{message}");
        }
    }
}
