use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::*;

fn one_of_each() -> Vec<Problem> {
    let mut violations = Violations::new();
    violations.check(false, "template.mp4.max_file_duration", "must be 60s to 43200s, got 10s");
    violations.check(true, "template.name", "never shown");
    violations.check(false, "template.path", "{EndDay} cannot be used");
    vec![
        Problem::invalid(violations),
        Problem::not_found("template", "templates/x"),
        Problem::exists("storage", "storages/s3"),
        Problem::in_use(
            "TEMPLATE_IN_USE",
            "templates/show",
            ["rules/vip".to_owned(), "domains/a.b/bindings/show".to_owned()],
            "force:true removes them",
        ),
        Problem::etag_mismatch("7"),
        Problem::request_id_reused(),
        Problem::bad_page_token(),
        Problem::token_expired(),
        Problem::watcher_too_slow("t"),
        Problem::rate_limited(Duration::from_millis(1500)),
        Problem::too_many("templates", 50),
        Problem::unauthenticated("no token"),
        Problem::role_required("ADMIN"),
        Problem::database_unavailable(Duration::from_secs(2)),
        Problem::shutting_down(Duration::from_secs(1)),
        Problem::fenced("recordings/X", 3),
        Problem::unimplemented("TaskService/CreateTask", "tasks come with a later release"),
        Problem::internal("no luck"),
        Problem::destination("NoSuchBucket", "The specified bucket does not exist"),
        Problem::wrong_state("NODE_OWNS_MEDIA", "nodes/m1", "nodes/m1 holds 3 files"),
    ]
}

/// What a caller can see; fault and retry stay with the server where the code does not tell.
fn visible(mut problem: Problem) -> Problem {
    (problem.blame, problem.retry) = nature(problem.code);
    problem
}

#[test]
fn every_problem_survives_the_wire() {
    for problem in one_of_each() {
        let status = Status::from(problem.clone());
        assert_eq!(Problem::from(&status), visible(problem.clone()));
        let wire = tonic_types::pb::Status::from(problem.clone());
        assert_eq!((wire.code, &wire.message), (i32::from(problem.code), &problem.message));
        assert_eq!(Problem::from(&wire), visible(problem));
    }
}

#[test]
fn error_info_is_always_there() {
    for problem in one_of_each() {
        let details = Status::from(problem.clone()).get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.domain.as_str(), &info.reason), ("recorder", &problem.reason));
        assert!(info.reason.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{}", info.reason);
    }
}

#[test]
fn the_error_table_of_the_api() {
    let table: Vec<(Code, String)> = one_of_each().into_iter().map(|p| (p.code, p.reason)).collect();
    let expected = [
        (Code::InvalidArgument, "INVALID_FIELD"),
        (Code::NotFound, "TEMPLATE_NOT_FOUND"),
        (Code::AlreadyExists, "STORAGE_EXISTS"),
        (Code::FailedPrecondition, "TEMPLATE_IN_USE"),
        (Code::Aborted, "ETAG_MISMATCH"),
        (Code::InvalidArgument, "REQUEST_ID_REUSED"),
        (Code::InvalidArgument, "INVALID_FIELD"),
        (Code::OutOfRange, "RESUME_TOKEN_EXPIRED"),
        (Code::Aborted, "WATCHER_TOO_SLOW"),
        (Code::ResourceExhausted, "RATE_LIMITED"),
        (Code::ResourceExhausted, "TOO_MANY_TEMPLATES"),
        (Code::Unauthenticated, "NO_TOKEN"),
        (Code::PermissionDenied, "ROLE_REQUIRED"),
        (Code::Unavailable, "DATABASE_UNAVAILABLE"),
        (Code::Unavailable, "SHUTTING_DOWN"),
        (Code::FailedPrecondition, "EPOCH_FENCED"),
        (Code::Unimplemented, "NOT_IMPLEMENTED"),
        (Code::Internal, "INTERNAL"),
        (Code::FailedPrecondition, "NoSuchBucket"),
        (Code::FailedPrecondition, "NODE_OWNS_MEDIA"),
    ];
    assert_eq!(table, expected.map(|(code, reason)| (code, reason.to_owned())));
}

#[test]
fn bad_fields_come_all_at_once() {
    let status = Status::from(one_of_each().swap_remove(0));
    let bad = status.get_details_bad_request().unwrap();
    let fields: Vec<&str> = bad.field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["template.mp4.max_file_duration", "template.path"]);
    assert_eq!(
        status.message(),
        "template.mp4.max_file_duration: must be 60s to 43200s, got 10s; template.path: {EndDay} cannot be used"
    );
}

#[test]
fn every_referrer_is_named() {
    let problem = one_of_each().swap_remove(3);
    assert_eq!(
        problem.message,
        "templates/show is used by rules/vip, domains/a.b/bindings/show; force:true removes them"
    );
    let failure = Status::from(problem).get_details_precondition_failure().unwrap();
    assert_eq!(failure.violations.len(), 2);
    assert_eq!(failure.violations[1].subject, "domains/a.b/bindings/show");
}

#[test]
fn violations_collect() {
    let mut violations = Violations::new();
    assert!(violations.is_empty() && violations.clone().finish().is_ok());
    assert_eq!(violations.take("rule.name", "x".parse::<crate::names::RuleName>()).unwrap().id(), "x");
    assert!(violations.take("rule.name", "X".parse::<crate::names::RuleName>()).is_none());
    assert!(violations.take_all("template.path", crate::key::KeyTemplate::parse("{Nope}/{EndDay}")).is_none());
    assert_eq!(violations.len(), 3);
    for _ in 0..1_000 {
        violations.add("x", "y");
    }
    assert_eq!(violations.finish().unwrap_err().fields.len(), 100, "bounded");
}

#[test]
fn trailers_stay_within_what_clients_take() {
    let status = Status::from(Problem::internal("中".repeat(10_000)));
    assert!(status.message().len() <= 1_024 + 3 && status.message().ends_with('…'));

    let referrers = (0..10_000).map(|i| format!("rules/rule-{i}"));
    let status = Status::from(Problem::in_use("TEMPLATE_IN_USE", "templates/show", referrers, "unbind it"));
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert!(violations.len() > 20 && violations[0].subject == "rules/rule-0");
    let last = violations.last().unwrap();
    assert_eq!(
        (last.r#type.as_str(), &last.description),
        ("TEMPLATE_IN_USE", &format!("and {} more", 10_001 - violations.len()))
    );
    assert!(status.details().len() * 4 / 3 + status.message().len() * 3 < 12 * 1024, "{}", status.details().len());

    let mut violations = Violations::new();
    (0..99).for_each(|i| violations.add(format!("rule.field_{i}"), "x".repeat(300)));
    let status = Status::from(Problem::invalid(violations));
    assert!(status.details().len() * 4 / 3 + status.message().len() * 3 < 12 * 1024, "{}", status.details().len());
    assert!(status.get_details_bad_request().unwrap().field_violations.last().unwrap().description.starts_with("and "));
}

#[test]
fn a_foreign_status_still_says_something() {
    let problem = Problem::from(&Status::unavailable("connection refused"));
    assert_eq!((problem.reason.as_str(), problem.retry, problem.blame), ("UNAVAILABLE", Retry::Backoff, Blame::Node));
    let damaged = Status::with_details(Code::Internal, "x", vec![0xff; 9].into());
    assert_eq!(Problem::from(&damaged).message, "x");
}
