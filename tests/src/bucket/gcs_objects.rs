//! Google's objects, generations and resumable sessions in memory.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::StoredObject;

/// Unit of a session's chunks.
const QUANTUM: usize = 256 << 10;

/// Most objects that one request joins.
const MAX_SOURCES: usize = 32;

/// A refusal in Google's terms.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: &'static str, message: &str) -> Self {
        Self { status, reason, message: message.to_owned() }
    }
}

/// What became of a chunk.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Bucket and key of the object that exists now.
    Done(String, String),
    /// Bytes held so far.
    Holds(u64),
}

/// What the server holds.
#[derive(Debug, Default)]
pub(super) struct Objects {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: BTreeMap<String, BTreeMap<String, (StoredObject, i64)>>,
    sessions: BTreeMap<String, Session>,
    generation: i64,
}

#[derive(Debug)]
struct Session {
    bucket: String,
    key: String,
    resource: Value,
    condition: Option<i64>,
    held: BytesMut,
    chunks: usize,
    stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Open,
    Done,
    Cancelled,
}

impl State {
    fn bucket(&mut self, name: &str) -> Result<&mut BTreeMap<String, (StoredObject, i64)>, Refusal> {
        let missing = || Refusal::new(404, "notFound", "The specified bucket does not exist.");
        self.buckets.get_mut(name).ok_or_else(missing)
    }

    fn put(
        &mut self,
        bucket: &str,
        key: &str,
        resource: &Value,
        body: Bytes,
        parts: Option<usize>,
        condition: Option<i64>,
    ) -> Result<(), Refusal> {
        let current = self.bucket(bucket)?.get(key).map_or(0, |(_, generation)| *generation);
        if condition.is_some_and(|expected| expected != current) {
            let message = "At least one of the pre-conditions you specified did not hold.";
            return Err(Refusal::new(412, "conditionNotMet", message));
        }
        if resource["crc32c"].as_str().is_some_and(|crc| crc != crc_of(&body)) {
            let message = format!("Provided CRC32C doesn't match calculated CRC32C \"{}\".", crc_of(&body));
            return Err(Refusal::new(400, "invalid", &message));
        }
        self.generation += 1;
        let generation = self.generation;
        let text = |name: &str| resource[name].as_str().map(str::to_owned);
        let metadata = resource["metadata"].as_object().cloned().unwrap_or_default();
        let object = StoredObject {
            etag: format!("etag-{generation}"),
            content_type: text("contentType"),
            cache_control: text("cacheControl"),
            metadata: metadata.into_iter().map(|(k, v)| (k, v.as_str().unwrap_or_default().to_owned())).collect(),
            storage_class: text("storageClass"),
            kms_key: None,
            parts,
            body,
        };
        self.bucket(bucket)?.insert(key.to_owned(), (object, generation));
        Ok(())
    }
}

fn crc_of(body: &[u8]) -> String {
    BASE64_STANDARD.encode(crc32c::crc32c(body).to_be_bytes())
}

impl Objects {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn create_bucket(&self, name: &str) {
        self.lock().buckets.entry(name.to_owned()).or_default();
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.lock().sessions.values().filter(|session| session.stage == Stage::Open).count()
    }

    pub(super) fn object(&self, bucket: &str, key: &str) -> Result<(StoredObject, i64), Refusal> {
        let missing = || Refusal::new(404, "notFound", &format!("No such object: {bucket}/{key}"));
        self.lock().bucket(bucket)?.get(key).cloned().ok_or_else(missing)
    }

    /// The JSON API's description of an object.
    pub(super) fn describe(&self, bucket: &str, key: &str) -> Result<Value, Refusal> {
        let (object, generation) = self.object(bucket, key)?;
        Ok(json!({
            "kind": "storage#object",
            "id": format!("{bucket}/{key}/{generation}"),
            "bucket": bucket,
            "name": key,
            "generation": generation.to_string(),
            "metageneration": "1",
            "size": object.body.len().to_string(),
            "crc32c": crc_of(&object.body),
            "etag": object.etag,
            "contentType": object.content_type,
            "metadata": object.metadata,
        }))
    }

    pub(super) fn put(
        &self,
        bucket: &str,
        key: &str,
        resource: &Value,
        body: Bytes,
        parts: Option<usize>,
        condition: Option<i64>,
    ) -> Result<(), Refusal> {
        self.lock().put(bucket, key, resource, body, parts, condition)
    }

