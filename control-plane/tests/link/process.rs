//! The binary itself: exit codes, the first start, the seal key.
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::control::until;
use crate::support::FREE_PORTS;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recorder-control"));
    command.env_clear().current_dir(folder).args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts on free ports; ready when this returns.
async fn start(folder: &Path) -> Child {
    let ready = folder.join("ready.json");
    let _ = std::fs::remove_file(&ready);
    let arguments = [&FREE_PORTS[..], &["--ready-file", "ready.json"]].concat();
    let child = command(folder, &arguments).spawn().unwrap();
    until("the process to be ready", async || ready.exists().then_some(())).await;
    child
}

/// SIGTERM, as a supervisor does; the output once it has left.
fn terminate(child: Child) -> Output {
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    child.wait_with_output().unwrap()
}

#[test]
fn a_bad_configuration_is_told_at_once_with_code_64() {
    let folder = tempfile::tempdir().unwrap();
    let output = output(folder.path(), &["--database-url", "postgres://u:hunter2@db/x", "--link-lease", "1ms"]);
    assert_eq!(output.status.code(), Some(64));
    let said = stderr(&output);
    assert!(said.contains("link.lease") && said.contains("seal.key_file"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was made");
}

#[test]
fn it_starts_from_nothing_stops_on_request_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = terminate(runtime.block_on(start(folder.path())));
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stderr(&first).contains("back this file up"), "a new key is a loud affair");
    let data = folder.path().join("recorder-data");
    assert!(data.join("control.db").exists());
    let key = std::fs::read_to_string(data.join("seal.key")).unwrap();
    assert!(!stderr(&first).contains(key.trim()));
    let second = terminate(runtime.block_on(start(folder.path())));
    assert_eq!(second.status.code(), Some(0));
    assert!(!stderr(&second).contains("back this file up"), "the key was there");

    std::fs::remove_file(data.join("seal.key")).unwrap();
    let third = output(folder.path(), &FREE_PORTS);
    assert_eq!(third.status.code(), Some(1));
    assert!(stderr(&third).contains("sealed with another key"), "{}", stderr(&third));
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = output(folder.path(), &["--api-listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
}
