//! One playlist of a recording that two epochs wrote (RFC 8216): the entries of the earlier epoch, a discontinuity, and
//! the entries of this one. No I/O.
//!
//! The earlier playlist is never touched; this one is a new object from its first text on, so that its target
//! duration, the larger of both, is there from its beginning and it only grows.

const VERSION: &str = "#EXT-X-VERSION:";
const TARGET: &str = "#EXT-X-TARGETDURATION:";
const SEQUENCE: &str = "#EXT-X-MEDIA-SEQUENCE:";
const DISCONTINUITY_SEQUENCE: &str = "#EXT-X-DISCONTINUITY-SEQUENCE:";
const KIND: &str = "#EXT-X-PLAYLIST-TYPE:";
const INDEPENDENT: &str = "#EXT-X-INDEPENDENT-SEGMENTS";
const DISCONTINUITY: &str = "#EXT-X-DISCONTINUITY";
const END: &str = "#EXT-X-ENDLIST";
const MAP: &str = "#EXT-X-MAP:";

/// What a playlist says about all of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head<'a> {
    version: u64,
    target: u64,
    sequence: Option<&'a str>,
    discontinuities: Option<&'a str>,
    kind: Option<&'a str>,
    independent: bool,
}

/// A playlist's head and the lines of its entries; the end is left out.
fn parse(text: &str) -> Option<(Head<'_>, Vec<&str>, bool)> {
    let mut lines = text.lines().map(str::trim_end);
    if lines.next()?.trim_start_matches('\u{feff}') != "#EXTM3U" {
        return None;
    }
    let mut head = Head { version: 1, ..Head::default() };
    let (mut entries, mut ended) = (Vec::new(), false);
    for line in lines.filter(|line| !line.is_empty()) {
        if let Some(version) = line.strip_prefix(VERSION) {
            head.version = version.parse().ok()?;
        } else if let Some(target) = line.strip_prefix(TARGET) {
            head.target = target.parse().ok()?;
        } else if let Some(sequence) = line.strip_prefix(SEQUENCE) {
            head.sequence = Some(sequence);
        } else if let Some(sequence) = line.strip_prefix(DISCONTINUITY_SEQUENCE) {
            head.discontinuities = Some(sequence);
        } else if let Some(kind) = line.strip_prefix(KIND) {
            head.kind = Some(kind);
        } else if line == INDEPENDENT {
            head.independent = true;
        } else if line == END {
            ended = true;
        } else {
            entries.push(line);
        }
    }
    Some((head, entries, ended))
}

/// `own` with the entries of `previous` in front; keys are those of the two playlist objects in one bucket. `None` when
/// `previous` is no playlist or has no entry: then `own` stands for itself.
pub fn splice(previous: &str, previous_key: &str, own: &str, own_key: &str) -> Option<String> {
    let (before, old, _) = parse(previous)?;
    let (after, new, ended) = parse(own)?;
    if !old.iter().any(|line| !line.starts_with('#')) {
        return None;
    }
    // An initialisation section holds for all that follows: transport stream cannot stand behind fMP4.
    let is_bare = new.iter().take_while(|line| line.starts_with('#')).all(|line| !line.starts_with(MAP));
    if is_bare && !new.is_empty() && old.iter().any(|line| line.starts_with(MAP)) {
        return None;
    }
    let mut text = format!("#EXTM3U\n{VERSION}{}\n", before.version.max(after.version));
    if before.independent && after.independent {
        text.push_str(&format!("{INDEPENDENT}\n"));
    }
    text.push_str(&format!("{TARGET}{}\n", before.target.max(after.target)));
    for (tag, value) in [(SEQUENCE, before.sequence), (DISCONTINUITY_SEQUENCE, before.discontinuities)] {
        text.extend(value.map(|value| format!("{tag}{value}\n")));
    }
    text.extend(after.kind.or(before.kind).map(|kind| format!("{KIND}{kind}\n")));
    for line in old {
        text.push_str(&moved(line, previous_key, own_key));
        text.push('\n');
    }
    // An empty own playlist (its first segment is not there yet) has nothing to part from.
    if new.first().is_some_and(|first| *first != DISCONTINUITY) {
        text.push_str(&format!("{DISCONTINUITY}\n"));
    }
    for line in new {
        text.push_str(line);
        text.push('\n');
    }
    if ended {
        text.push_str(&format!("{END}\n"));
    }
    Some(text)
}

