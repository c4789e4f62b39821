//! One object from the spool into a bucket: a put or a multipart upload, then a look at what is really there.
//!
//! Every step may be repeated after a lost reply: parts are compared with the bucket's own list, a completion whose
//! upload is gone is looked for under the key, uploads that nobody needs any more are aborted.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use md5::{Digest, Md5};
use mux::{ObjectId, ObjectSpec};
use recorder_runtime::metrics as names;
use spool::{OutputKey, Record, Spool};
use store::{If, Kind, ObjectMeta, Part, Stored, UploadId, crc32c_of_parts};

use super::compose;
use super::lane::Lane;
use super::plan::{Plan, Way};
use super::progress::Progress;

/// An object and where it goes.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Its output.
    pub output: OutputKey,
    /// The object.
    pub spec: ObjectSpec,
    /// Bytes, once it is closed.
    pub size: u64,
    /// CRC-32C of all of them.
    pub crc32c: u32,
    /// Key in the bucket.
    pub key: String,
    /// Content type, cache header and labels.
    pub meta: ObjectMeta,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The bucket's side.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Our own disk.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// No client for the bucket.
    #[error("credential of {storage}: {problem}")]
    Credential {
        /// Which storage.
        storage: String,
        /// The control plane's words.
        problem: String,
    },
}

impl UploadError {
    /// No later attempt can do better: our bytes are damaged, or the request is wrong by our own doing. A missing bucket
    /// is not of that kind: somebody can make it. Nor is a disk that cannot be read just now.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error.kind, Kind::Invalid | Kind::Unsupported),
            Self::Spool(error) => is_lost(error),
            Self::Credential { .. } => false,
        }
    }
}

fn error_path(error: &spool::Error) -> PathBuf {
    if let spool::Error::Io { path, .. } = error { path.clone() } else { PathBuf::new() }
}

/// The spool does not have the bytes, as opposed to: could not give them.
fn is_lost(error: &spool::Error) -> bool {
    match error {
        spool::Error::Corrupt { .. } | spool::Error::Unknown(_) | spool::Error::Range { .. } => true,
        // The file is gone, or shorter than it was when it was closed.
        spool::Error::Io { source, .. } => matches!(source.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof),
        _ => false,
    }
}

/// The bytes of an object that parts other than the reserved first are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// How they are cut.
    pub plan: Plan,
    /// Where they begin.
    pub head: u64,
    /// Where they end.
    pub end: u64,
    /// Nothing will follow.
    pub closed: bool,
}

impl Parcel {
    /// Sends the parts that are complete in an object that still grows and is durable up to `durable`.
    pub async fn advance(
        &self,
        lane: &Lane<'_>,
        progress: &mut Progress,
        plan: Plan,
        durable: u64,
    ) -> Result<(), UploadError> {
        let span = Span { plan, head: 0, end: durable, closed: false };
        let sent = self.grown(lane, progress, span).await;
        Self::outcome(lane, progress, sent)
    }

    async fn grown(&self, lane: &Lane<'_>, progress: &mut Progress, span: Span) -> Result<(), UploadError> {
        self.prepare(lane, progress, span).await?;
        self.send_parts(lane, progress, span).await
    }

