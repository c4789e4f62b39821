//! Recorded files as frames: objects are fetched from wherever they are, taken apart, and their marks read.

use std::collections::BTreeSet;

use bytes::Bytes;
use media::TrackKind;
use mux::demux::{self, Media, Sample};

use crate::marker::{self, Mark};

/// Gives an object's bytes by key.
pub type Fetch<'a> = &'a (dyn Fn(&str) -> Option<Bytes> + Sync);

/// A frame in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Picture or sound.
    pub track: TrackKind,
    /// Its number; `None` when it has none or is damaged.
    pub mark: Option<Mark>,
    /// Decode time in milliseconds as the container counts it.
    pub dts: i64,
    /// Counts discontinuities within the file.
    pub part: u32,
}

/// A file with everything in it.
#[derive(Clone, Debug)]
pub struct FileFrames {
    /// Its key; of the playlist for HLS.
    pub key: String,
    /// All frames in file order.
    pub frames: Vec<Found>,
    /// Every object it is made of, with itself.
    pub objects: Vec<String>,
}

/// Reads one whole file (with all of its segments) and checks it against its format.
///
/// # Errors
/// An object is missing, or breaks its format.
pub fn read(format: &str, key: &str, fetch: Fetch<'_>) -> Result<FileFrames, String> {
    read_beyond(format, key, &BTreeSet::new(), fetch)
}

/// [`read`] without the segments in `counted`, which another playlist names as well.
///
/// # Errors
/// As those of [`read`].
pub fn read_beyond(
    format: &str,
    key: &str,
    counted: &BTreeSet<String>,
    fetch: Fetch<'_>,
) -> Result<FileFrames, String> {
    let body = fetch(key).ok_or_else(|| format!("{key} is not there"))?;
    let named = |error: demux::Corrupt| format!("{key}: {error}");
    let mut file = FileFrames { key: key.to_owned(), frames: Vec::new(), objects: vec![key.to_owned()] };
    match format {
        "FLV" => file.add(&demux::flv(&body).map_err(named)?, 0),
        "MP4" => file.add(&demux::mp4(&body).map_err(named)?, 0),
        "AAC" => file.add(&demux::adts(&body).map_err(named)?, 0),
        "HLS" => segments(&mut file, &body, counted, fetch)?,
        other => return Err(format!("{key}: unknown format {other}")),
    }
    Ok(file)
}

impl FileFrames {
    fn add(&mut self, media: &Media, part: u32) {
        let found = |sample: &Sample| Found {
            track: sample.track,
            mark: marker::get(sample.track, &sample.payload),
            dts: sample.dts.as_millis(),
            part,
        };
        self.frames.extend(media.samples.iter().map(found));
    }
}

fn segments(file: &mut FileFrames, body: &Bytes, counted: &BTreeSet<String>, fetch: Fetch<'_>) -> Result<(), String> {
    let playlist = playlist(&file.key, body)?;
    if !playlist.end_list {
        return Err(format!("{}: the playlist has no end", file.key));
    }
    let (mut part, mut head) = (0, None);
    for segment in &playlist.segments {
        part += u32::from(segment.discontinuity);
        if let Some(map) = &segment.map {
            head = Some(beside(&file.key, &map.uri));
        }
        let key = beside(&file.key, &segment.uri);
        if counted.contains(&key) {
            continue;
        }
        let body = fetch(&key).ok_or_else(|| format!("{key}, named by {}, is not there", file.key))?;
        let media = match &head {
            None => demux::ts(&body),
            Some(head) => {
                let first = fetch(head).ok_or_else(|| format!("{head}, named by {}, is not there", file.key))?;
                if !file.objects.contains(head) && !counted.contains(head) {
                    file.objects.push(head.clone());
                }
                demux::mp4(&[first, body].concat().into())
            }
        };
        file.add(&media.map_err(|error| format!("{key}: {error}"))?, part);
        file.objects.push(key);
    }
    Ok(())
}

/// Parses a media playlist and checks what must hold at any time: entries are not longer than the target duration.
///
/// # Errors
/// It is none, or breaks a rule.
pub fn playlist(key: &str, body: &[u8]) -> Result<m3u8_rs::MediaPlaylist, String> {
    let playlist = m3u8_rs::parse_media_playlist_res(body).map_err(|error| format!("{key}: {error}"))?;
    let target = playlist.target_duration;
    match playlist.segments.iter().find(|segment| segment.duration.round() as u64 > target) {
        Some(long) => Err(format!("{key}: {} lasts {} s, target {target} s", long.uri, long.duration)),
        None => Ok(playlist),
    }
}

/// The key that a relative URI in the object `key` means.
pub fn beside(key: &str, uri: &str) -> String {
    let mut parts: Vec<&str> = key.split('/').collect();
    parts.pop();
    for step in uri.split('/') {
        match step {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_uris_are_resolved_from_the_playlist() {
        assert_eq!(beside("a/b/live.m3u8", "live/0.ts"), "a/b/live/0.ts");
        assert_eq!(beside("a/b/live.m3u8", "../c/./0.ts"), "a/c/0.ts");
    }
}
