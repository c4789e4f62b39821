//! The one error of this crate: why the process cannot be put together or go on. Callers of the API get a
//! [`recorder_proto::Problem`] instead.
use recorder_proto::Problem;

/// Why the control plane cannot start or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database cannot be opened or migrated.
    #[error("database: {0}")]
    Database(#[from] recorder_db::Error),
    /// Listeners, secrets, telemetry.
    #[error(transparent)]
    Runtime(#[from] recorder_runtime::Error),
    /// The built-in resources cannot be put in place.
    #[error("start of the API: {0}")]
    Start(Box<Problem>),
    /// A folder of the embedded default cannot be made.
    #[error("cannot create {path}")]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A token that is set, or its file's content, is none.
    #[error("{setting} {reason}")]
    StandingToken {
        /// Which.
        setting: &'static str,
        /// What it must be; nothing of what it is.
        reason: String,
    },
    /// A part of the process panicked.
    #[error("a task of the server panicked")]
    Task(#[from] tokio::task::JoinError),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Start(Box::new(problem))
    }
}
