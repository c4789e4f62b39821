//! House rules of the API, B.2 of its design: each test is one rule.

use crate::walk::{Contract, Element, type_name};

const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";

#[track_caller]
fn none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

#[test]
fn rule_1_two_packages_each_in_its_own_folder() {
    for file in Contract::read().files {
        let folder = file.package().replace('.', "/");
        assert!(matches!(file.package(), "recorder.v1" | "recorder.node.v1"), "{}", file.name());
        assert_eq!(file.name().rsplit_once('/').unwrap().0, folder);
        assert_eq!(file.syntax(), "proto3");
    }
}

#[test]
fn rule_2_services_are_called_service() {
    let services = Contract::read().services;
    none(services.iter().filter(|s| !s.name.ends_with("Service")).map(|s| s.name.clone()).collect(), "Service suffix");
    assert!(services.iter().all(|s| !s.proto.is_empty()));
}

#[test]
fn rule_3_times_and_spans_are_never_numbers() {
    let contract = Contract::read();
    let time = |name: &str| {
        name.ends_with("_time")
            || matches!(name, "time" | "now" | "after" | "before" | "start_after" | "start_before" | "resume_deadline")
    };
    let span = |name: &str| {
        ["_timeout", "_duration", "_lag", "_interval", "_skew"].iter().any(|end| name.ends_with(end))
            || matches!(
                name,
                "duration"
                    | "timeout"
                    | "interval"
                    | "ttl"
                    | "lease"
                    | "wait"
                    | "overlap"
                    | "granularity"
                    | "pre_roll"
                    | "latency"
                    | "block_for"
                    | "deadline"
            )
    };
    let wrong = |field: &&Element<prost_types::FieldDescriptorProto>| {
        let (name, kind) = (last(&field.name), type_name(&field.proto, &contract.messages));
        (time(name) && kind != TIMESTAMP)
            || (span(name) && kind != DURATION)
            || (kind == TIMESTAMP && !time(name))
            || ["_seconds", "_secs", "_millis", "_ms", "_micros"].iter().any(|unit| name.ends_with(unit))
    };
    none(contract.fields.iter().filter(wrong).map(|f| f.name.clone()).collect(), "Timestamp and Duration");
    let counter = |name: &str| name.ends_with("_bytes") || name.starts_with("bytes_") || name.ends_with("epoch");
    let wrong = |field: &&Element<prost_types::FieldDescriptorProto>| {
        counter(last(&field.name)) && type_name(&field.proto, &contract.messages) != "uint64"
    };
    none(contract.fields.iter().filter(wrong).map(|f| f.name.clone()).collect(), "byte counters are uint64");
}

#[test]
fn rule_5_zero_is_unspecified() {
    let broken = |e: &&Element<prost_types::EnumDescriptorProto>| {
        let first = &e.proto.value[0];
        first.number() != 0 || !first.name().ends_with("_UNSPECIFIED")
    };
    none(Contract::read().enums.iter().filter(broken).map(|e| e.name.clone()).collect(), "zero value");
}

#[test]
fn rule_8_lists_are_paged() {
    let contract = Contract::read();
    let fields = |message: &str| -> Vec<String> {
        let found = contract.messages.iter().find(|m| format!(".{}", m.name) == message).unwrap();
        found.proto.field.iter().map(|f| f.name().to_owned()).collect()
    };
    let lists: Vec<_> = contract.methods.iter().filter(|m| m.proto.name().starts_with("List")).collect();
    assert!(lists.len() > 10);
    for list in lists {
        let (input, output) = (fields(list.proto.input_type()), fields(list.proto.output_type()));
        assert!(input.contains(&"page_size".into()) && input.contains(&"page_token".into()), "{}", list.name);
        assert!(output.contains(&"next_page_token".into()), "{}", list.name);
    }
}

#[test]
fn rule_10_everything_is_commented() {
    let contract = Contract::read();
    let mut bare: Vec<String> = Vec::new();
    fn collect<T>(bare: &mut Vec<String>, elements: &[Element<T>]) {
        bare.extend(elements.iter().filter(|e| e.comment.is_empty()).map(|e| e.name.clone()));
    }
    collect(&mut bare, &contract.services);
    collect(&mut bare, &contract.methods);
    collect(&mut bare, &contract.messages);
    collect(&mut bare, &contract.fields);
    collect(&mut bare, &contract.oneofs);
    collect(&mut bare, &contract.enums);
    collect(&mut bare, &contract.values);
    assert!(contract.fields.len() > 400 && contract.methods.len() > 70, "the walk sees everything");
    none(bare, "without a comment");
}

