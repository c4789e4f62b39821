//! Publish keys on their way to a node: sealed in the change log, open on the authenticated link, hidden from people.
use bytes::Bytes;
use recorder_db::domains;
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::{Directive as Kind, DomainPolicy};
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_runtime::secret::Sealer;
use sha2::{Digest, Sha256};

use crate::api::places;

/// The directive with its keys as nodes need them: in the clear to check signatures, hashed to compare stream keys.
pub(super) fn opened(sealer: &Sealer, mut directive: Directive) -> Directive {
    if let Some(Kind::Domain(policy)) = &mut directive.directive {
        open(sealer, policy);
    }
    directive
}

/// The directive without keys, for people.
pub(super) fn masked(mut directive: Directive) -> Directive {
    if let Some(Kind::Domain(policy)) = &mut directive.directive {
        policy.signing_keys.clear();
        policy.key_hashes.clear();
    }
    directive
}

fn open(sealer: &Sealer, policy: &mut DomainPolicy) {
    let sealed = std::mem::take(&mut policy.signing_keys);
    let keys: Vec<Bytes> = sealed.iter().filter_map(|blob| open_key(sealer, &policy.domain, blob)).collect();
    if keys.len() < sealed.len() {
        // Without its keys a signed domain refuses every publisher, which is safe and loud.
        tracing::error!(domain = policy.domain, "a publish key cannot be opened; was the seal key changed?");
    }
    match Mode::from_str_name(&policy.auth_mode) {
        Some(Mode::SignedUrl) => policy.signing_keys = keys,
        Some(Mode::StreamKey) => {
            policy.key_hashes = keys.iter().map(|key| Bytes::copy_from_slice(&Sha256::digest(key))).collect();
        }
        _ => {}
    }
}

/// A domain may have its secondary key only, so that the order alone does not say which slot a key was sealed for.
fn open_key(sealer: &Sealer, domain: &str, blob: &[u8]) -> Option<Bytes> {
    [domains::PRIMARY, domains::SECONDARY].iter().find_map(|slot| {
        let key = sealer.open(blob, &places::domain_key(domain, slot)).ok()?;
        Some(Bytes::copy_from_slice(&key))
    })
}
