//! recctl as its users have it: the real binary against the real control plane, judged by what it prints and how it
//! exits.

mod access;
mod doctor;
mod live;
mod resources;

use std::io::Write;
use std::process::{Command, Stdio};

use recorder_tests::cluster::Cluster;
use recorder_tests::process;
use serde_json::Value;

/// A shell with the flags that every call of a test has.
pub struct Recctl {
    flags: Vec<String>,
    environment: Vec<(String, String)>,
}

/// What came of one call.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub error: String,
}

impl Recctl {
    /// Of a cluster's API.
    pub fn of(cluster: &Cluster) -> Self {
        Self::at(&cluster.control.as_ref().expect("the control plane runs").url("api"))
    }

    /// Of a server by its URL, told through the environment.
    pub fn at(server: &str) -> Self {
        Self { flags: Vec::new(), environment: vec![("RECCTL_SERVER".to_owned(), server.to_owned())] }
    }

    /// With further variables.
    pub fn with(mut self, environment: &[(&str, &str)]) -> Self {
        self.environment.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// A call, not yet started.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(process::binary("recctl"));
        command.args(&self.flags).args(line).envs(self.environment.iter().cloned());
        command
    }

    /// A call to its end.
    pub fn run(&self, line: &[&str]) -> Outcome {
        self.fed(line, "")
    }

    /// The same with something on standard input.
    pub fn fed(&self, line: &[&str], input: &str) -> Outcome {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("recctl");
        // It may end without reading.
        let _ = child.stdin.take().expect("input").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("recctl");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Outcome { code: output.status.code().expect("a code"), out: text(output.stdout), error: text(output.stderr) }
    }

    /// The output of a call that must work.
    pub fn ok(&self, line: &[&str]) -> String {
        let outcome = self.run(line);
        assert_eq!((outcome.code, outcome.error.as_str()), (0, ""), "{line:?}: {outcome:#?}");
        outcome.out
    }

    /// The same in JSON.
    pub fn json(&self, line: &[&str]) -> Value {
        let out = self.ok(&[line, &["-o", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{line:?}: {error}: {out}"))
    }

    /// A table's rows below its heads; cells are two blanks apart.
    pub fn rows(&self, line: &[&str]) -> Vec<Vec<String>> {
        let out = self.ok(line);
        out.lines().skip(1).map(cells).collect()
    }
}

/// A row's cells.
pub fn cells(row: &str) -> Vec<String> {
    row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}
