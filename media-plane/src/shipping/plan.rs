//! How an object is cut into the parts of a multipart upload, decided when it is opened. No I/O.
//!
//! While an object grows, part n is sent as soon as its bytes are durable; all parts have one size, except the last and,
//! for a head that is known last (fast-start MP4), the first: media parts go as 2, 3, …, and part 1 is the head together
//! with the first [`Plan::reserve`] bytes of media, which are kept back for it because no part but the last may be
//! small.

use std::ops::Range;
use std::time::Duration;

use store::{Capabilities, part_size};

/// Bit rate that a part size chosen at open has to carry to the end of the file, in bytes a second: 50 Mbit/s.
const SIZED_FOR: u64 = 50_000_000 / 8;

/// Longest file that a part size is chosen for; a file without a limit of its own is taken for this long.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// Part size of a file that will last so long at most, in bytes: 12 hours at 50 Mbit/s fit the stores' 10,000 parts.
pub fn part_bytes_for(max_file_duration: Option<Duration>) -> u64 {
    let longest = max_file_duration.unwrap_or(LONGEST).min(LONGEST);
    part_size(longest.as_secs().saturating_add(1).saturating_mul(SIZED_FOR))
}

/// How the files of an output are sent while they grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growing {
    /// Bytes of a part.
    pub part_bytes: u64,
    /// The first bytes are known last.
    pub head_last: bool,
}

/// What a store allows for such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Parts of one upload under the file's own key.
    Parts(Plan),
    /// The media as an object of its own, to which the head is joined at the end.
    Compose(Plan),
    /// Nothing before it is closed.
    Later,
}

impl Growing {
    /// Bytes of an open object that must be durable before anything is sent; a shorter one is a plain put.
    pub fn threshold(&self) -> u64 {
        self.part_bytes.saturating_mul(if self.head_last { 2 } else { 1 })
    }

    /// The way at a store with these limits.
    pub fn way(&self, limits: Capabilities) -> Way {
        let part = self.part_bytes.clamp(limits.min_part, limits.max_part);
        match self.head_last {
            false => Way::Parts(Plan { part, reserve: 0 }),
            true if limits.parts_in_any_order => Way::Parts(Plan { part, reserve: part }),
            true if limits.composes => Way::Compose(Plan { part, reserve: 0 }),
            true => Way::Later,
        }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of a part.
    pub part: u64,
    /// Bytes of media that go with the head as part 1; 0 when nothing comes in front of what is sent first.
    pub reserve: u64,
}

impl Plan {
    /// For an object that is closed.
    pub fn closed(size: u64, limits: Capabilities) -> Self {
        Self { part: part_size(size).clamp(limits.min_part, limits.max_part), reserve: 0 }
    }

    /// Number of the part that is sent first.
    pub fn first(&self) -> u32 {
        if self.reserve > 0 { 2 } else { 1 }
    }

    /// Where a part other than the reserved first begins, in bytes behind the head.
    pub fn offset(&self, number: u32) -> u64 {
        self.reserve.saturating_add(u64::from(number.saturating_sub(self.first())).saturating_mul(self.part))
    }

    /// The next part of an object that holds `held` bytes (its head, once it is closed, included) of which those before
    /// `covered` are sent or reserved. None when there is no whole part yet and the object is still open.
    pub fn next(&self, covered: u64, held: u64, closed: bool) -> Option<Range<u64>> {
        let left = held.checked_sub(covered).filter(|left| *left > 0)?;
        match left.min(self.part) {
            len if len == self.part || closed => Some(covered..covered + len),
            _ => None,
        }
    }

    /// Whether a closed object of this many bytes needs no more parts than the store takes.
    pub fn fits(&self, size: u64, limits: Capabilities) -> bool {
        size.div_ceil(self.part.max(1)) < u64::from(limits.max_parts)
    }
}

#[cfg(test)]
mod tests {
    use store::{Bucket, Memory};

    use super::*;

    fn limits() -> Capabilities {
        Memory::new().capabilities()
    }

