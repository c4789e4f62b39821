//! [`Problem`] to `tonic::Status` and `google.rpc.Status`, and back.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{DOMAIN, FieldViolation, Precondition, Problem, Resource, nature};

/// Message and details ride in HTTP/2 trailers, and many clients give up beyond 16 KiB of them. Worst case: the message
/// escaped (x 3), and once more inside the details, which travel in base 64 (x 4/3).
const MESSAGE_MAX_BYTES: usize = 1024;

/// Bytes of violations, obstacles and quotas together; what goes beyond is counted instead of listed.
const LISTED_MAX_BYTES: usize = 4096;

impl From<Problem> for Status {
    /// The only place where a status with details is made.
    fn from(problem: Problem) -> Self {
        let mut details = ErrorDetails::new();
        let metadata: HashMap<String, String> = problem.metadata.into_iter().collect();
        details.set_error_info(problem.reason, DOMAIN, metadata);
        if let Some(delay) = problem.details.retry_after {
            details.set_retry_info(Some(delay));
        }
        if let Some(resource) = problem.details.resource {
            details.set_resource_info(resource.kind, resource.name, "", "");
        }
        let mut room = LISTED_MAX_BYTES;
        let (fields, more) = fitting(problem.fields, &mut room, |v| v.field.len() + v.description.len());
        for violation in fields {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if more > 0 {
            details.add_bad_request_violation("", format!("and {more} more fields"));
        }
        let size = |o: &Precondition| o.kind.len() + o.subject.len() + o.description.len();
        let (obstacles, more) = fitting(problem.details.preconditions, &mut room, size);
        let kind = obstacles.first().map(|obstacle| obstacle.kind.clone()).unwrap_or_default();
        for obstacle in obstacles {
            details.add_precondition_failure_violation(obstacle.kind, obstacle.subject, obstacle.description);
        }
        if more > 0 {
            details.add_precondition_failure_violation(kind, "", format!("and {more} more"));
        }
        for (subject, description) in fitting(problem.details.quotas, &mut room, |(s, d)| s.len() + d.len()).0 {
            details.add_quota_failure_violation(subject, description);
        }
        Self::with_error_details(problem.code, shortened(problem.message), details)
    }
}

/// The items that fit into `room` bytes, at least one, and how many do not.
fn fitting<T>(mut items: Vec<T>, room: &mut usize, size: impl Fn(&T) -> usize) -> (Vec<T>, usize) {
    /// Tags and lengths of one item on the wire.
    const FRAMING: usize = 12;
    let mut fits = 0;
    for item in &items {
        let bytes = size(item) + FRAMING;
        if bytes > *room && fits > 0 {
            break;
        }
        *room = room.saturating_sub(bytes);
        fits += 1;
    }
    let more = items.len() - fits;
    items.truncate(fits);
    (items, more)
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_MAX_BYTES {
        let mut end = MESSAGE_MAX_BYTES;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

impl From<&Status> for Problem {
    /// Reads what [`Problem`] wrote; a foreign status gives its code and message, with the code's name for a reason.
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        let reason =
            info.map_or_else(|| format!("{:?}", status.code()).to_ascii_uppercase(), |info| info.reason.clone());
        let mut problem = Self::new(status.code(), reason, status.message());
        if let Some(info) = info {
            problem.metadata = info.metadata.clone().into_iter().collect();
        }
        problem.details.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        if let Some(bad) = details.bad_request() {
            let violation = |v: &tonic_types::FieldViolation| FieldViolation {
                field: v.field.clone(),
                description: v.description.clone(),
            };
            problem.fields = bad.field_violations.iter().map(violation).collect();
        }
        if let Some(resource) = details.resource_info() {
            problem.details.resource =
                Some(Resource { kind: resource.resource_type.clone(), name: resource.resource_name.clone() });
        }
        if let Some(failure) = details.precondition_failure() {
            let obstacle = |v: &tonic_types::PreconditionViolation| Precondition {
                kind: v.r#type.clone(),
                subject: v.subject.clone(),
                description: v.description.clone(),
            };
            problem.details.preconditions = failure.violations.iter().map(obstacle).collect();
        }
        if let Some(quota) = details.quota_failure() {
            problem.details.quotas =
                quota.violations.iter().map(|v| (v.subject.clone(), v.description.clone())).collect();
        }
        problem
    }
}

impl From<Problem> for tonic_types::pb::Status {
    /// For fields that hold an error (`Storage.last_error`, `Nack.Rejection.error` ...): the same details as a call's.
    fn from(problem: Problem) -> Self {
        let status = Status::from(problem);
        match <Self as prost::Message>::decode(status.details()) {
            Ok(wire) => wire,
            Err(_) => {
                Self { code: i32::from(status.code()), message: status.message().to_owned(), details: Vec::new() }
            }
        }
    }
}

impl From<&tonic_types::pb::Status> for Problem {
    fn from(wire: &tonic_types::pb::Status) -> Self {
        let code = Code::from_i32(wire.code);
        let bytes = prost::Message::encode_to_vec(wire);
        let mut problem = Self::from(&Status::with_details(code, wire.message.clone(), bytes.into()));
        (problem.blame, problem.retry) = nature(code);
        problem
    }
}
