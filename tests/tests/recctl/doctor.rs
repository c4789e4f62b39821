//! doctor: what is well is told so, what is not is found, and the advice is there.

use recorder_tests::cluster::Cluster;
use recorder_tests::wait;
use serde_json::Value;

use super::{Recctl, cells};

/// The findings by subject.
fn findings(out: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(out).unwrap_or_else(|error| panic!("{error}: {out}")).as_array().unwrap().clone()
}

fn about<'a>(findings: &'a [Value], subject: &str) -> &'a Value {
    findings.iter().find(|finding| finding["subject"] == subject).unwrap_or_else(|| panic!("{subject}: {findings:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_is_wrong_and_says_what_to_do() {
    let mut cluster = Cluster::with_all_settings(&[], &[("RECORDER_LINK_LEASE", "2s")]).await;
    let recctl = Recctl::of(&cluster);
    recctl.ok(&["create", "binding", "default", "domains=a.example.com", "create_domains=true"]);
    wait::until("the binding to be applied", async || {
        (recctl.json(&["list", "bindings"])[0]["state"] == "ACTIVE").then_some(())
    })
    .await;
    let well = recctl.ok(&["doctor"]);
    for subject in ["server", "clock", "access", "nodes/m1", "storages/library"] {
        let row = ["OK".to_owned(), subject.to_owned()];
        assert!(well.lines().any(|line| cells(line).starts_with(&row)), "{subject}: {well}");
    }
    assert!(well.contains("1 bindings, each applied") && !well.contains("FAILURE"), "{well}");

    recctl.ok(&[
        "create",
        "storage",
        "away",
        "s3.bucket=b",
        "s3.region=r",
        "s3.endpoint=http://127.0.0.1:9",
        "s3.path_style=true",
        "s3.access_key_id=a",
        "s3.secret_access_key=b",
    ]);
    cluster.nodes[0].kill();
    wait::until("the node to be lost", async || (recctl.json(&["get", "nodes/m1"])["state"] == "LOST").then_some(()))
        .await;
    let ill = recctl.run(&["doctor", "-o", "json"]);
    assert_eq!(ill.code, 1, "{ill:?}");
    let found = findings(&ill.out);
    let node = about(&found, "nodes/m1");
    assert_eq!(node["level"], "FAILURE");
    assert!(node["found"].as_str().unwrap().contains("LOST") && node["advice"].as_str().unwrap().contains("spool"));
    let storage = about(&found, "storages/away");
    assert!(storage["level"] == "FAILURE" && storage["found"].as_str().unwrap().contains("fails: "), "{storage}");
    assert_eq!(about(&found, "storages/library")["level"], "OK");
    let untouched = recctl.run(&["doctor", "--no-probe", "-o", "json"]);
    assert_eq!(about(&findings(&untouched.out), "storages/away")["level"], "OK", "nothing was written there");

    cluster.control.as_mut().unwrap().kill();
    let gone = recctl.run(&["doctor"]);
    assert!(gone.code == 1 && gone.out.contains("-> start recorder-control"), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_sees_that_nothing_is_bound() {
    let cluster = Cluster::start().await;
    let out = Recctl::of(&cluster).json(&["doctor"]);
    let bindings = about(out.as_array().unwrap(), "bindings").clone();
    assert_eq!(bindings["level"], "WARNING");
    assert!(bindings["advice"].as_str().unwrap().contains("recctl create binding"), "{bindings}");
}
