//! The one clock of all media inside the node.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point (or span) on a publication's media timeline, in 1/90 000 s.
///
/// 90 kHz is what TS and RTP video use and holds every RTMP millisecond exactly; audio containers rescale on output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(pub i64);

impl MediaTime {
    /// Ticks per second.
    pub const SCALE: i64 = 90_000;
    /// The origin of the timeline.
    pub const ZERO: Self = Self(0);

    /// From whole milliseconds, saturating.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(Self::SCALE / 1_000))
    }

    /// To milliseconds, rounded to the nearest.
    pub const fn as_millis(self) -> i64 {
        self.0.saturating_add(45).div_euclid(90)
    }

    /// To seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / Self::SCALE as f64
    }

    /// To another scale in ticks per second, rounded to the nearest.
    pub fn to_scale(self, scale: u32) -> i64 {
        let scaled = i128::from(self.0) * i128::from(scale) + i128::from(Self::SCALE / 2);
        i64::try_from(scaled.div_euclid(i128::from(Self::SCALE))).unwrap_or(i64::MAX)
    }

    /// As a duration; negative spans become zero.
    pub fn as_duration(self) -> Duration {
        Duration::from_micros(u64::try_from(self.to_scale(1_000_000)).unwrap_or(0))
    }

    /// From a duration, saturating.
    pub fn from_duration(duration: Duration) -> Self {
        let ticks = duration.as_nanos().saturating_mul(9) / 100_000;
        Self(i64::try_from(ticks).unwrap_or(i64::MAX))
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
