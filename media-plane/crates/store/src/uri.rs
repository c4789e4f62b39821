//! Where an object is, for people and other programs: known before there is a client.

use crate::key::percent_encode;
use crate::{TargetKind, join_key};

/// `s3://bucket/key`, `gs://bucket/key`, or `library:///directory/key`, which never shows where a machine keeps its
/// library; `container` is the bucket or the directory below the library's root.
pub fn object_uri(kind: TargetKind, container: &str, key: &str) -> String {
    match kind {
        TargetKind::S3 => format!("s3://{container}/{key}"),
        TargetKind::GcsHmac | TargetKind::GcsServiceAccount => format!("gs://{container}/{key}"),
        TargetKind::FileSystem => format!("library:///{}", percent_encode(&join_key(container, key), b"/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_scheme() {
        assert_eq!(object_uri(TargetKind::S3, "rec", "a/b c.mp4"), "s3://rec/a/b c.mp4");
        assert_eq!(object_uri(TargetKind::GcsHmac, "rec", "a.mp4"), "gs://rec/a.mp4");
        assert_eq!(object_uri(TargetKind::FileSystem, "", "a b.mp4"), "library:///a%20b.mp4");
        assert_eq!(object_uri(TargetKind::FileSystem, "shows", "a.mp4"), "library:///shows/a.mp4");
    }
}
