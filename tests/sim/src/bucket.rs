//! The bucket: behaves like S3, part rules included, with outages, refusals and lost replies; and it watches what is
//! written into it at the moment of the write.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use recorder_proto::invariants::{playlist_entries_exist, playlist_grows, target_duration_holds};
use recorder_tests::reading::{beside, playlist};
use store::{Bucket, Capabilities, Error, If, Kind, Listed, Memory, ObjectMeta, Part, Stored, Upload, UploadId};

use crate::dice::Dice;
use crate::log::{Log, broken};
use crate::plan::Mutant;

/// Smallest part but the last: small, so that short recordings have several.
pub const PART: u64 = 64 << 10;

#[derive(Clone, Debug)]
struct Object {
    body: Bytes,
    /// The node that wrote it.
    by: String,
}

#[derive(Debug)]
struct Multipart {
    key: String,
    parts: BTreeMap<u32, Bytes>,
}

/// What goes wrong, in percent of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Nothing is answered at all.
    pub away: bool,
    /// Refused, without effect.
    pub refuse: u64,
    /// Applied, but the reply is lost.
    pub lose_reply: u64,
    /// Neither applied nor answered.
    pub lose_request: u64,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Multipart>,
    opened: u64,
    weather: Weather,
    dice: Dice,
    /// Keys whose upload a mutant pretends to have made.
    pretended: BTreeSet<String>,
}

/// The bucket of a world; clones share it.
#[derive(Clone, Debug)]
pub struct Shared {
    state: Arc<Mutex<State>>,
    log: Log,
    mutant: Option<Mutant>,
}

/// The bucket as one node uses it.
#[derive(Debug)]
pub struct Client {
    shared: Shared,
    node: String,
}

enum Fate {
    Pass,
    LoseReply,
}

fn tag(body: &[u8]) -> String {
    format!("{:08x}-{}", crc32c::crc32c(body), body.len())
}

fn stored(body: &Bytes) -> Stored {
    Stored { size: body.len() as u64, etag: tag(body), crc32c: Some(crc32c::crc32c(body)) }
}

fn part(number: u32, body: &Bytes) -> Part {
    Part { number, size: body.len() as u64, etag: tag(body), crc32c: Some(crc32c::crc32c(body)) }
}

fn error(operation: &'static str, key: &str, kind: Kind, message: &str) -> Error {
    Error::new(operation, key, kind, "Simulated", message)
}

impl Shared {
    /// An empty bucket.
    pub fn new(dice: Dice, log: Log, mutant: Option<Mutant>) -> Self {
        let (objects, uploads, pretended) = Default::default();
        let state = State { objects, uploads, opened: 0, weather: Weather::default(), dice, pretended };
        Self { state: Arc::new(Mutex::new(state)), log, mutant }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket for one node.
    pub fn client(&self, node: &str) -> Arc<dyn Bucket> {
        Arc::new(Client { shared: self.clone(), node: node.to_owned() })
    }

    /// From now on.
    pub fn set(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// An object, if it is there.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.lock().objects.get(key).map(|object| object.body.clone())
    }

    /// Every key with the node that wrote it.
    pub fn keys(&self) -> Vec<(String, u64, String)> {
        let state = self.lock();
        let of = |(key, object): (&String, &Object)| (key.clone(), object.body.len() as u64, object.by.clone());
        state.objects.iter().map(of).collect()
    }

    /// Keys of open multipart uploads.
    pub fn open_uploads(&self) -> Vec<String> {
        self.lock().uploads.values().map(|upload| upload.key.clone()).collect()
    }
}

impl State {
    fn fate(&mut self, operation: &'static str, key: &str) -> Result<Fate, Error> {
        let Weather { away, refuse, lose_reply, lose_request } = self.weather;
        let dice = self.dice.between(0, 100);
        if away || dice < refuse {
            return Err(error(operation, key, Kind::Unavailable, "refused on purpose"));
        }
        if dice < refuse + lose_request {
            return Err(error(operation, key, Kind::Interrupted, "the request was lost on purpose"));
        }
        Ok(if dice < refuse + lose_request + lose_reply { Fate::LoseReply } else { Fate::Pass })
    }

    fn upload(&mut self, operation: &'static str, key: &str, id: &UploadId) -> Result<&mut Multipart, Error> {
        let known = self.uploads.get_mut(id.as_str()).filter(|upload| upload.key == key);
        known.ok_or_else(|| error(operation, key, Kind::NoSuchUpload, "the upload was completed or aborted"))
    }

