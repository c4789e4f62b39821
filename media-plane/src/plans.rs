//! Which plans record a stream: the shared matching rules over this node's directives.

use chrono::{DateTime, Utc};
use recorder_proto::matching;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::Plan;
use recorder_proto::pb::node::directive::Scheduled;
use recorder_proto::time::datetime;

use crate::link::Directives;

/// One recording to be made.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// How to record.
    pub plan: Plan,
    /// The binding, rule or task that asks for it.
    pub origin: String,
    /// Others that ask for the same template.
    pub also: Vec<String>,
    /// It is a task that asks.
    pub task: Option<TaskId>,
}

/// What a task is called in object keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskId {
    /// Bare id.
    pub id: String,
    /// It has made a recording before.
    pub begun: bool,
    /// The node that need not ask whether its recording is the first; empty = none.
    pub node: String,
}

/// A task of a stream: the recording to be made, and when.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// What is to be made.
    pub chosen: Chosen,
    /// From when, on the control plane's clock.
    pub start: DateTime<Utc>,
    /// Until when, likewise.
    pub end: DateTime<Utc>,
}

/// The tasks of a stream, whenever they are due. Each makes a recording of its own, whatever else records the stream.
pub fn ordered(directives: &Directives, stream: &StreamKey) -> Vec<Ordered> {
    let order = |scheduled: Scheduled| {
        let id = scheduled.origin.strip_prefix("tasks/")?.to_owned();
        let (start, end) = (datetime(scheduled.start_time.as_ref()?)?, datetime(scheduled.end_time.as_ref()?)?);
        let task = Some(TaskId { id, begun: scheduled.begun, node: scheduled.node });
        let chosen = Chosen { plan: scheduled.plan?, origin: scheduled.origin, also: Vec::new(), task };
        Some(Ordered { chosen, start, end })
    };
    directives.tasks(stream).into_iter().filter_map(order).collect()
}

/// The plans for a stream, strongest first; empty when it is not recorded.
pub fn of_stream(directives: &Directives, stream: &StreamKey) -> Vec<Chosen> {
    let wire = directives.standings(stream.domain());
    // What the matcher cannot use was refused when it arrived.
    let usable: Vec<_> = wire
        .iter()
        .filter_map(|standing| matching::Standing::try_from(standing).ok().map(|matchable| (matchable, standing)))
        .collect();
    let decision = matching::decide(stream, usable.iter().map(|(matchable, _)| matchable));
    let plan_of = |winner: &matching::Winner<'_>| {
        let (_, wire) = usable.iter().find(|(matchable, _)| std::ptr::eq(matchable, winner.standing))?;
        let also = winner.also.iter().map(|origin| (*origin).to_owned()).collect();
        Some(Chosen { plan: wire.plan.clone()?, origin: winner.standing.origin.clone(), also, task: None })
    };
    decision.winners.iter().filter_map(plan_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use recorder_proto::matching::{Level, rank};
    use recorder_proto::pb::node::plan::StorageRef;
    use recorder_proto::pb::node::{Directive, directive};
    use recorder_proto::pb::v1::Template;

    fn standing(origin: &str, stream: &str, level: Level, template: &str) -> Directive {
        let storage = StorageRef { name: "storages/library".into(), kind: "file_system".into(), ..Default::default() };
        let template = Template { name: template.into(), ..Default::default() };
        let standing = directive::Standing {
            domain: "push.example.com".into(),
            stream: stream.into(),
            rank: rank(level, 0),
            plan: Some(Plan { template: Some(template), storage: Some(storage), ..Default::default() }),
            origin: origin.into(),
            ..Default::default()
        };
        Directive { name: origin.into(), version: 1, directive: Some(directive::Directive::Standing(standing)) }
    }

    #[test]
    fn the_most_specific_level_decides_and_every_template_of_it_records() {
        let folder = tempfile::tempdir().unwrap();
        let directives = Directives::open(folder.path());
        let upserts = vec![
            standing("bindings/a", "", Level::Domain, "templates/a"),
            standing("bindings/b", "", Level::Domain, "templates/b"),
            standing("rules/vip", "vip-*", Level::Glob, "templates/vip"),
        ];
        assert!(directives.delta(1, upserts, &[]).rejections.is_empty());
        let origins = |stream: &str| {
            let stream = StreamKey::new("push.example.com", "", stream).unwrap();
            of_stream(&directives, &stream).into_iter().map(|chosen| chosen.origin).collect::<Vec<_>>()
        };
        assert_eq!(origins("vip-1"), ["rules/vip"]);
        let mut both = origins("cam");
        both.sort();
        assert_eq!(both, ["bindings/a", "bindings/b"]);
    }
}
