//! What must hold between spool, storage and reports.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Held, broken};
use crate::ids::Sequence;

/// What is known about an object, by us or by the storage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Bytes.
    pub size: u64,
    /// CRC32C as the storage writes it; empty = not told.
    pub crc32c: String,
    /// ETag; empty = not told.
    pub etag: String,
}

/// no two files share an object key.
///
/// # Errors
/// At the first key that comes twice.
pub fn keys_unique<'a>(keys: impl IntoIterator<Item = &'a str>) -> Held {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key) {
            return broken("R-2", format!("two files are stored as `{key}`"));
        }
    }
    Ok(())
}

/// a file is reported available only after the storage shows the size we sent and a checksum or ETag we know.
///
/// # Errors
/// When something differs, or nothing but the size was shown although we know more.
pub fn available_when_confirmed(ours: &ObjectFacts, shown: Option<&ObjectFacts>) -> Held {
    let Some(shown) = shown else {
        return broken("R-3", "reported available without the storage having shown it");
    };
    if ours.size != shown.size {
        return broken("R-3", format!("sent {} bytes, the storage shows {}", ours.size, shown.size));
    }
    let pairs = [(&ours.crc32c, &shown.crc32c, "crc32c"), (&ours.etag, &shown.etag, "etag")];
    let comparable: Vec<_> = pairs.into_iter().filter(|(a, b, _)| !a.is_empty() && !b.is_empty()).collect();
    match comparable.iter().find(|(a, b, _)| a != b) {
        Some((a, b, what)) => broken("R-3", format!("{what} is {a} here and {b} in the storage")),
        None if comparable.is_empty() => broken("R-3", "neither checksum nor etag could be compared"),
        None => Ok(()),
    }
}

/// bytes leave the spool only once they are confirmed in the storage and the control plane holds the fact.
///
/// # Errors
/// When one of the two is missing.
pub fn spool_may_go(confirmed: bool, reported_as: Option<Sequence>, durable: Sequence) -> Held {
    match reported_as {
        _ if !confirmed => broken("R-4", "the storage has not confirmed the file"),
        None => broken("R-4", "the file was not reported"),
        Some(fact) if fact > durable => broken("R-4", format!("fact {fact} is not durable yet, only {durable} is")),
        Some(_) => Ok(()),
    }
}

/// once everything is quiet, no multipart upload of ours is open.
///
/// # Errors
/// Naming the uploads that are.
pub fn no_upload_open<'a>(open: impl IntoIterator<Item = &'a str>) -> Held {
    let open: Vec<&str> = open.into_iter().collect();
    if open.is_empty() { Ok(()) } else { broken("R-7", format!("open uploads: {}", open.join(", "))) }
}

/// R-8, first half: every entry of a playlist exists in the bucket before the playlist that names it.
///
/// # Errors
/// At the first entry that does not.
pub fn playlist_entries_exist<'a>(entries: impl IntoIterator<Item = &'a str>, exists: impl Fn(&str) -> bool) -> Held {
    match entries.into_iter().find(|entry| !exists(entry)) {
        Some(entry) => broken("R-8", format!("the playlist names `{entry}`, which is not there")),
        None => Ok(()),
    }
}

/// R-8, second half: a media playlist only grows. Lines beginning with `#EXT-X-ENDLIST` end it and count for nothing.
///
/// # Errors
/// At the first line that was changed or taken away, and when an ended playlist goes on.
pub fn playlist_grows(before: &str, after: &str) -> Held {
    const END: &str = "#EXT-X-ENDLIST";
    let body = |text: &str| -> Vec<String> {
        text.lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !line.starts_with(END))
            .map(str::to_owned)
            .collect()
    };
    let (old, new) = (body(before), body(after));
    if let Some((was, _)) = old.iter().zip(new.iter()).find(|(was, is)| was != is) {
        return broken("R-8", format!("`{was}` was changed"));
    }
    if let Some(lost) = old.get(new.len()) {
        return broken("R-8", format!("`{lost}` was taken away"));
    }
    let ended = before.lines().any(|line| line.starts_with(END));
    if ended && old.len() != new.len() {
        return broken("R-8", "an ended playlist goes on");
    }
    Ok(())
}

