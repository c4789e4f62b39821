//! `Debug` for the messages that may carry a secret, so that no log line, panic or assertion ever prints one.

use std::fmt;

use crate::pb::{node, v1};

/// Shows whether a secret is present, never what it is.
fn masked(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "[redacted]" }
}

impl fmt::Debug for v1::storage::S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &masked(&self.secret_access_key))
            .field("session_token", &masked(&self.session_token))
            .field("role_arn", &self.role_arn)
            .field("external_id", &masked(&self.external_id))
            .field("storage_class", &self.storage_class)
            .field("kms_key", &self.kms_key)
            .finish()
    }
}

impl fmt::Debug for v1::storage::Gcs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gcs")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &masked(&self.secret_access_key))
            .field("service_account_json", &masked(&self.service_account_json))
            .field("storage_class", &self.storage_class)
            .finish()
    }
}

impl fmt::Debug for v1::domain::PublishAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishAuth")
            .field("mode", &self.mode())
            .field("primary_key", &masked(&self.primary_key))
            .field("secondary_key", &masked(&self.secondary_key))
            .field("external_url", &self.external_url)
            .finish()
    }
}

impl fmt::Debug for v1::Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("display_name", &self.display_name)
            .field("roles", &self.roles)
            .field("domains", &self.domains)
            .field("expire_time", &self.expire_time)
            .field("secret", &masked(&self.secret))
            .field("prefix", &self.prefix)
            .field("last_used_time", &self.last_used_time)
            .field("create_time", &self.create_time)
            .finish()
    }
}

impl fmt::Debug for v1::Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("url", &self.url)
            .field("event_types", &self.event_types)
            .field("domains", &self.domains)
            .field("signature", &self.signature())
            .field("secret", &masked(&self.secret))
            .field("disabled", &self.disabled)
            .field("timeout", &self.timeout)
            // Header values are input only too: they often hold a bearer token of the receiver.
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("state", &self.state())
            .field("create_time", &self.create_time)
            .field("update_time", &self.update_time)
            .field("etag", &self.etag)
            .finish()
    }
}

impl fmt::Debug for node::directive::DomainPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainPolicy")
            .field("domain", &self.domain)
            .field("protocols", &self.protocols)
            .field("auth_mode", &self.auth_mode)
            .field("key_hashes", &self.key_hashes.len())
            .field("signing_keys", &self.signing_keys.len())
            .field("external_url", &self.external_url)
            .field("disabled", &self.disabled)
            .finish()
    }
}

impl fmt::Debug for node::FetchCredentialResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchCredentialResponse")
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &masked(&self.secret_access_key))
            .field("session_token", &masked(&self.session_token))
            .field("service_account_json", &masked(&self.service_account_json))
            .field("expire_time", &self.expire_time)
            .finish()
    }
}
