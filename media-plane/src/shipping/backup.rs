//! Back from the backup storage: a file that was stored there is copied to its own storage once that works again.
//!
//! The spool has let the file's bytes go by then, so they are read from the backup. The recording's manifest waits for
//! the copy and keeps the note of it: after a restart the copy goes on. The backup's objects are deleted only when
//! every object was seen in the primary storage with its size and checksum and the fact that says so is durable at the
//! control plane. An object that breaks off is copied again from its beginning.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use mux::{ObjectId, ObjectPart};
use recorder_proto::facts::FileAvailable;
use recorder_proto::format::Format;
use recorder_proto::ids::FileIndex;
use spool::OutputKey;
use store::{
    Bucket, ByteStream, CACHE_IMMUTABLE, If, Kind, ObjectMeta, Stored, content_type_of_key, crc32c_base64, part_size,
};
use tokio::sync::{Semaphore, mpsc};

use super::report::main_object;
use super::storage::Storage;
use super::tidying::Left;
use super::upload::UploadError;
use super::{Context, OutputMeta, Target};
use crate::link::Fate;
use crate::manifest::{Entry, FileEntry, Piece};

/// Bytes read from the backup at once.
const CHUNK: u64 = 8 << 20;

/// How often it is looked whether the control plane has the fact.
const LOOK: Duration = Duration::from_millis(200);

/// A file in the backup storage.
#[derive(Clone, Debug)]
pub struct CopyBack {
    /// Its output.
    pub meta: Arc<OutputMeta>,
    /// As it is there.
    pub file: FileEntry,
    /// What it consists of; empty unless HLS.
    pub pieces: Vec<Piece>,
}

/// One object of it.
struct Object {
    from: String,
    to: String,
    size: u64,
    crc32c: Option<u32>,
    headers: ObjectMeta,
}

/// Copies that move bytes at the same time: what is being recorded comes first.
const AT_ONCE: usize = 2;

/// What is done beside the shipping, and what nobody waits for at the end.
pub enum Errand {
    /// A file is copied back.
    Back(CopyBack),
    /// What a file has left behind is taken back.
    Tidy(Left),
}

impl Errand {
    /// Does it.
    pub async fn run(self, context: Arc<Context>) {
        match self {
            Self::Back(copy) => copy.run(context).await,
            Self::Tidy(left) => left.run(context).await,
        }
    }
}

/// Files to be copied back, and what is to be tidied; clones send to the same.
#[derive(Clone)]
pub struct Copies {
    sender: mpsc::UnboundedSender<Errand>,
    /// Those that are in line or under way: a crash can leave two reasons to copy one file.
    known: Arc<Mutex<HashSet<(OutputKey, u32)>>>,
    /// Held while bytes move.
    lanes: Arc<Semaphore>,
}

impl Copies {
    /// Where they are sent, and where they come.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Errand>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        (Self { sender, known: Arc::default(), lanes: Arc::new(Semaphore::new(AT_ONCE)) }, inbox)
    }

    /// Puts one in line. After the end of shipping the next start finds it in the manifest.
    pub fn send(&self, copy: CopyBack) {
        if self.known().insert(copy.which()) {
            let _ = self.sender.send(Errand::Back(copy));
        }
    }

    /// Puts in line what a file has left behind. After the end of shipping the next start finds it.
    pub fn tidy(&self, left: Left) {
        let _ = self.sender.send(Errand::Tidy(left));
    }

    fn known(&self) -> MutexGuard<'_, HashSet<(OutputKey, u32)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose request failed.
enum Failed {
    Primary(UploadError),
    Backup(UploadError),
}

impl CopyBack {
    /// Copies until all of it is back.
    pub async fn run(self, context: Arc<Context>) {
        self.bring_all(&context).await;
        context.copies.known().remove(&self.which());
    }

    fn which(&self) -> (OutputKey, u32) {
        (self.meta.output_key(), self.file.index)
    }

    async fn bring_all(&self, context: &Context) {
        let Some(backup) = self.meta.backup.clone() else { return };
        let (primary, backup) = (context.storage(&self.meta.storage), context.storage(&backup));
        let objects = self.objects(backup.target());
        let mut main = None;
        for object in &objects {
            main = Some(self.bring(context, &primary, &backup, object).await);
        }
        let Some(main) = main else { return };
        let Some(available) = self.available(context, &main) else { return };
        let entry = self.entry(&available);
        let Some(fate) = self.tell(context, available).await else { return };
        // Before the backup's objects go: a restart must not look for what is not there any more.
        context.manifests.noted(&self.meta.output_key(), Entry::File(Box::new(entry))).await;
        let (recording, format) = (self.meta.recording, self.meta.format);
        if fate == Fate::Refused {
            // For the control plane the file is where it was.
            tracing::warn!(%recording, %format, file = self.file.index, "in both storages: the copy back is refused");
            return;
        }
        for object in &objects {
            remove(&backup, &object.from).await;
        }
        tracing::info!(%recording, %format, file = self.file.index, "copied back from the backup storage");
    }