/// the target duration is at least every segment's, rounded to seconds as the format wants, and never changes.
///
/// # Errors
/// When it changed, or at the first segment that is longer.
pub fn target_duration_holds(first_said: u64, says: u64, segments: impl IntoIterator<Item = Duration>) -> Held {
    if first_said != says {
        return broken("R-9", format!("the target duration was {first_said} s and became {says} s"));
    }
    let rounded = |segment: Duration| (segment.as_millis() + 500) / 1000;
    match segments.into_iter().find(|segment| rounded(*segment) > u128::from(says)) {
        Some(segment) => broken("R-9", format!("a segment of {} ms under a target of {says} s", segment.as_millis())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r2_keys_are_unique() {
        assert_eq!(keys_unique(["a", "b"]), Ok(()));
        assert_eq!(keys_unique(["a", "b", "a"]).unwrap_err().evidence, "two files are stored as `a`");
    }

    #[test]
    fn r3_available_means_confirmed() {
        let facts = |size, crc: &str, etag: &str| ObjectFacts { size, crc32c: crc.into(), etag: etag.into() };
        let ours = facts(5, "c", "e");
        assert_eq!(available_when_confirmed(&ours, Some(&facts(5, "c", ""))), Ok(()));
        assert_eq!(available_when_confirmed(&ours, Some(&facts(5, "", "e"))), Ok(()));
        for shown in
            [None, Some(facts(4, "c", "e")), Some(facts(5, "x", "e")), Some(facts(5, "c", "x")), Some(facts(5, "", ""))]
        {
            assert_eq!(available_when_confirmed(&ours, shown.as_ref()).unwrap_err().rule, "R-3", "{shown:?}");
        }
    }

    #[test]
    fn r4_spool_goes_last() {
        assert_eq!(spool_may_go(true, Some(Sequence(5)), Sequence(5)), Ok(()));
        for (confirmed, fact) in [(false, Some(Sequence(1))), (true, None), (true, Some(Sequence(6)))] {
            assert!(spool_may_go(confirmed, fact, Sequence(5)).is_err());
        }
    }

    #[test]
    fn r7_quiet_means_no_uploads() {
        assert_eq!(no_upload_open([]), Ok(()));
        assert_eq!(no_upload_open(["a", "b"]).unwrap_err().evidence, "open uploads: a, b");
    }

    #[test]
    fn r8_playlists_name_what_is_there_and_only_grow() {
        let there = |entry: &str| entry != "2.ts";
        assert_eq!(playlist_entries_exist(["0.ts", "1.ts"], there), Ok(()));
        assert!(playlist_entries_exist(["0.ts", "2.ts"], there).unwrap_err().evidence.contains("`2.ts`"));

        let one = "#EXTM3U\n#EXTINF:10,\n0.ts\n";
        let two = "#EXTM3U\n#EXTINF:10,\n0.ts\n#EXTINF:9,\n1.ts\n";
        let ended = format!("{two}#EXT-X-ENDLIST\n");
        for (before, after) in
            [("", one), (one, one), (one, two), (two, ended.as_str()), (ended.as_str(), ended.as_str())]
        {
            assert_eq!(playlist_grows(before, after), Ok(()));
        }
        assert!(playlist_grows(two, one).unwrap_err().evidence.contains("taken away"));
        assert!(playlist_grows(one, "#EXTM3U\n#EXTINF:11,\n0.ts\n").unwrap_err().evidence.contains("changed"));
        let more = format!("{two}#EXTINF:9,\n2.ts\n");
        assert!(playlist_grows(&ended, &more).unwrap_err().evidence.contains("goes on"));
    }

    #[test]
    fn r9_target_duration() {
        let segments = [Duration::from_millis(10_499), Duration::from_secs(9)];
        assert_eq!(target_duration_holds(10, 10, segments), Ok(()));
        assert!(target_duration_holds(10, 10, [Duration::from_millis(10_500)]).is_err());
        assert!(target_duration_holds(10, 11, segments).is_err(), "never changes");
    }
}
