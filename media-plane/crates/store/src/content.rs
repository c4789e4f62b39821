//! Content types and cache headers of what we store (mission T4).

/// For playlists of a running recording: the next one differs.
pub const CACHE_NO_STORE: &str = "no-store";

/// For segments and finished files, whose keys are never reused: a year.
pub const CACHE_IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// MIME type by a key's extension, `application/octet-stream` when it is none of ours.
pub fn content_type_of_key(key: &str) -> &'static str {
    let name = key.rsplit('/').next().unwrap_or(key);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("ts") => "video/mp2t",
        Some("mp4") => "video/mp4",
        Some("m4s") => "video/iso.segment",
        Some("flv") => "video/x-flv",
        Some("aac") => "audio/aac",
        Some("mp3") => "audio/mpeg",
        Some("m4a") => "audio/mp4",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_types_are_the_players_ones() {
        for (key, content_type) in [
            ("live/a/index.m3u8", "application/vnd.apple.mpegurl"),
            ("a.b/7.ts", "video/mp2t"),
            ("x.flv", "video/x-flv"),
            ("x.MP4", "video/mp4"),
            ("x.aac", "audio/aac"),
            ("mp4/none", "application/octet-stream"),
        ] {
            assert_eq!(content_type_of_key(key), content_type, "{key}");
        }
    }
}