    /// Tells the control plane until it has answered; none when the fact log is broken.
    async fn tell(&self, context: &Context, available: FileAvailable) -> Option<Fate> {
        let about = Some((self.meta.recording, self.meta.epoch));
        loop {
            let told = context.facts.report(context.clock.now(), about, available.clone().into()).await;
            let sequence = told.ok()?;
            loop {
                match context.log.fate(sequence) {
                    Fate::Waits => tokio::time::sleep(LOOK).await,
                    Fate::Lost => break,
                    answered => return Some(answered),
                }
            }
        }
    }

    /// Every object, the one that a customer opens last.
    fn objects(&self, backup: &Target) -> Vec<Object> {
        let single = Piece { part: ObjectPart::Whole, size: self.file.size, crc32c: 0 };
        let mut pieces = self.pieces.clone();
        if self.meta.format != Format::Hls {
            pieces = vec![single];
        }
        pieces.sort_by_key(|piece| piece.part);
        let object = |piece: &Piece| {
            let id = ObjectId { file: self.file.index, part: piece.part };
            let to = self.meta.object_key(id);
            let headers = match piece.part {
                ObjectPart::Playlist => self.meta.playlist_headers(true),
                _ => self.meta.headers(content_type_of_key(&to), CACHE_IMMUTABLE),
            };
            let from = self.meta.object_key_in(backup, id);
            let is_single = piece.part == ObjectPart::Whole;
            Object { from, to, size: piece.size, crc32c: (!is_single).then_some(piece.crc32c), headers }
        };
        pieces.iter().map(object).collect()
    }

    async fn bring(&self, context: &Context, primary: &Storage, backup: &Storage, object: &Object) -> Stored {
        let (mut here, mut there) = (primary.attempts(), backup.attempts());
        loop {
            match self.attempt(context, primary, backup, object).await {
                Ok(stored) => return stored,
                Err(Failed::Primary(error)) => primary.failed(&error, &mut here).await,
                Err(Failed::Backup(error)) => backup.failed(&error, &mut there).await,
            }
        }
    }

    async fn attempt(
        &self,
        context: &Context,
        primary: &Storage,
        backup: &Storage,
        object: &Object,
    ) -> Result<Stored, Failed> {
        primary.turn().await;
        let to = primary.bucket().await.map_err(Failed::Primary)?;
        // The primary answers before anything is read from the backup: that may cost money.
        if let Some(found) = to.head(&object.to).await.map_err(of_primary)?
            && self.is_there(context, to.as_ref(), object, &found).await?
        {
            primary.worked();
            return Ok(found);
        }
        take_back(to.as_ref(), &object.to).await.map_err(of_primary)?;
        let from = backup.bucket().await.map_err(Failed::Backup)?;
        let (crc32c, stored) = {
            let _lane = context.copies.lanes.acquire().await;
            pour(context, &from, to.as_ref(), object).await?
        };
        let found = to.head(&object.to).await.map_err(of_primary)?;
        let found = found.filter(|found| self.is_right(object, found, Some(crc32c)) && found.size == stored.size);
        let Some(found) = found else {
            let words = "the copy is not what was recorded";
            return Err(of_primary(store::Error::new("head", &object.to, Kind::Corrupted, "ContentMismatch", words)));
        };
        primary.worked();
        Ok(found)
    }

    /// Whether an earlier attempt has brought it. A store that knows no checksums is read: the backup's object may be
    /// gone already.
    async fn is_there(
        &self,
        context: &Context,
        to: &dyn Bucket,
        object: &Object,
        found: &Stored,
    ) -> Result<bool, Failed> {
        if found.crc32c.is_some() || found.size != object.size {
            return Ok(self.is_right(object, found, found.crc32c));
        }
        let _lane = context.copies.lanes.acquire().await;
        let (mut offset, mut crc32c) = (0, 0);
        while offset < object.size {
            let end = (offset + CHUNK).min(object.size);
            let chunk = to.get_range(&object.to, offset..end).await.map_err(of_primary)?;
            if chunk.is_empty() {
                return Ok(false);
            }
            offset += chunk.len() as u64;
            crc32c = crc32c::crc32c_append(crc32c, &chunk);
        }
        Ok(self.is_right(object, found, Some(crc32c)))
    }

    /// Whether it has the size and checksum that were recorded.
    fn is_right(&self, object: &Object, found: &Stored, crc32c: Option<u32>) -> bool {
        let is_ours = |crc: u32| match object.crc32c {
            Some(recorded) => recorded == crc,
            None => crc32c_base64(crc) == self.file.crc32c,
        };
        found.size == object.size && crc32c.is_some_and(is_ours) && found.crc32c.is_none_or(is_ours)
    }

