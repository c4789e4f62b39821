//! Checksums of prefixes of a data file, few enough to keep and close enough to check what is read.

use crate::object::Point;

/// Least distance of positions: what is read is checked from the one before it to the one behind it, so that closer
/// ones would save little reading and cost memory in every open object.
const SPACING: u64 = 1 << 20;

/// Most positions of one object; longer ones have sparser ones.
const MOST: usize = 4096;

/// Positions in growing order. Neither 0 nor the end of the data is among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checks(Vec<Point>);

impl Checks {
    /// The data goes on behind this position.
    pub fn pass(&mut self, point: Point) {
        let last = self.0.last().map_or(0, |last| last.len);
        if point.len < last.saturating_add(SPACING) {
            return;
        }
        self.0.push(point);
        if self.0.len() > MOST {
            self.thin(point.len / (MOST as u64 / 2));
        }
    }

    /// Forgets positions closer to each other than this.
    fn thin(&mut self, spacing: u64) {
        let mut kept = 0;
        self.0.retain(|point| {
            let keeps = point.len >= kept + spacing;
            kept = if keeps { point.len } else { kept };
            keeps
        });
    }

    /// Nothing will be added.
    pub fn close(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The data ends here now.
    pub fn cut(&mut self, end: Point) {
        self.0.retain(|point| point.len < end.len);
    }

    /// The positions around a range of data that ends at `end`: the newest at or before `from`, then all up to the
    /// first at or after `to`.
    pub fn around(&self, from: u64, to: u64, end: Point) -> Vec<Point> {
        if from >= end.len {
            return vec![end];
        }
        let start = self.0.partition_point(|point| point.len <= from);
        let behind = self.0.partition_point(|point| point.len < to).max(start);
        let first = start.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or_default();
        let between = self.0.get(start..behind).unwrap_or_default().iter().copied();
        let last = self.0.get(behind).copied().unwrap_or(end);
        std::iter::once(first).chain(between).chain([last]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn point(len: u64) -> Point {
        Point { len, crc: len as u32 }
    }

    #[test]
    fn a_range_is_covered_by_the_nearest_positions() {
        let mut checks = Checks::default();
        [1, 2].into_iter().for_each(|mib| checks.pass(point(mib * 10 * MIB)));
        let around = |from: u64, to: u64| {
            let end = point(30 * MIB);
            checks.around(from * MIB, to * MIB, end).iter().map(|point| point.len / MIB).collect::<Vec<_>>()
        };
        assert_eq!(around(0, 5), [0, 10]);
        assert_eq!(around(10, 20), [10, 20]);
        assert_eq!(around(11, 21), [10, 20, 30]);
        assert_eq!(around(25, 30), [20, 30]);
        assert_eq!((around(20, 20), around(30, 30)), (vec![20, 30], vec![30]));
        assert_eq!(Checks::default().around(0, 0, Point::default()), [Point::default()]);
        assert_eq!(Checks::default().around(3, 5, point(7)), [Point::default(), point(7)]);
    }

    #[test]
    fn a_small_object_keeps_no_positions_however_often_it_is_synced() {
        let mut checks = Checks::default();
        (1..1_000).for_each(|sync| checks.pass(point(sync * 1_000)));
        assert_eq!((checks.0.len(), checks.0.capacity()), (0, 0));
    }

    #[test]
    fn twelve_hours_keep_few_positions_that_lie_close() {
        let mut checks = Checks::default();
        for half_second in 1..=86_400_u64 {
            checks.pass(point(half_second * 156_250));
        }
        assert!(checks.0.len() <= MOST, "{}", checks.0.len());
        let widest = checks.0.windows(2).map(|pair| pair[1].len - pair[0].len).max().unwrap();
        assert!(widest <= 16 << 20, "{widest}");
        let end = point(156_250 * 10);
        checks.cut(end);
        assert_eq!(checks.around(0, u64::MAX, end).last(), Some(&end));
    }
}
