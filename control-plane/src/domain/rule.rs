//! Rules: exceptions to the bindings of a domain, for one stream or a pattern of streams (R15).
use recorder_proto::limits;
use recorder_proto::names::{DomainName, TemplateName, check_app, check_stream};
use recorder_proto::pb::v1::Rule;
use recorder_proto::pb::v1::rule::Action;
use recorder_proto::problem::Violations;

use crate::api::validate;

/// The pattern of every stream.
const ANY: &str = "*";

/// The rule as it takes effect: checked, every default filled in, nothing that the server sets, references by full
/// name. Violations are noted under `rule.`.
pub fn effective(given: Rule, violations: &mut Violations) -> Rule {
    let action = validate::choice(violations, "rule.action", given.action, Action::Record);
    let domain: Option<DomainName> = validate::name(violations, "rule.domain", &given.domain);
    let template: Option<TemplateName> = match action {
        Action::Skip => {
            violations.check(given.template.is_empty(), "rule.template", "must be empty with action SKIP");
            None
        }
        _ => validate::name(violations, "rule.template", &given.template),
    };
    let bounds = limits::PRIORITY_MIN..=limits::PRIORITY_MAX;
    violations.check(
        bounds.contains(&given.priority),
        "rule.priority",
        format!("must be {} to {}, got {}", bounds.start(), bounds.end(), given.priority),
    );
    validate::labels(violations, "rule.labels", &given.labels);
    Rule {
        name: String::new(),
        domain: domain.map(|name| name.to_string()).unwrap_or_default(),
        app: pattern(violations, "rule.app", given.app, limits::APP_DEFAULT),
        stream: pattern(violations, "rule.stream", given.stream, ANY),
        action: action.into(),
        template: template.map(|name| name.to_string()).unwrap_or_default(),
        priority: given.priority,
        disabled: given.disabled,
        labels: given.labels,
        ..Rule::default()
    }
}

/// A pattern: what an app or stream may be, with `*` for any part of it.
fn pattern(violations: &mut Violations, field: &str, given: String, default: &str) -> String {
    if given.is_empty() {
        return default.to_owned();
    }
    let most = limits::PATTERN_MAX_BYTES;
    if !violations.check(given.len() <= most, field, format!("must be at most {most} bytes, got {}", given.len())) {
        return given;
    }
    // A letter stands for what the star stands for.
    let example = given.replace('*', "x");
    if field == "rule.app" {
        violations.take(field, check_app(&example));
    } else {
        violations.take(field, check_stream(&example));
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: Rule) -> Result<Rule, String> {
        let mut violations = Violations::new();
        let rule = effective(given, &mut violations);
        violations.finish().map(|()| rule).map_err(|problem| problem.message)
    }

    fn rule(app: &str, stream: &str) -> Rule {
        Rule {
            domain: "push.example.com".to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
            template: "show".to_owned(),
            ..Rule::default()
        }
    }

    #[test]
    fn r15_defaults_and_full_names() {
        let rule = check(rule("", "vip-*")).unwrap();
        assert_eq!((rule.app.as_str(), rule.stream.as_str()), ("live", "vip-*"));
        assert_eq!((rule.domain.as_str(), rule.template.as_str()), ("domains/push.example.com", "templates/show"));
        assert_eq!(rule.action(), Action::Record);
        assert_eq!(check(Rule { stream: String::new(), ..rule.clone() }).unwrap().stream, "*");
        assert_eq!(check(rule.clone()).unwrap(), rule, "what takes effect stays as it is");
    }

    #[test]
    fn patterns() {
        for (app, stream) in [("*", "*"), ("live/*", "cam*1"), ("a-b", "直播*"), ("live", &"s".repeat(512))] {
            check(rule(app, stream)).unwrap();
        }
        for (app, stream) in
            [("a b", "x"), ("/live", "x"), ("live", "a/b"), ("live", "a\n"), ("live", &"s".repeat(513))]
        {
            assert!(check(rule(app, stream)).is_err(), "{app} {stream}");
        }
    }

    #[test]
    fn skip_has_no_template_and_record_needs_one() {
        let skip = Rule { action: Action::Skip.into(), ..rule("live", "test-*") };
        assert_eq!(check(skip.clone()).unwrap_err(), "rule.template: must be empty with action SKIP");
        check(Rule { template: String::new(), ..skip }).unwrap();
        let without = Rule { template: String::new(), ..rule("live", "x") };
        assert_eq!(check(without).unwrap_err(), "rule.template: is required");
    }

    #[test]
    fn bounds() {
        for priority in [-1000, 0, 1000] {
            check(Rule { priority, ..rule("live", "x") }).unwrap();
        }
        for priority in [-1001, 1001, i32::MIN] {
            let refusal = check(Rule { priority, ..rule("live", "x") }).unwrap_err();
            assert_eq!(refusal, format!("rule.priority: must be -1000 to 1000, got {priority}"));
        }
        let every = Rule { domain: "_".to_owned(), template: "T".to_owned(), action: 7, ..rule("a b", "a/b") };
        assert_eq!(check(every).unwrap_err().matches("rule.").count(), 5);
    }
}
