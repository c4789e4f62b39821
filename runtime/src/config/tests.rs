//! The configuration as an operator meets it.
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::*;

const SETTINGS: &[Setting] = &[
    Setting::new("node", "id", Kind::Text).or("m1").help("name of this node").extremes("two nodes with one name fight"),
    Setting::new("database", "url", Kind::Url).or("sqlite:///var/lib/recorder/control.db"),
    Setting::new("rtmp", "listen", Kind::Socket).or("0.0.0.0:1935"),
    Setting::new("rtmp", "idle_timeout", Kind::Duration).or("30s").extremes("too small: cuts slow links"),
    Setting::new("rtmp", "max_connections", Kind::Integer { min: 1, max: 100_000 }).or("500"),
    Setting::new("spool", "path", Kind::Path),
    Setting::new("spool", "limit", Kind::Size).or("200GiB"),
    Setting::new("spool", "high_water", Kind::Percent).or("80%"),
    Setting::new("link", "control", Kind::List).or("http://127.0.0.1:7081"),
    Setting::new("link", "compress", Kind::Bool).or("false"),
    Setting::new("log", "format", Kind::Choice(&["json", "pretty"])).or("pretty"),
    Setting::new("seal", "key", Kind::Text).secret(),
];

const PROGRAM: Program = Program::new("recorder-test", "Records nothing.", SETTINGS);

fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Invocation, Errors> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    PROGRAM.load(arguments.iter().map(|text| (*text).to_owned()), &environment.collect::<BTreeMap<_, _>>())
}

fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
    match load(arguments, environment).unwrap() {
        Invocation::Run(settings) => settings,
        Invocation::Print(text) => panic!("printed instead: {text}"),
    }
}

fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    match load(arguments, environment).unwrap() {
        Invocation::Print(text) => text,
        Invocation::Run(_) => panic!("would run"),
    }
}

