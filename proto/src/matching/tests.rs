use chrono::DateTime;
use proptest::prelude::*;

use super::*;

fn standing(origin: &str, app: &str, stream: &str, template: &str) -> Standing {
    let level = match origin.split('/').next() {
        Some("rules") => Level::of_rule(stream),
        Some("tasks") => Level::Task,
        _ => Level::of_binding(app),
    };
    Standing {
        domain: "push.example.com".into(),
        app: app.into(),
        stream: stream.into(),
        level,
        priority: 0,
        created: DateTime::UNIX_EPOCH,
        skip: template.is_empty(),
        template: template.into(),
        origin: origin.into(),
    }
}

fn stream(name: &str) -> StreamKey {
    StreamKey::new("push.example.com", "live", name).unwrap()
}

fn templates<'a>(decision: &Decision<'a>) -> Vec<&'a str> {
    decision.winners.iter().map(|w| w.standing.template.as_str()).collect()
}

fn why<'d>(decision: &'d Decision<'_>, origin: &str) -> (bool, &'d str) {
    let candidate = decision.candidates.iter().find(|c| c.standing.origin == origin).unwrap();
    (candidate.chosen, candidate.why.as_str())
}

#[test]
fn the_most_specific_level_wins() {
    let all = [
        standing("domains/d/bindings/a", "", "", "templates/a"),
        standing("domains/d/bindings/b~live", "live", "", "templates/b"),
        standing("rules/c", "live", "cam*", "templates/c"),
        standing("rules/d", "live", "cam1", "templates/d"),
    ];
    for (count, expected) in [(1, "templates/a"), (2, "templates/b"), (3, "templates/c"), (4, "templates/d")] {
        assert_eq!(templates(&decide(&stream("cam1"), &all[..count])), [expected]);
    }
    let decision = decide(&stream("cam1"), &all);
    assert_eq!(
        why(&decision, "rules/d"),
        (true, "the most specific match is a rule for exactly this stream; it records with templates/d")
    );
    assert_eq!(
        why(&decision, "domains/d/bindings/a"),
        (false, "rules/d (rule for exactly this stream) is more specific than a binding of the domain")
    );
    assert_eq!(templates(&decide(&stream("other"), &all)), ["templates/b"]);
}

#[test]
fn what_does_not_match_is_not_a_candidate() {
    let mut other = standing("domains/o/bindings/a", "", "", "templates/a");
    other.domain = "other.example.com".into();
    let all =
        [other, standing("rules/x", "live", "vip-*", "templates/x"), standing("rules/y", "app2", "*", "templates/y")];
    assert_eq!(decide(&stream("cam1"), &all), Decision::default());
}

#[test]
fn globs_longest_prefix_then_priority_then_older() {
    let mut short = standing("rules/short", "live", "c*", "templates/short");
    let mut long = standing("rules/long", "live", "cam*", "templates/long");
    short.priority = 1000;
    assert_eq!(templates(&decide(&stream("cam1"), [&short, &long])), ["templates/long"]);

    let mut urgent = standing("rules/urgent", "live", "cam*1", "templates/urgent");
    urgent.priority = 5;
    let decision = decide(&stream("cam1"), [&long, &urgent]);
    assert_eq!(templates(&decision), ["templates/urgent"]);
    assert_eq!(why(&decision, "rules/long"), (false, "rules/urgent has the higher priority (5 against 0)"));

    long.priority = 5;
    long.created = DateTime::from_timestamp(100, 0).unwrap();
    let decision = decide(&stream("cam1"), [&long, &urgent]);
    assert_eq!(templates(&decision), ["templates/urgent"]);
    assert_eq!(why(&decision, "rules/long"), (false, "rules/urgent is older"));
}

#[test]
fn skip_stops_its_level_and_those_below() {
    let binding = standing("domains/d/bindings/a", "", "", "templates/a");
    let skip = standing("rules/no-tests", "live", "test-*", "");
    let decision = decide(&stream("test-1"), [&binding, &skip]);
    assert!(decision.winners.is_empty());
    assert_eq!(
        why(&decision, "rules/no-tests"),
        (true, "this rule with a pattern says SKIP, so nothing weaker records the stream")
    );
    assert!(!why(&decision, "domains/d/bindings/a").0);

    let exact = standing("rules/but-this", "live", "test-1", "templates/b");
    assert_eq!(
        templates(&decide(&stream("test-1"), [&binding, &skip, &exact])),
        ["templates/b"],
        "weaker than an exact rule"
    );

    let exact_skip = standing("rules/not-this", "live", "test-1", "");
    let decision = decide(&stream("test-1"), [&exact, &exact_skip, &binding]);
    assert!(decision.winners.is_empty());
    assert_eq!(why(&decision, "rules/but-this"), (false, "rules/not-this says SKIP at the same level"));
}

#[test]
fn one_recording_per_distinct_template() {
    let a = standing("domains/d/bindings/a", "", "", "templates/a");
    let b = standing("domains/d/bindings/b", "", "", "templates/b");
    assert_eq!(templates(&decide(&stream("x"), [&b, &a])), ["templates/a", "templates/b"]);

    let first = standing("rules/first", "live", "x", "templates/a");
    let second = standing("rules/second", "*", "x", "templates/a");
    let decision = decide(&stream("x"), [&second, &first]);
    assert_eq!(templates(&decision), ["templates/a"]);
    assert_eq!(decision.winners[0].also, ["rules/second"]);
    assert!(why(&decision, "rules/second").1.contains("rules/first already records with templates/a"));
}

