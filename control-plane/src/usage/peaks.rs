//! How many channels were taken at once, at most, in each interval.
use super::grid::Grid;

/// When a channel was taken: from its first frame until it is free. Half open.
pub type Taken = (i64, i64);

/// The most there were, and the first moment of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peak {
    /// Channels.
    pub channels: u32,
    /// When, in microseconds since 1970.
    pub at: i64,
}

impl Peak {
    /// The higher of two, the earlier one if they are alike; `self` is the earlier one.
    pub fn or(self, later: Self) -> Self {
        if later.channels > self.channels { later } else { self }
    }
}

/// Raises `points`, one for each interval of the grid, to what channels took within `part` of the span; the highest.
/// A channel of one single moment counts for it.
pub fn sweep(grid: &Grid, part: (i64, i64), taken: &[Taken], points: &mut [u32]) -> Peak {
    let mut steps: Vec<(i64, i32)> = Vec::with_capacity(taken.len() * 2);
    for (start, end) in taken {
        let (start, end) = (*start.max(&part.0), *end.max(&start.saturating_add(1)).min(&part.1));
        if start < end {
            steps.extend([(start, 1), (end, -1)]);
        }
    }
    // At one moment those that leave go first: they and those that come do not overlap.
    steps.sort_unstable();
    let (mut level, mut peak) = (0_i64, Peak::default());
    let mut steps = steps.into_iter().peekable();
    while let Some((at, step)) = steps.next() {
        level += i64::from(step);
        let until = match steps.peek() {
            Some((next, _)) if *next == at => continue,
            Some((next, _)) => *next,
            None => break,
        };
        let channels = u32::try_from(level).unwrap_or(0);
        if channels == 0 {
            continue;
        }
        peak = peak.or(Peak { channels, at });
        for point in points.iter_mut().take(grid.index(until - 1) + 1).skip(grid.index(at)) {
            *point = (*point).max(channels);
        }
    }
    peak
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn peaks(grid: &Grid, taken: &[Taken]) -> (Vec<u32>, Peak) {
        let mut points = vec![0; grid.len()];
        let peak = sweep(grid, (grid.start, grid.end), taken, &mut points);
        (points, peak)
    }

    #[test]
    fn whoever_leaves_makes_room_for_whoever_comes_at_that_moment() {
        let grid = Grid::new(0, 30, 10);
        let (points, peak) = peaks(&grid, &[(0, 10), (10, 20), (5, 12), (25, 25)]);
        assert_eq!(points, [2, 2, 1]);
        assert_eq!(peak, Peak { channels: 2, at: 5 });
    }

    proptest! {
        /// Every moment counted by itself, which is slow and plainly right.
        #[test]
        fn equal_to_counting_every_moment(
            start in 0_i64..20,
            length in 1_i64..120,
            step in 1_i64..15,
            taken in proptest::collection::vec((-20_i64..150, 0_i64..60), 0..12),
        ) {
            let grid = Grid::new(start, start + length, step);
            let taken: Vec<Taken> = taken.into_iter().map(|(start, length)| (start, start + length)).collect();
            let at = |now: i64| {
                let holds = |(start, end): &&Taken| *start <= now && now < (*end).max(start + 1);
                u32::try_from(taken.iter().filter(holds).count()).unwrap()
            };
            let mut expected = vec![0; grid.len()];
            let mut highest = Peak::default();
            for now in grid.start..grid.end {
                let index = usize::try_from((now - (start - start.rem_euclid(step))) / step).unwrap();
                expected[index] = expected[index].max(at(now));
                highest = highest.or(Peak { channels: at(now), at: now });
            }
            let (points, peak) = peaks(&grid, &taken);
            prop_assert_eq!(points, expected);
            prop_assert_eq!(peak, highest);
        }

        /// A span may be swept part by part.
        #[test]
        fn parts_give_the_whole(
            cut in 1_i64..9,
            taken in proptest::collection::vec((0_i64..100, 0_i64..60), 0..12),
        ) {
            let grid = Grid::new(0, 100, 10);
            let taken: Vec<Taken> = taken.into_iter().map(|(start, length)| (start, start + length)).collect();
            let mut points = vec![0; grid.len()];
            let first = sweep(&grid, (0, cut * 10), &taken, &mut points);
            let peak = first.or(sweep(&grid, (cut * 10, 100), &taken, &mut points));
            prop_assert_eq!((points, peak), peaks(&grid, &taken));
        }
    }
}
