//! Decode times where timestamps are presentation times: pictures that come in another order than they are shown in.
//!
//! RTP timestamps are presentation times (RFC 6184, 5.1), packets come in decoding order, and neither says by how many
//! pictures one is ahead. WebRTC encoders do not reorder, but encoders that were made for files and send over WHIP may.
//! Decode times are the presentation times in ascending order, moved back by as many pictures as have been found out of
//! order so far. Senders that put decode times into RTP (OBS) never step back and are left as they are.

/// Pictures remembered: the deepest reordering that H.264 allows.
const DEPTH: usize = 16;
/// A step back of more than this is no reordering: two seconds, in ticks.
const MAX_STEP: i64 = 2 * crate::clock::SCALE as i64;

/// Decode times of one track.
#[derive(Debug, Default)]
pub(crate) struct DecodeTimes {
    /// The newest presentation times, ascending.
    shown: Vec<i64>,
    /// Pictures that a picture may be ahead.
    ahead: usize,
    last: Option<i64>,
}

impl DecodeTimes {
    /// The decode time of the next picture, which is shown at this time, in ticks.
    pub(crate) fn next(&mut self, shown: i64) -> i64 {
        if self.shown.last().is_some_and(|newest| newest - shown > MAX_STEP) {
            self.shown.clear();
        }
        let place = self.shown.partition_point(|earlier| *earlier <= shown);
        self.ahead = self.ahead.max(self.shown.len() - place);
        self.shown.insert(place, shown);
        if self.shown.len() > DEPTH + 1 {
            self.shown.remove(0);
        }
        let back = self.shown.len().checked_sub(self.ahead + 1);
        let ascending = back.and_then(|back| self.shown.get(back)).or(self.shown.first()).copied().unwrap_or(shown);
        self.after_last(ascending)
    }

    /// The time of the next frame of a track that is shown in the order it comes in.
    pub(crate) fn in_order(&mut self, shown: i64) -> i64 {
        self.after_last(shown)
    }

    /// Another source follows, whose times may overlap with those of the one before.
    pub(crate) fn turn(&mut self) {
        self.shown.clear();
        self.ahead = 0;
    }

    fn after_last(&mut self, time: i64) -> i64 {
        let time = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decode times of pictures shown at these frame numbers.
    fn decode(times: &mut DecodeTimes, shown: &[i64]) -> Vec<i64> {
        shown.iter().map(|number| times.next(number * 3_000)).collect()
    }

    #[test]
    fn pictures_in_order_are_decoded_when_they_are_shown() {
        assert_eq!(decode(&mut DecodeTimes::default(), &[0, 1, 2, 5, 6]), [0, 3_000, 6_000, 15_000, 18_000]);
    }

    #[test]
    fn reordered_pictures_are_decoded_in_ascending_times_not_after_they_are_shown() {
        let mut times = DecodeTimes::default();
        // I P B B, twice over; the first group shows how deep it goes.
        let shown = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
        let decoded = decode(&mut times, &shown);
        assert!(decoded.windows(2).all(|pair| pair[0] < pair[1]), "{decoded:?}");
        assert_eq!(decoded[5..], [12_000, 15_000, 18_000, 21_000, 24_000]);
        assert!(decoded[4..].iter().zip(&shown[4..]).all(|(decoded, shown)| *decoded <= shown * 3_000));
    }

    #[test]
    fn equal_times_and_another_source_are_no_reordering() {
        let mut times = DecodeTimes::default();
        assert_eq!(decode(&mut times, &[0, 1, 1, 2]), [0, 3_000, 3_001, 6_000]);
        times.turn();
        assert_eq!(decode(&mut times, &[1, 2, 3, 4]), [6_001, 6_002, 9_000, 12_000]);
    }

    #[test]
    fn a_step_far_back_begins_anew_after_the_last() {
        let mut times = DecodeTimes::default();
        assert_eq!(decode(&mut times, &[1_000, 0, 1]), [3_000_000, 3_000_001, 3_000_002]);
        assert_eq!(times.ahead, 0);
    }
}
