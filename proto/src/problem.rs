//! What went wrong, for whom, and whether trying again helps; turned into a `tonic::Status` in exactly one function.

mod constructors;
mod status;
#[cfg(test)]
mod tests;
mod violations;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tonic::Code;

pub use violations::Violations;

/// `ErrorInfo.domain` of every error of this system.
pub const DOMAIN: &str = "recorder";

/// Whose fault it is; log levels and metrics follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The caller asked for something impossible: nobody has to look.
    Caller,
    /// The customer's bucket or receiver refused: shown on that resource.
    Destination,
    /// This machine or its neighbours (disk, database, network).
    Node,
    /// We are wrong: someone has to look.
    Bug,
}

/// Whether the same call can succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// At once.
    Now,
    /// After a while.
    Backoff,
    /// Not without a change.
    Never,
}

/// One bad field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, e.g. `template.mp4.max_file_duration`.
    pub field: String,
    /// What it must be and what was sent.
    pub description: String,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Kind of obstacle, e.g. `TEMPLATE_IN_USE`.
    pub kind: String,
    /// Name of the resource that stands in the way.
    pub subject: String,
    /// One sentence for people.
    pub description: String,
}

/// A resource an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// `template`, `storage` ....
    pub kind: String,
    /// Full name.
    pub name: String,
}

/// An error of the API, complete with everything a caller may be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// gRPC code.
    pub code: Code,
    /// Upper-case reason for programs, e.g. `TEMPLATE_IN_USE`.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
    /// Whose fault it is; not sent.
    pub blame: Blame,
    /// Whether trying again helps.
    pub retry: Retry,
    /// Bad fields, all at once.
    pub fields: Vec<FieldViolation>,
    /// Further facts for programs, e.g. `current_etag`.
    pub metadata: BTreeMap<String, String>,
    /// The rarer details. Boxed because every fallible function of the API returns room for a problem.
    pub details: Box<Details>,
}

/// Details that few problems have.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Details {
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// The resource the problem is about.
    pub resource: Option<Resource>,
    /// What stands in the way.
    pub preconditions: Vec<Precondition>,
    /// Limits that were reached: subject and description.
    pub quotas: Vec<(String, String)>,
}

impl Problem {
    /// A problem with a code, a reason for programs and a message for people; the rest follows from the code and can be
    /// changed afterwards.
    pub fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        let (blame, retry) = nature(code);
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            blame,
            retry,
            fields: Vec::new(),
            metadata: BTreeMap::new(),
            details: Box::default(),
        }
    }

    /// Adds a fact for programs.
    #[must_use]
    pub fn with_metadata(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Says whose fault it is, where the code alone does not tell.
    #[must_use]
    pub fn blaming(mut self, blame: Blame) -> Self {
        self.blame = blame;
        self
    }

    /// Says which resource it is about.
    #[must_use]
    pub fn about(mut self, kind: &str, name: impl Into<String>) -> Self {
        self.details.resource = Some(Resource { kind: kind.to_owned(), name: name.into() });
        self
    }
}

/// What a code alone says about fault and retry.
fn nature(code: Code) -> (Blame, Retry) {
    match code {
        Code::Unavailable | Code::DeadlineExceeded => (Blame::Node, Retry::Backoff),
        Code::ResourceExhausted => (Blame::Caller, Retry::Backoff),
        Code::Internal | Code::Unknown | Code::DataLoss => (Blame::Bug, Retry::Never),
        Code::Aborted | Code::OutOfRange => (Blame::Caller, Retry::Now),
        _ => (Blame::Caller, Retry::Never),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl std::error::Error for Problem {}