fn errors(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    load(arguments, environment).unwrap_err().iter().map(ToString::to_string).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn precedence_is_default_file_environment_flag() {
    let file = file("[spool]\nlimit = \"1GiB\"\n");
    let path = file.path().to_str().unwrap();
    let (config, variable, flag) = (["--config", path], ("RECORDER_SPOOL_LIMIT", "2GiB"), ["--spool-limit", "3GiB"]);
    let all = [config[0], config[1], flag[0], flag[1]];
    for (arguments, environment, bytes, source) in [
        (&[][..], &[][..], 200u64 << 30, Source::Default),
        (&config[..], &[], 1 << 30, Source::File),
        (&[], &[("RECORDER_CONFIG", path)], 1 << 30, Source::File),
        (&[], &[variable], 2 << 30, Source::Environment),
        (&config, &[variable], 2 << 30, Source::Environment),
        (&flag, &[], 3 << 30, Source::Flag),
        (&all, &[variable], 3 << 30, Source::Flag),
        (&["--spool-limit=4GiB"], &[variable], 4 << 30, Source::Flag),
        (&["--spool-limit=4GiB", "--spool-limit", "5GiB"], &[], 5 << 30, Source::Flag),
        (&config, &[("RECORDER_SPOOL_LIMIT", "")], 1 << 30, Source::File),
    ] {
        let settings = settings(arguments, environment);
        let found = (settings.get("spool", "limit"), settings.source("spool", "limit"));
        assert_eq!(found, (Some(&Value::Size(bytes)), Some(source)), "{arguments:?} {environment:?}");
    }
}

#[derive(Debug, Deserialize, PartialEq)]
struct All {
    node: Node,
    rtmp: Rtmp,
    spool: Spool,
    link: Link,
    seal: Seal,
}
#[derive(Debug, Deserialize, PartialEq)]
struct Node {
    id: String,
}
#[derive(Debug, Deserialize, PartialEq)]
struct Rtmp {
    listen: SocketAddr,
    idle_timeout: Duration,
    max_connections: usize,
}
#[derive(Debug, Deserialize, PartialEq)]
struct Spool {
    path: Option<PathBuf>,
    limit: u64,
    high_water: u8,
}
#[derive(Debug, Deserialize, PartialEq)]
struct Link {
    control: Vec<String>,
    compress: bool,
}
#[derive(Debug, Deserialize, PartialEq)]
struct Seal {
    key: Option<String>,
}

#[test]
fn every_kind_reaches_its_type() {
    let file = file(
        "node = \"m7\"\n[rtmp]\nlisten = \"[::1]:1936\"\nidle_timeout = \"1m30s\"\nmax_connections = 7\n\
         [spool]\npath = \"/spool\"\nlimit = 1024\nhigh_water = \"75%\"\n\
         [link]\ncontrol = [\"http://a:1\", \"http://b:2\"]\ncompress = true\n",
    );
    let settings = settings(&["--config", file.path().to_str().unwrap()], &[("RECORDER_SEAL_KEY", "abc")]);
    let all: All = settings.deserialize().unwrap();
    let expected = All {
        node: Node { id: "m7".to_owned() },
        rtmp: Rtmp { listen: "[::1]:1936".parse().unwrap(), idle_timeout: Duration::from_secs(90), max_connections: 7 },
        spool: Spool { path: Some("/spool".into()), limit: 1024, high_water: 75 },
        link: Link { control: vec!["http://a:1".to_owned(), "http://b:2".to_owned()], compress: true },
        seal: Seal { key: Some("abc".to_owned()) },
    };
    assert_eq!(all, expected);
}

#[test]
fn texts_of_environment_and_flags_reach_the_same_types() {
    let environment = [("RECORDER_LINK_CONTROL", "http://a:1, http://b:2"), ("RECORDER_NODE_ID", "m9")];
    let settings =
        settings(&["--link-compress", "--rtmp-max-connections=9", "--rtmp-idle-timeout", "5s"], &environment);
    let all: All = settings.deserialize().unwrap();
    assert_eq!(all.node.id, "m9");
    assert_eq!(all.link, Link { control: vec!["http://a:1".to_owned(), "http://b:2".to_owned()], compress: true });
    assert_eq!((all.rtmp.max_connections, all.rtmp.idle_timeout), (9, Duration::from_secs(5)));
    assert_eq!((all.spool.path, all.seal.key), (None, None));
}

#[test]
fn all_errors_come_at_once_and_name_the_nearest_key() {
    let file = file("[rtmp]\nlisen = \"1\"\nidle_timeout = 30\n[kafka]\nbrokers = \"x\"\n");
    let path = file.path().to_str().unwrap();
    let found = errors(
        &["--config", path, "--spool-limt", "1GiB", "stray", "--rtmp-max-connections=0", "--node-id"],
        &[("RECORDER_RTMP_LISTEN", "nowhere"), ("RECORDER_SPOOL_HIGHWATER", "1%"), ("RECORDER_LOG_FORMAT", "xml")],
    );
    let expected = [
        format!("kafka.brokers ({path}): unknown setting; --help lists them all"),
        format!("rtmp.idle_timeout ({path}): must be a string (duration), not integer"),
        format!("rtmp.lisen ({path}): unknown setting; did you mean rtmp.listen?"),
        "log.format (env RECORDER_LOG_FORMAT): \"xml\" must be one of json, pretty".to_owned(),
        "rtmp.listen (env RECORDER_RTMP_LISTEN): \"nowhere\" is not an address; write ip:port, like 127.0.0.1:7080 \
         or [::1]:7080"
            .to_owned(),
        "env RECORDER_SPOOL_HIGHWATER: unknown setting; did you mean RECORDER_SPOOL_HIGH_WATER?".to_owned(),
        "--spool-limt: unknown setting; did you mean --spool-limit?".to_owned(),
        "stray: unexpected argument; settings are written --section-key value".to_owned(),
        "--node-id: needs a value".to_owned(),
        "rtmp.max_connections (--rtmp-max-connections): \"0\" must be 1 to 100000".to_owned(),
    ];
    let mut sorted = (found, expected.to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
}

#[test]
fn rules_of_the_binary_are_reported_together_with_the_rest() {
    let program = PROGRAM.check(|settings, errors| {
        if settings.get("spool", "path").is_none() {
            errors.push("spool.path", "must be set");
        }
    });
    let found = program.load(["--log-format=xml".to_owned()], &BTreeMap::new()).unwrap_err();
    assert_eq!(found.iter().count(), 2, "{found}");
    assert!(found.to_string().starts_with("the configuration has 2 errors\n"), "{found}");
}

#[test]
fn a_broken_or_missing_file_is_an_error_that_names_it() {
    let broken = file("[rtmp\n");
    let found = errors(&["--config", broken.path().to_str().unwrap()], &[]);
    assert!(found[0].contains(broken.path().to_str().unwrap()) && found[0].contains("is not TOML"), "{found:?}");
    let found = errors(&[], &[("RECORDER_CONFIG", "/nonexistent/recorder.toml")]);
    assert!(found[0].starts_with("/nonexistent/recorder.toml: cannot be read"), "{found:?}");
}

#[test]
fn a_shared_environment_is_tolerated() {
    let settings = settings(
        &[],
        &[("RECORDER_CONTROL_SERVICE_HOST", "10.0.0.1"), ("RECORDER_LIBRARY_ROOT", "/x"), ("HOME", "/root")],
    );
    assert_eq!(settings.warnings().len(), 2, "{:?}", settings.warnings());
    assert!(settings.warnings()[0].contains("RECORDER_CONTROL_SERVICE_HOST"));
}

#[test]
fn printing_masks_secrets_and_says_where_values_come_from() {
    let environment = [
        ("RECORDER_SEAL_KEY", "hunter2hunter2"),
        ("RECORDER_DATABASE_URL", "postgres://app:s3cr@t@db:5432/rec?sslmode=require&password=s3cr@t"),
        ("RECORDER_LINK_CONTROL", "http://u:s3cret@a:1,http://b:2"),
    ];
    let text = printed(&["--print-config", "--spool-path", "/spool"], &environment);
    for secret in ["hunter2", "s3cr"] {
        assert!(!text.contains(secret), "{text}");
    }
    for line in [
        "[database]\nurl = \"postgres://app:[REDACTED]@db:5432/rec?sslmode=require&password=[REDACTED]\"  # environment",
        "path = \"/spool\"  # flag",
        "limit = \"200GiB\"  # default",
        "key = \"[REDACTED]\"  # environment",
        "control = [\"http://u:[REDACTED]@a:1\", \"http://b:2\"]  # environment",
    ] {
        assert!(text.contains(line), "missing {line}\n{text}");
    }
    assert!(text.parse::<toml::Table>().is_ok(), "what is printed is itself a configuration file");
    assert!(printed(&["--print-config"], &[]).contains("# key is unset"));
    let debug = format!("{:?}", settings(&[], &environment));
    assert!(!debug.contains("hunter2") && !debug.contains("s3cr"), "{debug}");
}

#[test]
fn error_messages_do_not_repeat_secrets() {
    let found = errors(&[], &[("RECORDER_DATABASE_URL", "hunter2")]);
    assert_eq!(found, ["database.url (env RECORDER_DATABASE_URL): the value is not a URL; write scheme://rest"]);
}

#[test]
fn help_version_and_check_answer_without_running() {
    let help = printed(&["--help", "--nonsense"], &[]);
    for setting in SETTINGS {
        assert!(help.contains(&setting.flag()) && help.contains(&setting.env()), "{}", setting.name());
    }
    assert!(help.contains("default 0.0.0.0:1935") && help.contains("too small: cuts slow links"), "{help}");
    assert!(printed(&["-V"], &[]).starts_with("recorder-test 0."));
    assert_eq!(printed(&["--check"], &[]), "the configuration is valid");
    assert_eq!(errors(&["--check", "--log-format=xml"], &[]).len(), 1);
}

#[test]
fn url_passwords_are_masked_whatever_they_contain() {
    for (url, masked) in [
        ("postgres://u:p/w?x@h/db", "postgres://u:[REDACTED]@h/db"),
        ("postgres://u@h/db", "postgres://u@h/db"),
        ("sqlite:///var/lib/x.db", "sqlite:///var/lib/x.db"),
        ("http://h/?token=abc", "http://h/?token=[REDACTED]"),
    ] {
        assert_eq!(super::value::mask_url(url), masked);
    }
}
