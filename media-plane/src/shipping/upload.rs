//! One object from the spool into a bucket: a put or a multipart upload, then a look at what is really there.

use bytes::Bytes;
use mux::{ObjectId, ObjectSpec};
use recorder_runtime::metrics as names;
use spool::{OutputKey, Record, Spool};
use std::io::ErrorKind;
use std::time::Instant;
use store::{Bucket, If, Kind, ObjectMeta, Part, Stored, UploadId, part_size};

/// A closed object and where it goes.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Its output.
    pub output: OutputKey,
    /// The object.
    pub spec: ObjectSpec,
    /// Bytes.
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

/// The spool does not have the bytes, as opposed to: could not give them.
fn is_lost(error: &spool::Error) -> bool {
    match error {
        spool::Error::Corrupt { .. } | spool::Error::Unknown(_) | spool::Error::Range { .. } => true,
        // The file is gone, or shorter than it was when it was closed.
        spool::Error::Io { source, .. } => matches!(source.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof),
        _ => false,
    }
}

/// A multipart upload under way; survives failed attempts.
#[derive(Debug, Default)]
pub struct Progress {
    upload: Option<UploadId>,
    parts: Vec<Part>,
    offset: u64,
    crc32c: u32,
    /// Left by an earlier process: the bucket must be asked for its parts.
    unsure: bool,
}

impl Progress {
    /// Of an upload that an earlier process began.
    pub fn resumed(upload_id: &str) -> Self {
        Self { upload: Some(UploadId::new(upload_id)), unsure: true, ..Self::default() }
    }
}

impl Parcel {
    /// One attempt. Keys are never shared by two writers, so repeating it after a lost reply writes the same bytes.
    pub async fn send(
        &self,
        spool: &Spool,
        bucket: &dyn Bucket,
        progress: &mut Progress,
    ) -> Result<Stored, UploadError> {
        let limits = bucket.capabilities();
        let part = part_size(self.size).clamp(limits.min_part, limits.max_part);
        let sent = if self.size <= part && progress.upload.is_none() {
            self.put(spool, bucket).await
        } else {
            self.parts(spool, bucket, part, progress).await
        };
        match sent {
            Ok(()) => {}
            Err(UploadError::Store(error)) if error.kind == Kind::NoSuchUpload => {
                *progress = Progress::default();
                // It begins anew, so this is no reason to give up.
                let mut lost = error;
                lost.kind = Kind::Interrupted;
                return Err(lost.into());
            }
            Err(error) => return Err(error),
        }
        self.confirm(bucket).await.inspect_err(|_| *progress = Progress::default()).map_err(Into::into)
    }

    fn object(&self) -> ObjectId {
        self.spec.object
    }

