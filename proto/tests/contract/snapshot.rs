//! The committed snapshots. The contract may only grow: a line that disappears from `contract.txt` breaks a client.
//! New lines are added by running the test with `UPDATE_SNAPSHOTS=1`; a line is taken away only by hand.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::walk::{Contract, type_name};

fn lines() -> BTreeSet<String> {
    let contract = Contract::read();
    let mut lines = BTreeSet::new();
    for method in &contract.methods {
        let stream = |on: bool| if on { "stream " } else { "" };
        let (input, output) = (method.proto.input_type(), method.proto.output_type());
        lines.insert(format!(
            "rpc {}({}{}) returns ({}{})",
            method.name,
            stream(method.proto.client_streaming()),
            input.trim_start_matches('.'),
            stream(method.proto.server_streaming()),
            output.trim_start_matches('.')
        ));
    }
    for field in &contract.fields {
        let oneof = if field.proto.oneof_index.is_some() { " oneof" } else { "" };
        let kind = type_name(&field.proto, &contract.messages);
        lines.insert(format!("field {} = {}: {kind}{oneof}", field.name, field.proto.number()));
    }
    for value in &contract.values {
        lines.insert(format!("value {} = {}", value.name, value.proto));
    }
    lines
}

fn compare(file: &str, now: &BTreeSet<String>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let before: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let gone: Vec<&String> = before.difference(now).collect();
    let new: Vec<&String> = now.difference(&before).collect();
    assert!(gone.is_empty(), "breaking change of {file}, gone or changed: {gone:#?}\nin their place: {new:#?}");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let all: Vec<&str> = now.iter().map(String::as_str).collect();
        std::fs::write(&path, all.join("\n") + "\n").unwrap();
        return;
    }
    assert!(new.is_empty(), "not in {file} yet, run with UPDATE_SNAPSHOTS=1: {new:#?}");
}

#[test]
fn rule_11_the_contract_only_grows() {
    compare("contract.txt", &lines());
}

#[test]
fn limits_change_only_on_purpose() {
    let table = recorder_proto::limits::table();
    compare("limits.txt", &table.iter().map(|(name, value)| format!("{name} = {value}")).collect());
}
