//! Standard output: what is said there is the result and nothing else.

use std::io::Write;

use serde_json::Value;

use crate::failure::Failure;

/// Prints a line and makes sure that it is out.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(failed)
}

/// Prints without a line's end.
pub fn put(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(failed)
}

/// JSON with a field a line.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

fn failed(error: std::io::Error) -> Failure {
    Failure::Io { what: "standard output".to_owned(), error }
}
