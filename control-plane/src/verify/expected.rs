//! What is known of the objects of a recording before they are looked at.
use std::collections::BTreeMap;

use serde::Deserialize;

/// An object that has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Key within the bucket.
    pub(crate) key: String,
    /// Bytes, if known.
    pub(crate) size: Option<u64>,
    /// Base64 of the big-endian CRC32C; empty = not known.
    pub(crate) crc32c: String,
}

impl Expected {
    /// An object of which nothing but the key is known.
    pub(crate) fn named(key: &str) -> Self {
        Self { key: key.to_owned(), size: None, crc32c: String::new() }
    }
}

/// The objects of each file, by the key of the file.
#[derive(Debug, Default)]
pub(crate) struct Manifest(BTreeMap<String, Vec<Expected>>);

#[derive(Deserialize)]
struct Document {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    key: String,
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    size: u64,
    #[serde(default)]
    crc32c: String,
}

impl Manifest {
    /// Reads `manifest.json`; fields that this release does not know are ignored.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let document: Document = serde_json::from_slice(bytes)?;
        let expected = |object: Object| Expected { key: object.key, size: Some(object.size), crc32c: object.crc32c };
        let files = document.files.into_iter();
        Ok(Self(files.map(|file| (file.key, file.objects.into_iter().map(expected).collect())).collect()))
    }

    /// The objects of a file besides itself.
    pub(crate) fn objects(&self, file: &str) -> &[Expected] {
        self.0.get(file).map(Vec::as_slice).unwrap_or_default()
    }

    /// What is known of one object of a file.
    pub(crate) fn object(&self, file: &str, key: &str) -> Option<&Expected> {
        self.objects(file).iter().find(|object| object.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_tells_every_object_and_may_tell_more() {
        let text = br#"{"version": 1, "files": [
            {"key": "a/index.m3u8", "format": "hls", "objects": [{"key": "a/0.ts", "size": 5, "crc32c": "AAAAAA=="}]},
            {"key": "a.mp4", "size": 7}]}"#;
        let manifest = Manifest::parse(text).unwrap();
        let segment = manifest.object("a/index.m3u8", "a/0.ts").unwrap();
        assert_eq!((segment.size, segment.crc32c.as_str()), (Some(5), "AAAAAA=="));
        assert_eq!(manifest.objects("a.mp4"), []);
        assert!(Manifest::parse(b"{}").is_err());
    }
}
