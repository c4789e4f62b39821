//! One source's RTP timestamps as continuous time, whatever the sender does to its counter.

use media::TrackKind;

/// Nanoseconds; times and differences of all clocks here.
pub(super) type Nanos = i64;

pub(super) const MILLIS: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MILLIS;

/// A step of the timestamp against the arrival beyond this is a counter that began anew.
const JUMP: Nanos = 500 * MILLIS;
/// A source this late for [`STALLED_FOR`] counts less time than passes: its counter stood still meanwhile.
const STALLED: Nanos = 2 * SECOND;
const STALLED_FOR: Nanos = 5 * SECOND;
/// No packet is under way for longer than this; a timestamp of before that comes again is a new one.
const UNDER_WAY: Nanos = 5 * SECOND;
/// Frames are held back for less than this all together.
const OLDEST: Nanos = 15 * SECOND;
/// Least delays are taken over the newest three windows of this length.
const WINDOW: Nanos = 10 * SECOND;

/// A source whose least delay fell by this much is sending what it had piled up, such as what was made before the
/// connection stood: neither arrival nor a report that says when something was sent tells its time.
const FALL: Nanos = 20 * MILLIS;
/// And for so long afterwards more may come.
const CAUGHT_UP: Nanos = 200 * MILLIS;
/// A first report followed by a fall beyond this was made while its source was catching up.
const HASTY: Nanos = 40 * MILLIS;

/// A timestamp and the time it stands for.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    timestamp: u32,
    time: Nanos,
}

/// The counter of one source.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) kind: TrackKind,
    rate: Nanos,
    /// The newest timestamp.
    anchor: Anchor,
    /// The newest one before the counter began anew: packets from before may still be on their way.
    before: Option<Anchor>,
    /// Arrival of the newest timestamp.
    pub(super) seen: Nanos,
    delays: [Nanos; 3],
    window_began: Nanos,
    late_since: Option<Nanos>,
    /// The delay that its newest fall led to, and the arrival that showed it.
    fell: (Nanos, Nanos),
    /// What sender reports say.
    pub(super) relation: Option<Relation>,
    /// When it was aligned by a single arrival, which more arrivals can only improve.
    pub(super) aligned: Nanos,
    /// Its reports contradict everything else.
    pub(super) distrusted: bool,
}

/// The publisher's wall clock minus a source's time, by its sender reports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relation {
    pub(super) value: Nanos,
    /// Reports it is made of.
    pub(super) reports: i64,
    /// Arrival of the newest of them.
    pub(super) at: Nanos,
    /// The source's least delay when the first of them came.
    pub(super) delay: Nanos,
    /// Not believed before another report agrees: the counter began anew since, or it is far from what arrival says.
    pub(super) is_loose: bool,
    /// What newer reports say instead.
    pub(super) pending: Option<Pending>,
}

/// A different relation that is not believed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) value: Nanos,
    pub(super) reports: u32,
    pub(super) since: Nanos,
}

impl Source {
    /// A source of which `timestamp` arrived first, and stands for `time`.
    pub(super) fn new(kind: TrackKind, rate: u32, timestamp: u32, time: Nanos, arrival: Nanos) -> Self {
        Self {
            kind,
            rate: i64::from(rate.max(1)),
            anchor: Anchor { timestamp, time },
            before: None,
            seen: arrival,
            delays: [arrival - time; 3],
            window_began: arrival,
            late_since: None,
            fell: (arrival - time, arrival),
            relation: None,
            aligned: arrival,
            distrusted: false,
        }
    }

    /// What a timestamp stands for.
    pub(super) fn locate(&self, timestamp: u32) -> Nanos {
        let near = self.steps(self.anchor, timestamp);
        let far = self.before.map(|before| (before, self.steps(before, timestamp)));
        match far {
            Some((before, far)) if far.abs() < near.abs() => before.time + far,
            _ => self.anchor.time + near,
        }
    }

    /// What the timestamp of a frame stands for: frames leave soon after they came.
    pub(super) fn locate_frame(&self, timestamp: u32) -> Nanos {
        self.locate(timestamp).clamp(self.anchor.time - OLDEST, self.anchor.time + SECOND)
    }

    /// The least time from a timestamp to its arrival in the last half minute.
    pub(super) fn delay(&self) -> Nanos {
        self.delays.iter().copied().min().unwrap_or(0)
    }

    /// It sends faster than time passes, or did a moment ago.
    pub(super) fn is_catching_up(&self, now: Nanos) -> bool {
        now - self.fell.1 < CAUGHT_UP
    }

    /// What is believed of its sender reports.
    pub(super) fn believed(&self) -> Option<Relation> {
        let is_hasty = |relation: &Relation| relation.reports == 1 && relation.delay - self.delay() > HASTY;
        self.relation.filter(|relation| !relation.is_loose && !is_hasty(relation))
    }

    /// How much later than usual the newest packet came.
    pub(super) fn lateness(&self) -> Nanos {
        self.seen - self.anchor.time - self.delay()
    }

    /// Takes a packet newer than all before. True when the counter began anew, or must have stood still.
    /// `alone`: other sources of the publisher are in time, so that the way cannot be what is slow.
    pub(super) fn observe(&mut self, timestamp: u32, arrival: Nanos, alone: bool) -> bool {
        if timestamp == self.anchor.timestamp {
            return false;
        }
        if arrival - self.aligned > UNDER_WAY {
            self.before = None;
        }
        let step = self.steps(self.anchor, timestamp);
        let early = arrival - (self.anchor.time + step) < self.delay() - JUMP;
        if step < -JUMP || (step > JUMP && early) {
            self.restart(timestamp, arrival);
            return true;
        }
        if step < 0 {
            return false;
        }
        self.anchor = Anchor { timestamp, time: self.anchor.time + step };
        self.seen = arrival;
        if self.lateness() < STALLED || !alone {
            self.late_since = None;
        } else if arrival - *self.late_since.get_or_insert(arrival) > STALLED_FOR {
            self.restart(timestamp, arrival);
            return true;
        }
        self.learn(arrival - self.anchor.time, arrival);
        false
    }

    /// With the counter gone, arrival is the only witness of how much time passed.
    fn restart(&mut self, timestamp: u32, arrival: Nanos) {
        self.before = Some(self.anchor);
        self.anchor = Anchor { timestamp, time: arrival - self.delay() };
        (self.seen, self.aligned) = (arrival, arrival);
        (self.delays, self.window_began) = ([self.delay(); 3], arrival);
        self.fell = (self.delay(), arrival);
        self.late_since = None;
        if let Some(relation) = &mut self.relation {
            relation.is_loose = true;
        }
    }

    fn learn(&mut self, delay: Nanos, arrival: Nanos) {
        if delay <= self.fell.0 - FALL {
            self.fell = (delay, arrival);
        }
        if arrival - self.window_began > WINDOW {
            self.window_began = arrival;
            self.delays.rotate_right(1);
            if let Some(newest) = self.delays.first_mut() {
                *newest = delay;
            }
        } else if let Some(newest) = self.delays.first_mut() {
            *newest = delay.min(*newest);
        }
    }

    fn steps(&self, from: Anchor, timestamp: u32) -> Nanos {
        let ticks = i64::from(timestamp.wrapping_sub(from.timestamp) as i32);
        let (whole, rest) = (ticks / self.rate, ticks % self.rate);
        whole * SECOND + rest * SECOND / self.rate
    }
}
