//! Tests of [`super`].
use recorder_proto::pb::v1::StreamRef;

use super::*;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn order(start: Option<i64>, end: Option<i64>) -> Result<(i64, i64), String> {
    let wire = |seconds: Option<i64>| seconds.map(|seconds| time::timestamp(at(seconds)));
    let stream = StreamRef { domain: "push.example.com".into(), stream: "cam".into(), ..StreamRef::default() };
    let task = Task { stream: Some(stream), start_time: wire(start), end_time: wire(end), ..Task::default() };
    let mut violations = Violations::new();
    let ordered = ordered(&task, "templates/default", at(0), &mut violations);
    violations.finish().map_err(|problem| problem.message)?;
    let ordered = ordered.unwrap();
    assert_eq!((ordered.stream.app(), ordered.template.to_string().as_str()), ("live", "templates/default"));
    Ok(((ordered.start - at(0)).num_seconds(), (ordered.end - at(0)).num_seconds()))
}

#[test]
fn a_task_begins_now_or_within_a_week_and_lasts_a_day_at_most() {
    for (start, end, expected) in [
        (None, None, (0, DAY)),
        (None, Some(1), (0, 1)),
        (Some(0), Some(DAY), (0, DAY)),
        (Some(-60), None, (0, DAY)),
        (Some(HOUR), None, (HOUR, HOUR + DAY)),
        (Some(6 * DAY), Some(7 * DAY), (6 * DAY, 7 * DAY)),
        (Some(6 * DAY + HOUR), None, (6 * DAY + HOUR, 7 * DAY)),
    ] {
        assert_eq!(order(start, end), Ok(expected), "{start:?} {end:?}");
    }
    for (start, end, expected) in [
        (Some(-61), None, "task.start_time: must be from now to 604800s ahead, got 2026-05-28T20:25:39Z"),
        (Some(7 * DAY + 1), Some(7 * DAY + 2), "task.start_time: must be from now to 604800s ahead"),
        (None, Some(0), "task.end_time: must be after the start and after now"),
        (Some(HOUR), Some(HOUR), "task.end_time: must be after the start and after now"),
        (Some(7 * DAY), None, "task.end_time: must be after the start and after now"),
        (Some(7 * DAY - 1), Some(7 * DAY + 1), "task.end_time: must be at most 604800s ahead"),
        (None, Some(DAY + 1), "task.end_time: must be at most 86400s after the start"),
    ] {
        let refusal = order(start, end).unwrap_err();
        assert!(refusal.contains(expected), "{start:?} {end:?}: {refusal}");
    }
}

#[test]
fn every_mistake_of_an_order_is_named() {
    let stream = StreamRef { domain: "push.example.com".into(), stream: "a/b".into(), ..StreamRef::default() };
    let late = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let labels = [("Team".to_owned(), String::new())].into();
    let task = Task { stream: Some(stream), template: "T!".into(), start_time: late, labels, ..Task::default() };
    let mut violations = Violations::new();
    ordered(&task, "default", at(0), &mut violations);
    let fields: Vec<String> = violations.finish().unwrap_err().fields.into_iter().map(|one| one.field).collect();
    assert_eq!(fields, ["task.stream", "task.template", "task.labels", "task.start_time"]);
    let mut violations = Violations::new();
    ordered(&Task::default(), "default", at(0), &mut violations);
    assert_eq!(violations.finish().unwrap_err().message, "task.stream: is required");
}

#[test]
fn the_state_follows_from_times_and_recordings() {
    use State::*;
    let times = Times { start: at(10), end: at(20), stopped: None, withdrawn: false };
    let none = Made::default();
    let live = Made { live: true, ..none };
    let refused = Made { refused: true, ..none };
    let running = Made { any: true, running: true, ..none };
    let finishing = Made { any: true, finishing: true, ..none };
    let done = Made { any: true, ..none };
    let failed = Made { failed: true, ..done };
    for (now, made, expected, due_at) in [
        (9, none, Scheduled, Some(10)),
        (9, running, Running, Some(20)),
        (10, none, AwaitingStream, Some(20)),
        (10, refused, AwaitingStream, Some(20)),
        (15, running, Running, Some(20)),
        (15, finishing, AwaitingStream, Some(20)),
        (15, failed, AwaitingStream, Some(20)),
        (20, none, Expired, None),
        (20, live, Stopping, Some(30)),
        (30, live, Expired, None),
        (20, refused, Failed, None),
        (20, running, Stopping, None),
        (99, running, Stopping, None),
        (20, finishing, Stopping, None),
        (20, done, Succeeded, None),
        (20, failed, Failed, None),
    ] {
        let state = state(&times, made, at(now));
        assert_eq!(state, expected, "{now} {made:?}");
        assert_eq!(due(&times, state, made), due_at.map(at), "{now} {made:?}");
    }
    let stopped = Times { stopped: Some(at(15)), ..times };
    for (now, made, expected) in [(15, none, Expired), (15, running, Stopping), (16, done, Succeeded)] {
        assert_eq!(state(&stopped, made, at(now)), expected, "{now} {made:?}");
    }
    let withdrawn = Times { withdrawn: true, stopped: Some(at(5)), ..times };
    assert_eq!(state(&withdrawn, none, at(12)), Cancelled);
    assert_eq!(due(&withdrawn, Cancelled, none), None);
}

#[test]
fn at_once_is_counted_moment_by_moment() {
    let spans = [(0, 10), (5, 15), (10, 20), (12, 13)];
    for (within, most) in [((0, 5), 1), ((0, 10), 2), ((10, 12), 2), ((10, 20), 3), ((13, 14), 2), ((20, 30), 0)] {
        assert_eq!(most_at_once(&spans, within), most, "{within:?}");
    }
}
