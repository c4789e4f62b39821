//! Rules over the tree itself: sizes, who may depend on whom, lints, leftovers, migrations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file, in lines: what one person keeps in their head.
const LONGEST: usize = 500;

/// Everything that may lie at the top; what git ignores is not looked at.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".config",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-third-party",
    "Makefile",
    "README.md",
    "clippy.toml",
    "control-plane",
    "media-plane",
    "migrations",
    "proto",
    "runtime",
    "rustfmt.toml",
    "tests",
];

/// Our own packages that each of ours may depend on, tests' dependencies included. The line per package is the
/// architecture: contract at the bottom, two planes that do not know each other on top.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("recorder-proto", &[]),
    ("recorder-runtime", &["recorder-proto"]),
    ("media", &[]),
    ("rtmp", &["media"]),
    ("rtp", &["media"]),
    ("whip", &[]),
    ("mux", &["media"]),
    ("transcode", &["media"]),
    ("spool", &["media", "mux"]),
    ("store", &[]),
    ("recorder-db", &["recorder-db", "recorder-proto"]),
    ("recctl", &["recorder-proto"]),
    // `store` only for TestStorage and VerifyRecording, which read a bucket from where the API is.
    ("recorder-control", &["recorder-db", "recorder-proto", "recorder-runtime", "store"]),
    (
        "recorder-media",
        &["media", "mux", "recorder-proto", "recorder-runtime", "rtmp", "rtp", "spool", "store", "transcode", "whip"],
    ),
];

/// Foreign packages that only one of ours may use: what they are is nobody else's business.
const ONLY: &[(&str, &str)] = &[
    ("diesel", "recorder-db"),
    ("libsqlite3", "recorder-db"),
    ("aws-", "store"),
    ("google-cloud", "store"),
    ("webrtc", "whip"),
    ("rtc", "whip"),
];

