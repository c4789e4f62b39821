//! What a token that is limited to some push domains may name: every call of it must name domains, or things of domains,
//! and all of them must be among its own. What names nothing is refused, lists without a filter included.
use prost::DecodeError;
use recorder_db::{AnyConnection, recordings, rules, streams, tasks};
use recorder_proto::Problem;
use recorder_proto::names::{DomainName, FileName, RecordingName, RuleName, StreamName, TaskName};
use recorder_proto::pb::v1::StreamRef;
use tonic::Code;

/// Something in a request that belongs to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The domain itself.
    Domain(String),
    /// A recording, by the name of it or of one of its files.
    Recording(String),
    /// A rule.
    Rule(String),
    /// A task.
    Task(String),
    /// A live stream.
    Stream(String),
}

/// Reads what a request names.
pub type Read = fn(&[u8]) -> Result<Vec<Target>, DecodeError>;

/// Whether calls of a method concern domains.
#[derive(Debug, Clone, Copy)]
pub enum Scope {
    /// Nothing that belongs to a domain: open to tokens limited to domains, too.
    Free,
    /// The whole server: closed to them.
    Server,
    /// What the request names.
    Named(Read),
}

impl Target {
    /// A domain by name; no text is no target, which is refused.
    pub(super) fn domain(text: &str) -> Vec<Self> {
        if text.is_empty() { Vec::new() } else { vec![Self::Domain(text.to_owned())] }
    }

    /// The domain of a stream or of a filter for streams.
    pub(super) fn stream(stream: Option<&StreamRef>) -> Vec<Self> {
        stream.map(|stream| Self::domain(&stream.domain)).unwrap_or_default()
    }

    /// Its domain; None when there is no such thing.
    fn owner(&self, db: &mut AnyConnection) -> recorder_db::Result<Option<String>> {
        Ok(match self {
            Self::Domain(name) => name.parse::<DomainName>().ok().map(DomainName::into_id),
            Self::Recording(name) => match recording(name) {
                Some(name) => recordings::get(db, &name.0.to_string())?.map(|row| row.domain),
                None => None,
            },
            Self::Rule(name) => match name.parse::<RuleName>() {
                Ok(name) => rules::get(db, name.id())?.map(|row| row.domain),
                Err(_) => None,
            },
            Self::Task(name) => match name.parse::<TaskName>() {
                Ok(name) => tasks::get(db, name.id())?.map(|row| row.domain),
                Err(_) => None,
            },
            Self::Stream(name) => match name.parse::<StreamName>() {
                Ok(name) => streams::get(db, &name.0.to_string())?.map(|row| row.domain),
                Err(_) => None,
            },
        })
    }
}

fn recording(name: &str) -> Option<RecordingName> {
    let file = name.parse::<FileName>().ok().map(|file| RecordingName(file.recording));
    file.or_else(|| name.parse().ok())
}

/// Whether everything that is named lies within these domains.
///
/// # Errors
/// PERMISSION_DENIED when it does not, or when nothing is named; the same for what is not there, so that nobody learns
/// what others have. Whatever else the database says.
pub(super) fn check(db: &mut AnyConnection, targets: &[Target], domains: &[String]) -> Result<(), Problem> {
    if targets.is_empty() {
        return Err(denied("this token is limited to some push domains: name one of them in the request", domains));
    }
    for target in targets {
        let within = target.owner(db)?.is_some_and(|owner| domains.contains(&owner));
        if !within {
            return Err(denied("the request names what is not within the push domains of this token", domains));
        }
    }
    Ok(())
}

/// The refusal of what a limited token asks of the whole server.
pub(super) fn whole_server(domains: &[String]) -> Problem {
    denied("this call concerns the whole server, and this token is limited to some push domains", domains)
}

fn denied(message: &str, domains: &[String]) -> Problem {
    Problem::new(Code::PermissionDenied, "DOMAIN_SCOPE", message).with_metadata("domains", domains.join(","))
}