#[test]
fn tasks_add_and_stop_nothing() {
    let binding = standing("domains/d/bindings/a", "", "", "templates/a");
    let skip = standing("rules/skip", "live", "x", "");
    let task = standing("tasks/t", "live", "x", "templates/t");
    assert_eq!(templates(&decide(&stream("x"), [&binding, &task])), ["templates/t", "templates/a"]);
    assert_eq!(
        templates(&decide(&stream("x"), [&binding, &skip, &task])),
        ["templates/t"],
        "SKIP does not reach tasks"
    );
    let same = standing("tasks/same", "live", "x", "templates/a");
    let decision = decide(&stream("x"), [&binding, &same]);
    assert_eq!(
        (templates(&decision), decision.winners[0].also.clone()),
        (vec!["templates/a"], vec!["domains/d/bindings/a"])
    );
}

#[test]
fn the_wire_carries_all_of_it() {
    let wire = node::directive::Standing {
        domain: "push.example.com".into(),
        app: "live".into(),
        stream: "cam*".into(),
        rank: rank(Level::Glob, -7),
        skip: false,
        plan: Some(node::Plan {
            template: Some(v1::Template { name: "templates/c".into(), ..Default::default() }),
            ..Default::default()
        }),
        origin: "rules/c".into(),
        create_time: Some(prost_types::Timestamp { seconds: 100, nanos: 0 }),
    };
    let read = Standing::try_from(&wire).unwrap();
    let mut expected = standing("rules/c", "live", "cam*", "templates/c");
    expected.priority = -7;
    expected.created = DateTime::from_timestamp(100, 0).unwrap();
    assert_eq!(read, expected);

    let broken = node::directive::Standing { plan: None, ..wire.clone() };
    assert_eq!(Standing::try_from(&broken), Err(Unusable::NoPlan));
    assert!(Standing::try_from(&node::directive::Standing { skip: true, ..broken }).unwrap().skip);
    assert_eq!(Standing::try_from(&node::directive::Standing { rank: 7, ..wire.clone() }), Err(Unusable::Rank(7)));
    let long = node::directive::Standing { stream: "*".repeat(513), ..wire };
    assert_eq!(Standing::try_from(&long), Err(Unusable::LongPattern));
}

#[test]
fn ranks_order_levels_then_priorities() {
    assert_eq!((rank(Level::Exact, 0), rank(Level::Domain, -1000)), (40_000, 9_000));
    assert!(rank(Level::Glob, i32::MIN) > rank(Level::App, i32::MAX));
    for wrong in [0, 5_000, 11_001, -40_000, 60_000, i32::MAX, i32::MIN] {
        assert_eq!(from_rank(wrong), None, "{wrong}");
    }
}

fn any_standing() -> impl Strategy<Value = Standing> {
    let origin = prop_oneof![Just("rules"), Just("tasks"), Just("domains")];
    (origin, 0..4_u8, prop_oneof![Just(""), Just("live"), Just("*")], "[ab*]{0,3}", -1..2_i32, 0..3_i64, 0..4_u8)
        .prop_map(|(kind, id, app, pattern, priority, created, template)| {
            let stream = if kind == "domains" { "" } else { pattern.as_str() };
            let template =
                if template == 0 && kind == "rules" { String::new() } else { format!("templates/t{template}") };
            let mut standing = standing(&format!("{kind}/{id}"), app, stream, &template);
            standing.priority = priority;
            standing.created = DateTime::from_timestamp(created, 0).unwrap();
            standing
        })
}

proptest! {
    #[test]
    fn the_decision_is_sound_whatever_the_input(mut all in prop::collection::vec(any_standing(), 0..12), name in "[ab]{1,3}") {
        let stream = stream(&name);
        let before = all.clone();
        let decision = decide(&stream, &before);
        let mut seen = std::collections::BTreeSet::new();
        for winner in &decision.winners {
            prop_assert!(!winner.standing.skip && seen.insert(&winner.standing.template), "one per template");
            prop_assert!(winner.standing.applies_to(&stream));
        }
        let levels: std::collections::BTreeSet<Level> =
            decision.winners.iter().map(|w| w.standing.level).filter(|l| *l != Level::Task).collect();
        prop_assert!(levels.len() <= 1, "one level decides");
        let strongest = before.iter().filter(|s| s.applies_to(&stream) && s.level != Level::Task).map(|s| s.level).max();
        prop_assert!(levels.first().is_none_or(|level| Some(*level) == strongest));
        prop_assert_eq!(decision.candidates.len(), before.iter().filter(|s| s.applies_to(&stream)).count());

        // Order of the input must not matter to what is recorded.
        all.reverse();
        prop_assert_eq!(templates(&decide(&stream, &all)), templates(&decision));
    }

    #[test]
    fn ranks_round_trip(level in 0..5_usize, priority in -1000..=1000_i32) {
        let level = [Level::Domain, Level::App, Level::Glob, Level::Exact, Level::Task][level];
        prop_assert_eq!(from_rank(rank(level, priority)), Some((level, priority)));
    }
}
