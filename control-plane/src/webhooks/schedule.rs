//! What follows from an attempt: delivered, tried again later, or given up.
use std::time::Duration;

use recorder_proto::pb::v1::webhook::State;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Waits between attempts (api B.11); after the last one a delivery is given up.
pub const WAITS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * MINUTE),
    Duration::from_secs(10 * MINUTE),
    Duration::from_secs(HOUR),
    Duration::from_secs(6 * HOUR),
    Duration::from_secs(24 * HOUR),
];

/// A wait is longer by up to this share of it, so that what failed together is not tried together again.
const JITTER: f64 = 0.2;

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        /// The HTTP status.
        code: u16,
        /// One line of why it is no success; empty for one.
        why: String,
    },
    /// No answer, and why.
    Nothing(String),
    /// There is nothing to send: the event is not kept any more.
    Lost,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it arrived.
    Delivered,
    /// Try again after this long.
    Retry(Duration),
    /// Give this delivery up, and stop sending to the receiver.
    Exhausted,
    /// Give this delivery up.
    Dropped,
}

impl Answer {
    /// The HTTP status; 0 = none.
    pub fn status(&self) -> u16 {
        match self {
            Self::Status { code, .. } => *code,
            Self::Nothing(_) | Self::Lost => 0,
        }
    }

    /// Whether the receiver took it.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Status { code: 200..=299, .. })
    }

    /// Why it failed; empty when it did not.
    pub fn why(&self) -> &str {
        match self {
            Self::Status { why, .. } if !self.is_success() => why,
            Self::Status { .. } => "",
            Self::Nothing(why) => why,
            Self::Lost => "the event is not kept any more",
        }
    }
}

/// What follows from the answer to attempt number `attempt` (from 1). `jitter` is 0 to 1.
pub fn next(answer: &Answer, attempt: u64, jitter: f64) -> Next {
    match answer {
        answer if answer.is_success() => Next::Delivered,
        Answer::Lost => Next::Dropped,
        // Standard Webhooks: the receiver wants nothing more, ever.
        Answer::Status { code: 410, .. } => Next::Exhausted,
        Answer::Status { .. } | Answer::Nothing(_) => {
            let wait = usize::try_from(attempt.saturating_sub(1)).ok().and_then(|made| WAITS.get(made));
            wait.map_or(Next::Exhausted, |wait| Next::Retry(wait.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0))))
        }
    }
}

/// How the receiver does after an attempt. A suspended one stays so until somebody updates it.
pub fn health(before: State, next: Next) -> State {
    match (before, next) {
        (_, Next::Exhausted) | (State::Suspended, _) => State::Suspended,
        (_, Next::Delivered) => State::Active,
        (_, Next::Retry(_)) => State::Failing,
        (before, Next::Dropped) => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> Answer {
        Answer::Status { code, why: format!("answered {code}") }
    }

    #[test]
    fn the_schedule_is_the_contracts_and_ends() {
        let waits: Vec<Next> = (1..=8).map(|attempt| next(&status(500), attempt, 0.0)).collect();
        let seconds = [5, 30, 120, 600, 3600, 21_600, 86_400];
        let expected: Vec<Next> =
            seconds.iter().map(|wait| Next::Retry(Duration::from_secs(*wait))).chain([Next::Exhausted]).collect();
        assert_eq!(waits, expected);
        assert_eq!(next(&Answer::Nothing("late".to_owned()), u64::MAX, 0.0), Next::Exhausted);
    }

    #[test]
    fn jitter_only_lengthens_and_by_a_fifth_at_most() {
        for (jitter, expected) in [(0.0, 5.0), (0.5, 5.5), (1.0, 6.0), (7.0, 6.0), (-7.0, 5.0)] {
            assert_eq!(next(&status(500), 1, jitter), Next::Retry(Duration::from_secs_f64(expected)), "{jitter}");
        }
    }

    #[test]
    fn only_2xx_is_a_success_and_gone_is_final() {
        for code in [200, 201, 204, 299] {
            assert_eq!((next(&status(code), 1, 0.0), status(code).why()), (Next::Delivered, ""), "{code}");
        }
        for code in [100, 199, 300, 302, 400, 401, 404, 429, 500, 503, 999] {
            assert!(matches!(next(&status(code), 1, 0.0), Next::Retry(_)), "{code}");
            assert_eq!(status(code).why(), format!("answered {code}"));
        }
        assert_eq!(next(&status(410), 1, 0.0), Next::Exhausted);
        assert_eq!(next(&Answer::Lost, 1, 0.0), Next::Dropped);
    }

    #[test]
    fn health_follows_the_last_attempt_and_suspension_stays() {
        let retry = Next::Retry(Duration::ZERO);
        for (before, next, after) in [
            (State::Active, retry, State::Failing),
            (State::Failing, Next::Delivered, State::Active),
            (State::Failing, Next::Exhausted, State::Suspended),
            (State::Suspended, Next::Delivered, State::Suspended),
            (State::Suspended, retry, State::Suspended),
            (State::Active, Next::Dropped, State::Active),
        ] {
            assert_eq!(health(before, next), after, "{before:?} {next:?}");
        }
    }
}
