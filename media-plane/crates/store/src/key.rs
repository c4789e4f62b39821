//! Object keys: what every store takes, and how keys stand in URLs.
use crate::error::{Error, Kind};

/// S3's and Google's limit, in bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// Puts a storage's prefix before a key, with exactly one slash between them.
pub fn join_key(prefix: &str, key: &str) -> String {
    let (prefix, key) = (prefix.trim_matches('/'), key.trim_start_matches('/'));
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
}

/// Refuses keys that some store cannot hold or that could leave a directory: every backend takes the same ones, so
/// that a template that works on one storage works on its backup.
pub(crate) fn check(operation: &'static str, key: &str) -> Result<(), Error> {
    let wrong = if key.is_empty() {
        "is empty"
    } else if key.len() > MAX_KEY_BYTES {
        "is longer than 1,024 bytes"
    } else if key.chars().any(char::is_control) {
        "holds a control character"
    } else if key.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        "has an empty, . or .. segment"
    } else {
        return Ok(());
    };
    Err(Error::new(operation, key, Kind::Invalid, "InvalidKey", format!("key {wrong}")))
}

/// Percent-encodes all but RFC 3986's unreserved characters and those in `keep`.
pub fn percent_encode(text: &str, keep: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_leave_or_vanish_are_refused() {
        let long = "k".repeat(1025);
        for key in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\0b", "a\nb", long.as_str()] {
            let error = check("put", key).unwrap_err();
            assert_eq!((error.kind, error.code.as_str()), (Kind::Invalid, "InvalidKey"), "{key:?}");
        }
        for key in ["a", "a/b.ts", "..a/b..", "äöü/日本 語.mp4", ".hidden", "a%2e%2e/b"] {
            assert!(check("put", key).is_ok(), "{key:?}");
        }
    }

    #[test]
    fn prefix_and_key_meet_at_one_slash() {
        assert_eq!(join_key("", "a/b"), "a/b");
        assert_eq!(join_key("p", "a/b"), "p/a/b");
        assert_eq!(join_key("/p/q/", "/a/b"), "p/q/a/b");
    }

    #[test]
    fn encoding_keeps_only_what_it_may() {
        assert_eq!(percent_encode("a b/ü+", b"/"), "a%20b/%C3%BC%2B");
        assert_eq!(percent_encode("a/b", b""), "a%2Fb");
    }
}
