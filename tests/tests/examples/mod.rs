//! The examples of `tests/examples`, run as their readers do: each records a stream of its own from nothing but an
//! address, and the receivers believe what is signed and nothing else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source, push_file, run};
use recorder_tests::wait;

use crate::recctl::Recctl;

/// Key of 24 bytes, as Standard Webhooks wants it.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KEY: &str = "5d41402abc4b2a76b9719d911017c592";
const DOMAIN: &str = "push.example.com";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn python() -> PathBuf {
    let python = root().join(".tools/python/bin/python");
    assert!(python.exists(), "{} is missing: run `.ci/install test` first", python.display());
    python
}

fn example(path: &str) -> PathBuf {
    root().join("tests/examples").join(path)
}

/// An example that runs, with what it has printed so far.
struct Example {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Example {
    fn start(name: &str, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&lines);
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).for_each(|line| told.lock().unwrap().push(line));
        });
        Self { name: name.to_owned(), child, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    async fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let shown = || self.lines().join("\n");
        let find = async || self.lines().into_iter().find(|line| is(line));
        wait::until_or(&format!("{}: {what}", self.name), shown, find).await
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The three programs that record, each with the stream that it waits for.
fn recorders(address: &str, folder: &Path) -> Vec<(String, Example)> {
    let generated = folder.join("generated");
    run(Command::new("sh").arg(example("python/generate.sh")).arg(&generated).env("PYTHON", python()));
    let with = |mut command: Command, directory: &str, flag: &[&str]| {
        let stream = format!("cam-{directory}");
        command.args([address, DOMAIN, &stream]).args(flag).arg(directory);
        (stream, Example::start(directory, command))
    };
    let mut py = Command::new(python());
    py.arg(example("python/record.py")).env("PYTHONPATH", &generated);
    let mut js = Command::new("node");
    js.arg(example("node/record.js"));
    let mut shell = Command::new(example("shell/record.sh"));
    // Debian has no grpcurl; where there is one, it is the one.
    if Command::new("grpcurl").arg("-version").output().is_err() {
        let grpcurl = root().join("tests/tools/grpcurl.py");
        shell.env("GRPCURL", format!("{} {} -plaintext", python().display(), grpcurl.display()));
    }
    vec![with(py, "python", &["--directory"]), with(js, "node", &[]), with(shell, "shell", &[])]
}

/// All three bind their template to one domain, and every binding records; a rule for a stream stands above them.
fn rules(recctl: &Recctl) {
    for name in ["python", "node", "shell"] {
        let (id, domain, stream) = (format!("only-{name}"), format!("domain={DOMAIN}"), format!("stream=cam-{name}"));
        recctl.ok(&["create", "rule", &id, &domain, &stream, &format!("template=templates/{name}")]);
    }
}

/// Every file that an example lists is there, as long as it says.
fn check(library: &Path, lines: &[String], directory: &str) {
    let files: Vec<Vec<&str>> =
        lines.iter().filter(|line| line.starts_with("file ")).map(|line| line.split(' ').collect()).collect();
    let kinds: Vec<&str> = files.iter().map(|file| file[1]).collect();
    assert!(kinds == ["hls-0", "mp4-0"] || kinds == ["mp4-0", "hls-0"], "{lines:#?}");
    for file in files {
        assert_eq!(file[2], "AVAILABLE", "{lines:#?}");
        let key = file[4].strip_prefix("library:///").unwrap();
        assert!(key.starts_with(&format!("{directory}/")), "{key}");
        let length = std::fs::metadata(library.join(key)).unwrap().len();
        if file[1] == "mp4-0" {
            assert_eq!(file[3], length.to_string(), "{lines:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_records_a_stream_and_prints_its_files() {
    let cluster = Cluster::start().await;
    let address = cluster.control.as_ref().unwrap().address("api").to_owned();
    let source = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
    let mut examples = recorders(&address, cluster.folder());
    for (_, example) in &examples {
        example.until("to be ready", |line| line.starts_with("ready: ")).await;
    }
    rules(&Recctl::of(&cluster));
    wait::until("the rules", async || {
        let rules = Recctl::of(&cluster).json(&["list", "rules"]);
        rules.as_array().unwrap().iter().all(|rule| rule["state"] == "ACTIVE").then_some(())
    })
    .await;
    // At its own pace, as publishers do.
    let publisher = |(stream, _): &(String, Example)| Live::once(&source, &cluster.rtmp_url(DOMAIN, stream));
    let _publishers: Vec<Live> = examples.iter().map(publisher).collect();
    for (stream, example) in &mut examples {
        example.until("its end", |line| line.starts_with("recordings/") && line.ends_with(" SUCCEEDED")).await;
        let status = wait::until("its exit", async || example.child.try_wait().unwrap()).await;
        assert_eq!(status.code(), Some(0), "{stream}");
        check(&cluster.library(), &wait_for_files(example).await, &stream["cam-".len()..]);
    }
}

/// Both files' lines; the program is over, what it printed may still be on its way here.
async fn wait_for_files(example: &Example) -> Vec<String> {
    let shown = || example.lines().join("\n");
    let both = async || {
        let lines = example.lines();
        (lines.iter().filter(|line| line.starts_with("file ")).count() == 2).then_some(lines)
    };
    wait::until_or(&"two files", shown, both).await
}

fn receivers() -> Vec<(&'static str, Example)> {
    let start = |name: &'static str, variable: &str, value: &str| {
        let mut command = if name.starts_with("python") {
            let mut command = Command::new(python());
            command.arg(example("python/receiver.py")).args(["--port", "0"]);
            command
        } else {
            let mut command = Command::new("node");
            command.arg(example("node/receiver.js")).arg("0");
            command
        };
        command.env(variable, value);
        (name, Example::start(name, command))
    };
    vec![
        start("python-standard", "RECEIVER_SECRET", SECRET),
        start("node-standard", "RECEIVER_SECRET", SECRET),
        start("python-vendor", "RECEIVER_KEY", KEY),
        start("node-vendor", "RECEIVER_KEY", KEY),
    ]
}

/// Status of a body that somebody else has made up.
fn forged(url: &str, body: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "--data-binary", body]);
    for header in ["webhook-id: x", "webhook-timestamp: 1", "webhook-signature: v1,AAAA"] {
        command.args(["-H", header]);
    }
    run(command.arg(url))
}

/// The signature in three languages: ours makes it, the libraries of Python and Node verify it.
#[tokio::test(flavor = "multi_thread")]
async fn receivers_in_two_languages_believe_what_is_signed_and_nothing_else() {
    let control = [("RECORDER_WEBHOOKS_ALLOW_HTTP", "true"), ("RECORDER_WEBHOOKS_NETWORKS", "127.0.0.0/8")];
    let cluster = Cluster::with_all_settings(&[], &control).await;
    let recctl = Recctl::of(&cluster);
    let receivers = receivers();
    let mut urls = Vec::new();
    for (name, receiver) in &receivers {
        let line = receiver.until("to listen", |line| line.starts_with("listening on ")).await;
        let url = line.trim_start_matches("listening on ").to_owned();
        let signature =
            if name.ends_with("vendor") { ["signature=tencent_md5", KEY] } else { ["signature=standard", SECRET] };
        let (to, secret) = (format!("url={url}"), format!("secret={}", signature[1]));
        recctl.ok(&["create", "webhook", name, &to, signature[0], &secret]);
        urls.push(url);
    }
    recctl.ok(&["create", "binding", "default", &format!("domains={DOMAIN}"), "create_domains=true"]);
    wait::until("the binding", async || (recctl.json(&["list", "bindings"])[0]["state"] == "ACTIVE").then_some(()))
        .await;
    let source = Source { seconds: 2, ..Default::default() }.generate(cluster.folder());
    push_file(&source, &cluster.rtmp_url(DOMAIN, "cam1"));
    for (name, receiver) in &receivers {
        if name.ends_with("vendor") {
            receiver.until("the file", |line| line == "event_type=100 stream=cam1").await;
            receiver.until("the push", |line| line == "event_type=1 stream=cam1").await;
        } else {
            let line = receiver.until("the file", |line| line.starts_with("file.available recordings/")).await;
            assert!(line.ends_with("/files/hls-0"), "{line}");
        }
        assert!(!receiver.lines().contains(&"refused".to_owned()), "{name}: {:#?}", receiver.lines());
    }
    let expiry = 4_102_444_800_u64;
    let vendor = format!(r#"{{"event_type":100,"stream_id":"forged","t":{expiry},"sign":"{}"}}"#, "0".repeat(32));
    for ((name, receiver), url) in receivers.iter().zip(&urls) {
        assert_eq!(forged(url, &vendor), "401", "{name}");
        receiver.until("the refusal", |line| line == "refused").await;
        assert!(!receiver.lines().iter().any(|line| line.contains("forged")), "{name}");
    }
}
