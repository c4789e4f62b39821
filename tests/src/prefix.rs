//! What must hold in the bucket at every instant, seen change by change: a playlist names only what is there, it only
//! grows, its target duration stays, and nothing else is ever written twice or deleted.

use std::collections::{BTreeMap, BTreeSet};

use m3u8_rs::MediaPlaylist;

use crate::bucket::Change;
use crate::reading::{beside, playlist};

/// Follows the changes of a bucket.
#[derive(Debug, Default)]
pub struct Watch {
    keys: BTreeSet<String>,
    playlists: BTreeMap<String, MediaPlaylist>,
    /// Versions of playlists seen.
    pub versions: usize,
    /// Objects written.
    pub written: usize,
    /// Objects written again with the same bytes: wasteful, but harmless.
    pub rewritten: usize,
    /// What was wrong, in words.
    pub problems: Vec<String>,
}

impl Watch {
    /// Takes the next change into account.
    pub fn see(&mut self, change: &Change) {
        let key = &change.key;
        let Some(after) = &change.after else {
            self.problems.push(format!("{key} was deleted"));
            return self.forget(key);
        };
        self.keys.insert(key.clone());
        if key.ends_with(".m3u8") {
            let problem = self.playlist(key, &after.body).err();
            return self.problems.extend(problem);
        }
        match &change.before {
            None => self.written += 1,
            Some(before) if before.body == after.body => self.rewritten += 1,
            // The manifest is rendered again when a file of it is retried.
            Some(_) if key.ends_with("manifest.json") => {}
            Some(before) => {
                let (old, new) = (before.body.len(), after.body.len());
                self.problems.push(format!("{key} of {old} bytes was overwritten with {new} others"));
            }
        }
    }

    /// An object that the test itself has dropped.
    pub fn forget(&mut self, key: &str) {
        self.keys.remove(key);
        self.playlists.remove(key);
    }

    fn playlist(&mut self, key: &str, body: &[u8]) -> Result<(), String> {
        self.versions += 1;
        let now = playlist(key, body)?;
        if let Some(missing) = now.segments.iter().find(|segment| !self.keys.contains(&beside(key, &segment.uri))) {
            return Err(format!("{key} names {} before it is there", missing.uri));
        }
        let mut heads = now.segments.iter().filter_map(|segment| segment.map.as_ref());
        if let Some(missing) = heads.find(|head| !self.keys.contains(&beside(key, &head.uri))) {
            return Err(format!("{key} names {} before it is there", missing.uri));
        }
        let Some(before) = self.playlists.insert(key.to_owned(), now.clone()) else { return Ok(()) };
        if now.target_duration != before.target_duration {
            let (old, new) = (before.target_duration, now.target_duration);
            return Err(format!("{key}: target duration {old} s became {new} s"));
        }
        if !now.segments.starts_with(&before.segments) || before.media_sequence != now.media_sequence {
            let (old, new) = (before.segments.len(), now.segments.len());
            return Err(format!("{key}: its {new} entries do not begin with the {old} it had"));
        }
        if before.end_list && now != before {
            let differs = now.segments.iter().zip(&before.segments).find(|(now, before)| now != before);
            let (old, new) = (before.segments.len(), now.segments.len());
            return Err(format!("{key} changed after its end: {old} entries, {new} now, {differs:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::StoredObject;

    fn put(watch: &mut Watch, key: &str, before: Option<&str>, after: &str) -> Vec<String> {
        let object = |text: &str| StoredObject { body: text.to_owned().into(), ..Default::default() };
        let change = Change { key: key.into(), before: before.map(object), after: Some(object(after)) };
        watch.see(&change);
        std::mem::take(&mut watch.problems)
    }

    /// The watch itself is watched: it must see what it is for.
    #[test]
    fn every_breach_is_seen() {
        let head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:0\n";
        let one = format!("{head}#EXTINF:2.0,\na/0.ts\n");
        let two = format!("{one}#EXTINF:2.5,\na/1.ts\n");
        let watch = &mut Watch::default();
        assert_eq!(put(watch, "x/a/0.ts", None, "media"), Vec::<String>::new());
        assert_eq!(put(watch, "x/a.m3u8", None, &one), Vec::<String>::new());
        assert!(put(watch, "x/a.m3u8", None, &two)[0].contains("before it is there"));
        assert_eq!(put(watch, "x/a/1.ts", None, "media"), Vec::<String>::new());
        assert_eq!(put(watch, "x/a.m3u8", None, &two), Vec::<String>::new());
        assert!(put(watch, "x/a.m3u8", None, &one)[0].contains("do not begin"));
        assert!(put(watch, "x/a.m3u8", None, &one.replace("DURATION:3", "DURATION:4"))[0].contains("became"));
        assert!(put(watch, "x/a.m3u8", None, &one.replace("INF:2.0", "INF:4.0"))[0].contains("lasts"));
        let headed = format!("{head}#EXT-X-MAP:URI=\"a/init-0.mp4\"\n#EXTINF:2.0,\na/0.ts\n");
        assert!(put(watch, "x/c.m3u8", None, &headed)[0].contains("init-0.mp4 before it is there"));
        let ended = format!("{one}#EXT-X-ENDLIST\n");
        put(watch, "x/b.m3u8", None, &ended.replace("a/0", "a/1"));
        assert!(put(watch, "x/b.m3u8", None, &two.replace("a/0", "a/1"))[0].contains("after its end"));
        assert!(put(watch, "x/a/0.ts", Some("media"), "other")[0].contains("overwritten"));
        watch.see(&Change { key: "x/a/0.ts".into(), before: None, after: None });
        assert!(watch.problems[0].contains("deleted"));
    }
}
