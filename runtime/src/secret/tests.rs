//! Sealing as the database relies on it.
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::Error;

const PLACE: &str = "storage:library:secret_access_key";

fn key(byte: u8) -> String {
    hex::encode([byte; 32])
}

fn sealer(text: &str) -> Sealer {
    Sealer::new(&Keys::parse(text).unwrap()).unwrap()
}

#[test]
fn opens_what_it_sealed_and_never_seals_twice_alike() {
    let sealer = sealer(&key(1));
    let (first, second) = (sealer.seal(b"hunter2", PLACE).unwrap(), sealer.seal(b"hunter2", PLACE).unwrap());
    assert_eq!(sealer.open(&first, PLACE).unwrap().as_slice(), b"hunter2");
    assert_ne!(first, second);
    assert_eq!(first.len(), 1 + 4 + 12 + 7 + 16);
    assert_eq!(hex::encode(&first[1..5]), sealer.key_id());
    assert!(!first.windows(7).any(|window| window == b"hunter2"));
}

#[test]
fn a_blob_from_another_row_does_not_open() {
    let sealer = sealer(&key(1));
    let blob = sealer.seal(b"hunter2", PLACE).unwrap();
    assert!(matches!(sealer.open(&blob, "storage:other:secret_access_key"), Err(Error::SealedContent)));
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let sealer = sealer(&key(1));
    let blob = sealer.seal(b"hunter2", PLACE).unwrap();
    for bit in 0..blob.len() * 8 {
        let mut changed = blob.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(sealer.open(&changed, PLACE).is_err(), "bit {bit}");
    }
    for length in 0..blob.len() {
        assert!(sealer.open(&blob[..length], PLACE).is_err(), "length {length}");
    }
}

#[test]
fn rotation_keeps_old_blobs_readable_until_the_old_key_is_gone() {
    let (old, both, new) = (sealer(&key(1)), sealer(&format!("{}\n{}", key(2), key(1))), sealer(&key(2)));
    let before = old.seal(b"hunter2", PLACE).unwrap();
    assert_eq!(both.open(&before, PLACE).unwrap().as_slice(), b"hunter2");
    assert!(both.is_outdated(&before) && !old.is_outdated(&before));
    let after = both.seal(b"hunter2", PLACE).unwrap();
    assert!(!both.is_outdated(&after));
    assert_eq!(new.open(&after, PLACE).unwrap().as_slice(), b"hunter2");
    let error = new.open(&before, PLACE).unwrap_err();
    assert!(matches!(&error, Error::UnknownKey(id) if *id == old.key_id()), "{error}");
}

#[test]
fn keys_are_read_as_hexadecimal_or_base64_and_nothing_else() {
    use base64::Engine;
    let standard = base64::engine::general_purpose::STANDARD.encode([0xfb; 32]);
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([0xfb; 32]);
    let ids: BTreeSet<String> =
        [key(0xfb), standard, url].iter().map(|text| sealer(&format!("# ours\n {text} \n")).key_id()).collect();
    assert_eq!(ids.len(), 1, "three spellings of one key");
    assert!(matches!(Keys::parse(" \n# nothing\n"), Err(Error::NoKey)));
    for text in ["hunter2", &key(1)[1..], &"zz".repeat(32), &"=".repeat(44)] {
        let error = Keys::parse(text).unwrap_err();
        assert!(matches!(error, Error::KeyFormat), "{text}");
        assert!(!error.to_string().contains(text));
    }
    assert_eq!(format!("{:?}", Keys::parse(&key(1)).unwrap()), "Keys(1)");
}

#[test]
fn a_key_file_is_made_once_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/seal.key");
    let (first, origin) = Keys::load_or_generate(&path).unwrap();
    assert_eq!(origin, Origin::Generated);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (second, origin) = Keys::load_or_generate(&path).unwrap();
    assert_eq!(origin, Origin::Loaded);
    assert_eq!(Sealer::new(&first).unwrap().key_id(), Sealer::new(&second).unwrap().key_id());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    let other = directory.path().join("other.key");
    let (third, _) = Keys::load_or_generate(&other).unwrap();
    assert_ne!(Sealer::new(&first).unwrap().key_id(), Sealer::new(&third).unwrap().key_id());
}

#[test]
fn a_key_file_that_others_can_read_is_refused_and_a_broken_one_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seal.key");
    std::fs::write(&path, key(1)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Keys::load_or_generate(&path).unwrap_err();
    assert!(matches!(error, Error::KeyFileMode { mode: 0o640, .. }), "{error}");
    std::fs::write(&path, "garbage").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Keys::load_or_generate(&path), Err(Error::KeyFormat)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "garbage");
}

proptest! {
    #[test]
    fn any_secret_comes_back_and_no_garbage_opens(secret: Vec<u8>, garbage: Vec<u8>) {
        let sealer = sealer(&key(3));
        let blob = sealer.seal(&secret, PLACE).unwrap();
        let opened = sealer.open(&blob, PLACE).unwrap();
        prop_assert_eq!(opened.as_slice(), secret.as_slice());
        prop_assert!(sealer.open(&garbage, PLACE).is_err());
    }
}
