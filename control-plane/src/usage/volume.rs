//! Media time spread over the time in which it was recorded, so that its parts add up to the whole exactly.
use super::grid::Grid;

/// When media was written, holes left out, and how long it is. A publisher may send faster or slower than time passes:
/// the media is spread evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Disjoint, in order, half open, never empty.
    pieces: Vec<(i64, i64)>,
    /// Microseconds of media.
    media: i64,
    /// Microseconds of all pieces.
    length: i64,
}

impl Written {
    /// Media from `start` to `end` with holes, in any order, overlapping or not. Without `media` it is as long as the
    /// writing took.
    pub fn new(start: i64, end: i64, holes: impl IntoIterator<Item = (i64, i64)>, media: Option<i64>) -> Self {
        let mut holes: Vec<(i64, i64)> = holes.into_iter().filter(|(from, to)| from < to).collect();
        holes.sort_unstable();
        let (mut pieces, mut from) = (Vec::with_capacity(holes.len() + 1), start);
        for (hole, until) in holes {
            if from < hole.min(end) {
                pieces.push((from, hole.min(end)));
            }
            from = from.max(until);
        }
        if from < end {
            pieces.push((from, end));
        }
        if pieces.is_empty() {
            // A single frame, or nothing but holes: there is a moment at least.
            pieces.push((start, start.saturating_add(1)));
        }
        let length = pieces.iter().map(|(from, to)| to - from).sum();
        Self { media: media.unwrap_or(length), pieces, length }
    }

    /// First and last moment.
    pub fn bounds(&self) -> (i64, i64) {
        let start = self.pieces.first().map_or(0, |piece| piece.0);
        (start, self.pieces.last().map_or(start, |piece| piece.1))
    }

    /// Media of a stretch of time.
    pub fn within(&self, from: i64, to: i64) -> i64 {
        self.before(to) - self.before(from)
    }

    /// Adds its media to `points`, as much as falls into each interval of the grid within `part` of its span.
    pub fn spread(&self, grid: &Grid, part: (i64, i64), points: &mut [i64]) {
        let (first, last) = self.bounds();
        let (from, to) = (first.max(part.0), last.min(part.1));
        if from >= to {
            return;
        }
        let range = grid.index(from)..=grid.index(to - 1);
        for index in range {
            let (begins, ends) = grid.bounds(index);
            if let Some(point) = points.get_mut(index) {
                *point = point.saturating_add(self.within(begins.max(from), ends.min(to)));
            }
        }
    }

    fn before(&self, at: i64) -> i64 {
        let written: i64 = self.pieces.iter().map(|(from, to)| (at.min(*to) - from).max(0)).sum();
        let media = i128::from(self.media) * i128::from(written) / i128::from(self.length.max(1));
        i64::try_from(media).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holes_hold_no_media_and_a_fast_publisher_is_spread() {
        let written = Written::new(10, 50, [(20, 30), (25, 35), (45, 90)], None);
        assert_eq!(written.pieces, [(10, 20), (35, 45)]);
        assert_eq!((written.within(0, 15), written.within(15, 40), written.within(40, 99)), (5, 10, 5));
        let fast = Written::new(0, 10, [], Some(3_600));
        assert_eq!((fast.within(0, 5), fast.within(5, 100)), (1_800, 1_800));
        let moment = Written::new(7, 7, [], Some(40));
        assert_eq!((moment.within(0, 7), moment.within(7, 8)), (0, 40));
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(
            start in 0_i64..50,
            length in 0_i64..200,
            media in proptest::option::of(0_i64..1_000),
            holes in proptest::collection::vec((0_i64..200, 0_i64..40), 0..6),
            step in 1_i64..30,
        ) {
            let holes: Vec<(i64, i64)> = holes.into_iter().map(|(at, length)| (at, at + length)).collect();
            let written = Written::new(start, start + length, holes.clone(), media);
            let grid = Grid::new(0, 300, step);
            let mut points = vec![0; grid.len()];
            written.spread(&grid, (0, 120), &mut points);
            written.spread(&grid, (120, 300), &mut points);
            let whole: i64 = points.iter().sum();
            let free = |at: &i64| !holes.iter().any(|(from, to)| (*from..*to).contains(at));
            let moments = i64::try_from((start..start + length).filter(free).count()).unwrap();
            prop_assert_eq!(whole, media.unwrap_or(moments.max(1)));
            if media.is_none() && moments > 0 {
                for (index, point) in points.iter().enumerate() {
                    let (from, to) = grid.bounds(index);
                    let within = (start.max(from)..(start + length).min(to)).filter(free).count();
                    prop_assert_eq!(*point, i64::try_from(within).unwrap());
                }
            }
        }
    }
}
