//! What must hold for the frames themselves.

use std::collections::BTreeMap;

use super::{Held, broken};

/// Frames that may be missing, because a gap says so: positions in the order of arrival, first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSpan {
    /// First missing frame.
    pub first: u64,
    /// Last missing frame.
    pub last: u64,
}

/// every frame once acknowledged as durable is in exactly one available file, or a gap names it.
/// `files` gives the frames of each file of one format.
///
/// # Errors
/// At the first frame that is missing without a gap, is there twice, or was never sent.
pub fn every_frame_once<'a, F>(durable: impl IntoIterator<Item = u64>, files: F, gaps: &[FrameSpan]) -> Held
where
    F: IntoIterator<Item = &'a [u64]>,
{
    let mut found: BTreeMap<u64, u32> = BTreeMap::new();
    for frame in files.into_iter().flatten() {
        *found.entry(*frame).or_default() += 1;
    }
    if let Some((frame, times)) = found.iter().find(|(_, times)| **times > 1) {
        return broken("R-1", format!("frame {frame} was written {times} times"));
    }
    for frame in durable {
        let excused = gaps.iter().any(|gap| (gap.first..=gap.last).contains(&frame));
        if found.remove(&frame).is_none() && !excused {
            return broken("R-1", format!("frame {frame} is in no file and in no gap"));
        }
    }
    Ok(())
}

/// R-10, first half: within a track the decoding timestamp strictly increases.
///
/// # Errors
/// At the first pair that does not.
pub fn timestamps_increase(dts: impl IntoIterator<Item = i64>) -> Held {
    let mut last: Option<i64> = None;
    for next in dts {
        if let Some(before) = last.filter(|before| next <= *before) {
            return broken("R-10", format!("dts {next} follows {before}"));
        }
        last = Some(next);
    }
    Ok(())
}

/// R-10, second half: sound and picture drift apart by at most 40 ms over any hour. `offsets` are pairs of media time
/// and offset of sound against picture, both in microseconds, ordered by time.
///
/// # Errors
/// At the first two measurements within an hour that lie further apart.
pub fn drift_bounded(offsets: &[(i64, i64)]) -> Held {
    const HOUR: i64 = 3_600_000_000;
    const DRIFT_MAX: u64 = 40_000;
    for (position, (start, first)) in offsets.iter().enumerate() {
        let within = offsets.iter().skip(position).take_while(|(time, _)| time.saturating_sub(*start) <= HOUR);
        if let Some((time, offset)) = within.into_iter().find(|(_, offset)| offset.abs_diff(*first) > DRIFT_MAX) {
            let evidence = format!("offset {first} us at {start} us became {offset} us at {time} us");
            return broken("R-10", evidence);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_every_frame_is_somewhere_once() {
        let check = |durable: std::ops::Range<u64>, files: &[&[u64]], gaps: &[FrameSpan]| {
            every_frame_once(durable, files.iter().copied(), gaps)
        };
        assert_eq!(check(0..4, &[&[0, 1], &[2, 3]], &[]), Ok(()));
        assert_eq!(check(0..2, &[&[0, 1], &[2]], &[]), Ok(()), "more than was promised is fine");
        assert_eq!(check(0..6, &[&[0, 1], &[5]], &[FrameSpan { first: 2, last: 4 }]), Ok(()));
        assert!(check(0..4, &[&[0, 1], &[3]], &[]).unwrap_err().evidence.contains("frame 2 is in no file"));
        assert!(check(0..3, &[&[0, 1], &[1, 2]], &[]).unwrap_err().evidence.contains("frame 1 was written 2 times"));
    }

    #[test]
    fn r10_timestamps_increase() {
        assert_eq!(timestamps_increase([-5, 0, 1, i64::MAX]), Ok(()));
        assert_eq!(timestamps_increase([0, 40, 40]).unwrap_err().evidence, "dts 40 follows 40");
        assert!(timestamps_increase([5, 4]).is_err());
    }

    #[test]
    fn r10_drift_is_bounded_over_any_hour() {
        const MINUTE: i64 = 60_000_000;
        assert_eq!(drift_bounded(&[(0, 0), (30 * MINUTE, 40_000)]), Ok(()));
        assert!(drift_bounded(&[(0, 0), (30 * MINUTE, 40_001)]).is_err());
        assert!(drift_bounded(&[(0, -30_000), (10 * MINUTE, 0), (20 * MINUTE, 20_000)]).is_err());
        assert_eq!(drift_bounded(&[(0, 0), (61 * MINUTE, 40_001)]), Ok(()), "slower than that is a clock, not a fault");
        assert_eq!(drift_bounded(&[(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]), Ok(()));
    }
}
