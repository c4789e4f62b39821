//! Every recipe of the project's list (`fixtures/recipes.tsv`), played against the real binaries by a script that
//! knows nothing but server reflection. Each line has its expectation here; nothing is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::script::{Answer, Script};
use recorder_proto::pb::v1;
use recorder_runtime::clock::{Clock, SystemClock};
use recorder_tests::bucket::S3Server;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source};
use recorder_tests::scene::Clients;
use recorder_tests::wait;
use serde_json::{Value, json};

const DOMAIN: &str = "push.example.com";

/// What must come of a recipe.
enum Expect {
    /// Success; the reply holds at least this, `null` standing for a field that is not set.
    Reply(Value),
    /// Refused with this code and `ErrorInfo.reason`.
    Refused(&'static str, &'static str),
}

use Expect::{Refused, Reply};

/// A recipe as `Service/Method`, with `#2`, `#3` for its second and third line in the list, and what comes of it.
type Step = (&'static str, Expect);

/// Before anything is published. Storages come last of all, because the list makes one with a made-up bucket the
/// default.
fn setting_up() -> Vec<Step> {
    let show = json!({
        "name": "templates/show", "displayName": "Evening-show", "content": "ORIGINAL", "timeZone": "UTC+8",
        "mp4": {"maxFileDuration": "3600s", "layout": "FAST_START"},
        "hls": {"segmentDuration": "10s", "resumeTimeout": "30s", "segment": "TS"},
        "aac": {"maxFileDuration": "1800s", "when": "AUDIO_ONLY_STREAMS"},
        "flv": null, "revision": 1,
    });
    let minimal = json!({
        "name": "templates/t1", "displayName": "t1", "timeZone": "UTC", "hls": {"segmentDuration": "10s"}, "mp4": null,
        "path": "{RecordSource}/{Domain}/{AppName}/{StreamID}/{RecordId}/{StartYear}-{StartMonth}-{StartDay}-{StartHour}-{StartMinute}-{StartSecond}",
    });
    let vip = json!({
        "name": "rules/vip", "domain": "domains/push.example.com", "app": "live", "stream": "vip-*",
        "action": "RECORD", "template": "templates/show",
    });
    let info = json!({"database": "sqlite", "limits": {"aac_file_duration_max": "7200s"}});
    let bindings = json!({"bindings": [
        {"domain": "domains/push.example.com", "template": "templates/show"},
        {"domain": "domains/push2.example.com", "template": "templates/show"},
    ]});
    let match_ = json!({"templates": ["templates/show"], "candidates": [
        {"source": "rules/vip", "chosen": true},
        {"source": "domains/push.example.com/bindings/show", "chosen": null},
    ]});
    vec![
        ("SystemService/GetServerInfo", Reply(info)),
        ("TemplateService/CreateTemplate", Reply(minimal)),
        ("TemplateService/CreateTemplate#2", Reply(show.clone())),
        ("TemplateService/CreateTemplate#3", Refused("INVALID_ARGUMENT", "INVALID_FIELD")),
        ("TemplateService/GetTemplate", Reply(show)),
        ("DomainService/CreateDomain", Reply(json!({"name": "domains/push.example.com"}))),
        ("DomainService/GetDomain", Reply(json!({"name": "domains/push.example.com"}))),
        ("DomainService/ListDomains", Reply(json!({"domains": [{"name": "domains/push.example.com"}]}))),
        ("DomainService/UpdateDomain", Reply(json!({"publishAuth": {"mode": "SIGNED_URL", "primaryKey": null}}))),
        ("DomainService/BindTemplate", Reply(bindings)),
        ("DomainService/ListBindings", Reply(json!({"bindings": [{"nodesTotal": 1}, {"nodesTotal": 1}]}))),
        ("RuleService/CreateRule", Reply(vip.clone())),
        ("RuleService/CreateRule#2", Reply(json!({"name": "rules/skip-tests", "action": "SKIP", "template": null}))),
        ("RuleService/GetRule", Reply(vip)),
        ("RuleService/ListRules", Reply(json!({"rules": [{"name": "rules/skip-tests"}, {"name": "rules/vip"}]}))),
        ("RuleService/UpdateRule", Reply(json!({"name": "rules/vip", "priority": 10, "stream": "vip-*"}))),
        ("RuleService/ExplainMatch", Reply(match_)),
        ("NodeService/ListNodes", Reply(json!({"nodes": [{"name": "nodes/m1", "state": "ACTIVE"}]}))),
        ("NodeService/GetNode", Reply(json!({"name": "nodes/m1", "state": "ACTIVE", "epoch": "1"}))),
        ("NodeService/WatchNodes", Reply(json!({"kind": "CURRENT", "node": {"name": "nodes/m1"}}))),
    ]
}

/// While `cam1` is published and recorded.
fn live() -> Vec<Step> {
    let stream = json!({"stream": {"domain": DOMAIN, "app": "live", "stream": "cam1"}, "protocol": "RTMP"});
    let recording = json!({
        "stream": {"domain": DOMAIN, "app": "live", "stream": "cam1"}, "protocol": "RTMP", "state": "RECORDING",
        "template": "templates/show", "templateRevision": 1, "node": "nodes/m1", "epoch": "1",
        "binding": "domains/push.example.com/bindings/show",
    });
    vec![
        ("StreamService/ListStreams", Reply(json!({"streams": [stream]}))),
        ("StreamService/GetStream", Reply(stream.clone())),
        ("StreamService/WatchStreams", Reply(json!({"kind": "CURRENT", "stream": stream}))),
        ("RecordingService/GetRecording", Reply(recording.clone())),
        ("RecordingService/ListRecordings", Reply(json!({"recordings": [recording]}))),
        ("RecordingService/WatchRecordings", Reply(json!({"kind": "CURRENT", "recording": recording}))),
        ("RecordingService/SplitRecording", Reply(json!({"stream": {"stream": "cam1"}, "state": "RECORDING"}))),
        ("RecordingService/StopRecording", Reply(json!({"stream": {"stream": "cam1"}}))),
    ]
}

/// Once the recording's files are in the library.
fn recorded() -> Vec<Step> {
    let file = |format: &str, kind: &str| json!({"format": format, "state": "AVAILABLE", "contentType": kind});
    let (hls, mp4) = (file("HLS", "application/vnd.apple.mpegurl"), file("MP4", "video/mp4"));
    vec![
        ("RecordingService/ListFiles", Reply(json!({"files": [hls, mp4]}))),
        ("RecordingService/GetFile", Reply(mp4)),
        ("RecordingService/GeneratePlaybackUrl", Reply(json!({"error": null}))),
        ("RecordingService/RetryUploads", Reply(json!({"state": "SUCCEEDED"}))),
        ("RecordingService/VerifyRecording", Reply(json!({"object": {"outcome": "OK", "error": null}}))),
    ]
}

/// Who is told of what. The receiver of the list is somebody else's; here its name leads nowhere.
fn notified() -> Vec<Step> {
    let ops = json!({
        "name": "webhooks/ops", "eventTypes": ["recording.*", "file.available"], "state": "ACTIVE",
        "signature": "STANDARD", "timeout": "20s",
    });
    let failed = json!({"eventType": "webhook.test", "state": "FAILED", "attempt": 1, "httpStatus": null});
    vec![
        ("WebhookService/CreateWebhook", Reply(ops.clone())),
        ("WebhookService/GetWebhook", Reply(ops.clone())),
        ("WebhookService/ListWebhooks", Reply(json!({"webhooks": [{"name": "webhooks/ops", "secret": null}]}))),
        ("WebhookService/RotateSecret", Reply(ops)),
        ("WebhookService/TestWebhook", Reply(failed.clone())),
        ("WebhookService/ListDeliveries", Reply(json!({"deliveries": [failed]}))),
    ]
}

/// Once it is known which delivery the list speaks of.
fn told_again() -> Vec<Step> {
    let failed = json!({"eventType": "webhook.test", "state": "FAILED", "attempt": 2});
    vec![
        ("WebhookService/Redeliver", Reply(failed)),
        ("WebhookService/UpdateWebhook", Reply(json!({"name": "webhooks/ops", "disabled": true, "secret": null}))),
        ("WebhookService/DeleteWebhook", Reply(json!({}))),
        ("EventService/WatchEvents", Reply(json!({"bookmark": true, "event": null}))),
    ]
}

/// What was used; the spans of the list are over, and nothing was recorded in them.
fn accounted() -> Vec<Step> {
    vec![
        ("UsageService/QueryConcurrency", Reply(json!({"peak": null, "peakTime": null}))),
        (
            "UsageService/QueryVolume",
            Reply(json!({"buckets": vec![json!({"files": null, "bytesDelivered": null}); 1_440]})),
        ),
    ]
}

/// Storages, and changes of the template.
fn changing() -> Vec<Step> {
    let s3 = json!({
        "name": "storages/s3", "isDefault": true, "credentialVersion": "1",
        "s3": {"bucket": "rec", "region": "ap-southeast-1", "secretAccessKey": null},
    });
    let rotated = json!({
        "name": "storages/s3", "credentialVersion": "2",
        "s3": {"bucket": "rec", "region": "ap-southeast-1", "accessKeyId": "AKIA2"},
    });
    let steps = ["write", "read", "multipart", "delete"].map(|step| json!({"step": step, "ok": true}));
    vec![
        ("StorageService/CreateStorage", Reply(s3.clone())),
        ("StorageService/CreateStorage#2", Reply(json!({"name": "storages/gcs", "gcs": {"bucket": "rec"}}))),
        ("StorageService/GetStorage", Reply(s3)),
        (
            "StorageService/ListStorages",
            Reply(json!({"storages": [{"name": "storages/gcs"}, {"name": "storages/s3"}, {}]})),
        ),
        ("StorageService/UpdateStorage", Reply(rotated)),
        // The server knows the new key only.
        ("StorageService/TestStorage", Reply(json!({"steps": steps}))),
        (
            "TemplateService/ListTemplates",
            Reply(json!({"templates": [{"name": "templates/show"}, {"name": "templates/t1"}, {}]})),
        ),
        (
            "TemplateService/UpdateTemplate",
            Reply(json!({"description": "new text", "revision": 2, "displayName": "Evening-show"})),
        ),
        (
            "TemplateService/UpdateTemplate#2",
            Reply(json!({"description": "new text", "aac": null, "mp4": {}, "hls": {}, "revision": 3})),
        ),
    ]
}

/// The end of everything: what is still referred to does not go.
fn tearing_down() -> Vec<Step> {
    vec![
        ("DomainService/UnbindTemplate", Reply(json!({}))),
        ("TemplateService/DeleteTemplate", Refused("FAILED_PRECONDITION", "TEMPLATE_IN_USE")),
        ("RuleService/DeleteRule", Reply(json!({}))),
        ("RecordingService/DeleteRecording", Reply(json!({}))),
        ("DomainService/DeleteDomain", Reply(json!({}))),
        ("StorageService/DeleteStorage", Refused("FAILED_PRECONDITION", "STORAGE_IN_USE")),
    ]
}

/// The node is taken out of service and put back; while it is well it is not forgotten.
fn servicing() -> Vec<Step> {
    vec![
        ("NodeService/DrainNode", Reply(json!({"name": "nodes/m1", "state": "DRAINING"}))),
        ("NodeService/ResumeNode", Reply(json!({"name": "nodes/m1", "state": "ACTIVE"}))),
        ("NodeService/ForgetNode", Refused("FAILED_PRECONDITION", "NODE_ALIVE")),
    ]
}

/// What was in the way of [`tearing_down`], and then the same once more.
const FREEING: &[(&str, &str)] = &[
    ("DomainService/UnbindTemplate", r#"{"template":"show","domains":["push2.example.com"]}"#),
    ("TemplateService/DeleteTemplate", r#"{"name":"templates/show"}"#),
    ("StorageService/UpdateStorage", r#"{"storage":{"name":"library","is_default":true}}"#),
    ("StorageService/DeleteStorage", r#"{"name":"storages/s3"}"#),
];

/// Tasks, while nobody publishes: one from now on, and one for a night within the week that tasks may be ordered ahead.
fn tasks(play: &mut Play) {
    let ahead = |hours: u64, minutes: u64| {
        (SystemClock::new().now() + Duration::from_secs(hours * 3_600 + minutes * 60)).to_rfc3339()
    };
    let (start, end) = (ahead(24, 0), ahead(24, 20));
    play.names.push(("2026-12-31T23:55:00Z", start));
    play.names.push(("2027-01-01T00:15:00Z", end));
    let first = play.play("TaskService/CreateTask");
    let name = first.reply()["name"].as_str().expect("a name").to_owned();
    let awaiting = json!({"name": name, "template": "templates/show", "state": "AWAITING_STREAM", "recordings": null});
    assert!(holds(&awaiting, first.reply()), "{first:#?}");
    let night = json!({"name": "tasks/ny", "state": "SCHEDULED", "stream": {"app": "live", "stream": "cam1"}});
    play.act(vec![
        ("TaskService/CreateTask#2", Reply(night.clone())),
        ("TaskService/GetTask", Reply(night)),
        ("TaskService/ListTasks", Reply(json!({"tasks": [awaiting]}))),
        ("TaskService/StopTask", Reply(json!({"name": "tasks/ny", "state": "CANCELLED"}))),
        ("TaskService/CancelTask", Reply(json!({"name": "tasks/ny", "state": "CANCELLED"}))),
    ]);
    let stopped = play.script.call("TaskService/StopTask", &format!(r#"{{"name":"{name}"}}"#));
    assert_eq!(stopped.reply()["state"], "EXPIRED", "{stopped:#?}");
}

/// `expected` is found in `found`; `null` means not set, lists must be equally long.
fn holds(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected.iter().all(|(key, value)| match found.get(key) {
            None => value.is_null(),
            Some(there) => holds(value, there),
        }),
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| holds(a, b))
        }
        (expected, found) => expected == found,
    }
}

/// The list, the script, and which lines have been played.
struct Play {
    script: Script,
    /// Request by step name; played ones are taken out.
    recipes: BTreeMap<String, String>,
    /// What the placeholders of the list stand for here.
    names: Vec<(&'static str, String)>,
}

impl Play {
    fn new(cluster: &Cluster, bucket: &S3Server) -> Self {
        let mut recipes = BTreeMap::new();
        for line in include_str!("../fixtures/recipes.tsv").lines() {
            let (method, request) = line.split_once('\t').expect("method, tab, request");
            let key = |number| if number == 1 { method.to_owned() } else { format!("{method}#{number}") };
            let key = (1..).map(key).find(|key| !recipes.contains_key(key)).unwrap();
            recipes.insert(key, request.to_owned());
        }
        // A server of ours in the place of Amazon: tests reach nothing outside this machine.
        let bucket = format!(r#""s3":{{"bucket":"rec","endpoint":"{}","path_style":true,"region""#, bucket.endpoint());
        let receiver = "https://ops.invalid/hook".to_owned();
        let names = vec![(r#""s3":{"bucket":"rec","region""#, bucket), ("https://ops.example.com/hook", receiver)];
        Self { script: Script::start(cluster, &[]), recipes, names }
    }

    fn play(&mut self, step: &str) -> Answer {
        let request = self.recipes.remove(step).unwrap_or_else(|| panic!("{step} is not in the list, or played twice"));
        let put = |text: String, (placeholder, name): &(&str, String)| text.replace(placeholder, name);
        let request = self.names.iter().fold(request, put);
        let method = step.split('#').next().unwrap();
        self.script.call(method, &request)
    }

    fn act(&mut self, steps: Vec<Step>) {
        for (step, expect) in steps {
            let answer = self.play(step);
            match expect {
                Reply(expected) => {
                    let reply = answer.reply();
                    assert!(holds(&expected, reply), "{step}\nexpected at least {expected:#}\ngot {reply:#}");
                    let text = reply.to_string();
                    let secret = ["secretAccessKey", "primaryKey", "serviceAccountJson", "\"new\""];
                    assert!(!secret.iter().any(|word| text.contains(word)), "{step} shows a secret: {text}");
                }
                Refused(code, reason) => {
                    assert_eq!((answer.code.as_str(), answer.reason()), (code, reason), "{step}: {answer:#?}");
                }
            }
        }
    }
}

/// Pushes to the URL that the API made, at this node's port instead of the domain's address.
fn publish(cluster: &Cluster, url: &str) -> Live {
    let (_, key) = url.split_once("push.example.com").expect("the push domain");
    let key = &key[key.find('/').expect("an app")..];
    let join = if key.contains('?') { '&' } else { '?' };
    let url = format!("rtmp://{}{key}{join}domain={DOMAIN}", cluster.nodes[0].address("rtmp"));
    Live::file(&Source { seconds: 4, ..Default::default() }.generate(cluster.folder()), &url)
}

/// The recording is in the accounts of its own time.
fn used(play: &mut Play, recording: &v1::Recording) {
    let start = recording.start_time.as_ref().and_then(recorder_proto::time::datetime).expect("it has begun");
    let (from, to) = (start.to_rfc3339(), (start + Duration::from_secs(3_600)).to_rfc3339());
    let span = format!(r#"{{"start_time":"{from}","end_time":"{to}","granularity":"86400s","group_by":"DOMAIN"}}"#);
    let peaks = play.script.call("UsageService/QueryConcurrency", &span);
    let series = &peaks.reply()["series"][0];
    assert_eq!((&peaks.reply()["peak"], &series["key"]), (&json!(1), &json!(DOMAIN)), "{peaks:#?}");
    let span = span.replace(r#","group_by":"DOMAIN""#, "");
    let volume = play.script.call("UsageService/QueryVolume", &span);
    let day = &volume.reply()["buckets"][0];
    assert!(day["files"].as_u64() == Some(2) && day["recorded"].is_string(), "{day:#}");
}

/// Tokens; this server asks for none, so that the list can be played without one.
fn tokens(play: &mut Play) {
    let made = play.play("AccessService/CreateToken");
    let (name, secret) = (made.reply()["name"].as_str().unwrap(), made.reply()["secret"].as_str().unwrap());
    assert!(secret.starts_with("rec_"), "{name}");
    play.names.push(("tokens/01JD…", name.to_owned()));
    let listed = json!({"tokens": [{"name": name, "displayName": "ci", "roles": ["OPERATOR"], "secret": null}]});
    play.act(vec![("AccessService/ListTokens", Reply(listed)), ("AccessService/RevokeToken", Reply(json!({})))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recipe_does_what_it_says() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    // The key that UpdateStorage brings, not the one before it.
    let bucket = S3Server::start("AKIA2", "new").await;
    let mut play = Play::new(&cluster, &bucket);
    play.act(setting_up());
    clients.bind("show", DOMAIN).await;
    let snapshot = play.play("node:NodeLinkService/GetSnapshot");
    assert!(snapshot.reply()["directives"].as_array().is_some_and(|list| list.len() >= 3), "{snapshot:#?}");

    let signed = play.play("DomainService/GeneratePublishUrl");
    assert!(signed.reply()["rtmpUrl"].as_str().is_some_and(|url| url.contains("txSecret=")), "{signed:#?}");
    let mut publisher = publish(&cluster, signed.reply()["rtmpUrl"].as_str().unwrap());
    let recording = clients.wait_for(DOMAIN, "cam1", 1, v1::recording::State::Recording).await.remove(0);
    let stream = wait::until("the stream to be listed", async || {
        let streams = clients.streams.list_streams(v1::ListStreamsRequest::default()).await.ok()?.into_inner().streams;
        streams.into_iter().next()
    });
    let stream = stream.await;
    play.names.push(("recordings/01JD…", recording.name.clone()));
    play.names.push(("streams/01JD…", stream.name));
    play.act(live());

    clients.wait_for(DOMAIN, "cam1", 1, v1::recording::State::Succeeded).await;
    assert!(publisher.is_running(), "stopping a recording leaves its publisher alone");
    play.act(vec![("StreamService/DisconnectPublisher", Reply(json!({"stream": {"stream": "cam1"}})))]);
    wait::until("the publisher to be sent away", async || (!publisher.is_running()).then_some(())).await;
    play.act(recorded());
    play.act(accounted());
    used(&mut play, &recording);
    tokens(&mut play);
    play.act(notified());
    let request = r#"{"parent":"webhooks/ops"}"#;
    let log = play.script.call("WebhookService/ListDeliveries", request);
    let delivery = log.reply()["deliveries"][0]["name"].as_str().expect("the test").to_owned();
    play.names.push(("webhooks/ops/deliveries/01JD…", delivery));
    play.act(told_again());
    let events = play.play("EventService/ListEvents");
    let newest = &events.reply()["events"][0];
    assert_eq!((&newest["type"], &newest["data"]["state"]), (&json!("file.available"), &json!("AVAILABLE")));
    play.act(changing());
    tasks(&mut play);
    play.act(tearing_down());
    for (method, request) in FREEING {
        play.script.call(method, request).reply();
    }
    play.act(servicing());
    assert_eq!(play.recipes.keys().collect::<Vec<_>>(), Vec::<&String>::new(), "recipes nobody played");
}

/// What the refusals of the list tell: every wrong field, every obstacle.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_what_is_in_the_way() {
    let cluster = Cluster::start().await;
    let mut script = Script::start(&cluster, &[]);
    let request = r#"{"template_id":"show","template":{"flv":{"max_file_duration":"10s"}},"validate_only":true}"#;
    let refused = script.call("TemplateService/CreateTemplate", request);
    let violations = &refused.detail("BadRequest")["fieldViolations"];
    assert_eq!(violations[0]["field"], "template.flv.max_file_duration", "{refused:#?}");
    let sentence = violations[0]["description"].as_str().unwrap();
    assert!(["60s", "43200s", "10s"].iter().all(|part| sentence.contains(part)), "{sentence}");
    assert_eq!(script.call("TemplateService/GetTemplate", r#"{"name":"show"}"#).reason(), "TEMPLATE_NOT_FOUND");

    script.call("TemplateService/CreateTemplate", r#"{"template_id":"show"}"#).reply();
    let request = r#"{"template":"show","domains":["a.example.com","b.example.com"],"create_domains":true}"#;
    script.call("DomainService/BindTemplate", request).reply();
    let request = r#"{"rule_id":"vip","rule":{"domain":"a.example.com","stream":"vip-*","template":"show"}}"#;
    script.call("RuleService/CreateRule", request).reply();
    let refused = script.call("TemplateService/DeleteTemplate", r#"{"name":"show"}"#);
    assert_eq!((refused.code.as_str(), refused.reason()), ("FAILED_PRECONDITION", "TEMPLATE_IN_USE"));
    let violations = refused.detail("PreconditionFailure")["violations"].as_array().unwrap().iter();
    let mut subjects: Vec<&str> = violations.map(|violation| violation["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["domains/a.example.com/bindings/show", "domains/b.example.com/bindings/show", "rules/vip"]);
}

/// The judge itself: what is missing, different, unexpectedly set or one too many is seen.
#[test]
fn the_comparison_can_fail() {
    let found = json!({"name": "t", "mp4": {"layout": "FAST_START"}, "files": [{"index": 0}, {"index": 1}]});
    for right in [json!({}), json!({"mp4": {}, "aac": null}), json!({"files": [{}, {"index": 1}]})] {
        assert!(holds(&right, &found), "{right}");
    }
    let wrong = [
        json!({"name": "u"}),
        json!({"mp4": null}),
        json!({"aac": {}}),
        json!({"mp4": {"layout": "FRAGMENTED"}}),
        json!({"files": [{}]}),
        json!({"files": [{"index": 1}, {"index": 0}]}),
    ];
    for wrong in wrong {
        assert!(!holds(&wrong, &found), "{wrong}");
    }
}
