//! What can go wrong: what is printed for it, and the exit code.

use recorder_proto::Problem;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// Nobody answers, or not in the way asked for.
    #[error("{server} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        server: String,
        /// The chain of reasons.
        why: String,
    },
    /// The server's answer.
    #[error("{}", .0.message)]
    Refused(Box<Problem>),
    /// A file, or standard output.
    #[error("{what}: {error}")]
    Io {
        /// Which.
        what: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The server sent what this release cannot read.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// The command did its work and what it found is bad; it has been printed.
    #[error("{0}")]
    Found(String),
}

/// Exit codes, those of sysexits.h where there is one.
pub const CODES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "doctor found a failure, verify found damage, or the recording that was watched has failed"),
    (64, "the command line is wrong"),
    (65, "the server refuses what was given (INVALID_ARGUMENT, OUT_OF_RANGE)"),
    (66, "there is no such thing (NOT_FOUND)"),
    (69, "the server cannot be reached or is not ready (UNAVAILABLE, DEADLINE_EXCEEDED)"),
    (70, "anything else that is the server's fault (INTERNAL, UNIMPLEMENTED)"),
    (73, "it is there already (ALREADY_EXISTS)"),
    (74, "a file cannot be read, or nobody reads the output"),
    (75, "try again later (RESOURCE_EXHAUSTED), or with what is there now (ABORTED)"),
    (77, "not allowed (UNAUTHENTICATED, PERMISSION_DENIED)"),
    (78, "something is in the way (FAILED_PRECONDITION)"),
];

impl Failure {
    /// The code to exit with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Found(_) => 1,
            Self::Usage(_) => 64,
            Self::Unreachable { .. } => 69,
            Self::Answer(_) => 70,
            Self::Io { .. } => 74,
            Self::Refused(problem) => match problem.code {
                Code::InvalidArgument | Code::OutOfRange => 65,
                Code::NotFound => 66,
                Code::Unavailable | Code::DeadlineExceeded => 69,
                Code::AlreadyExists => 73,
                Code::ResourceExhausted | Code::Aborted => 75,
                Code::Unauthenticated | Code::PermissionDenied => 77,
                Code::FailedPrecondition => 78,
                _ => 70,
            },
        }
    }

    /// For people: the sentence, then a line for every detail that came with it.
    pub fn text(&self) -> String {
        let Self::Refused(problem) = self else { return self.to_string() };
        let mut text = format!("{} {}: {}", code_name(problem.code), problem.reason, problem.message);
        let mut line = |head: &str, rest: &str| text.extend(["\n  ", head, rest]);
        problem.fields.iter().for_each(|field| line(&format!("{}: ", field.field), &field.description));
        for obstacle in &problem.details.preconditions {
            line("in the way: ", &format!("{} ({}: {})", obstacle.subject, obstacle.kind, obstacle.description));
        }
        if let Some(resource) = &problem.details.resource {
            line(&format!("{}: ", resource.kind), &resource.name);
        }
        problem.details.quotas.iter().for_each(|(subject, why)| line("limit: ", &format!("{subject}: {why}")));
        problem.metadata.iter().for_each(|(key, value)| line(&format!("{key}: "), value));
        if let Some(wait) = problem.details.retry_after {
            line("try again in ", &format!("{:.1} s", wait.as_secs_f64()));
        }
        match problem.code {
            Code::Unauthenticated => {
                line("give a token with ", "--token, --token-file, RECCTL_TOKEN or RECCTL_TOKEN_FILE")
            }
            Code::PermissionDenied => line("", "the token's role or domains do not reach that far"),
            _ => {}
        }
        text
    }

    /// For scripts: the same as one object.
    pub fn json(&self) -> Value {
        let Self::Refused(problem) = self else { return json!({"message": self.to_string()}) };
        let fields: Vec<_> =
            problem.fields.iter().map(|at| json!({"field": at.field, "description": at.description})).collect();
        let obstacles = problem.details.preconditions.iter();
        let obstacles: Vec<_> = obstacles
            .map(|at| json!({"type": at.kind, "subject": at.subject, "description": at.description}))
            .collect();
        json!({
            "code": code_name(problem.code), "reason": problem.reason, "message": problem.message, "fields": fields,
            "preconditions": obstacles, "metadata": problem.metadata,
            "resource": problem.details.resource.as_ref().map(|resource| &resource.name),
            "retryAfterSeconds": problem.details.retry_after.map(|wait| wait.as_secs_f64()),
        })
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(Problem::from(&status)))
    }
}

/// `NOT_FOUND`, as in the protocol's own documents.
pub fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_that_is_used_is_documented() {
        let codes: Vec<u8> = (0..17)
            .map(|code| Failure::from(Status::new(Code::from(code), "x")).exit_code())
            .chain([Failure::Usage(String::new()).exit_code(), Failure::Found(String::new()).exit_code()])
            .collect();
        assert!(codes.iter().all(|code| CODES.iter().any(|(documented, _)| documented == code)), "{codes:?}");
        assert_eq!(
            (code_name(Code::FailedPrecondition), code_name(Code::Ok)),
            ("FAILED_PRECONDITION".into(), "OK".into())
        );
    }

    #[test]
    fn every_detail_is_told() {
        let mut problem = Problem::new(Code::InvalidArgument, "INVALID_FIELD", "2 fields are wrong");
        for field in ["template.path", "template.time_zone"] {
            let description = "must be something else".to_owned();
            problem.fields.push(recorder_proto::problem::FieldViolation { field: field.into(), description });
        }
        let failure = Failure::from(Status::from(problem));
        let text = failure.text();
        assert!(text.starts_with("INVALID_ARGUMENT INVALID_FIELD: "), "{text}");
        assert!(text.contains("\n  template.path: must") && text.contains("\n  template.time_zone: must"), "{text}");
        assert_eq!(failure.json()["fields"][1]["field"], "template.time_zone");
        assert_eq!(failure.exit_code(), 65);
    }
}
