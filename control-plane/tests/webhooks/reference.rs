//! What we sign is what the reference library of Standard Webhooks accepts.
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use recorder_proto::pb::v1::RotateSecretRequest;
use recorder_runtime::clock::{Clock, SystemClock};

use super::receiver::{Manner, Receiver, Seen};
use super::{client, create, describe, of_templates, on_each};
use crate::support::seconds;

/// What the script said to a delivery: the event's id, or why it was refused.
fn verified(secret: &str, seen: &Seen) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let python = root.join(".tools/python/bin/python");
    assert!(python.exists(), "{} is missing: run `.ci/install test` first", python.display());
    let mut child = Command::new(python)
        .arg(root.join("tests/tools/verify_webhook.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let request = serde_json::json!({"secret": secret, "headers": seen.headers, "body": seen.body});
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_reference_library_verifies_our_signatures() {
    on_each(async |control| {
        // The library looks at the machine's clock.
        control.clock.set(SystemClock::new().now());
        let mut receiver = Receiver::always(Manner::Status(200)).await;
        let old = create(&control, "ops", of_templates(receiver.url("/"))).await.secret;
        control.template("t").await;
        let seen = receiver.next().await;
        assert_eq!(verified(&old, &seen), seen.header("webhook-id"));
        let tampered = Seen { body: seen.body.replace("templates/t", "templates/u"), ..seen.clone() };
        assert_eq!(verified(&old, &tampered), "refused: No matching signature found");

        let rotate = RotateSecretRequest { name: "ops".into(), overlap: seconds(60) };
        let new = client(&control).rotate_secret(rotate).await.unwrap().into_inner().secret;
        describe(&control, "t", "直播 evening").await;
        let seen = receiver.next().await;
        for secret in [&old, &new] {
            assert_eq!(verified(secret, &seen), seen.header("webhook-id"), "both sign during the overlap");
        }
    });
}
