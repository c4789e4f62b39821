//! A script writer at the API: `tests/tools/recipes.py`, fed line by line; it knows an address and JSON, nothing else.

#![allow(dead_code, reason = "each file of tests uses its part")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use recorder_tests::cluster::Cluster;
use serde_json::Value;

/// What came back for one line.
#[derive(Debug, serde::Deserialize)]
pub struct Answer {
    /// As sent.
    pub method: String,
    /// Name of the gRPC code, `OK` for success.
    pub code: String,
    /// The error's sentence.
    pub message: String,
    /// google.rpc details, decoded through reflection.
    pub details: Vec<Value>,
    /// The reply, or the first ones of a stream.
    pub replies: Vec<Value>,
}

impl Answer {
    /// The reply of a call that must have worked.
    pub fn reply(&self) -> &Value {
        assert_eq!(self.code, "OK", "{self:#?}");
        &self.replies[0]
    }

    /// One detail by its message name, e.g. `BadRequest`.
    pub fn detail(&self, name: &str) -> &Value {
        let url = format!("type.googleapis.com/google.rpc.{name}");
        self.details
            .iter()
            .find(|detail| detail["@type"] == url.as_str())
            .unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }

    /// `ErrorInfo.reason`, which every error has.
    pub fn reason(&self) -> &str {
        let info = self.detail("ErrorInfo");
        assert_eq!(info["domain"], "recorder", "{self:#?}");
        info["reason"].as_str().expect("a reason")
    }
}

/// The script while it runs.
pub struct Script {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Points the script at a cluster's API and node listener.
    pub fn start(cluster: &Cluster, options: &[&str]) -> Self {
        let control = cluster.control.as_ref().expect("the control plane runs");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("workspace");
        let python = root.join(".tools/python/bin/python");
        assert!(python.exists(), "{} is missing: run `.ci/install test` first", python.display());
        let mut command = Command::new(python);
        command.arg(root.join("tests/tools/recipes.py")).arg(control.address("api"));
        command.args(["--node", control.address("link")]).args(options);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python");
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("output")));
        Self { child, input, output }
    }

    /// Sends one line and reads its answer.
    pub fn call(&mut self, method: &str, request: &str) -> Answer {
        writeln!(self.input.as_mut().expect("input"), "{method}\t{request}").expect("the script listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the script answers");
        let answer: Answer = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{method}: {error}: {line:?}"));
        assert_eq!(answer.method, method);
        answer
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
