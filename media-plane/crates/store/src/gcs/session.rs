//! Parts on a resumable session: sequential, any size, each confirmed by Google before it counts.
//!
//! Google takes a session's bytes in order and in multiples of 256 KiB, the end excepted, and does not know which
//! bytes are the end until the size is named. So up to 256 KiB of the last part stay here until the next part or the
//! completion; a process that begins anew learns from Google how many bytes are safe and goes on from there.
use bytes::{Bytes, BytesMut};

use super::json::{Json, Progress};
use crate::bucket::{Part, Stored, UploadId};
use crate::checksum::{crc32c_of_parts, made_of};
use crate::error::{Error, Kind};

/// Google's unit of resumable uploads, in bytes.
pub(super) const QUANTUM: u64 = 256 << 10;

/// Bytes of the parts as which a session that somebody else began is listed: small enough to compare in memory.
const PIECE: u64 = 8 << 20;

/// What is known of one session; the default is a session that somebody else began.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Parts that were confirmed to the caller, or what Google held when we came.
    parts: Vec<Part>,
    /// Bytes confirmed by Google.
    held: u64,
    /// Confirmed to the caller, not yet sent.
    tail: Bytes,
    /// Google must be asked how far it is before anything is sent.
    ask: Ask,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// We know nothing yet.
    #[default]
    Everything,
    /// A request failed or was dropped half way; Google may hold more than `held`.
    Overlap,
    /// We are in step.
    Nothing,
}

impl Session {
    /// Just opened, by us.
    pub(super) fn fresh() -> Self {
        Self { ask: Ask::Nothing, ..Self::default() }
    }

    pub(super) async fn put_part(
        &mut self,
        json: &Json,
        key: &str,
        upload: &UploadId,
        number: u32,
        body: Bytes,
    ) -> Result<Part, Error> {
        const OPERATION: &str = "put_part";
        let crc = crc32c::crc32c(&body);
        let size = body.len() as u64;
        let same = |part: &&Part| (part.number, part.size, part.crc32c) == (number, size, Some(crc));
        if let Some(before) = self.parts.iter().find(same) {
            return Ok(before.clone());
        }
        self.learn(OPERATION, json, key, upload).await?;
        let last = self.parts.last().map_or(0, |part| part.number);
        if number <= last {
            let message = format!("part {number} comes after part {last}: this store takes parts in order, once");
            return Err(Error::new(OPERATION, key, Kind::Invalid, "InvalidPartOrder", message));
        }
        let whole = joined(&self.tail, body);
        let sendable = whole.len() - whole.len() % QUANTUM as usize;
        self.send(OPERATION, json, key, upload, whole.slice(..sendable)).await?;
        self.tail = whole.slice(sendable..);
        let part = Part { number, size, etag: format!("{crc:08x}"), crc32c: Some(crc) };
        self.parts.push(part.clone());
        Ok(part)
    }

    /// Sends whole quanta that follow `held`, skipping what a failed attempt got through.
    async fn send(
        &mut self,
        operation: &'static str,
        json: &Json,
        key: &str,
        upload: &UploadId,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let start = self.held;
        let end = start + bytes.len() as u64;
        let mut at = start;
        if self.ask == Ask::Overlap {
            at = self.holds(operation, key, json.session_progress(operation, key, upload).await?)?;
        }
        while at < end {
            let Some(skip) = at.checked_sub(start).and_then(|skip| usize::try_from(skip).ok()) else {
                return Err(self.out_of_step(operation, key, at));
            };
            // Until the answer is here, this attempt may have stored anything: also when it is dropped.
            self.ask = Ask::Overlap;
            let sent = json.send_bytes(operation, key, upload, at, bytes.slice(skip..), None).await?;
            let now = self.holds(operation, key, sent)?;
            if now <= at || now > end {
                return Err(self.out_of_step(operation, key, now));
            }
            at = now;
        }
        if at > end {
            return Err(self.out_of_step(operation, key, at));
        }
        self.held = end;
        self.ask = Ask::Nothing;
        Ok(())
    }

