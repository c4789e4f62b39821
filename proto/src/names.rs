//! Resource names as types: read leniently (`x` or `templates/x`), always written in full (`templates/x`).

mod alphabet;
mod resource;
mod stream;

pub use alphabet::{check_app, check_description, check_display_name, check_domain, check_id, check_stream};
pub use resource::{
    BindingName, DomainName, FileName, NodeName, RecordingName, RuleName, StandbyName, StorageName, StreamName,
    TaskName, TemplateName, TokenName, TranscodingName, WatermarkName, WebhookName,
};
pub use stream::StreamKey;

/// Why a text is not the name it should be; the message is meant for a field violation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub(crate) String);

impl NameError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What was sent, short enough for a message.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}
