//! The rules of the product as pure functions and state machines: no database, no clock, no network.
pub mod binding;
pub mod event;
pub mod file;
pub mod node;
pub mod push_domain;
pub mod recording;
pub mod rule;
pub mod storage;
pub mod task;
pub mod template;
pub mod webhook;

/// A fact that cannot follow the state it met; the state stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fact} cannot follow state {state}")]
pub struct Illegal {
    /// The state, as the API spells it.
    pub state: &'static str,
    /// The type of the fact.
    pub fact: &'static str,
}

/// Why something is not as it should be, in the words of whoever knows best (often the storage provider).
pub use recorder_proto::facts::Failure as Cause;

/// What a recording without a single file fails with.
pub fn no_media() -> Cause {
    cause(
        tonic::Code::FailedPrecondition,
        "NO_MEDIA",
        "the stream ended before anything that could be recorded arrived",
    )
}

/// A cause of our own, without a provider's answer behind it.
pub fn cause(code: tonic::Code, reason: &str, message: &str) -> Cause {
    Cause {
        code: code.into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        http_status: 0,
        request_id: String::new(),
    }
}
