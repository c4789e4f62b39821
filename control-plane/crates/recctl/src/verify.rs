//! verify: a recording's objects against what was written, one line each, and the verdict.

use std::io::IsTerminal;

use recorder_proto::pb::v1;
use v1::verify_recording_request::Depth;
use v1::verify_recording_response::{Object, Progress, Verdict, object::Outcome};

use crate::arguments::{Arguments, Output};
use crate::connection::{Connection, read};
use crate::contract;
use crate::failure::Failure;
use crate::print::{put, say};
use crate::table;
use crate::verbs::first;

/// `verify recordings/ID [--head]`.
pub async fn run(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (name, rest) = first(words, "verify what? for example recctl verify recordings/01JD...")?;
    if let Some(word) = rest.first() {
        return Err(Failure::Usage(format!("verify takes one recording and no {word}")));
    }
    let depth = if arguments.has("--head") { Depth::Head } else { Depth::Full };
    let request = v1::VerifyRecordingRequest { name: name.to_owned(), depth: depth.into() };
    let mut messages = connection.stream(&contract::path(&contract::method("VerifyRecording")?), &request).await?;
    let (json, terminal) = (arguments.output()? == Output::Json, std::io::stderr().is_terminal());
    let mut last = None;
    while let Some(bytes) = messages.message().await? {
        let message: v1::VerifyRecordingResponse = read(&bytes)?;
        if json {
            say(&contract::shown("VerifyRecordingResponse", &message, false)?.to_string())?;
        } else if let Some(object) = &message.object {
            say(&line(object))?;
        }
        let progress = message.progress.unwrap_or_default();
        if terminal {
            eprint!("\r{}  \r", told(&progress));
        }
        last = Some((message.verdict(), progress));
    }
    let (verdict, progress) = last.unwrap_or_default();
    if !json {
        put(&format!("{}: {}\n", verdict.as_str_name(), told(&progress)))?;
    }
    match verdict {
        Verdict::Intact => Ok(()),
        Verdict::Damaged => Err(Failure::Found(format!("{} objects are damaged", progress.objects_damaged))),
        Verdict::NothingAvailable => Err(Failure::Found("the recording has no available file".to_owned())),
        Verdict::Unspecified => Err(Failure::Answer("the verification ended without a verdict".to_owned())),
    }
}

fn told(progress: &Progress) -> String {
    let Progress { objects_done, objects_total, objects_damaged, bytes_read } = progress;
    let read = table::bytes(*bytes_read as f64);
    format!("{objects_done} of {objects_total} objects, {objects_damaged} damaged, {read} read")
}

fn line(object: &Object) -> String {
    let (expected, found) = (object.expected_size_bytes, object.found_size_bytes);
    let why = match object.outcome() {
        Outcome::Ok => String::new(),
        Outcome::SizeMismatch => format!("  {found} bytes instead of {expected}"),
        Outcome::ChecksumMismatch => {
            format!("  CRC-32C {} instead of {}", object.found_crc32c, object.expected_crc32c)
        }
        _ => object.error.as_ref().map(|error| format!("  {}", error.message)).unwrap_or_default(),
    };
    let size = table::bytes(found as f64);
    table::plain(&format!("{:17}  {size:>10}  {}{why}", object.outcome().as_str_name(), object.uri).into())
}
