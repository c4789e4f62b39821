//! What encoders call themselves: text that is stored and shown, so it is kept short and on one line.

/// Characters kept: far more than any name and version need.
const MAX_CHARS: usize = 256;

/// The first 256 characters, control characters replaced by spaces.
pub(crate) fn name(claimed: &str) -> String {
    claimed.chars().take(MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
