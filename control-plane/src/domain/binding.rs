//! Bindings: one template for many push domains (R11).
use recorder_proto::limits;
use recorder_proto::names::{BindingName, DomainName, NameError, TemplateName, check_app};
use recorder_proto::problem::Violations;

use crate::api::validate;

/// What BindTemplate and UnbindTemplate are about: a template, domains without repetition, and an app (empty = every).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The template.
    pub template: TemplateName,
    /// In the order of the request.
    pub domains: Vec<DomainName>,
    /// Empty = every app.
    pub app: String,
}

impl Selection {
    /// Reads and checks the three fields of the requests; None when violations were noted.
    pub fn read(template: &str, domains: &[String], app: &str, violations: &mut Violations) -> Option<Self> {
        let template = validate::name(violations, "template", template);
        validate::count(violations, "domains", domains.len(), limits::BIND_DOMAINS_MAX);
        let mut read = Vec::new();
        for (index, domain) in domains.iter().take(limits::BIND_DOMAINS_MAX).enumerate() {
            let domain: Option<DomainName> = validate::name(violations, &format!("domains[{index}]"), domain);
            if let Some(domain) = domain
                && !read.contains(&domain)
            {
                read.push(domain);
            }
        }
        if !app.is_empty() {
            violations.take("app", check_app(app));
        }
        if !violations.is_empty() {
            return None;
        }
        Some(Self { template: template?, domains: read, app: app.to_owned() })
    }
}

/// `domains/{domain}/bindings/{template}[~{app}]`, from ids.
///
/// # Errors
/// When an id is none, which rows of the database never are.
pub fn name(domain: &str, app: &str, template: &str) -> Result<String, NameError> {
    Ok(BindingName::new(domain.parse()?, template.parse()?, app)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(template: &str, domains: &[&str], app: &str) -> (Option<Selection>, usize) {
        let mut violations = Violations::new();
        let domains: Vec<String> = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let selection = Selection::read(template, &domains, app, &mut violations);
        (selection, violations.len())
    }

    #[test]
    fn r11_many_domains_at_once_without_repetition_and_lenient() {
        let (selection, _) = read("show", &["b.example.com", "domains/a.example.com", "A.example.com"], "live");
        let selection = selection.unwrap();
        let names: Vec<String> = selection.domains.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["domains/b.example.com", "domains/a.example.com"]);
        assert_eq!((selection.template.id(), selection.app.as_str()), ("show", "live"));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        assert_eq!(read("", &[], "a b"), (None, 3));
        assert_eq!(read("Bad", &["ok", "not ok", "_"], ""), (None, 3));
        assert_eq!(read("t", &["d"; 101], ""), (None, 1));
    }

    #[test]
    fn names() {
        assert_eq!(name("d.example.com", "", "t").unwrap(), "domains/d.example.com/bindings/t");
        assert_eq!(name("d.example.com", "live", "t").unwrap(), "domains/d.example.com/bindings/t~live");
    }
}
