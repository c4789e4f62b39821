use recorder_proto::matching::{self, decide};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::Storage;
use recorder_proto::pb::v1::domain::PublishAuth;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_780_000_000 + seconds, 0).unwrap()
}

fn binding(app: &str, template: &str) -> Binding {
    Binding { domain: "d.example.com".into(), app: app.into(), template: template.into(), created: at(0) }
}

fn rule(id: &str, stream: &str, template: &str) -> Rule {
    Rule {
        name: format!("rules/{id}"),
        domain: "d.example.com".into(),
        app: "live".into(),
        stream: stream.into(),
        template: format!("templates/{template}"),
        action: rule::Action::Record as i32,
        create_time: Some(time::timestamp(at(0))),
        ..Rule::default()
    }
}

fn catalogue() -> Catalogue {
    let template = |id: &str| {
        let name = format!("templates/{id}");
        (id.to_owned(), Template { name, revision: 3, storage: "storages/s".into(), ..Template::default() })
    };
    let storage = Storage { name: "storages/s".into(), credential_version: 1, ..Storage::default() };
    Catalogue {
        domains: vec![(Domain { name: "domains/d.example.com".into(), ..Domain::default() }, Vec::new())],
        bindings: vec![binding("", "all"), binding("vip", "best")],
        rules: vec![rule("cam", "cam-*", "best"), rule("one", "cam-1", "all")],
        templates: [template("all"), template("best")].into(),
        storages: Storages { by_name: [("storages/s".to_owned(), storage)].into(), default: None },
        tasks: Vec::new(),
        blocks: Vec::new(),
    }
}

fn standings(directives: &BTreeMap<String, Directive>) -> Vec<matching::Standing> {
    let of = |directive: &Directive| match &directive.directive {
        Some(Kind::Standing(standing)) => Some(matching::Standing::try_from(standing).unwrap()),
        _ => None,
    };
    directives.values().filter_map(of).collect()
}

#[test]
fn every_row_becomes_a_directive_under_a_name_of_its_own() {
    let names: Vec<String> = compile(&catalogue()).into_keys().collect();
    let expected =
        ["binding/d.example.com/all", "binding/d.example.com/best~vip", "domain/d.example.com", "rule/cam", "rule/one"];
    assert_eq!(names, expected);
}

#[test]
fn the_node_decides_as_explain_match_does() {
    let standings = standings(&compile(&catalogue()));
    let winner = |app: &str, stream: &str| {
        let stream = StreamKey::new("d.example.com", app, stream).unwrap();
        let decision = decide(&stream, &standings);
        decision.winners.iter().map(|winner| winner.standing.origin.clone()).collect::<Vec<_>>()
    };
    assert_eq!(winner("live", "cam-1"), ["rules/one"]);
    assert_eq!(winner("live", "cam-2"), ["rules/cam"]);
    assert_eq!(winner("vip", "any"), ["domains/d.example.com/bindings/best~vip"]);
    assert_eq!(winner("live", "any"), ["domains/d.example.com/bindings/all"]);
}

#[test]
fn a_skip_needs_no_plan_and_a_disabled_rule_is_not_told() {
    let mut catalogue = catalogue();
    catalogue.rules[0].action = rule::Action::Skip as i32;
    catalogue.rules[0].template = String::new();
    catalogue.rules[1].disabled = true;
    let directives = compile(&catalogue);
    assert!(!directives.contains_key("rule/one"));
    let Some(Kind::Standing(skip)) = &directives["rule/cam"].directive else { panic!() };
    assert!(skip.skip && skip.plan.is_none());
}

#[test]
fn a_rotated_credential_changes_what_writes_there_and_nothing_else() {
    let before = compile(&catalogue());
    let mut rotated = catalogue();
    rotated.storages.by_name.get_mut("storages/s").unwrap().credential_version = 2;
    let after = compile(&rotated);
    let changed: Vec<&String> = after.keys().filter(|name| before.get(*name) != after.get(*name)).collect();
    let expected = ["binding/d.example.com/all", "binding/d.example.com/best~vip", "rule/cam", "rule/one"];
    assert_eq!(changed, expected);
}

#[test]
fn keys_travel_only_where_they_are_checked() {
    for (mode, count) in
        [(Mode::Unspecified, 0), (Mode::Open, 0), (Mode::SignedUrl, 2), (Mode::StreamKey, 2), (Mode::External, 0)]
    {
        let auth = PublishAuth { mode: mode as i32, ..PublishAuth::default() };
        let domain = Domain { publish_auth: Some(auth), name: "domains/d.example.com".into(), ..Domain::default() };
        let keys = vec![Bytes::from_static(b"sealed-1"), Bytes::from_static(b"sealed-2")];
        let directives = compile(&Catalogue { domains: vec![(domain, keys)], ..Catalogue::default() });
        let Some(Kind::Domain(policy)) = &directives["domain/d.example.com"].directive else { panic!() };
        assert_eq!(policy.signing_keys.len(), count, "{mode:?}");
        let shown = if mode == Mode::Unspecified { Mode::Open } else { mode };
        assert_eq!(policy.auth_mode, shown.as_str_name());
    }
}

#[test]
fn a_template_whose_storage_is_gone_is_told_without_one() {
    let mut catalogue = catalogue();
    catalogue.storages = Storages::default();
    let directives = compile(&catalogue);
    let Some(Kind::Standing(standing)) = &directives["rule/one"].directive else { panic!() };
    assert_eq!(standing.plan.as_ref().unwrap().storage, None, "the node refuses it by name, which the rule shows");
}
