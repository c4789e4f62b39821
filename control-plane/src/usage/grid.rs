//! The intervals of a query: minutes, hours or days of the UTC clock that overlap its span.

const SECOND: i64 = 1_000_000;

/// Microseconds of a day. Every granularity divides it, so that a query can go day by day.
pub const DAY: i64 = 86_400 * SECOND;

/// What may be asked for, in seconds; the first is the default.
pub const GRANULARITIES: [i64; 4] = [60, 300, 3_600, 86_400];

/// The intervals of a span; times are microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// First moment of the span.
    pub start: i64,
    /// First moment after it.
    pub end: i64,
    /// Length of an interval.
    step: i64,
}

impl Grid {
    /// `step` is in microseconds and divides a [`DAY`]; the span is not empty.
    pub fn new(start: i64, end: i64, step: i64) -> Self {
        Self { start, end, step: step.max(1) }
    }

    /// How many intervals there are.
    pub fn len(&self) -> usize {
        self.index(self.end - 1).saturating_add(1)
    }

    /// Whether there are none, which is never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// When the clock says that an interval begins; that of the first may be before the span.
    pub fn time(&self, index: usize) -> i64 {
        let steps = i64::try_from(index).unwrap_or(i64::MAX);
        self.floor(self.start).saturating_add(steps.saturating_mul(self.step))
    }

    /// The interval that holds a moment of the span.
    pub fn index(&self, at: i64) -> usize {
        usize::try_from((at - self.floor(self.start)) / self.step).unwrap_or(0)
    }

    /// The part of an interval that lies within the span.
    pub fn bounds(&self, index: usize) -> (i64, i64) {
        let begins = self.time(index);
        (begins.max(self.start), begins.saturating_add(self.step).min(self.end))
    }

    /// The days of the span, each cut to it.
    pub fn days(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let Self { start, end, .. } = *self;
        let first = start - start.rem_euclid(DAY);
        let days = (0..).map(move |day: i64| first.saturating_add(day.saturating_mul(DAY)));
        days.take_while(move |day| *day < end).map(move |day| (day.max(start), day.saturating_add(DAY).min(end)))
    }

    fn floor(&self, at: i64) -> i64 {
        at - at.rem_euclid(self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_the_clock_and_days_do_not_cut_them() {
        let (start, end) = (DAY + 30 * SECOND, 2 * DAY + 90 * SECOND);
        let grid = Grid::new(start, end, 60 * SECOND);
        assert_eq!((grid.len(), grid.time(0), grid.time(1)), (1_442, DAY, DAY + 60 * SECOND));
        assert_eq!(grid.bounds(0), (start, DAY + 60 * SECOND));
        assert_eq!(grid.bounds(1_441), (2 * DAY + 60 * SECOND, end));
        assert_eq!((grid.index(start), grid.index(end - 1)), (0, 1_441));
        assert_eq!(grid.days().collect::<Vec<_>>(), [(start, 2 * DAY), (2 * DAY, end)]);
        let before_1970 = Grid::new(-1, 1, 60 * SECOND);
        assert_eq!((before_1970.len(), before_1970.time(0)), (2, -60 * SECOND));
    }
}
