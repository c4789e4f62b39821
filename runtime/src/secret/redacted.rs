//! A value that cannot be printed by accident.
use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroize;

/// Holds a secret: `Debug` and `Display` print `[REDACTED]`, there is no `Serialize`, and the memory is overwritten on
/// drop. Reading it takes the word [`Redacted::expose`], which is easy to find in a review.
#[derive(Clone, Default)]
pub struct Redacted<T: Zeroize>(T);

impl<T: Zeroize> Redacted<T> {
    /// Takes the secret in.
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    /// The secret itself; not for logs, errors or replies.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Redacted<T> {
    fn from(secret: T) -> Self {
        Self(secret)
    }
}

impl<T: Zeroize> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl<T: Zeroize> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl<T: Zeroize> Drop for Redacted<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Redacted<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_print_shows_it() {
        #[derive(Debug, Deserialize)]
        struct Credential {
            key: Redacted<String>,
        }
        let credential: Credential = serde_json::from_str(r#"{"key":"hunter2"}"#).unwrap();
        assert_eq!(format!("{credential:?} {}", credential.key), "Credential { key: [REDACTED] } [REDACTED]");
        assert_eq!(credential.key.expose(), "hunter2");
    }
}