    /// Joins objects of one bucket, which stay.
    pub(super) fn compose(
        &self,
        bucket: &str,
        key: &str,
        sources: &[&str],
        resource: &Value,
        condition: Option<i64>,
    ) -> Result<(), Refusal> {
        if sources.is_empty() || sources.len() > MAX_SOURCES {
            return Err(Refusal::new(
                400,
                "invalid",
                "The number of source components provided must be within 1 and 32.",
            ));
        }
        let mut body = BytesMut::new();
        for source in sources {
            body.extend_from_slice(&self.object(bucket, source)?.0.body);
        }
        self.lock().put(bucket, key, resource, body.freeze(), None, condition)
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> Result<(), Refusal> {
        let missing = || Refusal::new(404, "notFound", &format!("No such object: {bucket}/{key}"));
        self.lock().bucket(bucket)?.remove(key).map(drop).ok_or_else(missing)
    }

    /// Keys of one page and the token of the next.
    pub(super) fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<String>, Option<String>), Refusal> {
        let mut state = self.lock();
        let keys = state.bucket(bucket)?.keys().filter(|key| key.starts_with(prefix) && key.as_str() > after);
        let mut found: Vec<String> = keys.take(limit.saturating_add(1)).cloned().collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().cloned().filter(|_| more);
        Ok((found, next))
    }

    pub(super) fn open_session(
        &self,
        bucket: &str,
        key: &str,
        resource: &Value,
        condition: Option<i64>,
    ) -> Result<String, Refusal> {
        let mut state = self.lock();
        state.bucket(bucket)?;
        let id = format!("session-{}-{:08x}", state.sessions.len(), crc32c::crc32c(key.as_bytes()));
        let session = Session {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            resource: resource.clone(),
            condition,
            held: BytesMut::new(),
            chunks: 0,
            stage: Stage::Open,
        };
        state.sessions.insert(id.clone(), session);
        Ok(id)
    }

    pub(super) fn cancel_session(&self, id: &str) -> Result<(), Refusal> {
        let mut state = self.lock();
        let missing = || Refusal::new(404, "notFound", "No such upload.");
        state.sessions.get_mut(id).ok_or_else(missing)?.stage = Stage::Cancelled;
        Ok(())
    }

    /// A chunk at `start` (none: no bytes), of an object of `total` bytes when this is the last one.
    pub(super) fn chunk(
        &self,
        id: &str,
        start: Option<u64>,
        total: Option<u64>,
        body: &Bytes,
        hash: Option<&str>,
        half: bool,
    ) -> Result<Chunk, Refusal> {
        let mut state = self.lock();
        let gone = |status| Refusal::new(status, "notFound", "The upload does not exist.");
        let session = state.sessions.get_mut(id).ok_or_else(|| gone(404))?;
        match session.stage {
            Stage::Done => return Ok(Chunk::Done(session.bucket.clone(), session.key.clone())),
            Stage::Cancelled => return Err(gone(410)),
            Stage::Open => {}
        }
        if let Some(start) = start {
            let held = session.held.len() as u64;
            if start > held {
                let message = format!("Invalid request. There were {held} byte(s) held, the chunk begins at {start}.");
                return Err(Refusal::new(400, "invalid", &message));
            }
            let skip = usize::try_from(held - start).unwrap().min(body.len());
            let new = &body[skip..];
            // What is not the end is kept in whole units only.
            let keep = if half { new.len() / 2 } else { new.len() };
            let keep = if total.is_none() || half { keep - keep % QUANTUM } else { keep };
            session.held.extend_from_slice(&new[..keep]);
            session.chunks += usize::from(keep > 0);
        }
        let held = session.held.len() as u64;
        if total != Some(held) {
            return Ok(Chunk::Holds(held));
        }
        let (bucket, key) = (session.bucket.clone(), session.key.clone());
        let (mut resource, condition, chunks) = (session.resource.clone(), session.condition, session.chunks);
        if let Some(hash) = hash {
            resource["crc32c"] = json!(hash);
        }
        let whole = session.held.clone().freeze();
        state.put(&bucket, &key, &resource, whole, Some(chunks), condition)?;
        if let Some(session) = state.sessions.get_mut(id) {
            session.stage = Stage::Done;
            session.held.clear();
        }
        Ok(Chunk::Done(bucket, key))
    }
}
