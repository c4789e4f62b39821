//! Settings in layers: defaults < TOML file < `RECORDER_<SECTION>_<KEY>` < `--section-key`, every error at once.
//!
//! A binary declares a table of [`Setting`]s, wraps it into a [`Program`], calls [`Program::start`] and turns the
//! resulting [`Settings`] into its own struct with [`Settings::deserialize`].
pub mod common;
mod load;
mod nearest;
mod print;
mod program;
mod setting;
#[cfg(test)]
mod tests;
mod value;

pub use program::{Invocation, Program, Settings};
pub use setting::{Kind, Setting};
pub use value::{Source, Value};

/// Exit code for a configuration that cannot be used (`EX_USAGE` of sysexits.h).
pub const EX_USAGE: i32 = 64;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct ConfigError {
    /// Where: `rtmp.idle_timeout (env RECORDER_RTMP_IDLE_TIMEOUT)`, `--rtmp-lisen`, or a file name.
    pub at: String,
    /// What, and what to write instead.
    pub message: String,
}

/// Everything that is wrong, in the order file, environment, flags, checks of the binary; never empty in an `Err`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors(Vec<ConfigError>);

impl Errors {
    /// Adds one finding; `at` is normally `section.key`.
    pub fn push(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.0.push(ConfigError { at: at.into(), message: message.into() });
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The findings.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl std::fmt::Display for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.0.len();
        writeln!(f, "the configuration has {count} error{}", if count == 1 { "" } else { "s" })?;
        for error in &self.0 {
            writeln!(f, "  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