    fn assemble(&mut self, key: &str, id: &UploadId, parts: &[Part]) -> Result<Bytes, Error> {
        let held = &self.upload("complete", key, id)?.parts;
        let invalid = |message: String| error("complete", key, Kind::Invalid, &message);
        let mut body = Vec::new();
        for (index, listed) in parts.iter().enumerate() {
            if index > 0 && listed.number <= parts[index - 1].number {
                return Err(invalid("parts out of order".into()));
            }
            let bytes = held.get(&listed.number).filter(|bytes| tag(bytes) == listed.etag);
            let bytes = bytes.ok_or_else(|| invalid(format!("part {} is not the one stored", listed.number)))?;
            if index + 1 < parts.len() && (bytes.len() as u64) < PART {
                return Err(invalid(format!("part {} has {} bytes", listed.number, bytes.len())));
            }
            body.extend_from_slice(bytes);
        }
        if parts.is_empty() { Err(invalid("no part".into())) } else { Ok(body.into()) }
    }
}

impl Client {
    /// The way to the bucket takes time, and may be in vain.
    async fn travel(&self, operation: &'static str, key: &str) -> Result<Fate, Error> {
        let (there, fate) = {
            let mut state = self.shared.lock();
            let delay = if state.weather.away { state.dice.between(50, 2_000) } else { state.dice.between(2, 60) };
            (delay, state.fate(operation, key))
        };
        tokio::time::sleep(Duration::from_millis(there)).await;
        let outcome = fate.as_ref().err().map_or("", |_| " in vain");
        self.shared.log.say(&self.node, format!("{operation} {key}{outcome}"));
        fate
    }

    fn answer<T>(fate: Fate, operation: &'static str, key: &str, answer: T) -> Result<T, Error> {
        match fate {
            Fate::Pass => Ok(answer),
            Fate::LoseReply => Err(error(operation, key, Kind::Interrupted, "the reply was lost on purpose")),
        }
    }

    /// A mutant puts no epoch into keys: two epochs write the same objects.
    fn key(&self, key: &str) -> String {
        if self.shared.mutant != Some(Mutant::NoEpochInKeys) {
            return key.to_owned();
        }
        (2..9).fold(key.to_owned(), |key, epoch| key.replace(&format!("-e{epoch}"), ""))
    }

    fn write(&self, key: &str, body: &Bytes, condition: If, operation: &'static str) -> Result<Stored, Error> {
        let mut state = self.shared.lock();
        let before = state.objects.get(key).cloned();
        if condition == If::Absent && before.is_some() {
            return Err(error(operation, key, Kind::AlreadyExists, "there is such an object"));
        }
        let object = Object { body: body.clone(), by: self.node.clone() };
        state.objects.insert(key.to_owned(), object);
        drop(state);
        self.judge(key, body, before.as_ref());
        Ok(stored(body))
    }

    /// What must hold for every write.
    fn judge(&self, key: &str, body: &Bytes, before: Option<&Object>) {
        let log = &self.shared.log;
        let is_playlist = key.ends_with(".m3u8");
        if let Some(before) = before {
            if before.by != self.node {
                let evidence = format!("{} overwrote `{key}`, which {} had written", self.node, before.by);
                log.broken(&self.node, &broken("R-6", evidence));
            } else if !is_playlist && before.body != *body {
                log.broken(&self.node, &broken("R-2", format!("`{key}` was written twice, with other bytes")));
            }
        }
        if !is_playlist {
            return;
        }
        let parsed = match playlist(key, body) {
            Ok(parsed) => parsed,
            Err(problem) => return log.broken(&self.node, &broken("R-9", problem)),
        };
        let entries: Vec<String> = parsed.segments.iter().map(|segment| beside(key, &segment.uri)).collect();
        let there = |entry: &str| self.shared.get(entry).is_some();
        log.hold(&self.node, playlist_entries_exist(entries.iter().map(String::as_str), there));
        let Some(before) = before else { return };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        log.hold(&self.node, playlist_grows(&text(&before.body), &text(body)));
        if let Ok(first) = playlist(key, &before.body) {
            let segments = parsed.segments.iter().map(|segment| Duration::from_secs_f32(segment.duration.max(0.0)));
            log.hold(&self.node, target_duration_holds(first.target_duration, parsed.target_duration, segments));
        }
    }

    /// A mutant believes that what it sent has arrived.
    fn pretends(&self, operation: &'static str) -> bool {
        self.shared.mutant == Some(Mutant::NoHead) && matches!(operation, "put" | "complete" | "head")
    }
}

#[async_trait]
impl Bucket for Client {
    async fn put(&self, key: &str, body: Bytes, _: &ObjectMeta, condition: If) -> Result<Stored, Error> {
        let key = &self.key(key);
        match self.travel("put", key).await {
            Ok(fate) => {
                let done = self.write(key, &body, condition, "put")?;
                Self::answer(fate, "put", key, done)
            }
            Err(_) if self.pretends("put") => {
                self.shared.lock().pretended.insert(format!("{key}\n{}", tag(&body)));
                Ok(stored(&body))
            }
            Err(error) => Err(error),
        }
    }

