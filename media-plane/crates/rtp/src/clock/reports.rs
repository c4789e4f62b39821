//! Which sender reports are believed, and what follows from them.

use std::time::Duration;

use media::TrackKind;

use super::source::{MILLIS, Nanos, Pending, Relation, SECOND, Source};
use super::{ABSURD, Clock, nanos, other};

/// A report this far from the ones before is not believed at once.
const OUTLIER: Nanos = 40 * MILLIS;
/// Reports that agree with each other against all before, until they are believed.
const CONFIRMED: u32 = 3;
/// And until the other track no longer has to confirm what they mean.
const OVERDUE: u32 = 8;
/// Reports that put the tracks this much apart from where arrival puts them have to be repeated first.
const SURPRISING: Nanos = 200 * MILLIS;
/// A report about a time this far from the present is about another counter.
const FAR: Nanos = 10 * SECOND;
/// What lies between capture and sending is no longer than this; a report that is further ahead of the media counts
/// something else. Those of GStreamer 1.22 count twice as fast as time passes.
const AHEAD: (Nanos, Nanos) = (SECOND, 250 * MILLIS);
/// Arrival alone is this good at least.
const ROUGHLY: Nanos = 500 * MILLIS;
/// Reports of newer count less than this share: 1/8.
const MEMORY: i64 = 8;
/// Reports kept of sources not seen yet.
const MAX_EARLY: usize = 16;

/// A report as it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) ntp: u64,
    pub(super) timestamp: u32,
    pub(super) arrival: Duration,
}

/// Reports that came before the first packet of their source.
#[derive(Debug, Default)]
pub(super) struct Early(Vec<(u32, Report)>);

impl Early {
    pub(super) fn take(&mut self, ssrc: u32) -> Option<Report> {
        let index = self.0.iter().position(|(of, _)| *of == ssrc)?;
        Some(self.0.swap_remove(index).1)
    }

    fn keep(&mut self, ssrc: u32, report: Report) {
        self.take(ssrc);
        if self.0.len() >= MAX_EARLY {
            self.0.remove(0);
        }
        self.0.push((ssrc, report));
    }
}

impl Clock {
    /// Takes a sender report: at `ntp` (RFC 3550, 4: 32.32 s) the source's counter read `timestamp`.
    pub(crate) fn report(&mut self, ssrc: u32, ntp: u64, timestamp: u32, arrival: Duration) {
        let at = nanos(arrival);
        let Some(source) = self.sources.get_mut(&ssrc) else {
            self.early.keep(ssrc, Report { ntp, timestamp, arrival });
            return;
        };
        let time = source.locate(timestamp);
        let behind = at - time - source.delay();
        let ahead = if source.kind == TrackKind::Video { AHEAD.0 } else { AHEAD.1 };
        let is_far = behind > FAR || -behind > ahead;
        // A wall clock of 0 is none (RFC 3550, 6.4.1).
        if ntp == 0 || is_far || source.distrusted {
            self.counts.reports_rejected += 1;
            return;
        }
        let value = wall(ntp) - time;
        let (kind, delay) = (source.kind, source.delay());
        let Some(relation) = source.believed() else {
            let agrees = source.relation.is_some_and(|loose| loose.is_loose && (value - loose.value).abs() <= ROUGHLY);
            let is_loose = !agrees && self.is_surprising(kind, ssrc, value);
            self.relate(ssrc, Relation { value, reports: 1, at, delay, is_loose, pending: None });
            self.counts.reports += 1;
            return self.synchronise(at);
        };
        let Some(source) = self.sources.get_mut(&ssrc) else { return };
        let relation = source.relation.insert(relation);
        let deviation = value - relation.value;
        if deviation.abs() <= OUTLIER {
            relation.reports += 1;
            relation.value += deviation / relation.reports.min(MEMORY);
            (relation.at, relation.pending) = (at, None);
            self.counts.reports += 1;
            return self.synchronise(at);
        }
        self.counts.reports_rejected += 1;
        let pending = match relation.pending {
            Some(old) if (old.value - value).abs() <= OUTLIER => Pending { value, reports: old.reports + 1, ..old },
            _ => Pending { value, reports: 1, since: at },
        };
        relation.pending = Some(pending);
        self.reconsider(ssrc, pending, at);
    }

    /// A first report puts the source far from where arrival does.
    fn is_surprising(&self, kind: TrackKind, ssrc: u32, value: Nanos) -> bool {
        let delay = self.sources.get(&ssrc).map_or(0, |source| source.delay());
        let by_arrival = delay - self.track_ref(kind).delay;
        self.base
            .is_some_and(|base| base.saturating_add(value).saturating_sub(by_arrival).saturating_abs() > SURPRISING)
    }

