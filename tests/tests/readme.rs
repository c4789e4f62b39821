//! The README says what is true: its tables are those of the code, and its calls work as they are written.
//!
//! `RECORDER_UPDATE_README=1 cargo nextest run -p recorder-tests readme::` writes the tables anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::script::Script;
use recorder_proto::pb::v1::recording::State;
use recorder_runtime::config::Program;
use recorder_tests::cluster::Cluster;
use recorder_tests::process;
use recorder_tests::publisher::{Source, run};
use recorder_tests::scene::{Clients, all_formats};

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("README.md")
}

fn readme() -> String {
    std::fs::read_to_string(path()).unwrap()
}

/// Compares what stands between a block's marks with what the code says, or puts it there.
fn block(name: &str, expected: &str) {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let text = readme();
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("README has no {begin}"));
    let (found, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README has no {end}"));
    if std::env::var_os("RECORDER_UPDATE_README").is_some() {
        std::fs::write(path(), format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        assert_eq!(found, expected, "the README's {name} is not what the code says");
    }
}

fn settings(program: &Program) -> String {
    let mut table = String::from("| setting | default | what it does |\n|---|---|---|\n");
    for setting in program.settings {
        let default = match setting.default {
            None => "unset".to_owned(),
            Some("") => "empty".to_owned(),
            Some(default) => format!("`{default}`"),
        };
        let about =
            [setting.help, setting.extremes].iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>();
        let about = about.join("; ").replace('|', "\\|");
        let _ = writeln!(table, "| `{}` | {default} | {about} |", setting.name());
    }
    table
}

#[test]
fn the_tables_are_those_of_the_code() {
    block("what is recorded how", &mux::registry::matrix());
    block("abnormal codes", &recorder_media::abnormal_codes());
    block("settings of recorder-control", &settings(&recorder_control::config::PROGRAM));
    block("settings of recorder-media", &settings(&recorder_media::config::PROGRAM));
}

/// The binaries know exactly the settings of the tables, under the names the README derives.
#[test]
fn the_binaries_have_these_settings() {
    for program in [recorder_control::config::PROGRAM, recorder_media::config::PROGRAM] {
        let output = Command::new(process::binary(program.name)).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let flags = |text: &str| text.lines().filter(|line| line.trim_start().starts_with("--")).count();
        let switches = flags(help.split("\n[").next().unwrap());
        assert_eq!(flags(&help) - switches, program.settings.len(), "{help}");
        for setting in program.settings {
            assert!(help.contains(&format!("{} <", setting.flag())), "{}: {help}", setting.flag());
            assert!(help.contains(&format!("env {} ", setting.env())), "{}: {help}", setting.env());
        }
    }
}

#[test]
fn every_folder_is_explained_and_every_target_exists() {
    let text = readme();
    let makefile = std::fs::read_to_string(path().with_file_name("Makefile")).unwrap();
    for line in makefile.lines().filter(|line| line.contains(": ##")) {
        let target = line.split(':').next().unwrap();
        assert!(target == "help" || text.contains(&format!("make {target}")), "make {target} is not in the README");
    }
    for word in text.split("`make ").skip(1) {
        let target = word.split(['`', ' ']).next().unwrap();
        assert!(makefile.contains(&format!("\n{target}:")), "the README names `make {target}`");
    }
    let manifest = std::fs::read_to_string(path().with_file_name("Cargo.toml")).unwrap();
    let members = manifest.split_once("members = [").unwrap().1.split_once(']').unwrap().0;
    for member in members.split('"').skip(1).step_by(2) {
        assert!(text.contains(&format!("`{member}`")), "{member} is not explained");
    }
}

/// One grpcurl call of the README.
struct Call {
    method: String,
    request: String,
}

/// Every `grpcurl -plaintext [-d '...'] localhost:7080 service/Method`, in order.
fn calls() -> Vec<Call> {
    let text = readme();
    let call = |part: &str| {
        let (request, rest) = match part.strip_prefix("-d '") {
            Some(body) => body.split_once('\'').expect("a closing quote"),
            None => ("{}", part),
        };
        let method = rest.trim_start().strip_prefix("localhost:7080 ")?.split_whitespace().next()?;
        method.contains('/').then(|| Call { method: method.to_owned(), request: request.replace('\n', " ") })
    };
    text.split("grpcurl -plaintext ").skip(1).filter_map(call).collect()
}

/// Played in the order of reading, on a fresh installation. Amazon and Google are out of reach of tests: a port that
/// nobody listens on takes their place, and the calls answer all the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_readme_works() {
    let calls = calls();
    assert!(calls.len() >= 10, "only {} calls found", calls.len());
    let cluster = Cluster::start().await;
    let mut script = Script::start(&cluster, &[]);
    for Call { method, request } in calls {
        let nowhere = r#""endpoint":"http://127.0.0.1:9","#;
        let request = request.replace(r#""s3":{"#, &format!(r#""s3":{{{nowhere}"#));
        let request = request.replace(r#""gcs":{"#, &format!(r#""gcs":{{{nowhere}"#));
        // The reader puts a recording of their own there; here the call is at least understood.
        let expected = if request.contains("01JD…") { "NOT_FOUND" } else { "OK" };
        let request = request.replace("01JD…", "01JD0000000000000000000000");
        let answer = script.call(&method, &request);
        assert_eq!(answer.code, expected, "{request}: {answer:#?}");
    }
}

/// The RTMP publishers' lines of the README as a shell gets them, with this installation's port and a short input.
fn publish_lines(port: &str, input: &Path) -> Vec<String> {
    let text = readme();
    let spans = text.lines().filter(|line| line.starts_with("| ")).flat_map(|line| line.split('`'));
    let is_command = |span: &&str| span.starts_with("ffmpeg ") || span.contains("rtmp2sink");
    let commands = spans.filter(is_command).filter(|span| span.contains("rtmp://"));
    let line = |command: &str| {
        let source =
            "gst-launch-1.0 -e videotestsrc num-buffers=90 ! x264enc tune=zerolatency key-int-max=30 ! h264parse";
        let command = command.replace("...", source).replace("input.mp4", &input.display().to_string());
        command
            .replace("//localhost/", &format!("//localhost:{port}/"))
            .replace("203.0.113.9/", &format!("127.0.0.1:{port}/"))
    };
    commands.map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_publisher_of_the_readme_is_recorded() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", all_formats()).await;
    let domains = ["localhost", "push.example.com"];
    for domain in domains {
        clients.bind("all", domain).await;
    }
    let input = Source { seconds: 3, ..Default::default() }.generate(cluster.folder());
    let port = cluster.nodes[0].address("rtmp").rsplit(':').next().unwrap().to_owned();
    let lines = publish_lines(&port, &input);
    assert_eq!(lines.len(), 3, "two of ffmpeg, one of GStreamer: {lines:?}");
    let mut published = [0, 0];
    for line in lines {
        let domain = usize::from(line.contains("push.example.com"));
        run(Command::new("sh").args(["-c", &line]));
        published[domain] += 1;
        clients.wait_for(domains[domain], "cam1", published[domain], State::Succeeded).await;
    }
}
