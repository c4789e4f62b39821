//! When a publisher may be answered while media flows: when nothing that it has sent is still on its way.
//!
//! A publisher that is done, or gives up a connection, closes its socket while its last frames are still on their way;
//! after a pause of this process or of the network these may be megabytes. Anything that reaches it then (there is
//! nothing to say but acknowledgements) makes its system reset the connection and throw those frames away. Nobody here
//! can see that a publisher has closed before all of it was read. What can be seen is whether media comes later than it
//! was made: then more is on its way.

use std::time::Duration;

use media::TrackKind;
use media::ingest::SourceTime;

/// Media that comes as it is made is not more than so much earlier or later than what came before it, milliseconds.
const STEP_MILLIS: u64 = 250;
/// For so long the process may stand still between hearing something and answering.
const LATE: Duration = Duration::from_millis(250);
/// For so long media has to come as it is made.
const CALM: Duration = Duration::from_secs(1);
/// The same after a delay that was not made up for. A backlog that comes but a little faster than real time would look
/// calm for a while; a source that stalled, and went on behind its clock, is.
const SETTLED: Duration = Duration::from_secs(10);
/// Who sends nothing for this long waits for an answer, or has nothing more to lose.
const SILENCE: Duration = Duration::from_secs(2);

/// How media of one publisher comes. All times are of one monotonic clock.
#[derive(Debug)]
pub struct Calm {
    paces: [Option<Pace>; 2],
    /// When media last came earlier or later than it should.
    unsteady_at: Duration,
    /// When the newest frame came.
    framed_at: Duration,
    /// When anything came.
    heard_at: Duration,
}

/// How one track comes. A lag is the time of arrival minus the time of the media; only differences of lags say anything.
#[derive(Debug)]
struct Pace {
    newest: u32,
    /// Media time of the newest frame since the first, in ticks.
    ticks: i64,
    /// The lag at the beginning of the present steady stretch, in milliseconds.
    steady: i64,
    /// The smallest lag: of a moment when nothing waited anywhere.
    quickest: i64,
    is_behind: bool,
}

impl Calm {
    /// A publisher of which nothing has come at `now`.
    pub fn new(now: Duration) -> Self {
        Self { paces: [None, None], unsteady_at: now, framed_at: Duration::ZERO, heard_at: now }
    }

    /// Bytes came.
    pub fn heard(&mut self, now: Duration) {
        self.heard_at = now;
    }

    /// For this long nobody has listened.
    pub fn not_heard_for(&mut self, time: Duration) {
        self.heard_at = self.heard_at.saturating_add(time);
    }

    /// A frame came.
    pub fn frame(&mut self, track: TrackKind, time: SourceTime, now: Duration) {
        self.framed_at = now;
        let arrival = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let [video, audio] = &mut self.paces;
        let pace = match track {
            TrackKind::Video => video,
            TrackKind::Audio => audio,
        };
        let Some(pace) = pace else {
            *pace = Some(Pace { newest: time.value, ticks: 0, steady: arrival, quickest: arrival, is_behind: false });
            self.unsteady_at = now;
            return;
        };
        // The counter wraps; a step back is one.
        pace.ticks += i64::from(time.value.wrapping_sub(pace.newest).cast_signed());
        pace.newest = time.value;
        let media = pace.ticks.saturating_mul(1_000) / i64::from(time.scale.max(1));
        let lag = arrival.saturating_sub(media);
        if lag.abs_diff(pace.steady) > STEP_MILLIS {
            pace.steady = lag;
            self.unsteady_at = now;
        }
        let is_settled = now.saturating_sub(self.unsteady_at) >= SETTLED;
        if lag < pace.quickest || (pace.is_behind && is_settled) {
            pace.quickest = lag;
        }
        pace.is_behind = lag.abs_diff(pace.quickest) > STEP_MILLIS;
    }

    /// Whether an answer harms nobody: a frame has just come, as it was made, as all have for a while; or nothing comes
    /// any more.
    pub fn may_answer(&self, now: Duration) -> bool {
        let is_fresh = now.saturating_sub(self.heard_at) <= LATE;
        (is_fresh && self.is_steady_for(if self.is_behind() { SETTLED } else { CALM })) || now >= self.silent_at()
    }

    /// Whether media has come sooner after it was made than it does now: then more of it is on its way.
    pub fn is_behind(&self) -> bool {
        self.paces.iter().flatten().any(|pace| pace.is_behind)
    }

    /// Whether what came last brought a frame, and all have come as they were made for this long.
    pub fn is_steady_for(&self, time: Duration) -> bool {
        self.framed_at >= self.heard_at && self.framed_at.saturating_sub(self.unsteady_at) >= time
    }

