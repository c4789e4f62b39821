//! The real control plane as a process of its own, and what it costs.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A running recorder-control; killed when dropped.
pub struct Server {
    child: Child,
    /// `http://` and the address of the public API.
    pub api: String,
    /// The same of the node link.
    pub link: String,
}

impl Server {
    /// Starts the binary beside this one on a database, and waits until it listens.
    pub async fn start(folder: &Path, database: &str) -> Self {
        let binary = std::env::current_exe().expect("own path").with_file_name("recorder-control");
        let (ready, path) = (folder.join("ready.json"), |name: &str| folder.join(name).display().to_string());
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::create(folder.join("control.log")).expect("log");
        let mut command = Command::new(binary);
        for listener in ["API", "LINK", "ADMIN", "PLAYBACK"] {
            command.env(format!("RECORDER_{listener}_LISTEN"), "127.0.0.1:0");
        }
        command
            .env("RECORDER_DATABASE_URL", database)
            .env("RECORDER_LIBRARY_ROOT", path("library"))
            .env("RECORDER_SEAL_KEY_FILE", path("seal.key"))
            .env("RECORDER_READY_FILE", &ready)
            .env("RECORDER_LOG_FILTER", "warn")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log);
        let mut child = command.spawn().expect("recorder-control is built beside this program");
        let deadline = Instant::now() + Duration::from_secs(120);
        let addresses: Value = loop {
            let read = std::fs::read(&ready).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(addresses) = read {
                break addresses;
            }
            assert!(child.try_wait().expect("status").is_none() && Instant::now() < deadline, "it does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let address = |name: &str| format!("http://{}", addresses[name].as_str().expect("an address"));
        Self { child, api: address("api"), link: address("link") }
    }

    /// One line of the process' status, in MiB.
    pub fn memory(&self, line: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let found = status.lines().find_map(|text| text.strip_prefix(line)).unwrap_or("0");
        let kib = found.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
