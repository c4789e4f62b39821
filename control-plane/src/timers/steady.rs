//! Whether this process would have heard of a node that is alive: silence says nothing while nobody could listen.
//!
//! After a start of this process, or an outage of the database, every lease in it has run out although every node may be
//! well. Only when nodes have had a whole lease (and some time to find their way back) to renew theirs does silence mean
//! that somebody is gone. Nothing of this needs to outlive the process: a new one begins to listen anew.
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use recorder_runtime::clock::Clock;
use tokio::time::Instant;

/// What nodes get on top of one lease to notice, to connect and to register.
const MARGIN: Duration = Duration::from_secs(5);

/// A process that did not look for so long stood still, or waited for its database: it heard of nobody meanwhile.
const STILL: Duration = Duration::from_secs(5);

/// The wall clock, by which leases are kept, may leave the monotonic one by so much at a time; more is a jump, such as
/// after a suspended machine, and lets leases run out that nobody could renew.
const JUMP: TimeDelta = TimeDelta::seconds(2);

/// Since when nodes could renew their leases without interruption.
#[derive(Debug)]
pub(super) struct Steady {
    needs: Duration,
    since: Option<Duration>,
    looked: Instant,
    /// The wall clock when the monotonic one was at zero.
    origin: Option<DateTime<Utc>>,
}

impl Steady {
    /// Nothing is known yet. `lease` is how long a node counts as alive after its last heartbeat.
    pub(super) fn new(lease: Duration) -> Self {
        Self { needs: lease.saturating_add(MARGIN), since: None, looked: Instant::now(), origin: None }
    }

    /// Looks at the clocks; to be called at every turn, before anything is concluded from silence.
    pub(super) fn look(&mut self, clock: &dyn Clock) {
        self.see(clock.now(), clock.monotonic(), Instant::now());
    }

    fn see(&mut self, wall: DateTime<Utc>, monotonic: Duration, looked: Instant) {
        let still = looked.saturating_duration_since(self.looked) > STILL;
        self.looked = looked;
        let elapsed = TimeDelta::from_std(monotonic).unwrap_or(TimeDelta::MAX);
        let origin = wall.checked_sub_signed(elapsed).unwrap_or(DateTime::<Utc>::MIN_UTC);
        let jumped = self.origin.replace(origin).is_some_and(|before| (origin - before).abs() > JUMP);
        if still || jumped {
            self.since = None;
        }
        self.since.get_or_insert(monotonic);
    }

    /// The database failed: nobody's heartbeat may have got through.
    pub(super) fn interrupted(&mut self) {
        self.since = None;
    }

    /// Whether whoever is silent now has had the time to be heard of.
    pub(super) fn is_long_enough(&self, clock: &dyn Clock) -> bool {
        self.since.is_some_and(|since| clock.monotonic().saturating_sub(since) >= self.needs)
    }
}

#[cfg(test)]
mod tests {
    use recorder_runtime::clock::SimulatedClock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A second passes, once per turn of the loop.
    fn pass(steady: &mut Steady, clock: &SimulatedClock, seconds: u32) {
        for _ in 0..seconds {
            clock.advance(SECOND);
            let looked = steady.looked + SECOND;
            steady.see(clock.now(), clock.monotonic(), looked);
        }
    }

    fn listening() -> (Steady, SimulatedClock) {
        let clock = SimulatedClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let mut steady = Steady::new(15 * SECOND);
        steady.see(clock.now(), clock.monotonic(), steady.looked);
        (steady, clock)
    }

    #[tokio::test]
    async fn silence_counts_after_a_lease_and_a_margin_from_the_start() {
        let (mut steady, clock) = listening();
        pass(&mut steady, &clock, 19);
        assert!(!steady.is_long_enough(&clock));
        pass(&mut steady, &clock, 1);
        assert!(steady.is_long_enough(&clock));
    }

    #[tokio::test]
    async fn an_error_of_the_database_starts_the_wait_again() {
        let (mut steady, clock) = listening();
        pass(&mut steady, &clock, 60);
        steady.interrupted();
        assert!(!steady.is_long_enough(&clock));
        pass(&mut steady, &clock, 20);
        assert!(!steady.is_long_enough(&clock), "it counts from the first turn that worked");
        pass(&mut steady, &clock, 1);
        assert!(steady.is_long_enough(&clock));
    }

    #[tokio::test]
    async fn a_process_that_stood_still_or_waited_for_its_database_heard_of_nobody() {
        let (mut steady, clock) = listening();
        pass(&mut steady, &clock, 60);
        clock.advance(30 * SECOND);
        let looked = steady.looked + 30 * SECOND;
        steady.see(clock.now(), clock.monotonic(), looked);
        assert!(!steady.is_long_enough(&clock));
    }

    #[tokio::test]
    async fn a_wall_clock_that_jumps_ends_no_recording() {
        let (mut steady, clock) = listening();
        pass(&mut steady, &clock, 60);
        clock.set(clock.now() + TimeDelta::seconds(60));
        let looked = steady.looked + SECOND;
        steady.see(clock.now(), clock.monotonic(), looked);
        assert!(!steady.is_long_enough(&clock));
        pass(&mut steady, &clock, 20);
        assert!(steady.is_long_enough(&clock));
    }
}
