//! What is known of an object's way into its bucket; survives failed attempts, and restarts through the journal. No I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use store::{Bucket, Capabilities, Part, UploadId};

use super::plan::{Growing, Plan};

/// What a disk says that cannot read a sector.
const EIO: i32 = 5;

/// Read errors of one object, over minutes, after which its bytes count as lost.
const MOST_READ_ERRORS: u32 = 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Progress {
    /// How it was begun while it grew; otherwise it goes in parts that are right for its size.
    pub growing: Option<Growing>,
    /// Bytes in front of those that are sent while it grows; known once it is closed.
    pub head: u64,
    /// The multipart upload under way.
    pub upload: Option<UploadId>,
    /// Its parts that the bucket holds and that are made of our bytes, with their checksums where those are known.
    pub parts: BTreeMap<u32, Part>,
    /// Parts that an earlier process noted: their checksums are of our bytes.
    pub noted: Vec<spool::Part>,
    /// The bucket must be asked which parts it holds.
    pub unsure: bool,
    /// Uploads may exist whose ids we never learned: a create whose reply was lost, or one of an earlier process.
    pub strays: bool,
    /// The whole object may have been written: a put or complete whose reply was lost, or an earlier process's.
    pub doubt: bool,
    /// The tag under which it was.
    pub etag: Option<String>,
    /// Uploads of ours that are no longer needed.
    pub orphans: Vec<UploadId>,
    /// How often the disk could not read the object's bytes.
    pub read_errors: u32,
    /// How often the storage refused the upload as wrong.
    pub refusals: u32,
    /// The client that sent the last part; a sequential store's sessions are known to their client only.
    pub client: Option<Arc<dyn Bucket>>,
}

impl Progress {
    /// Of an object that an earlier process may have begun to send, by parts if it is `large`.
    pub fn restored(upload: Option<spool::Upload>, large: bool) -> Self {
        let (id, noted) = upload.map(|upload| (UploadId::new(upload.upload_id), upload.parts)).unzip();
        Self {
            unsure: id.is_some(),
            upload: id,
            noted: noted.unwrap_or_default(),
            strays: large,
            doubt: true,
            ..Self::default()
        }
    }

    /// The next part to send: its number, and where its bytes begin behind the head.
    pub fn next(&self, plan: Plan, limits: Capabilities) -> (u32, u64) {
        if limits.parts_in_any_order {
            let number = (plan.first()..).find(|number| !self.parts.contains_key(number)).unwrap_or(u32::MAX);
            return (number, plan.offset(number));
        }
        let last = self.parts.last_key_value().map_or(0, |(number, _)| *number);
        (last.saturating_add(1), self.parts.values().map(|part| part.size).sum())
    }

    /// The checksum of a listed part, if an earlier process noted that very part.
    pub fn checksum_of(&self, listed: &Part) -> Option<u32> {
        let noted = self.noted.iter().find(|noted| noted.number == listed.number && noted.len == listed.size)?;
        let is_same = listed.crc32c.map_or(noted.etag == listed.etag, |crc32c| crc32c == noted.crc32c);
        is_same.then_some(noted.crc32c)
    }

    /// Of every part, in order.
    pub fn parts(&self) -> Vec<Part> {
        self.parts.values().cloned().collect()
    }

    /// The upload is no more: the next attempt begins anew.
    pub fn forget(&mut self) {
        self.upload = None;
        self.parts.clear();
        self.noted.clear();
        (self.unsure, self.doubt, self.etag) = (false, false, None);
    }

    /// The upload is of no use: it is to be aborted before anything else.
    pub fn discard(&mut self) {
        self.orphans.extend(self.upload.take());
        self.forget();
    }

    /// The spool gave no bytes. A disk that never can read them has lost them.
    pub fn unreadable(&mut self, error: &spool::Error) -> bool {
        let is_broken = matches!(error, spool::Error::Io { source, .. } if source.raw_os_error() == Some(EIO));
        self.read_errors += u32::from(is_broken);
        is_broken && self.read_errors >= MOST_READ_ERRORS
    }

    /// The storage refuses the upload as wrong. First the bucket is asked what it holds, then the object is sent once
    /// more as a whole; false = neither is left to try.
    pub fn refused(&mut self) -> bool {
        if self.upload.is_none() {
            return false;
        }
        self.refusals += 1;
        match self.refusals {
            1 => self.unsure = true,
            2 => self.anew(),
            _ => return false,
        }
        true
    }

    /// It is sent once more, in parts that are right for its size.
    pub fn anew(&mut self) {
        self.discard();
        self.growing = None;
    }

    /// An attempt was broken off: whatever it had asked for may have been done.
    pub fn interrupted(&mut self) {
        (self.doubt, self.strays) = (true, true);
        self.unsure |= self.upload.is_some();
    }

    /// A request failed. A sequential store may have taken some of its bytes.
    pub fn failed(&mut self, limits: Capabilities) {
        self.unsure |= self.upload.is_some() && !limits.parts_in_any_order;
    }

    /// Requests go through this client from now on.
    pub fn through(&mut self, client: &Arc<dyn Bucket>) {
        let is_same = self.client.as_ref().is_none_or(|before| Arc::ptr_eq(before, client));
        self.unsure |= !is_same && self.upload.is_some() && !client.capabilities().parts_in_any_order;
        self.client = Some(Arc::clone(client));
    }
}
