//! Names of directives: stable for the life of what they are compiled from, because acknowledgements refer to them.

/// Names under these prefixes are compiled from rows; whatever no longer compiles is removed.
pub const COMPILED: [&str; 5] = ["domain/", "binding/", "rule/", "task/", "backlog/"];

/// How much of live streams nodes keep in memory.
pub const BACKLOG: &str = "backlog/all";

/// Commands to one recording; they come and go by themselves.
pub const CONTROL: &str = "control/";

/// The policy of a domain; takes the bare DNS name.
pub fn domain(domain: &str) -> String {
    format!("domain/{domain}")
}

/// A binding; takes bare ids, an empty `app` means every app.
pub fn binding(domain: &str, template: &str, app: &str) -> String {
    if app.is_empty() { format!("binding/{domain}/{template}") } else { format!("binding/{domain}/{template}~{app}") }
}

/// A rule; takes the bare id.
pub fn rule(rule: &str) -> String {
    format!("rule/{rule}")
}

/// A task; takes the bare id.
pub fn task(task: &str) -> String {
    format!("task/{task}")
}

/// A command to one recording, once per command id.
pub fn control(command_id: &str) -> String {
    format!("{CONTROL}{command_id}")
}

/// Where a directive belongs in the order of a message: who may publish before what is recorded, both before commands
/// (make before break).
pub fn order(name: &str) -> u8 {
    match name.split('/').next() {
        Some("domain") => 0,
        Some("control") => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_per_source() {
        assert_eq!(binding("d.example.com", "show", ""), "binding/d.example.com/show");
        assert_eq!(binding("d.example.com", "show", "live"), "binding/d.example.com/show~live");
        assert_eq!(domain("d.example.com"), "domain/d.example.com");
        assert_eq!(rule("vip"), "rule/vip");
        let names = [domain("d"), rule("r"), binding("d", "t", "a"), task("t"), BACKLOG.to_owned()];
        assert!(names.iter().all(|name| COMPILED.iter().any(|prefix| name.starts_with(prefix))));
    }

    #[test]
    fn policies_come_before_standings_and_commands_last() {
        let mut names = [control("c"), rule("r"), domain("d"), binding("d", "t", "")];
        names.sort_by_key(|name| order(name));
        assert_eq!(names.first(), Some(&domain("d")));
        assert_eq!(names.last(), Some(&control("c")));
    }
}
