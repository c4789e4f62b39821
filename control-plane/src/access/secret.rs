//! The secrets that tokens are: made here, shown once, known by their hash ever after.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore;
use sha2::{Digest, Sha256};

/// So that scanners of source code and logs know one when they see it.
pub const MARK: &str = "rec_";

const RANDOM_BYTES: usize = 32;

/// Characters that are shown to recognise a token by; 4 of them are random, which leaves 39 to guess.
const PREFIX_CHARACTERS: usize = MARK.len() + 4;

/// Longest text that is looked up; nothing longer was made here, and secrets of others are rarely longer.
pub const MAX_BYTES: usize = 256;

/// Shortest secret that an operator may choose.
pub const MIN_CHOSEN_BYTES: usize = 32;

/// A fresh secret: 256 random bits.
pub fn make() -> String {
    let mut random = [0; RANDOM_BYTES];
    rand::rng().fill_bytes(&mut random);
    format!("{MARK}{}", URL_SAFE_NO_PAD.encode(random))
}

/// What is kept of a secret. Unsalted, because a secret of 256 random bits is in no dictionary.
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// What is shown of a secret.
pub fn prefix(secret: &str) -> String {
    secret.chars().take(PREFIX_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_show_little() {
        let (one, other) = (make(), make());
        assert_ne!(one, other);
        assert_eq!(one.len(), MARK.len() + 43);
        assert!(one.starts_with(&prefix(&one)) && prefix(&one).len() == 8);
        assert_ne!(hash(&one), hash(&other));
        assert_eq!(hex::encode(hash("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