    fn available(&self, context: &Context, main: &Stored) -> Option<FileAvailable> {
        let media = self.file.media.as_ref()?;
        let object_key = self.meta.object_key(main_object(self.meta.format, self.file.index));
        let available_time = context.clock.now();
        Some(FileAvailable {
            format: self.meta.format,
            index: FileIndex(self.file.index),
            storage: self.meta.storage.name.parse().ok()?,
            uri: context.uri(&self.meta.storage, &object_key),
            object_key,
            content_type: self.meta.format.content_type().to_owned(),
            size_bytes: self.file.size,
            objects: u32::try_from(self.pieces.len().max(1)).unwrap_or(u32::MAX),
            crc32c: self.file.crc32c.clone(),
            object_etag: main.etag.clone(),
            start_time: media.start_time.min(available_time),
            end_time: media.end_time.min(available_time),
            duration_micros: u64::try_from(media.ends_at_micros - media.starts_at_micros).unwrap_or(0),
            video: media.video.clone(),
            audio: media.audio.clone(),
            available_time,
        })
    }

    fn entry(&self, available: &FileAvailable) -> FileEntry {
        FileEntry {
            storage: available.storage.to_string(),
            key: available.object_key.clone(),
            uri: available.uri.clone(),
            ..self.file.clone()
        }
    }
}

/// A failure of the storage that the file belongs to. An upload that is gone is no reason to give up: it begins anew.
fn of_primary(mut error: store::Error) -> Failed {
    if error.kind == Kind::NoSuchUpload {
        error.kind = Kind::Interrupted;
    }
    Failed::Primary(error.into())
}

/// Aborts parts of earlier attempts of this node, whose key is its own alone, as far as the credential allows.
async fn take_back(to: &dyn Bucket, key: &str) -> Result<(), store::Error> {
    let is_forbidden = |error: &store::Error| matches!(error.kind, Kind::Denied | Kind::Unsupported);
    let listed = match to.list_uploads(key).await {
        Err(error) if is_forbidden(&error) => return Ok(()),
        listed => listed?,
    };
    for left in listed.into_iter().filter(|left| left.key == key) {
        match to.abort(&left.key, &left.id).await {
            Err(error) if is_forbidden(&error) => {
                tracing::warn!(key, %error, "an upload of ours that is not needed stays open");
            }
            done => done?,
        }
    }
    Ok(())
}

/// Copies the bytes; gives their checksum.
async fn pour(
    context: &Context,
    from: &Arc<dyn Bucket>,
    to: &dyn Bucket,
    object: &Object,
) -> Result<(u32, Stored), Failed> {
    let crc = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let broken = Arc::new(Mutex::new(None::<store::Error>));
    let state = (Arc::clone(from), object.from.clone(), Arc::clone(&crc), Arc::clone(&broken));
    let (size, bandwidth) = (object.size, context.bandwidth.clone());
    let chunks = stream::unfold(0u64, move |offset| {
        let ((from, key, crc, broken), bandwidth) = (state.clone(), bandwidth.clone());
        async move {
            if offset >= size {
                return None;
            }
            let end = (offset + CHUNK).min(size);
            let read: Result<Bytes, store::Error> = from.get_range(&key, offset..end).await;
            let chunk = match read {
                Ok(chunk) if !chunk.is_empty() => Ok(chunk),
                Ok(_) => Err(store::Error::new("get_range", &key, Kind::Corrupted, "ContentMismatch", "it ends early")),
                Err(error) => Err(error),
            };
            match chunk {
                Ok(chunk) => {
                    bandwidth.take(chunk.len() as u64).await;
                    let before = crc.load(std::sync::atomic::Ordering::Relaxed);
                    crc.store(crc32c::crc32c_append(before, &chunk), std::sync::atomic::Ordering::Relaxed);
                    Some((Ok(chunk.clone()), offset + chunk.len() as u64))
                }
                Err(error) => {
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
                    Some((Err(std::io::Error::other(error.to_string())), size))
                }
            }
        }
    });
    let body: ByteStream = chunks.boxed();
    let limits = to.capabilities();
    let part = part_size(size).clamp(limits.min_part, limits.max_part);
    let stored = to.upload_stream(&object.to, body, &object.headers, part, If::Any).await;
    let read = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = read {
        return Err(Failed::Backup(error.into()));
    }
    let stored = stored.map_err(of_primary)?;
    Ok((crc.load(std::sync::atomic::Ordering::Relaxed), stored))
}

async fn remove(storage: &Storage, key: &str) {
    let mut attempts = storage.attempts();
    loop {
        let error = match storage.bucket().await {
            Ok(bucket) => match bucket.delete(key).await {
                Ok(()) => return,
                Err(error) if error.kind == Kind::NotFound => return,
                Err(error) if matches!(error.kind, Kind::Denied | Kind::Unsupported) => {
                    tracing::warn!(key, %error, "an object in the backup storage cannot be deleted and stays");
                    return;
                }
                Err(error) => error.into(),
            },
            Err(error) => error,
        };
        storage.failed(&error, &mut attempts).await;
    }
}