/// Where waiting for the clock is the point, and why.
const MAY_SLEEP: &[(&str, &str)] = &[
    ("tests/src/wait.rs", "polls for a fact: the loop that whole-system tests share"),
    ("control-plane/tests/link/control.rs", "polls for a fact: the loop that the link's tests share"),
    ("control-plane/tests/webhooks/crash.rs", "its process is killed at random moments"),
    ("control-plane/tests/webhooks/receiver.rs", "a slow receiver is a fault to inject"),
    ("media-plane/src/shipping/tests/mod.rs", "polls for a fact: the loop that shipping's tests share"),
    ("media-plane/src/shipping/tests/faults.rs", "polls for a fact"),
    ("media-plane/src/shipping/tests/happy.rs", "polls for a fact"),
    ("media-plane/src/shipping/tests/restart.rs", "polls for a fact"),
    ("media-plane/crates/spool/src/disk.rs", "not a test: its I/O threads wait for descriptors to be free again"),
    ("tests/src/bucket/gcs.rs", "a slow bucket is a fault to inject"),
    ("tests/src/bucket/s3.rs", "a slow bucket is a fault to inject"),
    ("tests/src/load.rs", "spreads the starts of many publishers over time"),
    ("tests/src/bin/bench.rs", "measures over a window"),
    ("tests/src/bin/finish.rs", "polls for a fact, finer than others"),
    ("media-plane/src/sound/tests.rs", "polls for a fact"),
    ("tests/src/opus.rs", "sends each frame when it is due"),
    ("tests/src/numbered.rs", "sends each frame when it is due"),
    ("tests/src/webrtc/peer.rs", "sends each packet when it is due"),
    ("tests/src/webrtc/cost.rs", "measures over a window"),
    ("tests/src/road.rs", "a slow road is a fault to inject"),
    ("tests/src/soak/chaos.rs", "faults strike at random moments"),
    ("tests/src/soak/crowd.rs", "publishers come and go at random moments"),
    ("tests/src/soak/judge.rs", "polls for a fact"),
    ("tests/src/soak/mod.rs", "polls for a fact; the pauses between faults"),
    ("tests/src/soak/memory.rs", "measures over a window"),
    ("tests/src/soak/real.rs", "polls for a fact"),
    ("tests/src/stage.rs", "faults strike at random moments"),
    ("tests/scale/src/main.rs", "polls for a fact, finer than others; memory settles over a window"),
    ("tests/scale/src/facts.rs", "a pause before trying again is what nodes do"),
    ("tests/scale/src/server.rs", "polls for a fact"),
    ("tests/sim/src/bucket.rs", "simulated time: a slow bucket"),
    ("tests/sim/src/host.rs", "simulated time"),
    ("tests/sim/src/net.rs", "simulated time: a slow network"),
    ("tests/sim/src/publisher.rs", "simulated time: sends each frame when it is due"),
    ("tests/tests/disk.rs", "a bucket that does not answer has no fact to wait for"),
    ("control-plane/crates/db/tests/database.rs", "a proxy that stands still"),
    ("control-plane/tests/link/chaos.rs", "a database that is away for a while; commits in random order"),
    ("control-plane/tests/link/kills.rs", "the moment of a kill is what varies"),
    ("media-plane/crates/spool/src/tests/slow.rs", "polls for a fact"),
    ("media-plane/src/link/facts/tests.rs", "polls for a fact"),
    ("media-plane/src/publication/tests/tasks.rs", "polls for a fact"),
    ("media-plane/src/recording/tests.rs", "polls for a fact"),
    ("media-plane/src/shipping/tests/outages.rs", "polls for a fact; nothing may be told for a while"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Paths that git knows or would add, relative to the root.
fn files() -> Vec<String> {
    let mut command = Command::new("git");
    command.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = command.output().expect("git");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let there = |path: &&str| root().join(path).is_file();
    let files: Vec<String> = listed.split('\0').filter(there).map(str::to_owned).collect();
    assert!(files.len() > 100, "only {} files: git does not see the tree", files.len());
    files
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files with one of these extensions, with their text.
fn texts(extensions: &[&str]) -> Vec<(String, String)> {
    let wanted =
        |path: &String| Path::new(path).extension().is_some_and(|found| extensions.iter().any(|e| found == *e));
    files().into_iter().filter(wanted).map(|path| (path.clone(), read(&path))).collect()
}

/// A file's test code: all of it in a test file, else what follows `#[cfg(test)]`. That of a declaration (`mod tests;`)
/// marks another file, and the code after it is no test.
fn test_code<'a>(path: &str, text: &'a str) -> &'a str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_test_file = path.contains("/tests/") || path.starts_with("tests/") || name == "tests.rs";
    let is_block = |at: &usize| !text[*at..].lines().nth(1).is_some_and(|next| next.ends_with(';'));
    let block = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(is_block);
    if in_test_file { text } else { block.map_or("", |at| &text[at..]) }
}

fn none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn no_file_is_too_long() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines >= LONGEST).then(|| format!("{path}: {lines} lines"))
    };
    none(
        "files of 500 lines or more",
        texts(&["rs", "proto", "sh", "py", "sql"]).into_iter().filter_map(long).collect(),
    );
}