    async fn read(&self, spool: &Spool, offset: u64, len: u64) -> Result<Bytes, UploadError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(spool.read(&self.output, self.object(), offset, len).await?)
    }

    fn check(&self, size: u64, crc32c: u32) -> Result<(), UploadError> {
        if (size, crc32c) == (self.size, self.crc32c) {
            return Ok(());
        }
        let problem =
            format!("{size} bytes with checksum {crc32c:08x}, recorded {} with {:08x}", self.size, self.crc32c);
        Err(spool::Error::Corrupt { path: self.output.to_string().into(), problem }.into())
    }

    /// Progress is a help for the next start, not a condition: an output that the spool lost still ships what is closed.
    async fn note(&self, spool: &Spool, record: Record) {
        if let Err(error) = spool.record(&self.output, record).await {
            tracing::warn!(output = %self.output, %error, "progress of an upload not noted");
        }
    }

    async fn put(&self, spool: &Spool, bucket: &dyn Bucket) -> Result<(), UploadError> {
        let body = self.read(spool, 0, self.size).await?;
        self.check(body.len() as u64, crc32c::crc32c(&body))?;
        timed(bucket.put(&self.key, body, &self.meta, If::Any)).await?;
        Ok(())
    }

    async fn parts(
        &self,
        spool: &Spool,
        bucket: &dyn Bucket,
        part: u64,
        progress: &mut Progress,
    ) -> Result<(), UploadError> {
        if std::mem::take(&mut progress.unsure) {
            self.recall(spool, bucket, progress).await?;
        }
        let upload = match &progress.upload {
            Some(upload) => upload.clone(),
            None => self.create(spool, bucket, progress).await?,
        };
        while progress.offset < self.size {
            let body = self.read(spool, progress.offset, part).await?;
            if body.is_empty() {
                return self.check(progress.offset, progress.crc32c);
            }
            let (len, crc32c) = (body.len() as u64, crc32c::crc32c(&body));
            let number = u32::try_from(progress.parts.len() + 1).unwrap_or(u32::MAX);
            let whole = crc32c::crc32c_append(progress.crc32c, &body);
            let done = timed(bucket.put_part(&self.key, &upload, number, body)).await?;
            let object = self.object();
            let record = Record::PartDone { object, number, etag: done.etag.clone(), crc32c, len };
            self.note(spool, record).await;
            progress.parts.push(Part { crc32c: Some(crc32c), ..done });
            progress.offset += len;
            progress.crc32c = whole;
        }
        self.check(progress.offset, progress.crc32c)?;
        timed(bucket.complete(&self.key, &upload, &progress.parts, If::Any)).await?;
        Ok(())
    }

    async fn create(
        &self,
        spool: &Spool,
        bucket: &dyn Bucket,
        progress: &mut Progress,
    ) -> Result<UploadId, UploadError> {
        let upload = bucket.create_upload(&self.key, &self.meta).await?;
        let (object, upload_id) = (self.object(), upload.as_str().to_owned());
        self.note(spool, Record::UploadCreated { object, key: self.key.clone(), upload_id }).await;
        *progress = Progress { upload: Some(upload.clone()), ..Progress::default() };
        Ok(upload)
    }

    /// What the bucket holds of an upload from before a restart: as many parts as join without a hole.
    async fn recall(&self, spool: &Spool, bucket: &dyn Bucket, progress: &mut Progress) -> Result<(), UploadError> {
        let Some(upload) = progress.upload.clone() else { return Ok(()) };
        let listed = match bucket.list_parts(&self.key, &upload).await {
            Ok(listed) => listed,
            Err(error) if error.kind == Kind::NoSuchUpload => {
                *progress = Progress::default();
                return Ok(());
            }
            Err(error) => {
                progress.unsure = true;
                return Err(error.into());
            }
        };
        for (expected, mut part) in (1..).zip(listed) {
            let body = self.read(spool, progress.offset, part.size).await?;
            let crc32c = crc32c::crc32c(&body);
            if part.number != expected || body.len() as u64 != part.size || part.crc32c.is_some_and(|crc| crc != crc32c)
            {
                break;
            }
            part.crc32c = Some(crc32c);
            progress.offset += part.size;
            progress.crc32c = crc32c::crc32c_append(progress.crc32c, &body);
            progress.parts.push(part);
        }
        Ok(())
    }

    async fn confirm(&self, bucket: &dyn Bucket) -> Result<Stored, store::Error> {
        let wrong = |found: &str| {
            let message = format!("stored {} bytes, found {found}", self.size);
            store::Error::new("head", &self.key, Kind::Corrupted, "ContentMismatch", message)
        };
        let found = bucket.head(&self.key).await?.ok_or_else(|| wrong("no object"))?;
        if found.size != self.size {
            return Err(wrong(&format!("{} bytes", found.size)));
        }
        if found.crc32c.is_some_and(|crc32c| crc32c != self.crc32c) {
            return Err(wrong("another checksum"));
        }
        Ok(found)
    }
}

async fn timed<T>(request: impl Future<Output = Result<T, store::Error>>) -> Result<T, store::Error> {
    let started = Instant::now();
    let result = request.await;
    metrics::histogram!(names::UPLOAD_PART_SECONDS).record(started.elapsed().as_secs_f64());
    result
}