    fn relate(&mut self, ssrc: u32, relation: Relation) {
        if let Some(source) = self.sources.get_mut(&ssrc) {
            source.relation = Some(relation);
        }
    }

    /// Reports of one source say something else than before: find out what happened.
    fn reconsider(&mut self, ssrc: u32, pending: Pending, at: Nanos) {
        let Some(source) = self.sources.get(&ssrc) else { return };
        let (Some(old), kind) = (source.relation, source.kind) else { return };
        let deviation = pending.value - old.value;
        let peer = self.track_ref(other(kind)).source.filter(|peer| *peer != ssrc);
        let theirs = peer.and_then(|peer| self.sources.get(&peer)).and_then(|source| source.relation);
        let agrees = |theirs: &Relation| {
            theirs.pending.is_some_and(|pending| (pending.value - theirs.value - deviation).abs() <= OUTLIER)
        };
        if theirs.as_ref().is_some_and(agrees) {
            // Both at once: the publisher's wall clock was set.
            self.wall_stepped(ssrc, deviation, at);
            if let Some(peer) = peer {
                self.move_relation(peer, deviation, at);
            }
        } else if pending.reports >= CONFIRMED && theirs.is_some_and(|theirs| theirs.at > pending.since) {
            self.relation_changed(ssrc, pending, deviation, at);
        } else if pending.reports >= OVERDUE {
            self.wall_stepped(ssrc, deviation, at);
        }
    }

    /// The other track's reports go on as before: this one's counter has another origin now.
    fn relation_changed(&mut self, ssrc: u32, pending: Pending, deviation: Nanos, at: Nanos) {
        let Some(source) = self.sources.get_mut(&ssrc) else { return };
        if deviation.abs() > ABSURD {
            (source.relation, source.distrusted) = (None, true);
        } else {
            let (value, delay) = (pending.value, source.delay());
            source.relation = Some(Relation { value, reports: 1, at, delay, is_loose: false, pending: None });
        }
    }

    fn wall_stepped(&mut self, ssrc: u32, deviation: Nanos, at: Nanos) {
        self.base = self.base.map(|base| base.saturating_sub(deviation));
        self.move_relation(ssrc, deviation, at);
        self.counts.wall_steps += 1;
    }

    fn move_relation(&mut self, ssrc: u32, deviation: Nanos, at: Nanos) {
        let relation = self.sources.get_mut(&ssrc).and_then(|source| source.relation.as_mut());
        if let Some(relation) = relation {
            relation.value = relation.value.saturating_add(deviation);
            (relation.at, relation.pending) = (at, None);
        }
    }

    /// With reports of both tracks, the publisher's wall clock becomes the clock.
    pub(super) fn synchronise(&mut self, now: Nanos) {
        if self.base.is_some() || self.is_catching_up_at(now) {
            return;
        }
        let of = |ssrc: Option<u32>| ssrc.and_then(|ssrc| self.sources.get(&ssrc)).and_then(Source::believed);
        let (Some(video), Some(audio)) = (of(self.video.source), of(self.audio.source)) else { return };
        let by_arrival = |kind| {
            let track = self.track_ref(kind);
            if track.latest.is_some() { track.offset } else { self.target(kind).0 }
        };
        let (picture, sound) = (by_arrival(TrackKind::Video), by_arrival(TrackKind::Audio));
        let surprise = (video.value - picture) - (audio.value - sound);
        let is_repeated = video.reports >= 2 && audio.reports >= 2;
        if surprise.abs() > ABSURD || (surprise.abs() > SURPRISING && !is_repeated) {
            self.counts.reports_rejected += u64::from(surprise.abs() > ABSURD);
            return;
        }
        // What is already out stays where it is: the sound if there is any, because moving it is heard.
        let keep_picture = self.audio.latest.is_none() && self.video.latest.is_some();
        self.base = Some(if keep_picture { picture - video.value } else { sound - audio.value });
    }
}

/// The publisher's wall clock in nanoseconds; only differences count, so that its wrap in 2036 is one step like any.
fn wall(ntp: u64) -> Nanos {
    let (seconds, fraction) = ((ntp >> 32) as i64, (ntp & 0xffff_ffff) as i64);
    // Half the range, so that differences of any two fit.
    (seconds - (1 << 31)) * SECOND + ((fraction * SECOND) >> 32)
}
