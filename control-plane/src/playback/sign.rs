//! Signatures of our own URLs: HMAC-SHA256 by the key that every replica of an installation has.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use store::percent_encode;
use subtle::ConstantTimeEq;

use crate::api::page::Tokens;

/// Characters of a key that stay as they are in a path.
const PLAIN: &[u8] = b"/";

/// Signs and checks.
#[derive(Debug, Clone)]
pub(crate) struct Signer {
    tokens: Tokens,
}

/// Why a URL opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Made or changed by somebody else.
    #[error("the signature of this URL is wrong")]
    Forged,
    /// Over.
    #[error("this URL has expired")]
    Expired,
}

impl Signer {
    /// With the keys of the installation.
    pub(crate) fn new(tokens: &Tokens) -> Self {
        Self { tokens: tokens.clone() }
    }

    /// The path and query that open an object until then, to the second.
    pub(crate) fn path(&self, storage: &str, key: &str, until: DateTime<Utc>) -> String {
        let query = self.query(storage, key, until);
        format!("/playback/{}/{}?{query}", percent_encode(storage, b""), percent_encode(key, PLAIN))
    }

    /// The query alone, for references beside a URL of ours.
    pub(super) fn query(&self, storage: &str, key: &str, until: DateTime<Utc>) -> String {
        let expires = until.timestamp();
        format!("expires={expires}&signature={}", URL_SAFE_NO_PAD.encode(self.mac(storage, key, expires)))
    }

    /// Until when a URL opens this object.
    pub(super) fn check(
        &self,
        storage: &str,
        key: &str,
        (expires, signature): (&str, &str),
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, Refused> {
        let at: i64 = expires.parse().map_err(|_| Refused::Forged)?;
        let shown = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Forged)?;
        let genuine: bool = self.mac(storage, key, at).as_slice().ct_eq(&shown).into();
        // After the signature: whoever cannot sign learns nothing about times.
        let until = DateTime::from_timestamp(at, 0).filter(|_| genuine && expires == at.to_string());
        let until = until.ok_or(Refused::Forged)?;
        if until > now { Ok(until) } else { Err(Refused::Expired) }
    }

    fn mac(&self, storage: &str, key: &str, expires: i64) -> [u8; 32] {
        self.tokens.keyed_hash(&[b"playback", storage.as_bytes(), key.as_bytes(), &expires.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_url_opens_one_object_until_its_end() {
        let signer = Signer::new(&Tokens::new([7; 32]));
        let path = signer.path("library", "live/ä b/0.mp4", at(60));
        assert!(path.starts_with("/playback/library/live/%C3%A4%20b/0.mp4?expires=1800000060&signature="), "{path}");
        let (_, signature) = path.rsplit_once('=').unwrap();
        let check = |storage, key, expires, signature, now| signer.check(storage, key, (expires, signature), at(now));
        assert_eq!(check("library", "live/ä b/0.mp4", "1800000060", signature, 59), Ok(at(60)));
        assert_eq!(check("library", "live/ä b/0.mp4", "1800000060", signature, 60), Err(Refused::Expired));
        for (storage, key, expires, shown) in [
            ("other", "live/ä b/0.mp4", "1800000060", signature),
            ("library", "live/ä b/1.mp4", "1800000060", signature),
            ("library", "live/ä b/0.mp4", "1800000061", signature),
            ("library", "live/ä b/0.mp4", "+1800000060", signature),
            ("library", "live/ä b/0.mp4", "01800000060", signature),
            ("library", "live/ä b/0.mp4", "x", signature),
            ("library", "live/ä b/0.mp4", "1800000060", ""),
            ("library", "live/ä b/0.mp4", "1800000060", &signature[1..]),
        ] {
            assert_eq!(check(storage, key, expires, shown, 0), Err(Refused::Forged), "{storage} {key} {expires}");
        }
        let other = Signer::new(&Tokens::new([8; 32]));
        let forged = other.check("library", "live/ä b/0.mp4", ("1800000060", signature), at(0));
        assert_eq!(forged, Err(Refused::Forged), "another installation");
    }
}