    fn holds(&self, operation: &'static str, key: &str, progress: Progress) -> Result<u64, Error> {
        match progress {
            Progress::Holds(bytes) => Ok(bytes),
            Progress::Done(_) => {
                Err(Error::new(operation, key, Kind::NoSuchUpload, "UploadCompleted", "the upload was completed"))
            }
        }
    }

    fn out_of_step(&self, operation: &'static str, key: &str, theirs: u64) -> Error {
        let message = format!("Google holds {theirs} bytes where {} were confirmed", self.held);
        Error::new(operation, key, Kind::Unexpected, "OutOfStep", message)
    }

    /// For a session that somebody else began: what Google holds, cut into parts of our own making.
    async fn learn(&mut self, operation: &'static str, json: &Json, key: &str, upload: &UploadId) -> Result<(), Error> {
        if self.ask != Ask::Everything {
            return Ok(());
        }
        self.held = self.holds(operation, key, json.session_progress(operation, key, upload).await?)?;
        let offsets = (0..self.held).step_by(PIECE as usize);
        self.parts = (1..)
            .zip(offsets)
            .map(|(number, offset)| Part {
                number,
                size: PIECE.min(self.held - offset),
                etag: String::new(),
                crc32c: None,
            })
            .collect();
        self.ask = Ask::Nothing;
        Ok(())
    }

    pub(super) async fn list_parts(&mut self, json: &Json, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        const OPERATION: &str = "list_parts";
        if self.ask == Ask::Everything {
            self.learn(OPERATION, json, key, upload).await?;
        } else {
            self.holds(OPERATION, key, json.session_progress(OPERATION, key, upload).await?)?;
        }
        Ok(self.parts.clone())
    }

    pub(super) async fn complete(
        &mut self,
        json: &Json,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
    ) -> Result<Stored, Error> {
        const OPERATION: &str = "complete";
        let size: u64 = parts.iter().map(|part| part.size).sum();
        let crc = crc32c_of_parts(parts);
        let mut at = self.held;
        if self.ask != Ask::Nothing {
            at = match json.session_progress(OPERATION, key, upload).await? {
                Progress::Holds(bytes) => bytes,
                // Finished by an earlier attempt of ours; otherwise by somebody for whom these parts are not.
                Progress::Done(stored) => {
                    let message = "the upload was completed with other parts";
                    let gone = Error::new(OPERATION, key, Kind::NoSuchUpload, "UploadCompleted", message);
                    return confirmed(key, stored, parts).map_err(|_| gone);
                }
            };
            if self.ask == Ask::Everything {
                self.held = at;
            }
        }
        let skip = at.checked_sub(self.held).and_then(|skip| usize::try_from(skip).ok());
        let whole = self.held + self.tail.len() as u64;
        let rest = skip.filter(|skip| *skip <= self.tail.len() && whole == size).map(|skip| self.tail.slice(skip..));
        let Some(rest) = rest else {
            let message = format!("the parts listed have {size} bytes, the upload has {whole}");
            return Err(Error::new(OPERATION, key, Kind::Invalid, "InvalidPart", message));
        };
        self.ask = if self.ask == Ask::Everything { Ask::Everything } else { Ask::Overlap };
        match json.send_bytes(OPERATION, key, upload, at, rest, Some((size, crc))).await? {
            Progress::Done(stored) => confirmed(key, stored, parts),
            Progress::Holds(bytes) => Err(self.out_of_step(OPERATION, key, bytes)),
        }
    }
}

fn confirmed(key: &str, stored: Stored, parts: &[Part]) -> Result<Stored, Error> {
    let empty = parts.iter().all(|part| part.size == 0) && stored.size == 0;
    if empty || made_of(&stored, parts) {
        return Ok(stored);
    }
    let message = "the stored object differs from what was sent";
    Err(Error::new("complete", key, Kind::Corrupted, "ChecksumMismatch", message))
}

fn joined(tail: &Bytes, body: Bytes) -> Bytes {
    if tail.is_empty() {
        return body;
    }
    let mut whole = BytesMut::with_capacity(tail.len() + body.len());
    whole.extend_from_slice(tail);
    whole.extend_from_slice(&body);
    whole.freeze()
}
