//! Looks at one object: is it there, as long as it was, and made of the same bytes?
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use recorder_proto::Problem;
use recorder_proto::pb::v1::verify_recording_response::Object;
use recorder_proto::pb::v1::verify_recording_response::object::Outcome;
use store::{Bucket, Kind, crc32c_base64};
use tonic::Code;

use super::expected::Expected;

/// Bytes asked for at a time; the most that is held of one object.
const PIECE: u64 = 4 << 20;

/// The longest text (playlist, manifest) that is read whole.
const TEXT_MAX: u64 = 64 << 20;

/// Compares the object with what is expected; with `deep` byte by byte.
pub(super) async fn look(bucket: &dyn Bucket, expected: &Expected, deep: bool, read: &AtomicU64) -> Object {
    let mut found = Object {
        object_key: expected.key.clone(),
        uri: bucket.uri(&expected.key),
        expected_size_bytes: expected.size.unwrap_or_default(),
        expected_crc32c: expected.crc32c.clone(),
        ..Object::default()
    };
    let stored = match bucket.head(&expected.key).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return judged(found, Outcome::Missing, None),
        Err(error) => return judged(found, Outcome::Unreadable, Some(said(&error))),
    };
    found.found_size_bytes = stored.size;
    if expected.size.is_some_and(|size| size != stored.size) {
        return judged(found, Outcome::SizeMismatch, None);
    }
    let crc = match deep {
        false => stored.crc32c,
        true => match checksum(bucket, &expected.key, stored.size, read).await {
            Ok(crc) => Some(crc),
            Err(Trouble::Store(error)) if error.kind == Kind::NotFound => return judged(found, Outcome::Missing, None),
            Err(Trouble::Store(error)) => return judged(found, Outcome::Unreadable, Some(said(&error))),
            Err(Trouble::Short(length)) => {
                found.found_size_bytes = length;
                return judged(found, Outcome::SizeMismatch, None);
            }
        },
    };
    found.found_crc32c = crc.map(crc32c_base64).unwrap_or_default();
    let differs = !expected.crc32c.is_empty() && crc.is_some() && found.found_crc32c != expected.crc32c;
    judged(found, if differs { Outcome::ChecksumMismatch } else { Outcome::Ok }, None)
}

/// The whole of a small object.
pub(crate) async fn text(bucket: &dyn Bucket, key: &str, read: &AtomicU64) -> Result<Bytes, Problem> {
    let mut whole = BytesMut::new();
    loop {
        let at = whole.len() as u64;
        let piece = bucket.get_range(key, at..at.saturating_add(PIECE)).await.map_err(|error| said(&error))?;
        read.fetch_add(piece.len() as u64, Ordering::Relaxed);
        whole.extend_from_slice(&piece);
        if (piece.len() as u64) < PIECE {
            return Ok(whole.freeze());
        }
        if whole.len() as u64 > TEXT_MAX {
            return Err(damaged(format!("is longer than {TEXT_MAX} bytes")));
        }
    }
}

/// An object without which others cannot be found: what is wrong with it.
pub(super) fn unreadable(bucket: &dyn Bucket, expected: &Expected, problem: Problem) -> Object {
    let object = Object {
        object_key: expected.key.clone(),
        uri: bucket.uri(&expected.key),
        expected_size_bytes: expected.size.unwrap_or_default(),
        expected_crc32c: expected.crc32c.clone(),
        ..Object::default()
    };
    judged(object, Outcome::Unreadable, Some(problem))
}

/// A text that is there but does not say what it should.
pub(super) fn damaged(message: impl Into<String>) -> Problem {
    Problem::new(Code::DataLoss, "OBJECT_DAMAGED", message)
}

enum Trouble {
    Store(store::Error),
    /// It ended after so many bytes.
    Short(u64),
}

async fn checksum(bucket: &dyn Bucket, key: &str, size: u64, read: &AtomicU64) -> Result<u32, Trouble> {
    let (mut at, mut crc) = (0_u64, 0_u32);
    while at < size {
        let end = at.saturating_add(PIECE).min(size);
        let piece = bucket.get_range(key, at..end).await.map_err(Trouble::Store)?;
        if piece.is_empty() {
            return Err(Trouble::Short(at));
        }
        crc = crc32c::crc32c_append(crc, &piece);
        at = at.saturating_add(piece.len() as u64);
        read.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(crc)
}

fn judged(mut object: Object, outcome: Outcome, problem: Option<Problem>) -> Object {
    let why = || {
        let (expected, found) = (object.expected_size_bytes, object.found_size_bytes);
        match outcome {
            Outcome::Ok | Outcome::Unspecified => None,
            Outcome::Missing => Some(damaged("there is no such object")),
            Outcome::SizeMismatch => Some(damaged(format!("{expected} bytes were written, {found} are there"))),
            Outcome::ChecksumMismatch => Some(damaged("the bytes are not those that were written")),
            Outcome::Unreadable => Some(damaged("it cannot be read")),
        }
    };
    let error = problem.or_else(why).map(Into::into);
    object.set_outcome(outcome);
    object.error = error;
    object
}

/// In the provider's own words.
fn said(error: &store::Error) -> Problem {
    Problem::destination("STORAGE_FAILED", error.to_string())
        .with_metadata("provider_code", error.code.clone())
        .with_metadata("provider_message", error.message.clone())
}