#[test]
fn the_top_holds_what_is_listed() {
    let top: BTreeSet<String> = files().iter().map(|path| path.split('/').next().unwrap().to_owned()).collect();
    let top: Vec<&str> = top.iter().map(String::as_str).collect();
    assert_eq!(top, TOP, "left: the tree, right: the list in this test");
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file is not its own offender.
    let leftovers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimpl", "emented!("), concat!("to", "do!(")];
    let mut found = Vec::new();
    for (path, text) in texts(&["rs", "proto", "sh", "py", "toml", "md", "sql", "yaml"]) {
        for (number, line) in text.lines().enumerate() {
            if leftovers.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none("leftovers", found);
}

/// One exception: the signal test starts itself as a child process, which is that ignored test.
#[test]
fn no_test_is_ignored() {
    let mark = concat!("#[ign", "ore");
    let ignored = |(path, text): &(String, String)| path != "runtime/tests/signals.rs" && text.contains(mark);
    none("ignored tests", texts(&["rs"]).into_iter().filter(ignored).map(|(path, _)| path).collect());
}

#[test]
fn no_test_sleeps() {
    let naps = [concat!("thread::sl", "eep"), concat!("time::sl", "eep"), concat!("sl", "eep(Duration")];
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for (path, text) in texts(&["rs"]) {
        let test = test_code(&path, &text);
        let sleeps = test.lines().find(|line| naps.iter().any(|nap| line.contains(nap)));
        let Some(line) = sleeps else { continue };
        match MAY_SLEEP.iter().find(|(allowed, _)| *allowed == path) {
            Some((allowed, _)) => drop(used.insert(*allowed)),
            None => found.push(format!("{path}: {}", line.trim())),
        }
    }
    none("tests that sleep instead of waiting for a fact", found);
    let stale: Vec<_> =
        MAY_SLEEP.iter().filter(|(path, _)| !used.contains(path)).map(|(path, _)| (*path).to_owned()).collect();
    none("exceptions that are no longer needed", stale);
}

struct Package {
    manifest: String,
    dependencies: Vec<String>,
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().map(|package| {
        let names = package["dependencies"].as_array().unwrap().iter();
        let dependencies = names.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        let manifest = package["manifest_path"].as_str().unwrap().to_owned();
        (package["name"].as_str().unwrap().to_owned(), Package { manifest, dependencies })
    });
    packages.collect()
}

#[test]
fn dependencies_point_one_way() {
    let packages = packages();
    let mut rules: BTreeMap<&str, &[&str]> = MAY_DEPEND.iter().copied().collect();
    let everything: Vec<&str> = MAY_DEPEND.iter().map(|(name, _)| *name).collect();
    rules.insert("recorder-tests", &everything);
    let with_harness: Vec<&str> = everything.iter().copied().chain(["recorder-tests"]).collect();
    rules.insert("recorder-sim", &with_harness);
    rules.insert("recorder-scale", &everything);
    assert_eq!(packages.keys().map(String::as_str).collect::<Vec<_>>(), rules.keys().copied().collect::<Vec<_>>());
    let mut found = Vec::new();
    for (name, package) in &packages {
        let ours = package.dependencies.iter().filter(|dependency| packages.contains_key(*dependency));
        let wrong = ours.filter(|dependency| !rules[name.as_str()].contains(&dependency.as_str()));
        found.extend(wrong.map(|dependency| format!("{name} -> {dependency}")));
    }
    none("dependencies against the direction", found);
}

#[test]
fn heavy_libraries_stay_behind_their_crate() {
    let mut found = Vec::new();
    for (name, package) in packages() {
        for (prefix, owner) in ONLY {
            let uses = package.dependencies.iter().filter(|dependency| dependency.starts_with(prefix));
            // The harness stands on the other side of the wire and may use a client of its own.
            let wrong = uses.filter(|_| name != *owner && name != "recorder-tests");
            found.extend(wrong.map(|dependency| format!("{name} -> {dependency}, which belongs to {owner}")));
        }
    }
    none("libraries outside their crate", found);
}

#[test]
fn every_package_inherits_the_lints() {
    let mut bare = Vec::new();
    for (name, package) in packages() {
        let manifest = std::fs::read_to_string(&package.manifest).unwrap();
        let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
        if lines.next() != Some("workspace = true") {
            bare.push(name);
        }
    }
    none("packages without the workspace's lints", bare);
}

#[test]
fn both_dialects_have_the_same_migrations() {
    let of = |dialect: &str| -> BTreeSet<String> {
        let prefix = format!("migrations/{dialect}/");
        files().iter().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    let (sqlite, postgres) = (of("sqlite"), of("postgres"));
    assert!(!sqlite.is_empty());
    assert_eq!(sqlite, postgres);
    for path in &sqlite {
        assert!(path.ends_with("/up.sql") || path.ends_with("/down.sql"), "{path}");
    }
}
