//! The media playlist (RFC 8216): an event playlist that only ever grows.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use media::MediaTime;

/// One finished segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Number of the segment within the file.
    pub(super) number: u32,
    pub(super) duration: MediaTime,
    /// Timestamps or coding do not go on from the segment before.
    pub(super) discontinuity: bool,
    /// Wall time of its first frame.
    pub(super) wall_time: Option<SystemTime>,
}

const END: &str = "#EXT-X-ENDLIST\n";
/// A day.
const MAX_TARGET: u64 = 86_400;
const TARGET: &str = "#EXT-X-TARGETDURATION:";

/// The text so far.
#[derive(Debug)]
pub(super) struct Playlist {
    text: String,
}

impl Playlist {
    /// `target` is `EXT-X-TARGETDURATION` in seconds, which can never change.
    pub(super) fn new(target: u64) -> Self {
        let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
        let _ = writeln!(text, "{TARGET}{target}");
        text.push_str("#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n");
        Self { text }
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        if entry.discontinuity {
            self.text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(time) = entry.wall_time {
            let _ = writeln!(self.text, "#EXT-X-PROGRAM-DATE-TIME:{}", rfc3339(time));
        }
        // No division into floating point: every tick is exact in six decimals, rounded down.
        let ticks = entry.duration.0.max(1);
        let (whole, micros) = (ticks / MediaTime::SCALE, ticks % MediaTime::SCALE * 100 / 9);
        let _ = writeln!(self.text, "#EXTINF:{whole}.{micros:06},\n{}", segment_name(entry.number));
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
        let playlist = Self { text };
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
        names.filter_map(|name| name.strip_suffix(".ts")?.parse().ok())
    }

    pub(super) fn body(&self) -> Bytes {
        Bytes::copy_from_slice(self.text.as_bytes())
    }
}

/// Name of a segment relative to its playlist: what every playlist refers to, and its key must end with.
pub fn segment_name(number: u32) -> String {
    format!("{number}.ts")
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
        let mut playlist = Playlist::new(20);
        let entry = |number, discontinuity, wall_time| Entry {
            number,
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
}