    /// From when on nothing came for long enough, unless something does.
    pub fn silent_at(&self) -> Duration {
        self.heard_at.saturating_add(SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of one or both tracks, with their media times and arrivals in milliseconds.
    struct Feed(Calm);

    impl Feed {
        fn new() -> Self {
            Self(Calm::new(Duration::ZERO))
        }

        fn comes(&mut self, track: TrackKind, media: u64, arrival: u64) -> bool {
            let now = Duration::from_millis(arrival);
            self.0.heard(now);
            self.0.frame(track, SourceTime { value: media as u32, scale: 1_000 }, now);
            self.0.may_answer(now)
        }

        /// Pictures from `media` on, `count` of them 40 ms apart, that come every `every` ms from `arrival` on. How many
        /// of them may be answered.
        fn run(&mut self, media: u64, arrival: u64, count: u64, every: u64) -> usize {
            let answered = |number| self.comes(TrackKind::Video, media + number * 40, arrival + number * every);
            (0..count).map(answered).filter(|may| *may).count()
        }
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn media_at_its_own_pace_is_calm_after_a_second() {
        assert_eq!(Feed::new().run(0, 0, 100, 40), 75);
    }

    #[test]
    fn one_picture_a_second_without_sound_is_calm() {
        let mut feed = Feed::new();
        let answered: Vec<bool> =
            (0..5).map(|second| feed.comes(TrackKind::Video, second * 1_000, second * 1_000)).collect();
        assert_eq!(answered, [false, true, true, true, true]);
    }

    #[test]
    fn sound_that_lags_behind_the_picture_does_no_harm() {
        let mut feed = Feed::new();
        for time in (0..4_000).step_by(40) {
            let picture = feed.comes(TrackKind::Video, 10_000 + time, time);
            let sound = feed.comes(TrackKind::Audio, 9_000 + time, time);
            assert_eq!((picture, sound), (time >= 1_000, time >= 1_000), "at {time} ms");
        }
    }

    #[test]
    fn a_file_pushed_as_fast_as_it_goes_is_never_calm() {
        assert_eq!(Feed::new().run(0, 0, 10_000, 4), 0);
        assert_eq!(Feed::new().run(0, 0, 10_000, 30), 0);
    }

    /// Seen in a soak: 14 s of it, of which 5 s were lost.
    #[test]
    fn what_waited_while_the_process_stood_still_is_not_answered() {
        let mut feed = Feed::new();
        assert!(feed.run(0, 0, 100, 40) > 0);
        // 14 s stood still: 400 frames wait or are made meanwhile, and come in 2 s.
        assert_eq!(feed.run(4_000, 18_000, 400, 5), 0);
        // From here on everything comes when it is made, and the first second is still watched.
        let answered = feed.run(20_000, 20_000, 125, 40);
        assert!((99..=101).contains(&answered), "{answered} of 125");
    }

    /// A backlog that shrinks by 2 ms in 38 stays within the tolerance for 5 s.
    #[test]
    fn a_backlog_on_a_slow_road_is_not_answered() {
        let mut feed = Feed::new();
        assert!(feed.run(0, 0, 100, 100).eq(&0), "slower than it was made");
        let mut feed = Feed::new();
        assert!(feed.run(0, 0, 100, 40) > 0);
        assert_eq!(feed.run(4_000, 18_000, 2_000, 38), 0);
    }

    #[test]
    fn a_source_that_stalled_and_goes_on_late_is_calm_again_after_ten_seconds() {
        let mut feed = Feed::new();
        feed.run(0, 0, 100, 40);
        assert_eq!(feed.run(4_000, 9_000, 250, 40), 0);
        assert_eq!(feed.run(14_000, 19_000, 250, 40), 250);
    }

    #[test]
    fn a_wrap_is_no_step_and_a_jump_is_one() {
        let mut feed = Feed::new();
        assert_eq!(feed.run(u64::from(u32::MAX) - 2_000, 0, 100, 40), 75);
        assert_eq!(feed.run(1_000_000, 4_000, 25, 40), 0, "ahead");
        assert_eq!(feed.run(1_001_000, 5_000, 25, 40), 25);
        assert_eq!(feed.run(0, 6_000, 250, 40), 0, "back");
        assert_eq!(feed.run(10_000, 16_000, 25, 40), 25);
    }

    #[test]
    fn half_a_frame_says_nothing_and_silence_is_an_invitation() {
        let mut feed = Feed::new();
        feed.run(0, 0, 100, 40);
        // The process stood still; what came since is the beginning of a frame.
        feed.0.heard(millis(18_000));
        assert!(!feed.0.may_answer(millis(18_000)));
        assert!(!feed.0.may_answer(millis(19_999)));
        assert_eq!(feed.0.silent_at(), millis(20_000));
        assert!(feed.0.may_answer(millis(20_000)));
    }

    #[test]
    fn who_stood_still_before_answering_does_not() {
        let mut feed = Feed::new();
        feed.run(0, 0, 100, 40);
        assert!(feed.0.may_answer(millis(4_000)));
        assert!(!feed.0.may_answer(millis(4_300)));
    }
}
