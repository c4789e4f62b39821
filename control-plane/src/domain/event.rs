//! Which events somebody wants: types with wildcards, as lists, watches and webhooks filter by them.
use recorder_proto::matching;
use recorder_proto::problem::Violations;

use crate::feed;

/// Types in one filter; there are fewer types than this.
const TYPES_MAX: usize = 50;

/// Characters of one type or pattern.
const TYPE_MAX_CHARACTERS: usize = 64;

/// Progress of what is being recorded: for those who follow every number. A wildcard leaves them out; named in full they
/// are told as well.
const PROGRESS: [&str; 6] = [
    feed::RECORDING_CREATED,
    feed::RECORDING_UPDATED,
    feed::FILE_UPDATED,
    feed::NODE_CREATED,
    feed::NODE_UPDATED,
    recorder_proto::facts::event_type::STREAM_UPDATED,
];

/// A filter of event types; the empty one lets everything but mere progress through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Types(Vec<String>);

impl Types {
    /// Reads a filter; patterns that no type could ever match are violations of `field`.
    pub fn read(violations: &mut Violations, field: &str, patterns: &[String]) -> Self {
        let count = patterns.len();
        violations.check(count <= TYPES_MAX, field, format!("must be at most {TYPES_MAX} types, got {count}"));
        for (index, pattern) in patterns.iter().take(TYPES_MAX).enumerate() {
            let sound = (1..=TYPE_MAX_CHARACTERS).contains(&pattern.len())
                && pattern.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-*".contains(&b));
            violations.check(
                sound,
                &format!("{field}[{index}]"),
                format!("must be a type like file.available or a pattern like file.*, up to {TYPE_MAX_CHARACTERS} of a-z 0-9 . _ - *"),
            );
        }
        Self(patterns.iter().take(TYPES_MAX).cloned().collect())
    }

    /// Whether an event of this type is wanted.
    pub fn wants(&self, kind: &str) -> bool {
        if self.0.iter().any(|pattern| pattern == kind) {
            return true;
        }
        let any = self.0.is_empty() || self.0.iter().any(|pattern| matching::matches(pattern, kind));
        any && !PROGRESS.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(patterns: &[&str]) -> Types {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let mut violations = Violations::new();
        let types = Types::read(&mut violations, "types", &patterns);
        assert!(violations.is_empty(), "{violations:?}");
        types
    }

    #[test]
    fn wildcards_leave_mere_progress_out_and_full_names_do_not() {
        for (patterns, kind, wanted) in [
            (&[][..], "file.available", true),
            (&[], "recording.updated", false),
            (&["*"], "recording.ended", true),
            (&["*"], "stream.updated", false),
            (&["recording.*"], "recording.started", true),
            (&["recording.*"], "recording.created", false),
            (&["recording.*"], "file.available", false),
            (&["recording.*", "file.available"], "file.available", true),
            (&["stream.updated"], "stream.updated", true),
            (&["*.failed"], "file.failed", true),
            (&["file"], "file.failed", false),
        ] {
            assert_eq!(types(patterns).wants(kind), wanted, "{patterns:?} {kind}");
        }
    }

    #[test]
    fn what_no_type_can_match_is_refused() {
        for bad in ["", "File.*", "file available", "a\nb", &"a".repeat(65)] {
            let mut violations = Violations::new();
            Types::read(&mut violations, "types", &["file.*".to_owned(), bad.to_owned()]);
            let problem = violations.finish().unwrap_err();
            assert_eq!(problem.fields[0].field, "types[1]", "{bad:?}");
        }
        let mut violations = Violations::new();
        Types::read(&mut violations, "types", &vec!["*".to_owned(); 51]);
        assert!(violations.finish().unwrap_err().message.contains("at most 50 types, got 51"));
    }
}
