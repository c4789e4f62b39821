//! What is wrong with a recording's media, as its nodes find it: counts add up over facts and epochs.
use recorder_proto::facts::event_type as kind;
use recorder_proto::facts::{AbnormalSpan, RecordingAbnormal};
use recorder_proto::health::Abnormality;
use recorder_proto::pb::v1::Health;
use recorder_proto::pb::v1::health::Finding;
use recorder_proto::time;

use super::settle::write;
use super::{Entry, Trouble, held};
use crate::feed;

/// Something was found. It is true of the media that its epoch wrote, whoever records now, and changes no state.
pub(super) fn found(entry: &mut Entry<'_>, told: &RecordingAbnormal) -> Result<(), Trouble> {
    let (_, mut held) = held::of_any_epoch(entry)?;
    let Some(health) = with(held.body.health.take(), &told.found) else { return Ok(()) };
    held.body.health = Some(health);
    write(&mut entry.scribe, &mut held)?;
    let stamp = entry.scribe.stamp();
    Ok(feed::recording(entry.scribe.db, stamp, kind::RECORDING_ABNORMAL, &held.body)?)
}

/// The report with what is new in it; `None` when nothing of it is known here, as from a newer node.
fn with(known: Option<Health>, found: &[AbnormalSpan]) -> Option<Health> {
    let news: Vec<Finding> = found.iter().filter(|span| span.count > 0).filter_map(finding).collect();
    if news.is_empty() {
        return None;
    }
    let mut health = known.unwrap_or_default();
    health.findings.iter_mut().for_each(|finding| finding.recent = 0);
    for new in news {
        match health.findings.iter_mut().find(|finding| finding.kind == new.kind) {
            Some(finding) => add(finding, &new),
            None => health.findings.push(new),
        }
    }
    health.findings.sort_by_key(|finding| (at(finding.first_time.as_ref()), finding.kind));
    Some(health)
}

fn finding(span: &AbnormalSpan) -> Option<Finding> {
    let known = Abnormality::of(span.kind)?;
    Some(Finding {
        kind: known.kind.into(),
        code: known.code,
        level: known.level.into(),
        count: span.count,
        recent: span.count,
        first_time: Some(time::timestamp(span.first_time)),
        last_time: Some(time::timestamp(span.last_time.max(span.first_time))),
    })
}

fn add(finding: &mut Finding, new: &Finding) {
    finding.count = finding.count.saturating_add(new.count);
    finding.recent = finding.recent.saturating_add(new.count);
    if at(new.first_time.as_ref()) < at(finding.first_time.as_ref()) {
        finding.first_time = new.first_time;
    }
    if at(new.last_time.as_ref()) > at(finding.last_time.as_ref()) {
        finding.last_time = new.last_time;
    }
}

fn at(wire: Option<&prost_types::Timestamp>) -> (i64, i32) {
    wire.map_or((0, 0), |wire| (wire.seconds, wire.nanos))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use recorder_proto::pb::v1::health::{Kind, Level};

    use super::*;

    fn span(kind: Kind, count: u64, first: i64, last: i64) -> AbnormalSpan {
        let at = |seconds| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        AbnormalSpan { kind, count, first_time: at(first), last_time: at(last) }
    }

    fn shown(health: &Health) -> Vec<(i32, u64, u64, i64, i64)> {
        let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds - 1_800_000_000;
        let findings = health.findings.iter();
        findings.map(|of| (of.code, of.count, of.recent, seconds(of.first_time), seconds(of.last_time))).collect()
    }

    #[test]
    fn counts_add_up_and_times_span_all_of_them() {
        let first = with(None, &[span(Kind::GopAbnormal, 1, 20, 20), span(Kind::NoVideo, 2, 5, 9)]).unwrap();
        assert_eq!(shown(&first), [(-18, 2, 2, 5, 9), (-132, 1, 1, 20, 20)]);
        assert_eq!(first.findings[0].level(), Level::Warning);
        let second = with(Some(first), &[span(Kind::NoVideo, 3, 40, 50), span(Kind::WriteFailed, 1, 1, 1)]).unwrap();
        assert_eq!(shown(&second), [(-104, 1, 1, 1, 1), (-18, 5, 3, 5, 50), (-132, 1, 0, 20, 20)]);
        let twice = with(None, &[span(Kind::NoVideo, 1, 5, 5), span(Kind::NoVideo, 1, 3, 4)]).unwrap();
        assert_eq!(shown(&twice), [(-18, 2, 2, 3, 5)], "a kind is never listed twice");
    }

    #[test]
    fn what_is_not_known_here_is_left_out() {
        assert_eq!(with(None, &[span(Kind::Unspecified, 7, 0, 0), span(Kind::NoAudio, 0, 0, 0)]), None);
        let huge = with(None, &[span(Kind::NoAudio, u64::MAX, 0, 0), span(Kind::NoAudio, 9, 0, 0)]).unwrap();
        assert_eq!(huge.findings[0].count, u64::MAX);
    }
}
