//! The product's own processes: started with settings in the environment, stopped or killed at will.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::wait;

/// Where cargo put the binaries: beside the test or tool that runs now.
pub fn binary(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("own path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// A running binary; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// What it bound, by listener name (`api`, `link`, `admin`, `rtmp`, `http`).
    pub addresses: BTreeMap<String, String>,
}

impl Process {
    /// Starts `name` with `settings` and waits until it has written its ready file.
    pub async fn start(name: &str, folder: &Path, settings: &[(&str, String)]) -> Self {
        std::fs::create_dir_all(folder).expect("process folder");
        let ready = folder.join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let log = folder.join("log.txt");
        let out = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("log file");
        let mut command = Command::new(binary(name));
        command.env_clear();
        for keep in ["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(keep) {
                command.env(keep, value);
            }
        }
        command.env("RECORDER_READY_FILE", &ready).envs(settings.iter().map(|(key, value)| (*key, value)));
        command.current_dir(folder).stdin(Stdio::null()).stdout(out.try_clone().expect("log")).stderr(out);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        let mut process = Self { name: name.to_owned(), child, log, addresses: BTreeMap::new() };
        let addresses = wait::until(&format!("{name} to be ready"), async || process.try_ready(&ready)).await;
        process.addresses = addresses;
        process
    }

    fn try_ready(&mut self, ready: &Path) -> Option<BTreeMap<String, String>> {
        if let Some(status) = self.child.try_wait().expect("child status") {
            panic!("{} ended at start with {status}:\n{}", self.name, self.log_text());
        }
        serde_json::from_slice(&std::fs::read(ready).ok()?).ok()
    }

    /// `http://` plus the address of a listener.
    pub fn url(&self, listener: &str) -> String {
        format!("http://{}", self.address(listener))
    }

    /// The address of a listener.
    pub fn address(&self, listener: &str) -> &str {
        self.addresses.get(listener).unwrap_or_else(|| panic!("{} has no listener {listener}", self.name))
    }

    /// Status and body of a GET; `None` when it does not answer.
    pub async fn get(&self, listener: &str, path: &str) -> Option<(u16, String)> {
        let address = self.address(listener);
        let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("child status").is_none()
    }

    /// Its exit code, once it has ended by itself; `None` while it runs, and after a signal.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.child.try_wait().expect("child status").and_then(|status| status.code())
    }

    /// SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: the process stands still, as on a machine that is suspended.
    pub fn pause(&self) {
        let _ = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status();
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        let _ = Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status();
    }

    /// SIGTERM, then waits for the exit; returns its code.
    pub async fn terminate(&mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let name = self.name.clone();
        wait::until(&format!("{name} to end"), async || self.child.try_wait().expect("child status")).await.code()
    }

    /// Resident set size in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
        line.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// User and system CPU time so far, in milliseconds (10 ms ticks).
    pub fn cpu_millis(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<u64> = after_name.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        (fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)) * 10
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!("--- last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
