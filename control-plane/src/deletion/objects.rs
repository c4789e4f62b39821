//! The objects behind one that stands for several: a playlist's segments. Only what is known to be the recording's goes:
//! what its manifest lists, what its playlist names, and what lies beside the playlist under the names that nodes give.
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use recorder_proto::Problem;
use store::{Bucket, Kind};

use crate::verify::{Manifest, entries, text};

/// The keys of everything that belongs to a playlist, but for itself.
pub(super) async fn segments(
    bucket: &dyn Bucket,
    recording: &str,
    playlist: &str,
    manifest: &Manifest,
) -> Result<BTreeSet<String>, Problem> {
    let mut keys: BTreeSet<String> = manifest.objects(playlist).iter().map(|object| object.key.clone()).collect();
    let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
    if bucket.head(playlist).await.map_err(|error| said(&error))?.is_some() {
        let bytes = text(bucket, playlist, &AtomicU64::new(0)).await?;
        // One that is no playlist (any more) names nothing.
        let named = entries(playlist, &String::from_utf8_lossy(&bytes)).unwrap_or_default();
        // A playlist that somebody wrote must not name what is not the recording's.
        keys.extend(named.into_iter().filter(|key| beside(folder, key).is_some() || key.contains(recording)));
    }
    // What a node that died wrote and no playlist names.
    match bucket.list(&format!("{folder}/")).await {
        Ok(listed) => {
            let keys_listed = listed.into_iter().map(|object| object.key);
            keys.extend(keys_listed.filter(|key| beside(folder, key).is_some_and(is_segment)));
        }
        // A credential that may not list deletes what is named.
        Err(error) if matches!(error.kind, Kind::Denied | Kind::Unsupported) => {}
        Err(error) => return Err(said(&error)),
    }
    keys.remove(playlist);
    Ok(keys)
}

/// The name of an object in a folder, and not below it.
fn beside<'a>(folder: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(folder)?.strip_prefix('/').filter(|name| !name.is_empty() && !name.contains('/'))
}

/// Whether a node names segments like this.
fn is_segment(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    let is_numbered = |stem: &str| !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_digit());
    match extension {
        "ts" | "m4s" => is_numbered(stem),
        "mp4" => stem.strip_prefix("init-").is_some_and(is_numbered),
        _ => false,
    }
}

/// In the provider's own words.
pub(super) fn said(error: &store::Error) -> Problem {
    Problem::destination("STORAGE_FAILED", error.to_string())
        .with_metadata("provider_code", error.code.clone())
        .with_metadata("provider_message", error.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_segments_beside_the_playlist_are_taken_for_a_nodes() {
        for (key, is) in [
            ("a/b/0.ts", true),
            ("a/b/12.m4s", true),
            ("a/b/init-0.mp4", true),
            ("a/b/init-12.mp4", true),
            ("a/b/init-.mp4", false),
            ("a/b/init-x.mp4", false),
            ("a/b/init-0.ts", false),
            ("a/b/holiday.ts", false),
            ("a/b/.ts", false),
            ("a/b/0.mp4", false),
            ("a/b/c/0.ts", false),
            ("a/bc/0.ts", false),
            ("a/b", false),
        ] {
            assert_eq!(beside("a/b", key).is_some_and(is_segment), is, "{key}");
        }
    }
}
