//! Where on the timeline decoded samples go, and what has to be done to them so that they get there.

use media::MediaTime;

use crate::SAMPLE_RATE;

/// What comes this much later than the sound before it ended has a hole in front of it, in samples: 2.25 ms, because the
/// shortest packet is 2.5 ms long and some clocks count milliseconds; and 12 ms, because a packet of 20 ms may be missing
/// between longer ones.
const HOLE: (f64, f64) = (108.0, 576.0);
/// A longer hole ends the run, in samples: 1 s. Silence that far in the past would come too late for every container.
const MAX_HOLE: f64 = 48_000.0;
/// Sound that is ahead of its time by this much, in samples (20 ms), and by a packet loses that packet.
const AHEAD: f64 = 960.0;
/// Times jitter by their rounding; this long, in samples (1 s), they are averaged.
const AVERAGED: f64 = 48_000.0;
/// A difference between sound and clock is made up for over this long, in samples: 2 s.
const CORRECTED: f64 = 96_000.0;
/// By at most this part of its length sound is stretched.
const MAX_STRETCH: f64 = 0.005;

/// What to do with the next packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// Its samples follow those before, after this many that are missing (0 = none); then it is made longer by `stretch`
    /// samples.
    Here { missing: usize, stretch: isize },
    /// Its time is over already: it is left out.
    Over,
    /// Too much is missing: it begins a new run.
    Anew,
}

/// A run of sound without a break: samples are counted from its first packet on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    zero: MediaTime,
    /// Where the next sample goes, in samples behind `zero`; less than 0 while it is in front of it.
    position: i64,
    /// How far the clock is ahead of the samples, averaged.
    behind: f64,
    /// Corrections of less than a sample that are still due.
    due: f64,
    /// Length of the packet before.
    last: f64,
}

impl Line {
    /// A run that begins with a packet at `zero`, of which `lead` samples are in front of that.
    pub(crate) fn new(zero: MediaTime, lead: usize) -> Self {
        Self { zero, position: -(lead as i64), behind: 0.0, due: 0.0, last: f64::INFINITY }
    }

    /// Timeline position of the sample number `samples`.
    pub(crate) fn time(&self, samples: i64) -> MediaTime {
        let ticks = samples.saturating_mul(MediaTime::SCALE).div_euclid(i64::from(SAMPLE_RATE));
        self.zero + MediaTime(ticks)
    }

    /// Where the next sample goes.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// Decides about a packet of `length` samples at `time`, `lead` samples of which belong before that. What is missing
    /// is a multiple of `step`.
    pub(crate) fn place(&mut self, time: MediaTime, lead: usize, length: usize, step: usize) -> Place {
        let ticks_per_sample = MediaTime::SCALE as f64 / f64::from(SAMPLE_RATE);
        let wanted = (time - self.zero).0 as f64 / ticks_per_sample - lead as f64;
        let mut behind = wanted - self.position as f64;
        let length = length as f64;
        if behind > MAX_HOLE {
            return Place::Anew;
        }
        if behind <= -length.max(AHEAD) {
            return Place::Over;
        }
        let mut missing = 0;
        if behind >= (length.min(self.last) * 0.6).clamp(HOLE.0, HOLE.1) {
            missing = (behind / step as f64).round() as usize * step;
            behind -= missing as f64;
        }
        self.last = length;
        self.behind += (behind - self.behind) * (length / AVERAGED).min(1.0);
        let most = length * MAX_STRETCH;
        self.due += (self.behind * length / CORRECTED).clamp(-most, most);
        let stretch = self.due.trunc();
        self.due -= stretch;
        // The average must not go on asking for what has been done.
        self.behind -= stretch;
        Place::Here { missing, stretch: stretch as isize }
    }

