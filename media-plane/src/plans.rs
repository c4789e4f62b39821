//! Which plans record a stream: the shared matching rules over this node's directives.

use recorder_proto::matching;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::Plan;

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
        Some(Chosen { plan: wire.plan.clone()?, origin: winner.standing.origin.clone(), also })
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
