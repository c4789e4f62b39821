//! Seals secrets for the database: AES-256-GCM, bound to the row and column they belong to.
//!
//! A blob is: version (1 byte) | key id (4 bytes) | nonce (12 bytes) | ciphertext and tag. The key id is the beginning
//! of SHA-256 over the key, so that a rotated key is found without trying all of them.
use std::fmt;

use aes_gcm::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::keys::Keys;
use crate::Error;

/// First byte of every blob.
const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;

type KeyId = [u8; KEY_ID_BYTES];

/// Seals with the newest key and opens with any of them.
pub struct Sealer {
    newest: (KeyId, Aes256Gcm),
    older: Vec<(KeyId, Aes256Gcm)>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Takes the keys; the first one seals.
    pub fn new(keys: &Keys) -> Result<Self, Error> {
        let mut ciphers = keys.0.iter().map(|key| {
            let mut id = KeyId::default();
            id.iter_mut().zip(Sha256::digest(key.as_slice())).for_each(|(to, from)| *to = from);
            (id, Aes256Gcm::new(key.as_slice().into()))
        });
        let newest = ciphers.next().ok_or(Error::NoKey)?;
        Ok(Self { newest, older: ciphers.collect() })
    }

    /// Id of the key that seals, in hexadecimal; stored beside a blob it tells what a rotation still has to do.
    pub fn key_id(&self) -> String {
        hex::encode(self.newest.0)
    }

    /// Seals a secret for one place. `place` names it, like `storage:<id>:secret_access_key`; the blob opens nowhere
    /// else, so that swapping rows in the database gains nothing.
    pub fn seal(&self, secret: &[u8], place: &str) -> Result<Vec<u8>, Error> {
        let (id, cipher) = &self.newest;
        let nonce = Aes256Gcm::generate_nonce(&mut OsRng);
        let aad = bound_to(id, place);
        let sealed = cipher.encrypt(&nonce, Payload { msg: secret, aad: &aad }).map_err(|_| Error::Seal)?;
        Ok([&[VERSION], id.as_slice(), nonce.as_slice(), &sealed].concat())
    }

    /// Opens a blob that was sealed for the same place.
    pub fn open(&self, blob: &[u8], place: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (id, rest) = split(blob)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES).ok_or(Error::SealedFormat)?;
        let mut ciphers = std::iter::once(&self.newest).chain(&self.older);
        let (_, cipher) = ciphers.find(|(known, _)| *known == id).ok_or_else(|| Error::UnknownKey(hex::encode(id)))?;
        let payload = Payload { msg: sealed, aad: &bound_to(&id, place) };
        cipher.decrypt(Nonce::from_slice(nonce), payload).map(Zeroizing::new).map_err(|_| Error::SealedContent)
    }

    /// Whether a blob was sealed with an older key than the one that seals now (a rotation seals it anew).
    pub fn is_outdated(&self, blob: &[u8]) -> bool {
        split(blob).is_ok_and(|(id, _)| id != self.newest.0)
    }
}

fn split(blob: &[u8]) -> Result<(KeyId, &[u8]), Error> {
    let rest = blob.strip_prefix(&[VERSION]).ok_or(Error::SealedFormat)?;
    let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(Error::SealedFormat)?;
    Ok((*id, rest))
}

/// The header is authenticated together with the place.
fn bound_to(id: &KeyId, place: &str) -> Vec<u8> {
    [&[VERSION], id.as_slice(), place.as_bytes()].concat()
}
