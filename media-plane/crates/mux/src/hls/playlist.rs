//! The media playlist (RFC 8216): an event playlist that only ever grows.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use media::MediaTime;

use crate::Segment;

/// One finished segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Number of the segment within the file.
    pub(super) number: u32,
    /// Number of its initialisation segment (fMP4), if that is known.
    pub(super) init: Option<u32>,
    pub(super) duration: MediaTime,
    /// Timestamps or coding do not go on from the segment before.
    pub(super) discontinuity: bool,
    /// Wall time of its first frame.
    pub(super) wall_time: Option<SystemTime>,
}

const END: &str = "#EXT-X-ENDLIST\n";
/// A day.
pub(super) const MAX_TARGET: u64 = 86_400;
const TARGET: &str = "#EXT-X-TARGETDURATION:";
const MAP: &str = "#EXT-X-MAP:URI=\"";

/// The text so far.
#[derive(Debug)]
pub(super) struct Playlist {
    text: String,
    packing: Segment,
    /// The initialisation segment that holds for what is added next.
    init: Option<u32>,
}

impl Playlist {
    /// `target` is `EXT-X-TARGETDURATION` in seconds, which can never change.
    pub(super) fn new(target: u64, packing: Segment) -> Self {
        // 6 is what an initialisation segment asks for, 7 what players of fMP4 have always been given.
        let version = if packing == Segment::Fmp4 { 7 } else { 3 };
        let mut text = format!("#EXTM3U\n#EXT-X-VERSION:{version}\n{TARGET}{target}\n");
        text.push_str("#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n");
        Self { text, packing, init: None }
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        if entry.discontinuity {
            self.text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(init) = entry.init.filter(|init| self.init != Some(*init)) {
            let _ = writeln!(self.text, "{MAP}{}\"", init_name(init));
            self.init = Some(init);
        }
        if let Some(time) = entry.wall_time {
            let _ = writeln!(self.text, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(time));
        }
        // No division into floating point: every tick is exact in six decimals, rounded down.
        let ticks = entry.duration.0.max(1);
        let (whole, micros) = (ticks / MediaTime::SCALE, ticks % MediaTime::SCALE * 100 / 9);
        let _ = writeln!(self.text, "#EXTINF:{whole}.{micros:06},\n{}", segment_name(self.packing, entry.number));
    }

    pub(super) fn end(&mut self) {
        self.text.push_str(END);
    }

    /// A text of an earlier process, if it is one, and whether it has its end.
    pub(super) fn resume(text: &[u8]) -> Option<(Self, bool)> {
        let text =
            std::str::from_utf8(text).ok().filter(|text| text.starts_with("#EXTM3U\n") && text.ends_with('\n'))?;
        let text = text.to_owned();
        let has_end = text.ends_with(END);
        let inits: Vec<u32> = inits(&text).collect();
        let packing = if inits.is_empty() { Segment::Ts } else { Segment::Fmp4 };
        let playlist = Self { text, packing, init: inits.last().copied() };
        playlist.target().is_some().then_some((playlist, has_end))
    }

    /// `EXT-X-TARGETDURATION` in seconds, if it can be one.
    pub(super) fn target(&self) -> Option<u64> {
        let target = self.text.lines().find_map(|line| line.strip_prefix(TARGET))?.parse().ok()?;
        (1..=MAX_TARGET).contains(&target).then_some(target)
    }

    /// Numbers of the segments it names.
    pub(super) fn segments(&self) -> impl Iterator<Item = u32> {
        let names = self.text.lines().filter(|line| !line.starts_with('#'));
        names.filter_map(|name| name.strip_suffix(".ts").or_else(|| name.strip_suffix(".m4s"))?.parse().ok())
    }

    /// Numbers of the initialisation segments it names, in the order of its segments.
    pub(super) fn inits(&self) -> impl Iterator<Item = u32> {
        inits(&self.text)
    }

    /// How its segments are packed; of one that names none that is not known.
    pub(super) fn packing(&self) -> Option<Segment> {
        self.segments().next().map(|_| self.packing)
    }

    /// It has no entry yet, whose kind would say how the next are packed.
    pub(super) fn pack(&mut self, packing: Segment) {
        self.packing = packing;
    }

    pub(super) fn body(&self) -> Bytes {
        Bytes::copy_from_slice(self.text.as_bytes())
    }
}

/// Name of a segment relative to its playlist: what every playlist refers to, and its key must end with.
pub fn segment_name(packing: Segment, number: u32) -> String {
    match packing {
        Segment::Ts => format!("{number}.ts"),
        Segment::Fmp4 => format!("{number}.m4s"),
    }
}

/// The same of an initialisation segment.
pub fn init_name(number: u32) -> String {
    format!("init-{number}.mp4")
}

fn inits(text: &str) -> impl Iterator<Item = u32> {
    let names = text.lines().filter_map(|line| line.strip_prefix(MAP)?.strip_suffix('"'));
    names.filter_map(|name| name.strip_prefix("init-")?.strip_suffix(".mp4")?.parse().ok())
}

/// In UTC with milliseconds.
fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a civil date, counted in 400-year eras that begin on 1 March (so that leap days come last).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_are_civil_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.250Z"),
            (951_782_400, "2000-02-29T00:00:00.250Z"),
            (1_795_348_799, "2026-11-22T11:59:59.250Z"),
            (4_107_542_399, "2100-02-28T23:59:59.250Z"),
            (4_107_542_400, "2100-03-01T00:00:00.250Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1_000 + 250);
            assert_eq!(rfc3339(time), expected);
        }
    }

    #[test]
    fn the_text_is_what_players_expect() {
        let mut playlist = Playlist::new(20, Segment::Ts);
        let entry = |number, discontinuity, wall_time| Entry {
            number,
            init: None,
            duration: MediaTime(9 * MediaTime::SCALE + 45),
            discontinuity,
            wall_time,
        };
        playlist.add(&entry(0, false, Some(UNIX_EPOCH)));
        playlist.add(&entry(1, true, None));
        playlist.end();
        let expected = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:20\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n#EXTINF:9.000500,\n0.ts\n\
            #EXT-X-DISCONTINUITY\n#EXTINF:9.000500,\n1.ts\n#EXT-X-ENDLIST\n";
        assert_eq!(playlist.body(), expected);
    }

    #[test]
    fn an_initialisation_segment_is_named_once_for_all_that_it_holds_for() {
        let mut playlist = Playlist::new(20, Segment::Fmp4);
        let entry = |number, init, discontinuity| Entry {
            number,
            init: Some(init),
            duration: MediaTime(9 * MediaTime::SCALE),
            discontinuity,
            wall_time: Some(UNIX_EPOCH),
        };
        for (number, init, discontinuity) in [(0, 0, false), (1, 0, true), (2, 3, true), (3, 3, false)] {
            playlist.add(&entry(number, init, discontinuity));
        }
        let time = "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n#EXTINF:9.000000,\n";
        let expected = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:20\n#EXT-X-MEDIA-SEQUENCE:0\n\
             #EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MAP:URI=\"init-0.mp4\"\n{time}0.m4s\n#EXT-X-DISCONTINUITY\n{time}1.m4s\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-3.mp4\"\n{time}2.m4s\n{time}3.m4s\n"
        );
        assert_eq!(playlist.body(), expected);
        let (mut again, has_end) = Playlist::resume(&playlist.body()).unwrap();
        assert_eq!((has_end, again.packing()), (false, Some(Segment::Fmp4)));
        assert_eq!((again.segments().collect(), again.inits().collect()), (vec![0, 1, 2, 3], vec![0, 3]));
        // What goes on with the same one need not name it again.
        again.add(&entry(4, 3, false));
        assert_eq!(again.body(), format!("{expected}{time}4.m4s\n"));
    }
}