    /// Counts samples that were put there.
    pub(crate) fn advance(&mut self, samples: usize) {
        self.position = self.position.saturating_add(samples as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = 120;

    /// Packets of `length` samples whose times run `ppm` faster than their samples, for an hour; the largest distance in
    /// samples once the first minute is over, and the corrections made.
    fn drift(ppm: f64, length: usize, rounding: i64) -> (f64, i64, isize) {
        let mut line = Line::new(MediaTime::ZERO, 0);
        let (mut worst, mut stretched, mut largest) = (0.0f64, 0i64, 0isize);
        let packets = 3_600 * 48_000 / length;
        for n in 0..packets {
            let exact = (n * length) as f64 * (1.0 + ppm * 1e-6) * 90_000.0 / 48_000.0;
            let time = MediaTime((exact / rounding as f64).round() as i64 * rounding);
            let Place::Here { missing: 0, stretch } = line.place(time, 0, length, STEP) else {
                panic!("a hole at packet {n}");
            };
            largest = largest.max(stretch.abs());
            stretched += stretch as i64;
            line.advance(length.checked_add_signed(stretch).unwrap());
            if n * length > 60 * 48_000 {
                let wanted = ((n + 1) * length) as f64 * (1.0 + ppm * 1e-6);
                worst = worst.max((wanted - line.position() as f64).abs());
            }
        }
        (worst, stretched, largest)
    }

    #[test]
    fn an_hour_of_drift_is_followed_within_a_millisecond_a_sample_at_a_time() {
        for (ppm, length, rounding) in
            [(100.0, 960, 1), (-100.0, 960, 1), (100.0, 120, 1), (100.0, 2_880, 1), (100.0, 960, 90), (-50.0, 480, 90)]
        {
            let (worst, stretched, largest) = drift(ppm, length, rounding);
            assert!(worst < 48.0, "{ppm} ppm, {length}: {worst} samples apart");
            assert!((stretched - (3_600.0 * 48_000.0 * ppm * 1e-6) as i64).abs() < 48, "{stretched} samples");
            assert!(largest <= 1, "{largest} samples at once");
        }
    }

    #[test]
    fn a_fast_clock_is_followed_as_far_as_sound_may_be_stretched() {
        let (worst, _, largest) = drift(3_000.0, 960, 1);
        assert!(worst < 960.0 && largest <= 5, "{worst} samples apart, {largest} at once");
    }

    #[test]
    fn without_drift_nothing_is_touched() {
        for (length, rounding) in [(960, 1), (120, 1), (960, 90), (2_880, 90)] {
            let (worst, stretched, _) = drift(0.0, length, rounding);
            assert!(worst <= 24.0 && stretched.abs() <= 24, "{length}/{rounding}: {worst}, {stretched}");
        }
        assert_eq!(drift(0.0, 960, 1), (0.0, 0, 0));
    }

    #[test]
    fn missing_packets_are_holes_of_their_length_and_a_second_is_the_end_of_the_run() {
        let packet = |line: &mut Line, millis: i64| line.place(MediaTime::from_millis(millis), 0, 960, STEP);
        let mut line = Line::new(MediaTime::ZERO, 0);
        let here = |missing| Place::Here { missing, stretch: 0 };
        assert_eq!(packet(&mut line, 0), here(0));
        line.advance(960);
        assert_eq!(packet(&mut line, 40), here(960));
        line.advance(1_920);
        assert_eq!(packet(&mut line, 460), here(400 * 48));
        line.advance(401 * 48 + 912);
        assert_eq!(packet(&mut line, 1_481), Place::Anew);
    }

    #[test]
    fn sound_ahead_of_its_time_loses_whole_packets_until_it_is_not() {
        let mut line = Line::new(MediaTime::ZERO, 0);
        let mut left_out = 0;
        for n in 0..50i64 {
            // The publisher's clock goes back by 100 ms.
            let millis = if n < 25 { n * 20 } else { n * 20 - 100 };
            match line.place(MediaTime::from_millis(millis), 0, 960, STEP) {
                Place::Here { stretch, .. } => line.advance(960usize.checked_add_signed(stretch).unwrap()),
                Place::Over => left_out += 1,
                Place::Anew => panic!("no hole"),
            }
        }
        assert_eq!(left_out, 5);
    }
}
