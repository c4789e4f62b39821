//! The verification of one recording: manifest, then file by file, a few objects at a time.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::VerifyRecordingResponse;
use recorder_proto::pb::v1::verify_recording_response::object::Outcome;
use recorder_proto::pb::v1::verify_recording_response::{Object, Progress, Verdict};
use store::{Bucket, Credential, Target};
use tokio::sync::mpsc;
use tonic::Status;

use super::expected::{Expected, Manifest};
use super::{object, playlist};

/// Objects read at once: the most pieces that are held.
const AT_ONCE: usize = 4;

/// Longest silence while something large is read.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// A storage that does not open must not hold the call for ever.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// Where messages go.
type Told = mpsc::Sender<Result<VerifyRecordingResponse, Status>>;

/// What to verify.
pub(crate) struct Job {
    /// The manifest and its storage, if there is one.
    pub(crate) manifest: Option<(v1::recording::Manifest, usize)>,
    /// AVAILABLE files.
    pub(crate) files: Vec<File>,
    /// The storages that they are in.
    pub(crate) places: Vec<Place>,
    /// Read every byte.
    pub(crate) deep: bool,
}

/// A file and the index of its storage in [`Job::places`].
pub(crate) struct File {
    /// As the API shows it.
    pub(crate) file: v1::File,
    /// Where it is.
    pub(crate) place: usize,
}

/// A storage, or why it cannot be used.
pub(crate) type Place = Result<(Target, Credential), Problem>;

/// The client has gone.
struct Gone;

struct Run {
    told: Told,
    deep: bool,
    done: u32,
    total: u32,
    damaged: u32,
    read: Arc<AtomicU64>,
}

/// Verifies; every message goes out as soon as it is known. Ends early when nobody listens any more.
pub(crate) async fn run(job: Job, told: Told) {
    let mut run = Run { told, deep: job.deep, done: 0, total: 0, damaged: 0, read: Arc::default() };
    // A client that is gone needs no reason.
    let _ = run.all(job).await;
}

impl Run {
    async fn all(&mut self, job: Job) -> Result<(), Gone> {
        let nothing = job.files.is_empty();
        let mut buckets = Vec::new();
        for place in job.places {
            buckets.push(open(place).await);
        }
        self.total =
            u32::try_from(job.files.len()).unwrap_or(u32::MAX).saturating_add(u32::from(job.manifest.is_some()));
        let manifest = match &job.manifest {
            Some((manifest, place)) => self.manifest(manifest, buckets.get(*place)).await?,
            None => Manifest::default(),
        };
        for file in &job.files {
            self.file(file, buckets.get(file.place), &manifest).await?;
        }
        let verdict = match self.damaged {
            _ if nothing => Verdict::NothingAvailable,
            0 => Verdict::Intact,
            _ => Verdict::Damaged,
        };
        self.say(None, verdict).await
    }

    /// Verifies the manifest itself and reads it. One that cannot be read is told of, and the rest is verified without.
    async fn manifest(&mut self, told: &v1::recording::Manifest, place: Option<&Opened>) -> Result<Manifest, Gone> {
        let expected =
            Expected { key: told.object_key.clone(), size: Some(told.size_bytes), crc32c: told.crc32c.clone() };
        let bucket = match bucket(place) {
            Ok(bucket) => bucket,
            Err(problem) => return self.unusable("", &expected, problem).await.map(|()| Manifest::default()),
        };
        let found = object::look(bucket.as_ref(), &expected, true, &self.read).await;
        if found.outcome() != Outcome::Ok {
            return self.found("", found).await.map(|()| Manifest::default());
        }
        let parsed = object::text(bucket.as_ref(), &expected.key, &self.read).await.and_then(|bytes| {
            Manifest::parse(&bytes).map_err(|error| object::damaged(format!("is no manifest: {error}")))
        });
        match parsed {
            Ok(manifest) => self.found("", found).await.map(|()| manifest),
            Err(problem) => {
                let unreadable = object::unreadable(bucket.as_ref(), &expected, problem);
                self.found("", unreadable).await.map(|()| Manifest::default())
            }
        }
    }

    async fn file(&mut self, file: &File, place: Option<&Opened>, manifest: &Manifest) -> Result<(), Gone> {
        let v1::File { name, object_key, .. } = &file.file;
        let main = main_object(&file.file, manifest);
        let bucket = match bucket(place) {
            Ok(bucket) => bucket,
            Err(problem) => return self.unusable(name, &main, problem).await,
        };
        let read = Arc::clone(&self.read);
        let looked = object::look(bucket.as_ref(), &main, self.deep, &read);
        let found = self.patiently(looked).await?;
        let intact = found.outcome() == Outcome::Ok;
        if file.file.format() != v1::format::Kind::Hls || !intact {
            return self.found(name, found).await;
        }
        let text = object::text(bucket.as_ref(), object_key, &self.read).await.and_then(|bytes| {
            let text = std::str::from_utf8(&bytes).map_err(|_| object::damaged("is no playlist: it is no text"))?;
            playlist::entries(object_key, text).map_err(|error| object::damaged(error.to_string()))
        });
        match text {
            Ok(entries) => {
                self.found(name, found).await?;
                self.segments(name, bucket, parts(object_key, entries, manifest)).await
            }
            Err(problem) => {
                self.found(name, object::unreadable(bucket.as_ref(), &main, problem)).await?;
                let known = manifest.objects(object_key).iter().filter(|part| part.key != *object_key).cloned();
                self.segments(name, bucket, known.collect()).await
            }
        }
    }

