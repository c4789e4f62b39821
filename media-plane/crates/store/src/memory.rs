//! A bucket in memory, for tests: behaves like S3, part rules included.
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use crate::bucket::{Bucket, Capabilities, If, Listed, ObjectMeta, Part, Stored, Upload, UploadId};
use crate::checksum::{completed_before, crc32c_base64};
use crate::error::{Error, Kind};
use crate::key;

/// Bytes of the parts as which [`Memory::in_order`] lists what it holds.
const PIECE: usize = 8 << 20;

/// A bucket in memory.
#[derive(Debug, Default)]
pub struct Memory {
    state: Mutex<State>,
    /// Like Google with a service account.
    in_order: bool,
    /// Like the file system.
    without_checksums: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Bytes, ObjectMeta)>,
    uploads: BTreeMap<UploadId, Open>,
    opened: u64,
}

struct Open {
    key: String,
    meta: ObjectMeta,
    parts: BTreeMap<u32, Bytes>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({} objects, {} uploads)", self.objects.len(), self.uploads.len())
    }
}

impl Memory {
    /// An empty bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty bucket that takes the parts of an upload in their order, knows how many bytes it holds but not in which
    /// parts they came, lists no uploads and joins objects.
    pub fn in_order() -> Self {
        Self { in_order: true, ..Self::default() }
    }

    /// An empty bucket that does not know the checksums of what it has.
    pub fn without_checksums() -> Self {
        Self { without_checksums: true, ..Self::default() }
    }

    /// Open uploads, listed or not.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// What was said about an object when it was written.
    pub fn meta(&self, key: &str) -> Option<ObjectMeta> {
        self.lock().objects.get(key).map(|(_, meta)| meta.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(
        &mut self,
        operation: &'static str,
        key: &str,
        body: Bytes,
        meta: ObjectMeta,
        condition: If,
    ) -> Result<Stored, Error> {
        if condition == If::Absent && self.objects.contains_key(key) {
            return Err(Error::new(
                operation,
                key,
                Kind::AlreadyExists,
                "PreconditionFailed",
                "there is such an object",
            ));
        }
        let stored = stored(&body);
        self.objects.insert(key.to_owned(), (body, meta));
        Ok(stored)
    }

    fn upload(&mut self, operation: &'static str, key: &str, id: &UploadId) -> Result<&mut Open, Error> {
        self.uploads.get_mut(id).filter(|upload| upload.key == key).ok_or_else(|| {
            Error::new(operation, key, Kind::NoSuchUpload, "NoSuchUpload", "the upload was completed or aborted")
        })
    }

    /// The body of the parts that the caller lists, under S3's rules.
    fn assemble(&mut self, key: &str, id: &UploadId, parts: &[Part]) -> Result<Bytes, Error> {
        let held = &self.upload("complete", key, id)?.parts;
        let invalid = |code, message: String| Error::new("complete", key, Kind::Invalid, code, message);
        let mut body = BytesMut::new();
        let mut before = 0;
        for (index, part) in parts.iter().enumerate() {
            if part.number <= before {
                return Err(invalid("InvalidPartOrder", format!("part {} after part {before}", part.number)));
            }
            before = part.number;
            // What was listed without a tag is named by its size.
            let is_listed = |bytes: &Bytes| part.etag.is_empty() && bytes.len() as u64 == part.size;
            let bytes = held.get(&part.number).filter(|bytes| tag(bytes) == part.etag || is_listed(bytes));
            let Some(bytes) = bytes else {
                return Err(invalid("InvalidPart", format!("part {} is not the one stored", part.number)));
            };
            let is_short = !part.etag.is_empty() && (bytes.len() as u64) < Capabilities::S3.min_part;
            if index + 1 < parts.len() && is_short {
                return Err(invalid("EntityTooSmall", format!("part {} has {} bytes", part.number, bytes.len())));
            }
            body.extend_from_slice(bytes);
        }
        if parts.is_empty() {
            return Err(invalid("InvalidRequest", "no part".to_owned()));
        }
        Ok(body.freeze())
    }
}

fn tag(body: &[u8]) -> String {
    crc32c_base64(crc32c::crc32c(body))
}

fn stored(body: &Bytes) -> Stored {
    Stored { size: body.len() as u64, etag: tag(body), crc32c: Some(crc32c::crc32c(body)) }
}

fn part(number: u32, body: &Bytes) -> Part {
    Part { number, size: body.len() as u64, etag: tag(body), crc32c: Some(crc32c::crc32c(body)) }
}

#[async_trait]
impl Bucket for Memory {
    async fn put(&self, key: &str, body: Bytes, meta: &ObjectMeta, condition: If) -> Result<Stored, Error> {
        key::check("put", key)?;
        self.lock().write("put", key, body, meta.clone(), condition)
    }

    async fn create_upload(&self, key: &str, meta: &ObjectMeta) -> Result<UploadId, Error> {
        key::check("create_upload", key)?;
        let mut state = self.lock();
        state.opened += 1;
        let id = UploadId::new(format!("memory-{}", state.opened));
        let open = Open { key: key.to_owned(), meta: meta.clone(), parts: BTreeMap::new() };
        state.uploads.insert(id.clone(), open);
        Ok(id)
    }

    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error> {
        let part = part(number, &body);
        let mut state = self.lock();
        let parts = &mut state.upload("put_part", key, upload)?.parts;
        let last = parts.last_key_value().map(|(last, _)| *last).filter(|last| self.in_order && number <= *last);
        if let Some(last) = last {
            let message = format!("part {number} comes after part {last}");
            return Err(Error::new("put_part", key, Kind::Invalid, "InvalidPartOrder", message));
        }
        parts.insert(number, body);
        Ok(part)
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        let mut state = self.lock();
        let open = state.upload("list_parts", key, upload)?;
        if self.in_order {
            let whole: Vec<u8> = std::mem::take(&mut open.parts).into_values().flatten().collect();
            open.parts = (1..).zip(whole.chunks(PIECE).map(Bytes::copy_from_slice)).collect();
            let listed = open.parts.iter().map(|(number, body)| (*number, body.len() as u64));
            return Ok(listed.map(|(number, size)| Part { number, size, etag: String::new(), crc32c: None }).collect());
        }
        Ok(open.parts.iter().map(|(number, body)| part(*number, body)).collect())
    }

    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error> {
        let mut state = self.lock();
        let body = match state.assemble(key, upload, parts) {
            Err(gone) if gone.kind == Kind::NoSuchUpload => {
                let held = state.objects.get(key).map(|(body, _)| stored(body));
                return completed_before(held, parts, gone);
            }
            body => body?,
        };
        let meta = state.upload("complete", key, upload)?.meta.clone();
        let stored = state.write("complete", key, body, meta, condition)?;
        state.uploads.remove(upload);
        Ok(stored)
    }

    async fn compose(&self, key: &str, sources: &[String], meta: &ObjectMeta) -> Result<Stored, Error> {
        const OPERATION: &str = "compose";
        if !self.in_order {
            return Err(Error::new(OPERATION, key, Kind::Unsupported, "Unsupported", "objects are not joined here"));
        }
        let mut state = self.lock();
        let mut body = BytesMut::new();
        for source in sources {
            let missing = || Error::new(OPERATION, source, Kind::NotFound, "NoSuchKey", "there is no such object");
            body.extend_from_slice(&state.objects.get(source).ok_or_else(missing)?.0);
        }
        state.write(OPERATION, key, body.freeze(), meta.clone(), If::Any)
    }

    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error> {
        let mut state = self.lock();
        if state.upload("abort", key, upload).is_ok() {
            state.uploads.remove(upload);
        }
        Ok(())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>, Error> {
        let state = self.lock();
        let found = state.uploads.iter().filter(|_| !self.in_order).filter(|(_, open)| open.key.starts_with(prefix));
        Ok(found.map(|(id, open)| Upload { key: open.key.clone(), id: id.clone() }).collect())
    }

    async fn head(&self, key: &str) -> Result<Option<Stored>, Error> {
        key::check("head", key)?;
        let found = self.lock().objects.get(key).map(|(body, _)| stored(body));
        Ok(found.map(|found| Stored { crc32c: found.crc32c.filter(|_| !self.without_checksums), ..found }))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        key::check("get_range", key)?;
        let state = self.lock();
        let Some((body, _)) = state.objects.get(key) else {
            return Err(Error::new("get_range", key, Kind::NotFound, "NoSuchKey", "there is no such object"));
        };
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        Ok(body.slice(at(range.start).min(at(range.end))..at(range.end)))
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        key::check("delete", key)?;
        self.lock().objects.remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let state = self.lock();
        let found = state.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, (body, _))| Listed { key: key.clone(), size: body.len() as u64 }).collect())
    }

