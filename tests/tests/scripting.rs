//! What a script writer relies on: health and reflection of every service, errors that can be read, masks, both
//! spellings of a field.

use std::collections::BTreeSet;

use crate::script::{Answer, Script};
use prost::Message;
use recorder_proto::pb;
use recorder_tests::cluster::Cluster;
use serde_json::json;

/// Services of one package, as the contract has them.
fn contract(package: &str) -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.into_iter().filter(|file| file.package() == package);
    files.flat_map(|file| file.service).map(|service| format!("{package}.{}", service.name())).collect()
}

fn listed(answer: &Answer) -> BTreeSet<String> {
    answer.replies.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_is_listed_and_healthy() {
    let cluster = Cluster::start().await;
    let common =
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    for version in ["v1", "v1alpha"] {
        let mut script = Script::start(&cluster, &["--reflection", version]);
        for (prefix, package) in [("", "recorder.v1"), ("node:", "recorder.node.v1")] {
            let mut expected = contract(package);
            assert!(!expected.is_empty());
            for service in expected.iter().map(String::as_str).chain([""]) {
                let request = json!({"service": service}).to_string();
                let health = script.call(&format!("{prefix}grpc.health.v1.Health/Check"), &request);
                assert_eq!(health.reply()["status"], "SERVING", "{service:?}: {health:#?}");
            }
            expected.extend(common.map(str::to_owned));
            assert_eq!(listed(&script.call(&format!("{prefix}list"), "")), expected, "reflection {version}");
        }
        let unknown = script.call("grpc.health.v1.Health/Check", r#"{"service":"recorder.v1.NoSuchService"}"#);
        assert_eq!(unknown.code, "NOT_FOUND");
    }
}

/// Every bad field is named, all at once, and the details decode with what the server itself describes.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_every_bad_field() {
    let cluster = Cluster::start().await;
    let mut script = Script::start(&cluster, &[]);
    let request = json!({"template_id": "Not An Id", "template": {
        "display_name": "no spaces here", "time_zone": "Mars/Olympus", "path": "{StreamID}/{EndHour}",
        "mp4": {"max_file_duration": "10s"}, "aac": {"max_file_duration": "7201s"}, "record_standby": true,
    }});
    let refused = script.call("TemplateService/CreateTemplate", &request.to_string());
    assert_eq!((refused.code.as_str(), refused.reason()), ("INVALID_ARGUMENT", "INVALID_FIELD"));
    let violations = refused.detail("BadRequest")["fieldViolations"].as_array().unwrap();
    let fields: BTreeSet<&str> = violations.iter().map(|violation| violation["field"].as_str().unwrap()).collect();
    let expected = [
        "template_id",
        "template.display_name",
        "template.time_zone",
        "template.path",
        "template.mp4.max_file_duration",
        "template.aac.max_file_duration",
        "template.record_standby",
    ];
    assert_eq!(fields, expected.into_iter().collect(), "{refused:#?}");
    assert_eq!(violations.len(), expected.len(), "one violation a field: {refused:#?}");

    let refused = script.call("StorageService/GetStorage", r#"{"name":"storages/nowhere"}"#);
    assert_eq!((refused.code.as_str(), refused.reason()), ("NOT_FOUND", "STORAGE_NOT_FOUND"));
    assert_eq!(refused.detail("ResourceInfo")["resourceName"], "storages/nowhere");
    let stale = json!({"template": {"name": "templates/default", "description": "x", "etag": "stale"}}).to_string();
    let refused = script.call("TemplateService/UpdateTemplate", &stale);
    assert_eq!((refused.code.as_str(), refused.reason()), ("ABORTED", "ETAG_MISMATCH"), "{refused:#?}");
}

/// A mask is an ordinary message, `{"paths": [...]}`: the comma string of the JSON mapping is more than grpcurl knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_mask_says_what_changes() {
    let cluster = Cluster::start().await;
    let mut script = Script::start(&cluster, &[]);
    let request = r#"{"template_id":"t","template":{"description":"old","mp4":{},"aac":{}}}"#;
    script.call("TemplateService/CreateTemplate", request).reply();
    let update = |template: serde_json::Value, paths: &[&str]| {
        json!({"template": template, "update_mask": {"paths": paths}}).to_string()
    };
    // Masked fields change, whether set or not; others do not, though they are set.
    let request =
        update(json!({"name": "t", "display_name": "new", "description": "unseen"}), &["aac", "display_name"]);
    let answer = script.call("TemplateService/UpdateTemplate", &request);
    let reply = answer.reply();
    assert_eq!((&reply["displayName"], &reply["description"]), (&json!("new"), &json!("old")));
    assert!(reply.get("aac").is_none() && reply.get("mp4").is_some(), "{reply:#}");
    // Without a mask, what is set counts.
    let answer = script.call("TemplateService/UpdateTemplate", r#"{"template":{"name":"t","time_zone":"Asia/Tokyo"}}"#);
    let reply = answer.reply();
    assert_eq!((&reply["timeZone"], &reply["description"]), (&json!("Asia/Tokyo"), &json!("old")));
    let answer = script.call("TemplateService/UpdateTemplate", &update(json!({"name": "t"}), &["no_such_field"]));
    assert_eq!((answer.code.as_str(), answer.reason()), ("INVALID_ARGUMENT", "INVALID_FIELD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_spellings_mean_the_same() {
    let cluster = Cluster::start().await;
    let mut script = Script::start(&cluster, &[]);
    let snake = r#"{"template_id":"a","template":{"display_name":"x","flv":{"max_file_duration":"600s"}},"validate_only":true}"#;
    let camel =
        r#"{"templateId":"a","template":{"displayName":"x","flv":{"maxFileDuration":"600s"}},"validateOnly":true}"#;
    let answers = [snake, camel].map(|request| script.call("TemplateService/CreateTemplate", request));
    let [snake, camel] = answers.each_ref().map(|answer| {
        let mut reply = answer.reply().clone();
        // Of each call's own making, as nothing is kept.
        for own in ["createTime", "updateTime", "etag"] {
            reply.as_object_mut().unwrap().remove(own);
        }
        reply
    });
    assert_eq!(snake, camel);
    assert_eq!(snake["flv"]["maxFileDuration"], "600s");
}

/// The same request id and body give the same reply and no second template; another body is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_has_one_effect() {
    let cluster = Cluster::start().await;
    let mut script = Script::start(&cluster, &[]);
    let request = r#"{"template":{"mp4":{}},"request_id":"9f1c7a52"}"#;
    let first = script.call("TemplateService/CreateTemplate", request);
    let second = script.call("TemplateService/CreateTemplate", request);
    assert_eq!(first.reply(), second.reply());
    let other = script.call("TemplateService/CreateTemplate", r#"{"template":{"flv":{}},"request_id":"9f1c7a52"}"#);
    assert_eq!((other.code.as_str(), other.reason()), ("INVALID_ARGUMENT", "REQUEST_ID_REUSED"));
    let listed = script.call("TemplateService/ListTemplates", "{}");
    let names = listed.reply()["templates"].as_array().unwrap().iter().map(|template| template["name"].clone());
    assert_eq!(names.filter(|name| *name == first.reply()["name"]).count(), 1);
}
