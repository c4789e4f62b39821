//! Checksums of prefixes of a data file, few enough to keep and close enough to check what is read.

use crate::object::Point;

/// Most positions of one object: at one a second they get sparser after an hour.
const MOST: usize = 4096;

/// Positions in growing order; 0 is one without being kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checks(Vec<Point>);

impl Checks {
    /// The newest position.
    pub fn add(&mut self, point: Point) {
        if self.0.last().is_some_and(|last| last.len >= point.len) {
            return;
        }
        self.0.push(point);
        if self.0.len() > MOST {
            self.thin(point.len / (MOST as u64 / 2));
        }
    }

    /// Forgets positions closer to each other than this; the last stays.
    pub fn thin(&mut self, spacing: u64) {
        let last = self.0.last().copied();
        let mut kept = 0;
        self.0.retain(|point| {
            let keeps = Some(*point) == last || point.len >= kept + spacing;
            kept = if keeps { point.len } else { kept };
            keeps
        });
        self.0.shrink_to_fit();
    }

    /// The data ends here now.
    pub fn cut(&mut self, end: Point) {
        self.0.retain(|point| point.len < end.len);
        self.add(end);
    }

    /// The positions around a range: the newest at or before `from`, then all up to the first at or after `to`.
    pub fn around(&self, from: u64, to: u64) -> Vec<Point> {
        let start = self.0.partition_point(|point| point.len <= from);
        let end = (self.0.partition_point(|point| point.len < to) + 1).min(self.0.len());
        let first = start.checked_sub(1).and_then(|at| self.0.get(at)).copied().unwrap_or_default();
        std::iter::once(first).chain(self.0.get(start..end.max(start)).unwrap_or_default().iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(lens: &[u64]) -> Vec<Point> {
        lens.iter().map(|len| Point { len: *len, crc: *len as u32 }).collect()
    }

    #[test]
    fn a_range_is_covered_by_the_nearest_positions() {
        let mut checks = Checks::default();
        points(&[10, 20, 30]).into_iter().for_each(|point| checks.add(point));
        let around = |from, to| checks.around(from, to).iter().map(|point| point.len).collect::<Vec<_>>();
        assert_eq!(around(0, 5), [0, 10]);
        assert_eq!(around(10, 20), [10, 20]);
        assert_eq!(around(11, 21), [10, 20, 30]);
        assert_eq!(around(25, 99), [20, 30]);
        assert_eq!(around(30, 30), [30]);
    }

    #[test]
    fn twelve_hours_keep_few_positions_that_lie_close() {
        let mut checks = Checks::default();
        for half_second in 1..=86_400_u64 {
            checks.add(Point { len: half_second * 156_250, crc: 0 });
        }
        assert!(checks.0.len() <= MOST, "{}", checks.0.len());
        let widest = checks.0.windows(2).map(|pair| pair[1].len - pair[0].len).max().unwrap();
        assert!(widest <= 16 << 20, "{widest}");
        checks.cut(Point { len: 156_250 * 10, crc: 1 });
        assert_eq!(checks.around(0, u64::MAX).last(), Some(&Point { len: 1_562_500, crc: 1 }));
    }
}