#[test]
fn rule_7_secrets_are_input_only() {
    /// Secrets that a reply does carry, and why.
    const SHOWN: &[&str] = &[
        // Shown once by CreateToken.
        "recorder.v1.Token.secret",
        // The node needs them; its link is authenticated and not public.
        "recorder.node.v1.FetchCredentialResponse.secret_access_key",
        "recorder.node.v1.FetchCredentialResponse.session_token",
        "recorder.node.v1.FetchCredentialResponse.service_account_json",
    ];
    let secret = |name: &str| {
        [
            "secret",
            "password",
            "private",
            "session_token",
            "service_account",
            "primary_key",
            "secondary_key",
            "signing_keys",
        ]
        .iter()
        .any(|word| name.contains(word))
            || name == "headers"
    };
    let contract = Contract::read();
    let found: Vec<_> = contract.fields.iter().filter(|f| secret(last(&f.name))).collect();
    assert!(found.len() >= 10, "the words still find something");
    let broken =
        found.iter().filter(|f| !f.comment.to_lowercase().contains("input only") && !SHOWN.contains(&f.name.as_str()));
    none(broken.map(|f| f.name.clone()).collect(), "secret without `input only`");
    for name in SHOWN {
        assert!(contract.fields.iter().any(|f| f.name == *name), "{name} is gone: take it off the list");
    }
}

#[test]
fn names_follow_the_languages_habits() {
    let contract = Contract::read();
    let snake = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_lowercase())
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let pascal =
        |s: &str| s.starts_with(|c: char| c.is_ascii_uppercase()) && s.bytes().all(|b| b.is_ascii_alphanumeric());
    let upper = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_uppercase())
            && s.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    none(contract.fields.iter().map(|f| &f.name).filter(|n| !snake(last(n))).cloned().collect(), "lower_snake_case");
    none(contract.oneofs.iter().map(|f| &f.name).filter(|n| !snake(last(n))).cloned().collect(), "lower_snake_case");
    none(contract.values.iter().map(|v| &v.name).filter(|n| !upper(last(n))).cloned().collect(), "UPPER_SNAKE_CASE");
    let types = contract.messages.iter().map(|m| &m.name).chain(contract.enums.iter().map(|e| &e.name));
    none(
        types.chain(contract.methods.iter().map(|m| &m.name)).filter(|n| !pascal(last(n))).cloned().collect(),
        "PascalCase",
    );
}

#[test]
fn every_rpc_has_its_own_request() {
    let contract = Contract::read();
    for method in &contract.methods {
        let expected = format!("{}Request", method.proto.name());
        assert_eq!(last(method.proto.input_type()), expected, "{}", method.name);
    }
}

#[test]
fn clients_can_decode_error_details_by_reflection() {
    use prost::Message as _;
    let set = prost_types::FileDescriptorSet::decode(recorder_proto::pb::FILE_DESCRIPTOR_SET).unwrap();
    let names: Vec<&str> = set.file.iter().map(|file| file.name()).collect();
    for file in ["google/rpc/error_details.proto", "google/rpc/status.proto", "google/protobuf/duration.proto"] {
        assert!(names.contains(&file), "{file} in {names:?}");
    }
    for file in &set.file {
        for import in &file.dependency {
            assert!(names.contains(&import.as_str()), "{import}, imported by {}", file.name());
        }
    }
}

#[test]
fn equal_messages_encode_to_equal_bytes() {
    use prost::Message as _;
    let labels = || (0..50).map(|i| (format!("k{i}"), i.to_string()));
    let forward = recorder_proto::pb::v1::Template { labels: labels().collect(), ..Default::default() };
    let backward = recorder_proto::pb::v1::Template { labels: labels().rev().collect(), ..Default::default() };
    assert_eq!(forward.encode_to_vec(), backward.encode_to_vec());
}

#[test]
fn debug_output_holds_no_secret() {
    use recorder_proto::pb::{node, v1};
    let secret = || "hunter2".to_owned();
    let shown = [
        format!(
            "{:?}",
            v1::storage::S3 {
                secret_access_key: secret(),
                session_token: secret(),
                external_id: secret(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            v1::storage::Gcs { secret_access_key: secret(), service_account_json: secret(), ..Default::default() }
        ),
        format!(
            "{:?}",
            v1::domain::PublishAuth { primary_key: secret(), secondary_key: secret(), ..Default::default() }
        ),
        format!("{:?}", v1::Token { secret: secret(), ..Default::default() }),
        format!(
            "{:?}",
            v1::Webhook {
                secret: secret(),
                headers: [("authorization".to_owned(), secret())].into(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            node::directive::DomainPolicy {
                key_hashes: vec![secret().into()],
                signing_keys: vec![secret().into()],
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            node::FetchCredentialResponse {
                secret_access_key: secret(),
                session_token: secret(),
                service_account_json: secret(),
                ..Default::default()
            }
        ),
    ];
    for text in shown {
        // Bytes would print as numbers or as text.
        assert!(!text.contains("hunter2") && !text.contains("104, 117"), "{text}");
    }
}
