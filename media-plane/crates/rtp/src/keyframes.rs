//! When to ask the publisher for a key frame: at the start, after a loss, before a cut, and not more often than it helps.

use std::time::Duration;

/// Encoders take their time, and every key frame costs several pictures' bits.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// The longest pause between two attempts: some publishers (OBS) never answer, a lost request must be repeated.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// Why a key frame is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// There is none yet.
    Start,
    /// The picture is broken until there is one.
    Loss,
    /// A file is to begin with one.
    Cut,
    /// A better simulcast layer is to be shown.
    Layer,
}

/// A key frame is wanted from a source: Picture Loss Indication (RFC 4585, 6.3.1), or Full Intra Request (RFC 5104,
/// 4.3.1) when `attempt` shows that the publisher does not answer those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFrameRequest {
    /// The source to ask.
    pub ssrc: u32,
    /// Why.
    pub why: Want,
    /// 0 for the first request, and one more each time no key frame followed.
    pub attempt: u32,
}

/// What is wanted of one source.
#[derive(Debug, Default)]
pub(crate) struct KeyFrames {
    want: Option<Want>,
    attempt: u32,
    asked: Option<Duration>,
}

impl KeyFrames {
    /// Wants one from now on; the first reason counts.
    pub(crate) fn want(&mut self, why: Want) {
        if self.want.is_none() {
            (self.want, self.attempt) = (Some(why), 0);
        }
    }

    /// One has come, or is no longer needed.
    pub(crate) fn satisfied(&mut self) {
        self.want = None;
    }

    /// When the next request is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.want?;
        let pause = MIN_INTERVAL.saturating_mul(1 << self.attempt.saturating_sub(1).min(2)).min(MAX_INTERVAL);
        Some(self.asked.map_or(Duration::ZERO, |asked| asked + pause))
    }

    /// The request to send now, if any.
    pub(crate) fn ask(&mut self, ssrc: u32, now: Duration) -> Option<KeyFrameRequest> {
        let why = self.want?;
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let request = KeyFrameRequest { ssrc, why, attempt: self.attempt };
        self.attempt = self.attempt.saturating_add(1);
        self.asked = Some(now);
        Some(request)
    }
}
