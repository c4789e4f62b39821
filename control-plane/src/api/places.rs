//! The places that sealed values are bound to: a blob copied to another row or column does not open there.
//!
//! Rows are named by their `uid`, so that a value of a deleted resource does not open in its successor of the same id.

/// Credential of a storage, at a version.
pub fn storage_credential(uid: &str, version: i64) -> String {
    format!("storage:{uid}:credential:{version}")
}

/// Publish key of a domain; `slot` is [`recorder_db::domains::PRIMARY`] or [`recorder_db::domains::SECONDARY`].
///
/// Named by the DNS name and the slot alone: the compiled directives carry the same blob, and know no more.
pub fn domain_key(domain: &str, slot: &str) -> String {
    format!("domain:{domain}:key:{slot}")
}

/// Something sealed of a webhook: a signing secret, or at version 0 the values of its extra headers.
pub fn webhook_secret(uid: &str, version: i64) -> String {
    format!("webhook:{uid}:secret:{version}")
}

/// Key of the page tokens.
pub const PAGE_TOKEN_KEY: &str = "setting:page_token_key";