    async fn create_upload(&self, key: &str, _: &ObjectMeta) -> Result<UploadId, Error> {
        let key = &self.key(key);
        let fate = self.travel("create_upload", key).await?;
        let id = {
            let mut state = self.shared.lock();
            state.opened += 1;
            let id = format!("upload-{}", state.opened);
            state.uploads.insert(id.clone(), Multipart { key: key.clone(), parts: BTreeMap::new() });
            UploadId::new(id)
        };
        Self::answer(fate, "create_upload", key, id)
    }

    async fn put_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part, Error> {
        let key = &self.key(key);
        let fate = self.travel("put_part", key).await?;
        let done = part(number, &body);
        self.shared.lock().upload("put_part", key, upload)?.parts.insert(number, body);
        Self::answer(fate, "put_part", key, done)
    }

    async fn list_parts(&self, key: &str, upload: &UploadId) -> Result<Vec<Part>, Error> {
        let key = &self.key(key);
        let fate = self.travel("list_parts", key).await?;
        let mut state = self.shared.lock();
        let open = state.upload("list_parts", key, upload)?;
        let listed = open.parts.iter().map(|(number, body)| part(*number, body)).collect();
        Self::answer(fate, "list_parts", key, listed)
    }

    async fn complete(&self, key: &str, upload: &UploadId, parts: &[Part], condition: If) -> Result<Stored, Error> {
        let key = &self.key(key);
        let fate = self.travel("complete", key).await?;
        let body = {
            let mut state = self.shared.lock();
            match state.assemble(key, upload, parts) {
                Err(gone) if gone.kind == Kind::NoSuchUpload => {
                    let size: u64 = parts.iter().map(|part| part.size).sum();
                    let held = state.objects.get(key).map(|object| stored(&object.body));
                    return held.filter(|held| held.size == size).ok_or(gone);
                }
                body => body?,
            }
        };
        let done = self.write(key, &body, condition, "complete")?;
        self.shared.lock().uploads.remove(upload.as_str());
        Self::answer(fate, "complete", key, done)
    }

    async fn abort(&self, key: &str, upload: &UploadId) -> Result<(), Error> {
        let key = &self.key(key);
        let fate = self.travel("abort", key).await?;
        self.shared.lock().uploads.remove(upload.as_str());
        Self::answer(fate, "abort", key, ())
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<Upload>, Error> {
        let fate = self.travel("list_uploads", prefix).await?;
        let of = |(id, open): (&String, &Multipart)| Upload { key: open.key.clone(), id: UploadId::new(id.clone()) };
        let found = {
            let state = self.shared.lock();
            state.uploads.iter().filter(|(_, open)| open.key.starts_with(prefix)).map(of).collect()
        };
        Self::answer(fate, "list_uploads", prefix, found)
    }

    async fn head(&self, key: &str) -> Result<Option<Stored>, Error> {
        let key = &self.key(key);
        let fate = self.travel("head", key).await?;
        let mut found = self.shared.get(key).map(|body| stored(&body));
        if self.pretends("head") {
            let state = self.shared.lock();
            let pretended = state.pretended.iter().rev().find_map(|one| one.strip_prefix(&format!("{key}\n")));
            if let Some((crc, size)) = pretended.and_then(|tag| tag.split_once('-')) {
                let crc32c = u32::from_str_radix(crc, 16).ok();
                found = Some(Stored { size: size.parse().unwrap_or(0), etag: format!("{crc}-{size}"), crc32c });
            }
        }
        Self::answer(fate, "head", key, found)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let key = &self.key(key);
        let fate = self.travel("get_range", key).await?;
        let body = self.shared.get(key);
        let body = body.ok_or_else(|| error("get_range", key, Kind::NotFound, "there is no such object"))?;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        let piece = body.slice(at(range.start).min(at(range.end))..at(range.end));
        Self::answer(fate, "get_range", key, piece)
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        let key = &self.key(key);
        let fate = self.travel("delete", key).await?;
        let removed = self.shared.lock().objects.remove(key);
        if let Some(removed) = removed.filter(|removed| removed.by != self.node) {
            let evidence = format!("{} deleted `{key}`, which {} had written", self.node, removed.by);
            self.shared.log.broken(&self.node, &broken("R-6", evidence));
        }
        Self::answer(fate, "delete", key, ())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, Error> {
        let fate = self.travel("list", prefix).await?;
        let found = self.shared.keys().into_iter().filter(|(key, ..)| key.starts_with(prefix));
        let found = found.map(|(key, size, _)| Listed { key, size }).collect();
        Self::answer(fate, "list", prefix, found)
    }

    async fn presign(&self, key: &str, _: Duration) -> Result<String, Error> {
        Err(error("presign", key, Kind::Unsupported, "this bucket has no URLs"))
    }

    fn uri(&self, key: &str) -> String {
        format!("s3://simulated/{key}")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { presigns: false, min_part: PART, max_part: 2 * PART, ..Memory::new().capabilities() }
    }
}
