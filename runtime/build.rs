//! Tells the crate which commit it was built from; works in a source archive and without git.
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=RECORDER_BUILD_SHA");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Following every commit would rebuild both binaries on each one; a development build therefore names the commit
    // it was last configured at, and says so with the suffix.
    watch(if release { "../.git/logs/HEAD" } else { "../.git/HEAD" });
    let sha = std::env::var("RECORDER_BUILD_SHA").ok().filter(|sha| !sha.trim().is_empty()).or_else(|| {
        let sha = git(&["rev-parse", "--short=12", "HEAD"])?;
        Some(if release { sha } else { format!("{sha}-dev") })
    });
    println!("cargo:rustc-env=RECORDER_GIT_SHA={}", sha.as_deref().unwrap_or("unknown").trim());
}

/// A path that does not exist would make cargo run this script on every build.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo:rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
