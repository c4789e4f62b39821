//! What the doctor found: one line each, with what to do about it.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Somebody should look.
    Warning,
    /// Something is not recorded, or will not be.
    Failure,
}

impl Level {
    /// In capitals, so that it can be searched for.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Failure => "FAILURE",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: `server`, `nodes/m1` ....
    pub subject: String,
    /// What is there.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject: subject.into(), found: found.into(), advice: String::new() }
    }

    /// Somebody should look.
    pub fn warning(subject: impl Into<String>, found: impl Into<String>, advice: &str) -> Self {
        Self { level: Level::Warning, subject: subject.into(), found: found.into(), advice: advice.to_owned() }
    }

    /// Something is not recorded, or will not be.
    pub fn failure(subject: impl Into<String>, found: impl Into<String>, advice: &str) -> Self {
        Self { level: Level::Failure, subject: subject.into(), found: found.into(), advice: advice.to_owned() }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({"level": self.level.name(), "subject": self.subject, "found": self.found, "advice": self.advice})
    }
}