/// A line of one playlist as it stands in another one.
fn moved(line: &str, from: &str, to: &str) -> String {
    if !line.starts_with('#') {
        return relative(line, from, to);
    }
    let Some(rest) = line.strip_prefix(MAP) else { return line.to_owned() };
    let Some((front, quoted)) = rest.split_once("URI=\"") else { return line.to_owned() };
    let Some((uri, back)) = quoted.split_once('"') else { return line.to_owned() };
    format!("{MAP}{front}URI=\"{}\"{back}", relative(uri, from, to))
}

/// A reference of the playlist `from`, as the playlist `to` has to write it. What is not relative stays.
fn relative(uri: &str, from: &str, to: &str) -> String {
    let before_query = uri.split(['?', '#']).next().unwrap_or_default();
    if uri.starts_with('/') || before_query.split('/').next().is_some_and(|first| first.contains(':')) {
        return uri.to_owned();
    }
    let folder = |key: &str| -> Vec<String> {
        let mut parts: Vec<String> = key.split('/').map(|part| store::percent_encode(part, &[])).collect();
        parts.pop();
        parts
    };
    let mut target = folder(from);
    // A query or fragment may hold slashes of its own.
    let (path, rest) = uri.split_at(before_query.len());
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(target.pop()),
            part => target.push(part.to_owned()),
        }
    }
    let base = folder(to);
    let common = base.iter().zip(&target).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", base.len() - common);
    let down = target.iter().skip(common).map(String::as_str);
    up.chain(down).collect::<Vec<_>>().join("/") + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn playlist(target: u64, segments: &[(String, bool)], ended: bool) -> String {
        let mut text = format!("#EXTM3U\n#EXT-X-VERSION:3\n{TARGET}{target}\n{SEQUENCE}0\n{KIND}EVENT\n");
        for (name, discontinuity) in segments {
            text.push_str(if *discontinuity { "#EXT-X-DISCONTINUITY\n" } else { "" });
            text.push_str(&format!("#EXTINF:1.000000,\n{name}\n"));
        }
        text + if ended { "#EXT-X-ENDLIST\n" } else { "" }
    }

    /// Keys of the segments, as a player resolves them.
    fn keys(text: &str, key: &str) -> Vec<String> {
        let base = url(key);
        let resolve = |line: &str| {
            let mut parts: Vec<&str> = base.split('/').collect();
            parts.pop();
            for part in line.split('/') {
                if part == ".." {
                    let _ = parts.pop();
                } else {
                    parts.push(part)
                }
            }
            parts.join("/")
        };
        text.lines().filter(|line| !line.starts_with('#')).map(resolve).collect()
    }

    fn url(key: &str) -> String {
        store::percent_encode(key, b"/")
    }

    #[test]
    fn the_second_epoch_begins_with_the_first() {
        let first = playlist(20, &[("0.ts".into(), false), ("1.ts".into(), true)], true);
        let second = playlist(12, &[("0.ts".into(), false)], false);
        let text = splice(&first, "a/b c/x/index.m3u8", &second, "a/b c/x-e2/index.m3u8").unwrap();
        let expected = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:20\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF:1.000000,\n../x/0.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:1.000000,\n\
            ../x/1.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:1.000000,\n0.ts\n";
        assert_eq!(text, expected);
        let third = playlist(20, &[("0.ts".into(), true)], true);
        let text = splice(&text, "a/b c/x-e2/index.m3u8", &third, "z/x-e3/index.m3u8").unwrap();
        let found = keys(&text, "z/x-e3/index.m3u8");
        assert_eq!(found, ["a/b%20c/x/0.ts", "a/b%20c/x/1.ts", "a/b%20c/x-e2/0.ts", "z/x-e3/0.ts"]);
        assert_eq!(text.matches(DISCONTINUITY).count(), 3, "{text}");
        assert!(text.ends_with("0.ts\n#EXT-X-ENDLIST\n"));
    }

    #[test]
    fn each_epoch_has_its_own_initialisation_section() {
        let map = "#EXT-X-MAP:URI=\"init-0.mp4\"\n#EXTINF:4,\n0.m4s\n";
        let fmp4 = format!("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n{map}");
        let text = splice(&fmp4, "a/index.m3u8", &fmp4, "b/index.m3u8").unwrap();
        let before = map.replace("init", "../a/init").replace("0.m4s", "../a/0.m4s");
        assert!(text.ends_with(&format!("{before}#EXT-X-DISCONTINUITY\n{map}")), "{text}");
        let ts = playlist(4, &[("0.ts".into(), false)], false);
        assert_eq!(splice(&fmp4, "a/index.m3u8", &ts, "b/index.m3u8"), None, "nothing ends a section");
        assert!(splice(&ts, "a/index.m3u8", &fmp4, "b/index.m3u8").unwrap().starts_with("#EXTM3U\n#EXT-X-VERSION:7\n"));
    }

    #[test]
    fn initialisation_sections_and_absolute_references_are_kept() {
        let first = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI=\"init-0.mp4\",BYTERANGE=\"9@0\"\n\
            #EXTINF:4,\n0.m4s?a=b/c\n#EXTINF:4,\nhttps://cdn/x.m4s\n#EXTINF:4,\n/root.m4s\n";
        let text = splice(first, "a/index.m3u8", &playlist(2, &[], false), "b/index.m3u8").unwrap();
        assert!(text.contains("#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n"));
        assert!(text.contains("#EXT-X-MAP:URI=\"../a/init-0.mp4\",BYTERANGE=\"9@0\"\n"));
        assert!(text.contains("\n../a/0.m4s?a=b/c\n") && text.contains("\nhttps://cdn/x.m4s\n"));
        assert!(text.contains("\n/root.m4s\n") && !text.contains("DISCONTINUITY"));
    }

    #[test]
    fn what_is_no_playlist_is_left_alone() {
        let own = playlist(2, &[("0.ts".into(), false)], false);
        for previous in ["", "<html>", "#EXTM3U\n#EXT-X-TARGETDURATION:x\n0.ts\n", &playlist(2, &[], true)] {
            assert_eq!(splice(previous, "a/i", &own, "b/i"), None, "{previous}");
        }
    }

    fn segments() -> impl Strategy<Value = Vec<(String, bool)>> {
        prop::collection::vec((0..1_000u32, any::<bool>()), 0..20)
            .prop_map(|all| all.into_iter().map(|(number, gap)| (format!("{number}.ts"), gap)).collect())
    }

    fn key() -> impl Strategy<Value = String> {
        prop::collection::vec("[a-c é%#?:]{1,3}", 0..4)
            .prop_map(|folders| folders.into_iter().map(|folder| folder + "/").collect::<String>() + "index.m3u8")
    }

    proptest! {
        #[test]
        fn every_entry_is_reachable_from_the_new_place(
            old in segments(), new in segments(), from in key(), to in key(), targets in (1..99u64, 1..99u64),
        ) {
            prop_assume!(!old.is_empty());
            let (first, second) = (playlist(targets.0, &old, true), playlist(targets.1, &new, true));
            let text = splice(&first, &from, &second, &to).unwrap();
            let expected: Vec<String> = keys(&first, &from).into_iter().chain(keys(&second, &to)).collect();
            prop_assert_eq!(keys(&text, &to), expected);
            let target = format!("{TARGET}{}\n", targets.0.max(targets.1));
            prop_assert!(text.contains(&target));
            prop_assert_eq!(text.matches(END).count(), 1);
            let changes = old.iter().filter(|(_, gap)| *gap).count() + new.iter().skip(1).filter(|(_, gap)| *gap).count();
            let joint = usize::from(!new.is_empty());
            prop_assert_eq!(text.lines().filter(|line| *line == DISCONTINUITY).count(), changes + joint);
        }

        #[test]
        fn r8_r9_a_growing_playlist_stays_a_prefix(
            old in segments(), new in segments(), cut in 0..20usize, from in key(), to in key(),
        ) {
            prop_assume!(!old.is_empty());
            let first = playlist(20, &old, false);
            let part = &new[..cut.min(new.len())];
            let early = splice(&first, &from, &playlist(9, part, false), &to).unwrap();
            let late = splice(&first, &from, &playlist(9, &new, false), &to).unwrap();
            prop_assert!(late.starts_with(&early), "{early}\n--\n{late}");
        }

        #[test]
        fn no_text_makes_it_panic(previous in "\\PC{0,200}", own in "\\PC{0,200}", from in "\\PC{0,20}", to in "\\PC{0,20}") {
            let _ = splice(&format!("#EXTM3U\n{previous}"), &from, &format!("#EXTM3U\n{own}"), &to);
        }
    }
}
