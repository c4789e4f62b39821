//! Playlists on their way: after every object that they name, and with what an earlier epoch wrote in front.

use std::sync::Arc;

use recorder_proto::facts::Failure;
use recorder_proto::format::Format;
use spool::OutputKey;
use store::{Bucket, CACHE_NO_STORE, If, Kind, ObjectMeta, Stored};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::budget::Who;
use super::file::Text;
use super::note::OutputNote;
use super::sending::committed;
use super::splice::splice;
use super::storage::{Storage, failure};
use super::upload::UploadError;
use super::{Context, OutputMeta};

/// Cache header of a finished playlist: it may be kept, if the server is asked whether it is still the same.
const CACHE_REVALIDATE: &str = "no-cache";

/// The longest playlist that is taken over from an earlier epoch, in bytes: weeks of it.
const LONGEST: u64 = 12 << 20;

/// What the first file of an output begins with, read once.
pub struct Beginning {
    key: Option<String>,
    text: OnceCell<Option<String>>,
}

impl Beginning {
    /// Of an output; `noted` by an earlier process.
    pub fn new(meta: &OutputMeta, noted: Option<Option<String>>) -> Self {
        let key = meta.continues.as_ref().map(|continues| continues.key.clone());
        Self { key, text: OnceCell::new_with(noted) }
    }

    /// `text` as it stands in the bucket under `own_key`. The earlier playlist is read before the first text ships, and
    /// noted: a restart must not find another one.
    async fn apply(
        &self,
        context: &Context,
        bucket: &dyn Bucket,
        output: &OutputKey,
        text: Text,
        own_key: &str,
    ) -> Result<Text, UploadError> {
        let Some(key) = &self.key else { return Ok(text) };
        let read = || async {
            let found = match bucket.get_range(key, 0..LONGEST).await {
                Ok(found) => String::from_utf8(found.to_vec()).ok(),
                Err(error) if error.kind == Kind::NotFound => None,
                Err(error) => return Err(UploadError::from(error)),
            };
            if found.is_none() {
                tracing::warn!(%output, key, "there is no playlist of an earlier epoch to go on with");
            }
            if let Err(error) = OutputNote::Previous(found.clone()).keep(&context.spool, output).await {
                // An output that the spool lost still ships what there is of it.
                tracing::warn!(%output, %error, "the playlist of an earlier epoch is not noted");
            }
            Ok(found)
        };
        let previous = self.text.get_or_try_init(read).await?;
        let spliced = previous.as_ref().and_then(|previous| {
            let own = std::str::from_utf8(&text.body).ok()?;
            splice(previous, key, own, own_key)
        });
        Ok(match spliced {
            Some(body) => Text { body: body.into(), ..text },
            None => text,
        })
    }
}

/// A text and where it goes.
pub struct Letter {
    /// Its output.
    pub output: OutputKey,
    /// Its key.
    pub key: String,
    /// The text.
    pub text: Text,
    /// Headers.
    pub meta: ObjectMeta,
    /// Of the file that an earlier epoch began: what comes first.
    pub beginning: Option<Arc<Beginning>>,
}

impl Letter {
    /// Brings it home, however often that takes; an error is final.
    pub async fn ship(&self, context: &Context, storage: &Storage) -> Result<(Text, Stored), (Text, Failure)> {
        let mut attempts = storage.attempts();
        let (text, stored) = loop {
            let error = match self.send(context, storage).await {
                Ok(sent) => break sent,
                Err(error) => error,
            };
            if error.is_final() {
                return Err((self.text.clone(), failure(&error)));
            }
            storage.failed(&error, &mut attempts).await;
        };
        if !text.last {
            return Ok((text, stored));
        }
        let stored = committed(context, &self.output, text.object, stored).await;
        Ok((text, stored))
    }

    /// One attempt; gives the text as it is stored.
    pub async fn send(&self, context: &Context, storage: &Storage) -> Result<(Text, Stored), UploadError> {
        storage.turn().await;
        let bucket = storage.bucket().await?;
        let text = match &self.beginning {
            Some(beginning) => {
                beginning.apply(context, bucket.as_ref(), &self.output, self.text.clone(), &self.key).await?
            }
            None => self.text.clone(),
        };
        let file = self.key.as_str().into();
        let who = Who { file, storage: storage.label(), is_playlist: true, since: Instant::now() };
        let _permit = context.gate.enter(&who).await;
        context.bandwidth.take(text.body.len() as u64).await;
        let stored = self.put(bucket.as_ref(), &text).await?;
        storage.worked();
        Ok((text, stored))
    }

    async fn put(&self, bucket: &dyn Bucket, text: &Text) -> Result<Stored, store::Error> {
        let put = bucket.put(&self.key, text.body.clone(), &self.meta, If::Any).await?;
        if !text.last {
            return Ok(put);
        }
        let found = bucket.head(&self.key).await?;
        let crc32c = crc32c::crc32c(&text.body);
        let is_ours = |found: &Stored| {
            let same_size = found.size == text.body.len() as u64;
            same_size && found.etag == put.etag && found.crc32c.is_none_or(|theirs| theirs == crc32c)
        };
        found.filter(is_ours).ok_or_else(|| {
            store::Error::new(
                "head",
                &self.key,
                Kind::Corrupted,
                "ContentMismatch",
                "the playlist is not the one stored",
            )
        })
    }
}

impl OutputMeta {
    /// What is said about an object of it.
    pub fn headers(&self, content_type: &str, cache: &str) -> ObjectMeta {
        let mut meta = ObjectMeta::of_type(content_type).cached(cache);
        for (key, value) in &self.labels {
            meta = meta.label(key.replace('.', "_"), header_safe(value));
        }
        meta
    }

    /// What is said about its playlist.
    pub fn playlist_headers(&self, last: bool) -> ObjectMeta {
        self.headers(Format::Hls.content_type(), if last { CACHE_REVALIDATE } else { CACHE_NO_STORE })
    }
}

/// Object metadata travels in HTTP headers: everything but visible ASCII is percent-encoded.
fn header_safe(value: &str) -> String {
    let mut safe = String::with_capacity(value.len());
    for byte in value.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
    }
    safe.trim().to_owned()
}
