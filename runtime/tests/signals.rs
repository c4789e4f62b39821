//! Signals, as a service manager and a person at a terminal send them, to a real process: this test binary again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use recorder_runtime::drain::{Drain, Outcome, signals};

/// The child's life at most, should its parent die.
const LIFE: Duration = Duration::from_secs(30);

/// Not a test of its own: what the tests below start and send signals to.
#[tokio::test]
#[ignore = "started by the other tests"]
async fn child() {
    let drain = Drain::new();
    let _task = signals(drain.clone()).unwrap();
    let say = |word: &str| writeln!(std::io::stderr(), "{word}").unwrap();
    say("ready");
    drain.signal().draining().await;
    let holder = std::env::var("RECORDER_TEST_HOLD").ok().map(|name| drain.signal().guard(name));
    say("draining");
    assert_eq!(drain.wait(LIFE).await, Outcome::Complete);
    drop(holder);
}

fn start(hold: bool) -> (Child, impl FnMut(&str)) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::piped());
    if hold {
        command.env("RECORDER_TEST_HOLD", "recording 01JD");
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let until = move |word: &str| assert!(lines.by_ref().any(|line| line.unwrap() == word), "never said {word}");
    (child, until)
}

fn kill(child: &Child, signal: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {}", child.id())]).status().unwrap().success());
}

#[test]
fn sigterm_drains_and_leaves_with_success() {
    let (mut child, mut until) = start(false);
    until("ready");
    kill(&child, "TERM");
    until("draining");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_second_sigint_exits_at_once() {
    let (mut child, mut until) = start(true);
    until("ready");
    kill(&child, "INT");
    until("draining");
    assert!(child.try_wait().unwrap().is_none(), "the first one only drains");
    kill(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
