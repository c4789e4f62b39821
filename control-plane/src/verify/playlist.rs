//! What a playlist names, as keys of its bucket.

use std::collections::BTreeSet;

/// Why a text is no playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no playlist: it does not begin with #EXTM3U")]
pub(crate) struct NoPlaylist;

/// The keys of every segment and initialisation section, once each, in order; URLs that leave the bucket are left out.
pub(crate) fn entries(key: &str, text: &str) -> Result<Vec<String>, NoPlaylist> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.starts_with("#EXTM3U") {
        return Err(NoPlaylist);
    }
    let (mut keys, mut known) = (Vec::new(), BTreeSet::new());
    for line in text.lines().map(str::trim) {
        let uri = match line.strip_prefix("#EXT-X-MAP:") {
            Some(attributes) => attribute(attributes, "URI"),
            None => Some(line).filter(|line| !line.is_empty() && !line.starts_with('#')),
        };
        if let Some(named) = uri.and_then(|uri| resolve(key, uri))
            && known.insert(named.clone())
        {
            keys.push(named);
        }
    }
    Ok(keys)
}

/// The playlist with every entry replaced by what `entry` makes of its key and its own text; None leaves it.
pub(crate) fn rewritten(
    key: &str,
    text: &str,
    mut entry: impl FnMut(&str, &str) -> Option<String>,
) -> Result<String, NoPlaylist> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.starts_with("#EXTM3U") {
        return Err(NoPlaylist);
    }
    let mut made = String::with_capacity(text.len().saturating_mul(2));
    for line in text.lines() {
        let uri = match line.strip_prefix("#EXT-X-MAP:") {
            Some(attributes) => attribute(attributes, "URI"),
            None => Some(line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')),
        };
        match uri.and_then(|uri| Some((uri, entry(&resolve(key, uri)?, uri)?))) {
            Some((uri, url)) => made.push_str(&line.replacen(uri, &url, 1)),
            None => made.push_str(line),
        }
        made.push('\n');
    }
    Ok(made)
}

/// The value of a quoted attribute.
fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = attributes.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// A relative reference against the playlist's own key.
fn resolve(playlist: &str, uri: &str) -> Option<String> {
    if uri.contains("://") || uri.starts_with('/') {
        return None;
    }
    let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in uri.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(path.pop()?),
            name => path.push(name),
        }
    }
    Some(path.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewriting_touches_entries_of_the_bucket_only() {
        let text =
            "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"1@0\"\n#EXTINF:2,\r\n0.m4s\r\nhttps://elsewhere/8.m4s\n";
        let made = rewritten("a/b/index.m3u8", text, |key, uri| Some(format!("{uri}?{key}"))).unwrap();
        let expected = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4?a/b/init.mp4\",BYTERANGE=\"1@0\"\n#EXTINF:2,\n\
                        0.m4s?a/b/0.m4s\nhttps://elsewhere/8.m4s\n";
        assert_eq!(made, expected);
        assert_eq!(rewritten("a", "no", |_, _| None), Err(NoPlaylist));
    }

    #[test]
    fn entries_are_keys_beside_the_playlist() {
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"1@0\"\n#EXTINF:2,\n0.m4s\n#EXT-X-DISCONTINUITY\n\
                    #EXTINF:2,\n../other/7.m4s\n#EXTINF:2,\nhttps://elsewhere/8.m4s\n#EXT-X-ENDLIST\n";
        assert_eq!(entries("a/b/index.m3u8", text).unwrap(), ["a/b/init.mp4", "a/b/0.m4s", "a/other/7.m4s"]);
        let again = "#EXTM3U\n#EXT-X-MAP:URI=\"init-0.mp4\"\n0.m4s\n#EXT-X-MAP:URI=\"init-1.mp4\"\n1.m4s\n\
                     #EXT-X-MAP:URI=\"init-0.mp4\"\n2.m4s\n";
        assert_eq!(entries("i.m3u8", again).unwrap(), ["init-0.mp4", "0.m4s", "init-1.mp4", "1.m4s", "2.m4s"]);
        assert_eq!(entries("index.m3u8", "#EXTM3U\r\n0.ts\r\n").unwrap(), ["0.ts"]);
        assert_eq!(entries("a/x.m3u8", "<html>"), Err(NoPlaylist));
        assert_eq!(
            entries("x.m3u8", "#EXTM3U\n../../etc\n").unwrap(),
            Vec::<String>::new(),
            "nothing above the bucket"
        );
    }
}
