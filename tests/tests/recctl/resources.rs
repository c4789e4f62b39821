//! list, get, create, update, delete and call, on resources of every kind.

use recorder_tests::cluster::Cluster;
use serde_json::json;

use super::{Recctl, cells};

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_made_listed_changed_and_taken_away() {
    let cluster = Cluster::start().await;
    let recctl = Recctl::of(&cluster);
    recctl.ok(&["create", "storage", "shelf", "file_system.directory=shelf", "labels.team=blue"]);
    let made =
        recctl.json(&["create", "template", "show", "mp4.max_file_duration=3600s", "hls={}", "storage=storages/shelf"]);
    assert_eq!((&made["name"], &made["mp4"]["maxFileDuration"]), (&json!("templates/show"), &json!("3600s")));
    recctl.ok(&["create", "binding", "show", "domains=a.example.com,b.example.com", "create_domains=true"]);
    recctl.ok(&["create", "rule", "quiet", "domain=a.example.com", "stream=test-*", "action=skip"]);
    recctl.ok(&["create", "webhook", "hook", "url=https://hooks.example.com/in", "event_types=file.*,recording.*"]);
    let token = recctl.json(&["create", "token", "display_name=ci", "roles=viewer,operator", "domains=a.example.com"]);
    assert!(token["secret"].as_str().unwrap().len() > 20, "shown once");

    let rows = recctl.rows(&["list", "storages"]);
    assert_eq!(rows[0][..3], ["storages/shelf", "library:///shelf", "ACTIVE"].map(str::to_owned), "{rows:?}");
    assert_eq!(rows[1][0], "storages/library");
    let rows = recctl.rows(&["list", "templates"]);
    assert_eq!(rows[0], ["templates/show", "1", "hls,mp4", "storages/shelf", "-"], "{rows:?}");
    let names = |rows: Vec<Vec<String>>| rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(names(recctl.rows(&["list", "domains"])), ["domains/b.example.com", "domains/a.example.com"]);
    let binding = "domains/a.example.com/bindings/show";
    assert_eq!(names(recctl.rows(&["list", "bindings", "domain=a.example.com"])), [binding]);
    let rule = ["rules/quiet", "domains/a.example.com", "live", "test-*", "SKIP", "-"];
    assert_eq!(recctl.rows(&["list", "rules"])[0][..6], rule.map(str::to_owned));
    assert_eq!(recctl.rows(&["list", "nodes"])[0][..2], ["nodes/m1".to_owned(), "ACTIVE".to_owned()]);
    let rows = recctl.rows(&["list", "webhooks"]);
    assert_eq!(rows[0][..2], ["webhooks/hook".to_owned(), "https://hooks.example.com/in".to_owned()]);
    let rows = recctl.rows(&["list", "tokens"]);
    assert_eq!(rows[0][1..4], ["ci", "VIEWER,OPERATOR", "a.example.com"].map(str::to_owned), "{rows:?}");
    assert!(!recctl.ok(&["list", "tokens", "-o", "json"]).contains(token["secret"].as_str().unwrap()));

    recctl.ok(&["update", "templates/show", "display_name=Evening", "mp4.max_file_duration=600s"]);
    let changed = recctl.ok(&["update", "templates/show", "hls=", "description=late"]);
    assert!(changed.contains("mp4.max_file_duration") && changed.contains("600s"), "{changed}");
    let shown = recctl.json(&["get", "template", "show"]);
    assert_eq!((&shown["displayName"], &shown["description"]), (&json!("Evening"), &json!("late")));
    let answer = recctl.json(&["call", "ExplainMatch", "stream.domain=a.example.com", "stream.stream=test-1"]);
    assert_eq!(answer["candidates"][0]["source"], "rules/quiet");
    let body = r#"{"name":"storages/library"}"#;
    assert_eq!(recctl.json(&["call", "StorageService/TestStorage", body])["steps"][0]["ok"], true);

    for name in [binding, "domains/b.example.com/bindings/show", "rules/quiet", "templates/show", "storages/shelf"] {
        assert_eq!(recctl.ok(&["delete", name]), "done\n", "{name}");
    }
    recctl.ok(&["delete", "webhook", "hook"]);
    recctl.ok(&["delete", token["name"].as_str().unwrap()]);
    for plural in ["bindings", "rules", "webhooks", "tokens"] {
        assert_eq!(recctl.json(&["list", plural]), json!([]), "{plural}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_over_its_pages_and_a_body_comes_from_a_file() {
    let cluster = Cluster::start().await;
    let recctl = Recctl::of(&cluster);
    let body = r#"{"displayName":"x","flv":{"uploadWhileRecording":true}}"#;
    for number in 0..5 {
        let (id, words) = (format!("t{number}"), ["-f", "-", "labels.team=red"]);
        let made = recctl.fed(&[&["create", "template", &id], &words[..]].concat(), body);
        assert_eq!(made.code, 0, "{made:?}");
    }
    let listed = recctl.run(&["list", "templates", "--limit", "3"]);
    assert_eq!((listed.code, listed.out.lines().count()), (0, 4), "{listed:?}");
    assert!(listed.error.contains("--limit"), "{listed:?}");
    // A page of one: every page is a call of its own.
    let all = recctl.json(&["list", "templates"]);
    assert_eq!(all.as_array().unwrap().len(), 6, "five and the built-in");
    let one = recctl.json(&["get", "templates/t4"]);
    assert_eq!((&one["flv"]["uploadWhileRecording"], &one["labels"]["team"]), (&json!(true), &json!("red")));
    let secret = cluster.folder().join("secret");
    std::fs::write(&secret, "hunter2hunter2\n").unwrap();
    let words = ["s3.bucket=b", "s3.region=eu-west-1", "s3.access_key_id=AKIA", "s3.endpoint=http://127.0.0.1:9"];
    let from = format!("s3.secret_access_key=@{}", secret.display());
    let made = recctl.ok(&[&["create", "storage", "s", &from], &words[..]].concat());
    assert!(made.contains("s3.bucket") && !made.contains("hunter2"), "{made}");
    let tested = recctl.ok(&["call", "TestStorage", "name=s"]);
    assert!(
        tested.lines().any(|line| cells(line) == ["steps.0.error.code", "14"]) || tested.contains("error"),
        "{tested}"
    );
}

/// What the server says is passed on whole, in both forms, and the code tells scripts what kind it is.
#[tokio::test(flavor = "multi_thread")]
async fn errors_are_clear_and_have_their_codes() {
    let cluster = Cluster::start().await;
    let recctl = Recctl::of(&cluster);
    recctl.ok(&["create", "template", "show"]);
    recctl.ok(&["create", "binding", "show", "domains=a.example.com", "create_domains=true"]);
    for (line, code, told) in [
        (&["list", "pictures"][..], 64, "no kind of resource"),
        (&["fly"], 64, "no verb fly"),
        (&["get", "templates/show", "--colour"], 64, "no flag --colour"),
        (&["create", "template", "x", "colour=red"], 64, "has no field colour; it has name"),
        (&["update", "tasks/x", "labels.a=b"], 64, "cannot be changed"),
        (&["create", "template", "x", "time_zone=Mars/Olympus", "path={EndHour}"], 65, "template.time_zone: "),
        (&["get", "storages/nowhere"], 66, "NOT_FOUND STORAGE_NOT_FOUND"),
        (&["create", "template", "show"], 73, "TEMPLATE_EXISTS"),
        (&["create", "storage", "-f", "/no/such/file"], 74, "/no/such/file"),
        (&["update", "templates/show", "etag=stale", "description=x"], 75, "ETAG_MISMATCH"),
        (&["delete", "templates/show"], 78, "in the way: domains/a.example.com/bindings/show"),
        (&["call", "CreateWatermark"], 70, "UNIMPLEMENTED"),
    ] {
        let outcome = recctl.run(line);
        assert_eq!((outcome.code, outcome.out.as_str()), (code, ""), "{line:?}: {outcome:#?}");
        assert!(outcome.error.starts_with("recctl: ") && outcome.error.contains(told), "{line:?}: {outcome:#?}");
    }
    let both = recctl.run(&["create", "template", "x", "time_zone=Mars/Olympus", "path={EndHour}", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&both.error).unwrap();
    assert_eq!((&error["code"], &error["reason"]), (&json!("INVALID_ARGUMENT"), &json!("INVALID_FIELD")));
    let fields: Vec<_> = error["fields"].as_array().unwrap().iter().map(|field| field["field"].clone()).collect();
    assert_eq!(fields.len(), 2, "every bad field at once: {error:#}");
    // Nobody listens there.
    let nobody = Recctl::at("http://127.0.0.1:9").run(&["list", "templates"]);
    assert!(nobody.code == 69 && nobody.error.contains("refused"), "{nobody:?}");
    let help = recctl.ok(&["--help"]);
    for code in [64, 65, 66, 69, 70, 73, 74, 75, 77, 78] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code} is documented");
    }
}
