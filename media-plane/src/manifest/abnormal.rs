//! What was found abnormal in a recording's media, as far as it is noted: for the manifest, and so that a start after a crash
//! knows what the control plane has not been told.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use recorder_proto::facts::AbnormalSpan;
use recorder_proto::health::Abnormality;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Entry;

/// See the module. Each note is the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abnormal {
    /// All of it; at most one a kind.
    pub found: Vec<AbnormalSpan>,
    /// What of it no fact tells yet.
    #[serde(default)]
    pub untold: Vec<AbnormalSpan>,
    /// How many facts tell of the rest. They are numbered: a fact with a known number is never counted twice.
    #[serde(default)]
    pub facts: u64,
    /// What the newest of them tells; empty once that fact is durable.
    #[serde(default)]
    pub telling: Vec<AbnormalSpan>,
}

impl Abnormal {
    /// As the notes of a recording say.
    pub fn of(entries: &[Entry]) -> Self {
        let mut known = Self::default();
        entries.iter().for_each(|entry| known.take(entry));
        known
    }

    /// Takes what one note says of it.
    pub fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Abnormal(newest) => self.clone_from(newest),
            Entry::AbnormalTold(fact) if *fact == self.facts => self.telling.clear(),
            _ => {}
        }
    }

    /// More was found.
    pub fn add(&mut self, found: &[AbnormalSpan]) {
        merge(&mut self.found, found);
        merge(&mut self.untold, found);
    }

    /// A fact tells of everything that no other does; gives what it says.
    pub fn tell(&mut self) -> Vec<AbnormalSpan> {
        self.facts += 1;
        self.telling = std::mem::take(&mut self.untold);
        self.telling.clone()
    }

    /// As the manifest lists it, the first first; `None` when nothing was found.
    pub fn findings(&self) -> Option<Value> {
        let sorted: BTreeMap<(DateTime<Utc>, i32), &AbnormalSpan> =
            self.found.iter().map(|span| ((span.first_time, span.kind as i32), span)).collect();
        (!sorted.is_empty()).then(|| sorted.into_values().map(finding).collect())
    }
}

fn merge(known: &mut Vec<AbnormalSpan>, found: &[AbnormalSpan]) {
    for new in found {
        match known.iter_mut().find(|span| span.kind == new.kind) {
            Some(span) => {
                span.count = span.count.saturating_add(new.count);
                span.first_time = span.first_time.min(new.first_time);
                span.last_time = span.last_time.max(new.last_time);
            }
            None => known.push(new.clone()),
        }
    }
}

fn finding(span: &AbnormalSpan) -> Value {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let known = Abnormality::of(span.kind);
    json!({
        "kind": span.kind.as_str_name(),
        "code": known.map_or(0, |known| known.code),
        "level": known.map_or("", |known| known.level.as_str_name()),
        "count": span.count,
        "first_time": time(span.first_time),
        "last_time": time(span.last_time),
    })
}

#[cfg(test)]
mod tests {
    use recorder_proto::pb::v1::health::Kind;

    use super::*;

    fn span(kind: Kind, count: u64, first: i64, last: i64) -> AbnormalSpan {
        let at = |seconds| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        AbnormalSpan { kind, count, first_time: at(first), last_time: at(last) }
    }

    #[test]
    fn what_one_fact_tells_no_other_does() {
        let mut abnormal = Abnormal::default();
        assert_eq!(abnormal.findings(), None);
        abnormal.add(&[span(Kind::NoVideo, 2, 5, 9)]);
        assert_eq!(abnormal.tell(), [span(Kind::NoVideo, 2, 5, 9)]);
        abnormal.add(&[span(Kind::NoVideo, 1, 20, 20), span(Kind::WriteFailed, 3, 1, 2)]);
        // A crash before the first fact is known to be durable.
        let noted = Entry::Abnormal(Box::new(abnormal.clone()));
        let restored = Abnormal::of(std::slice::from_ref(&noted));
        assert_eq!((restored.facts, &restored.telling), (1, &vec![span(Kind::NoVideo, 2, 5, 9)]));
        let mut restored = Abnormal::of(&[noted, Entry::AbnormalTold(2), Entry::AbnormalTold(1)]);
        assert!(restored.telling.is_empty());
        assert_eq!(restored.tell(), [span(Kind::NoVideo, 1, 20, 20), span(Kind::WriteFailed, 3, 1, 2)]);
        assert_eq!((restored.facts, restored.untold.len()), (2, 0));
        let findings = restored.findings().unwrap();
        assert_eq!(findings[0]["code"], -104, "{findings}");
        assert_eq!((&findings[1]["kind"], &findings[1]["count"]), (&json!("NO_VIDEO"), &json!(3)));
        assert_eq!(findings[1]["last_time"], "2027-01-15T08:00:20.000000Z");
    }
}