    /// One attempt to bring a closed object home. Keys are never shared by two writers, so repeating it after a lost
    /// reply writes the same bytes.
    pub async fn send(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<Stored, UploadError> {
        let limits = lane.limits();
        let plan = match progress.growing.map(|growing| growing.way(limits)) {
            Some(Way::Compose(plan)) => {
                let sent = compose::send(self, lane, progress, plan).await;
                return Self::outcome(lane, progress, sent);
            }
            Some(Way::Parts(plan)) if plan.fits(self.size, limits) => plan,
            Some(_) => {
                // More than the plan was made for: larger parts take it.
                progress.anew();
                Plan::closed(self.size, limits)
            }
            None => Plan::closed(self.size, limits),
        };
        let sent = self.deliver(lane, progress, plan).await;
        Self::outcome(lane, progress, sent)
    }

    /// Notes what a failure means for the next attempt.
    pub(super) fn outcome<T>(
        lane: &Lane<'_>,
        progress: &mut Progress,
        result: Result<T, UploadError>,
    ) -> Result<T, UploadError> {
        match result {
            Err(UploadError::Store(mut error)) if error.kind == Kind::NoSuchUpload => {
                progress.forget();
                // It begins anew, so this is no reason to give up.
                error.kind = Kind::Interrupted;
                Err(error.into())
            }
            Err(UploadError::Store(mut error)) if error.kind == Kind::Invalid && progress.refused() => {
                // The store may have other parts than we know of: a late request of an earlier attempt replaced one, or
                // it lost one. Or it wants parts of one size.
                tracing::warn!(key = error.key, %error, "an upload is refused; it is tried once more");
                error.kind = Kind::Interrupted;
                Err(error.into())
            }
            Err(UploadError::Spool(error)) if progress.unreadable(&error) => {
                let problem = format!("it cannot be read, however often that is tried: {error}");
                Err(spool::Error::Corrupt { path: error_path(&error), problem }.into())
            }
            Err(error) => {
                progress.failed(lane.limits());
                Err(error)
            }
            done => done,
        }
    }

    async fn deliver(&self, lane: &Lane<'_>, progress: &mut Progress, plan: Plan) -> Result<Stored, UploadError> {
        self.clean(lane, progress).await?;
        if let Some(found) = self.find(lane, progress).await? {
            return self.settled(lane, progress, found).await;
        }
        let head = if plan.reserve > 0 { progress.head } else { 0 };
        let span = Span { plan, head, end: self.size, closed: true };
        self.prepare(lane, progress, span).await?;
        if progress.upload.is_none() && self.size <= plan.part {
            self.put(lane, progress).await?;
        } else {
            self.send_parts(lane, progress, span).await?;
            self.send_reserved(lane, progress, span).await?;
            self.check_parts(lane, progress, span).await?;
            self.complete(lane, progress).await?;
        }
        let found = self.confirm(lane, progress).await?;
        self.settled(lane, progress, found).await
    }

    /// The object is there; nothing else of it may be left.
    async fn settled(&self, lane: &Lane<'_>, progress: &mut Progress, found: Stored) -> Result<Stored, UploadError> {
        progress.orphans.extend(progress.upload.take());
        self.sweep(lane, progress).await?;
        self.clean(lane, progress).await?;
        Ok(found)
    }

    /// Puts the journal's words and the bucket's together.
    pub(super) async fn prepare(
        &self,
        lane: &Lane<'_>,
        progress: &mut Progress,
        span: Span,
    ) -> Result<(), UploadError> {
        self.clean(lane, progress).await?;
        progress.through(lane.bucket);
        if progress.unsure {
            self.recall(lane, progress, span).await?;
        }
        Ok(())
    }

    /// What the bucket holds of the upload. Only what is made of our bytes counts; the rest is sent again.
    async fn recall(&self, lane: &Lane<'_>, progress: &mut Progress, span: Span) -> Result<(), UploadError> {
        let Some(upload) = progress.upload.clone() else { return Ok(()) };
        let limits = lane.limits();
        let listed = lane.bucket.list_parts(&self.key, &upload).await?;
        let mut parts = BTreeMap::new();
        if limits.parts_in_any_order {
            for part in listed {
                if let Some(part) = self.ours(lane, progress, span, part).await? {
                    parts.insert(part.number, part);
                }
            }
        } else {
            let held: u64 = listed.iter().map(|part| part.size).sum();
            if span.head + held > span.end {
                // A session cannot be cut back.
                progress.discard();
                return self.clean(lane, progress).await;
            }
            parts.extend(listed.into_iter().map(|part| (part.number, part)));
        }
        progress.parts = parts;
        progress.unsure = false;
        Ok(())
    }

    /// A listed part with its checksum, if it is made of the bytes that belong there.
    async fn ours(
        &self,
        lane: &Lane<'_>,
        progress: &Progress,
        span: Span,
        mut part: Part,
    ) -> Result<Option<Part>, UploadError> {
        let range = part_range(span, part.number);
        let Some(range) = range.filter(|range| range.end - range.start == part.size) else { return Ok(None) };
        if let Some(crc32c) = progress.checksum_of(&part) {
            part.crc32c = Some(crc32c);
            return Ok(Some(part));
        }
        let _permit = lane.permit().await;
        let body = self.read(lane.spool, range.start, part.size).await?;
        let crc32c = crc32c::crc32c(&body);
        let is_same = body.len() as u64 == part.size
            && part.crc32c.map_or_else(|| part.etag == hex::encode(Md5::digest(&body)), |theirs| theirs == crc32c);
        part.crc32c = Some(crc32c);
        Ok(is_same.then_some(part))
    }

    pub(super) async fn send_parts(
        &self,
        lane: &Lane<'_>,
        progress: &mut Progress,
        span: Span,
    ) -> Result<(), UploadError> {
        let limits = lane.limits();
        loop {
            let (number, offset) = progress.next(span.plan, limits);
            let Some(range) = span.plan.next(span.head + offset, span.end, span.closed) else { return Ok(()) };
            // What an object has beyond that waits for larger parts, which are chosen when it is closed.
            if !span.closed && number >= limits.max_parts {
                return Ok(());
            }
            self.send_part(lane, progress, number, range).await?;
        }
    }

    /// The head and the media that was kept back for it.
    async fn send_reserved(&self, lane: &Lane<'_>, progress: &mut Progress, span: Span) -> Result<(), UploadError> {
        if span.plan.reserve == 0 || progress.parts.contains_key(&1) {
            return Ok(());
        }
        self.send_part(lane, progress, 1, 0..(span.head + span.plan.reserve).min(span.end)).await
    }

    async fn send_part(
        &self,
        lane: &Lane<'_>,
        progress: &mut Progress,
        number: u32,
        range: Range<u64>,
    ) -> Result<(), UploadError> {
        let upload = self.upload(lane, progress).await?;
        let permit = lane.permit().await;
        let body = self.read(lane.spool, range.start, range.end - range.start).await?;
        let (len, crc32c) = (body.len() as u64, crc32c::crc32c(&body));
        if len != range.end - range.start {
            return Err(self.damaged(format!("{len} bytes at {}, recorded {}", range.start, range.end - range.start)));
        }
        lane.pace(body.len()).await;
        let done = timed(lane.bucket.put_part(&self.key, &upload, number, body)).await?;
        drop(permit);
        lane.moved();
        let object = self.object();
        self.note(lane.spool, Record::PartDone { object, number, etag: done.etag.clone(), crc32c, len }).await;
        progress.parts.insert(number, Part { crc32c: Some(crc32c), ..done });
        Ok(())
    }

    /// The upload under way. Before one is begun, those that may have been begun already are looked for.
    async fn upload(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<UploadId, UploadError> {
        if let Some(upload) = &progress.upload {
            return Ok(upload.clone());
        }
        let found = if progress.strays { self.strays(lane).await?.pop() } else { None };
        let upload = match found {
            Some(upload) => upload,
            None => {
                // Until the answer is here, it may exist.
                let before = std::mem::replace(&mut progress.strays, true);
                let upload = lane.bucket.create_upload(&self.key, &self.meta).await?;
                progress.strays = before;
                upload
            }
        };
        let record = Record::UploadCreated {
            object: self.object(),
            key: self.key.clone(),
            upload_id: upload.as_str().to_owned(),
        };
        self.note(lane.spool, record).await;
        // One that was found may hold parts, which are sent again: nobody here knows whose bytes they are.
        progress.upload = Some(upload.clone());
        progress.parts.clear();
        Ok(upload)
    }

    pub(super) async fn read(&self, spool: &Spool, offset: u64, len: u64) -> Result<Bytes, UploadError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(spool.read(&self.output, self.object(), offset, len).await?)
    }

    pub(super) fn damaged(&self, problem: String) -> UploadError {
        spool::Error::Corrupt { path: self.output.to_string().into(), problem }.into()
    }

    /// Progress is a help for the next start, not a condition: an output that the spool lost still ships what is closed.
    async fn note(&self, spool: &Spool, record: Record) {
        if let Err(error) = spool.record(&self.output, record).await {
            tracing::warn!(output = %self.output, %error, "progress of an upload not noted");
        }
    }

    async fn put(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<(), UploadError> {
        let _permit = lane.permit().await;
        let body = self.read(lane.spool, 0, self.size).await?;
        let (size, crc32c) = (body.len() as u64, crc32c::crc32c(&body));
        if (size, crc32c) != (self.size, self.crc32c) {
            return Err(self.damaged(self.differs(size, crc32c)));
        }
        lane.pace(body.len()).await;
        let written = timed(lane.bucket.put(&self.key, body, &self.meta, If::Any)).await;
        let stored = written.inspect_err(|error| progress.doubt |= may_be_applied(error))?;
        progress.etag = Some(stored.etag);
        progress.doubt = true;
        Ok(())
    }

    /// Compares the parts that were sent, some of them by an earlier process, with what was recorded.
    pub(super) async fn check_parts(
        &self,
        lane: &Lane<'_>,
        progress: &mut Progress,
        span: Span,
    ) -> Result<(), UploadError> {
        let parts = progress.parts();
        let size: u64 = parts.iter().map(|part| part.size).sum();
        let Some(crc32c) = crc32c_of_parts(&parts) else { return Ok(()) };
        if (size, crc32c) == (self.size, self.crc32c) {
            return Ok(());
        }
        let mut wrong = Vec::new();
        progress.noted.clear();
        for part in parts {
            if lane.limits().parts_in_any_order && self.ours(lane, progress, span, part.clone()).await?.is_none() {
                wrong.push(part.number);
            }
        }
        if wrong.is_empty() {
            return Err(self.damaged(self.differs(size, crc32c)));
        }
        progress.parts.retain(|number, _| !wrong.contains(number));
        Err(again(&self.key, "PartMismatch", "parts of an earlier attempt are sent again").into())
    }

    pub(super) async fn complete(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<(), UploadError> {
        let Some(upload) = progress.upload.clone() else { return Ok(()) };
        let parts = progress.parts();
        let written = timed(lane.bucket.complete(&self.key, &upload, &parts, If::Any)).await;
        let stored = written.inspect_err(|error| progress.doubt |= may_be_applied(error))?;
        progress.doubt = true;
        progress.etag = Some(stored.etag);
        progress.upload = None;
        Ok(())
    }

    /// An object that an earlier attempt wrote, though its answer was lost.
    async fn find(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<Option<Stored>, UploadError> {
        if !progress.doubt {
            return Ok(None);
        }
        let found = lane.bucket.head(&self.key).await?.filter(|found| found.size == self.size);
        let is_same = |found: &Stored| match found.crc32c {
            Some(crc32c) => crc32c == self.crc32c,
            None => progress.etag.as_ref() == Some(&found.etag),
        };
        if let Some(found) = found.as_ref().filter(|found| is_same(found)) {
            return Ok(Some(found.clone()));
        }
        // A store without checksums: an upload of ours that is gone was completed, if the object is there at all.
        let (Some(upload), Some(found)) = (&progress.upload, found) else { return Ok(None) };
        match lane.bucket.list_parts(&self.key, upload).await {
            Err(error) if error.kind == Kind::NoSuchUpload && found.crc32c.is_none() => {
                progress.upload = None;
                Ok(Some(found))
            }
            _ => Ok(None),
        }
    }

    async fn confirm(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<Stored, UploadError> {
        let found = lane.bucket.head(&self.key).await?;
        let problem = match &found {
            None => "no object".to_owned(),
            Some(found) if found.size != self.size => format!("{} bytes", found.size),
            Some(found) if found.crc32c.is_some_and(|crc32c| crc32c != self.crc32c) => "another checksum".to_owned(),
            Some(found) if progress.etag.as_ref().is_some_and(|etag| *etag != found.etag) => "another tag".to_owned(),
            Some(found) => return Ok(found.clone()),
        };
        progress.discard();
        let message = format!("stored {} bytes, found {problem}", self.size);
        Err(store::Error::new("head", &self.key, Kind::Corrupted, "ContentMismatch", message).into())
    }

    fn object(&self) -> ObjectId {
        self.spec.object
    }

    fn differs(&self, size: u64, crc32c: u32) -> String {
        format!("{size} bytes with checksum {crc32c:08x}, recorded {} with {:08x}", self.size, self.crc32c)
    }
}

/// The bytes that make a part, where the plan has one of this number.
fn part_range(span: Span, number: u32) -> Option<Range<u64>> {
    let plan = span.plan;
    if plan.reserve > 0 && number == 1 {
        return span.closed.then_some(0..(span.head + plan.reserve).min(span.end));
    }
    plan.next(span.head + plan.offset(number), span.end, span.closed)
}

/// The request may have been carried out although it failed.
fn may_be_applied(error: &store::Error) -> bool {
    matches!(error.kind, Kind::Interrupted | Kind::Timeout | Kind::Unavailable | Kind::Unexpected)
}

/// A reason to begin another attempt at once.
pub(super) fn again(key: &str, code: &str, message: &str) -> store::Error {
    store::Error::new("upload", key, Kind::Interrupted, code, message)
}

pub(super) async fn timed<T>(request: impl Future<Output = Result<T, store::Error>>) -> Result<T, store::Error> {
    let started = Instant::now();
    let result = request.await;
    metrics::histogram!(names::UPLOAD_PART_SECONDS).record(started.elapsed().as_secs_f64());
    result
}