    async fn presign(&self, key: &str, _ttl: Duration) -> Result<String, Error> {
        Err(Error::new("presign", key, Kind::Unsupported, "Unsupported", "a bucket in memory has no URLs"))
    }

    fn uri(&self, key: &str) -> String {
        format!("memory://{key}")
    }

    fn capabilities(&self) -> Capabilities {
        let own = Capabilities { presigns: false, ..Capabilities::S3 };
        if self.in_order {
            return Capabilities { parts_in_any_order: false, lists_uploads: false, composes: true, ..own };
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn open_memory() -> ((), Arc<dyn Bucket>) {
        ((), Arc::new(Memory::new()))
    }

    crate::bucket_contract!(contract, open_memory);

    #[tokio::test]
    async fn in_order_knows_bytes_and_joins_objects() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::in_order());
        crate::contract::part_one_last(Arc::clone(&bucket)).await;
        crate::contract::objects_are_joined(Arc::new(Memory::in_order())).await;
        let body = crate::contract::noise(9 << 20, 1);
        let upload = bucket.create_upload("again", &ObjectMeta::default()).await.unwrap();
        bucket.put_part("again", &upload, 1, body.slice(..5 << 20)).await.unwrap();
        bucket.put_part("again", &upload, 2, body.slice(5 << 20..)).await.unwrap();
        let mut parts = bucket.list_parts("again", &upload).await.unwrap();
        let sizes: Vec<_> = parts.iter().map(|part| part.size).collect();
        assert_eq!(sizes, [8 << 20, 1 << 20], "cut anew");
        parts.push(bucket.put_part("again", &upload, 3, body.slice(..100)).await.unwrap());
        bucket.complete("again", &upload, &parts, If::Any).await.unwrap();
        let whole = [body.clone(), body.slice(..100)].concat();
        crate::contract::assert_same(&crate::contract::read(&*bucket, "again").await, &whole);
    }
}