    async fn segments(&mut self, name: &str, bucket: Arc<dyn Bucket>, parts: Vec<Expected>) -> Result<(), Gone> {
        self.total = self.total.saturating_add(u32::try_from(parts.len()).unwrap_or(u32::MAX));
        let (deep, read) = (self.deep, Arc::clone(&self.read));
        let looks = parts.into_iter().map(|part| {
            let (bucket, read) = (Arc::clone(&bucket), Arc::clone(&read));
            async move { object::look(bucket.as_ref(), &part, deep, &read).await }
        });
        let mut looks = Box::pin(futures_util::stream::iter(looks).buffered(AT_ONCE));
        while let Some(found) = self.patiently(looks.next()).await? {
            self.found(name, found).await?;
        }
        Ok(())
    }

    /// Waits for something that may take long, without falling silent, and not for a client that is gone.
    async fn patiently<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Gone> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = self.told.closed() => return Err(Gone),
                () = tokio::time::sleep(PROGRESS_INTERVAL) => self.say(None, Verdict::Unspecified).await?,
            }
        }
    }

    /// A file whose storage cannot be opened.
    async fn unusable(&mut self, name: &str, expected: &Expected, problem: Problem) -> Result<(), Gone> {
        let mut object = Object {
            object_key: expected.key.clone(),
            expected_size_bytes: expected.size.unwrap_or_default(),
            expected_crc32c: expected.crc32c.clone(),
            error: Some(problem.into()),
            ..Object::default()
        };
        object.set_outcome(Outcome::Unreadable);
        self.found(name, object).await
    }

    async fn found(&mut self, file: &str, object: Object) -> Result<(), Gone> {
        self.done = self.done.saturating_add(1);
        self.damaged = self.damaged.saturating_add(u32::from(object.outcome() != Outcome::Ok));
        self.say(Some(Object { file: file.to_owned(), ..object }), Verdict::Unspecified).await
    }

    async fn say(&mut self, object: Option<Object>, verdict: Verdict) -> Result<(), Gone> {
        let progress = Progress {
            objects_done: self.done,
            objects_total: self.total,
            objects_damaged: self.damaged,
            bytes_read: self.read.load(Ordering::Relaxed),
        };
        let message = VerifyRecordingResponse { object, progress: Some(progress), verdict: verdict as i32 };
        self.told.send(Ok(message)).await.map_err(|_| Gone)
    }
}

type Opened = Result<Arc<dyn Bucket>, Problem>;

async fn open(place: Place) -> Opened {
    let (target, credential) = place?;
    match tokio::time::timeout(OPEN_LIMIT, store::open(target, credential)).await {
        Ok(Ok(bucket)) => Ok(bucket),
        Ok(Err(error)) => Err(Problem::destination("STORAGE_FAILED", error.to_string())),
        Err(_) => Err(Problem::destination("STORAGE_FAILED", "the storage did not open in time")),
    }
}

fn bucket(place: Option<&Opened>) -> Opened {
    place.cloned().unwrap_or_else(|| Err(Problem::internal("the file's storage was not looked up")))
}

/// The object that a player opens. A playlist's own size and checksum are only known from the manifest.
fn main_object(file: &v1::File, manifest: &Manifest) -> Expected {
    let known = manifest.object(&file.object_key, &file.object_key).cloned();
    known.unwrap_or_else(|| match file.format() {
        v1::format::Kind::Hls => Expected::named(&file.object_key),
        _ => Expected { key: file.object_key.clone(), size: Some(file.size_bytes), crc32c: file.crc32c.clone() },
    })
}

/// Every entry of the playlist, and whatever else was written for it.
fn parts(playlist: &str, entries: Vec<String>, manifest: &Manifest) -> Vec<Expected> {
    let written = manifest.objects(playlist);
    let unnamed = written.iter().filter(|part| part.key != playlist && !entries.contains(&part.key));
    let unnamed: Vec<Expected> = unnamed.cloned().collect();
    let named =
        entries.iter().map(|key| manifest.object(playlist, key).cloned().unwrap_or_else(|| Expected::named(key)));
    named.chain(unnamed).collect()
}