    fn plan(part_bytes: u64, head_last: bool) -> Plan {
        let Way::Parts(plan) = (Growing { part_bytes, head_last }).way(limits()) else { panic!("not by parts") };
        plan
    }

    #[test]
    fn a_head_that_comes_last_goes_as_the_store_allows() {
        let growing = Growing { part_bytes: 1 << 20, head_last: true };
        let any_order = limits();
        assert_eq!(growing.way(any_order), Way::Parts(Plan { part: 5 << 20, reserve: 5 << 20 }));
        let in_order = Capabilities { parts_in_any_order: false, min_part: 256 << 10, ..any_order };
        assert_eq!(growing.way(in_order), Way::Later);
        let composing = Capabilities { composes: true, ..in_order };
        assert_eq!(growing.way(composing), Way::Compose(Plan { part: 1 << 20, reserve: 0 }));
        let appended = Growing { head_last: false, ..growing };
        assert_eq!(appended.way(composing), Way::Parts(Plan { part: 1 << 20, reserve: 0 }));
    }

    /// Sizes of the parts by number, as they would be sent while an object of `data` bytes grows by `step` and gets a
    /// head of `head` bytes at its end.
    fn sent(plan: Plan, data: u64, step: u64, head: u64) -> Vec<(u32, u64)> {
        let (mut parts, mut covered, mut number) = (Vec::new(), plan.reserve, plan.first());
        let mut durable = 0;
        while durable < data {
            durable = (durable + step).min(data);
            while let Some(range) = plan.next(covered, durable, false) {
                parts.push((number, range.end - range.start));
                (covered, number) = (range.end, number + 1);
            }
        }
        while let Some(range) = plan.next(head + covered, head + data, true) {
            parts.push((number, range.end - range.start));
            (covered, number) = (range.end - head, number + 1);
        }
        if plan.reserve > 0 {
            parts.insert(0, (1, head + plan.reserve));
        }
        parts
    }

    #[test]
    fn twelve_hours_fast_part_plan() {
        let day = Duration::from_secs(12 * 3600);
        for (megabits, head_last) in [(12, false), (12, true), (50, false), (50, true)] {
            let plan = plan(part_bytes_for(Some(day)), head_last);
            let data = megabits * 1_000_000 / 8 * 12 * 3600;
            let parts = sent(plan, data, 60 * megabits * 125_000, 60_000_000);
            assert!(parts.len() <= 10_000, "{megabits} Mbit/s: {} parts", parts.len());
            assert!(plan.fits(data + 60_000_000, limits()));
            assert_eq!(parts.iter().map(|(_, size)| size).sum::<u64>(), data + if head_last { 60_000_000 } else { 0 });
        }
        assert_eq!(part_bytes_for(None), 27 << 20, "12 h of 50 Mbit/s");
        assert_eq!(part_bytes_for(Some(Duration::from_secs(1_800))), 8 << 20, "the default half hour");
        assert!(!plan(8 << 20, false).fits(100 << 30, limits()), "a stream beyond the plan is told");
    }

    proptest::proptest! {
        #[test]
        fn parts_are_equal_numbered_without_holes_and_never_too_small(
            data in 1_u64..200_000_000, step in 1_000_000_u64..30_000_000, head in 100_u64..2_000_000, head_last: bool,
        ) {
            let plan = plan(8 << 20, head_last);
            let head = if head_last { head } else { 0 };
            if data < (Growing { part_bytes: 8 << 20, head_last }).threshold() {
                return Ok(());
            }
            let parts = sent(plan, data, step, head);
            assert!(parts.iter().map(|(number, _)| *number).eq(1..=parts.len() as u32));
            assert_eq!(parts.iter().map(|(_, size)| size).sum::<u64>(), head + data);
            let (last, rest) = parts.split_last().unwrap();
            assert!(last.1 > 0);
            assert!(rest.iter().all(|(number, size)| *size == plan.part || (*number == 1 && *size == head + plan.reserve)));
            assert!(rest.iter().all(|(_, size)| *size >= limits().min_part));
        }
    }
}
