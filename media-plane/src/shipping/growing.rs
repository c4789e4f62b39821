//! An object that is sent while it grows: its parts go as they become durable, so that little is left to do when it is
//! closed.

use std::sync::Arc;

use mux::ObjectSpec;
use tokio::sync::{oneshot, watch};

use super::compose::media_of;
use super::lag::Waiting;
use super::plan::Way;
use super::progress::Progress;
use super::storage::Storage;
use super::upload::{Parcel, UploadError};
use super::{Context, OutputMeta};

/// Attempts to take back what was sent of an object that will never be closed.
const LAST_ATTEMPTS: u32 = 5;

/// An open object as its output sees it.
pub struct Growth {
    /// What it is.
    pub spec: ObjectSpec,
    /// To whoever sends it, once there is enough to send.
    news: Option<watch::Sender<News>>,
    /// Has that one stop at once.
    leave: Option<oneshot::Sender<()>>,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    durable: u64,
    closed: Option<Closed>,
    lost: bool,
}

/// It is complete in the spool.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Bytes.
    pub size: u64,
    /// CRC-32C of all of them.
    pub crc32c: u32,
    /// Its place in its file.
    pub place: u32,
}

impl Growth {
    /// An object was opened.
    pub fn new(spec: ObjectSpec) -> Self {
        Self { spec, news: None, leave: None }
    }

    /// Whether it is being sent.
    pub fn is_sent(&self) -> bool {
        self.news.is_some()
    }

    /// Begins to send it; the second is told when nothing more is to be sent.
    pub fn begin(&mut self, parcel: Parcel, progress: Progress, durable: u64) -> (Sender, oneshot::Receiver<()>) {
        let (news, inbox) = watch::channel(News { durable, ..News::default() });
        let (leave, left) = oneshot::channel();
        (self.news, self.leave) = (Some(news), Some(leave));
        let sender = Sender { parcel, progress, inbox, is_off: false, waiting: None };
        (sender, left)
    }

    /// What is sent of it so far counts for nothing: it goes elsewhere, from its beginning.
    pub fn leave(&mut self) {
        self.news = None;
        if let Some(leave) = self.leave.take() {
            let _ = leave.send(());
        }
    }

    /// More of it is durable.
    pub fn grown(&self, durable: u64) {
        if let Some(news) = &self.news {
            news.send_modify(|news| news.durable = news.durable.max(durable));
        }
    }

    /// Nothing will be added.
    pub fn close(self, closed: Closed) {
        if let Some(news) = &self.news {
            news.send_modify(|news| news.closed = Some(closed));
        }
    }

    /// It will never be closed. Otherwise, when this is dropped, a later start goes on with it.
    pub fn lose(self) {
        if let Some(news) = &self.news {
            news.send_modify(|news| news.lost = true);
        }
    }
}

/// Sends it.
pub struct Sender {
    parcel: Parcel,
    progress: Progress,
    inbox: watch::Receiver<News>,
    /// Nothing is sent before it is closed: the storage refused what it was asked for.
    is_off: bool,
    /// Parts that could have gone wait for their storage.
    waiting: Option<Waiting>,
}

impl Sender {
    /// Sends parts until the object is closed; then it is ready for its last attempt. None when it is lost.
    pub async fn grow(
        mut self,
        context: &Context,
        storage: &Storage,
        meta: &Arc<OutputMeta>,
    ) -> Option<(Parcel, Progress, Closed, Waiting)> {
        let mut attempts = storage.attempts();
        loop {
            let news = *self.inbox.borrow_and_update();
            if let Some(closed) = news.closed {
                return Some(self.closed(context, meta, closed));
            }
            if news.lost {
                self.take_back(context, storage).await;
                return None;
            }
            self.wait_from_now(context, meta, news.durable);
            match self.step(context, storage, news.durable).await {
                Ok(()) => {
                    attempts = storage.attempts();
                    self.waiting = None;
                }
                Err(error) if error.is_final() => {
                    tracing::warn!(output = %self.parcel.output, %error, "a file is sent after it is closed");
                    self.waiting = None;
                    self.is_off = true;
                    self.progress.anew();
                }
                Err(error) => {
                    // Closing changes nothing about the storage: the pause is as long as it must be.
                    storage.failed(&error, &mut attempts).await;
                    if self.inbox.has_changed().is_ok() {
                        continue;
                    }
                }
            }
            if self.inbox.changed().await.is_err() {
                return None;
            }
        }
    }

    /// What has waited goes on waiting: an episode does not end because the file does.
    fn closed(
        mut self,
        context: &Context,
        meta: &Arc<OutputMeta>,
        closed: Closed,
    ) -> (Parcel, Progress, Closed, Waiting) {
        (self.parcel.size, self.parcel.crc32c) = (closed.size, closed.crc32c);
        let object = self.parcel.spec.object;
        self.progress.head = context.spool.head_len(&self.parcel.output, object);
        let mut waiting = self.waiting.unwrap_or_else(|| context.lag.enter(meta, object, closed.size));
        waiting.resize(closed.size);
        (self.parcel, self.progress, closed, waiting)
    }

    /// Counts what could be sent and is not; less than a part has nothing to wait for.
    fn wait_from_now(&mut self, context: &Context, meta: &Arc<OutputMeta>, durable: u64) {
        let Some(growing) = self.progress.growing.filter(|_| !self.is_off) else { return };
        let sent = self.progress.parts.values().map(|part| part.size).sum();
        let unsent = durable.saturating_sub(sent);
        if unsent < growing.threshold() {
            return;
        }
        let object = self.parcel.spec.object;
        self.waiting.get_or_insert_with(|| context.lag.enter(meta, object, unsent)).resize(unsent);
    }

    async fn step(&mut self, context: &Context, storage: &Storage, durable: u64) -> Result<(), UploadError> {
        let Some(growing) = self.progress.growing.filter(|_| !self.is_off) else { return Ok(()) };
        storage.turn().await;
        let bucket = storage.bucket().await?;
        let lane = context.lane(&bucket, storage, &self.parcel, self.waiting.as_ref());
        let before = self.progress.parts.len();
        match growing.way(lane.limits()) {
            Way::Parts(plan) => self.parcel.advance(&lane, &mut self.progress, plan, durable).await?,
            Way::Compose(plan) => {
                media_of(&self.parcel).advance(&lane, &mut self.progress, plan, durable).await?;
            }
            Way::Later => self.is_off = true,
        }
        if self.progress.parts.len() > before {
            storage.worked();
        }
        Ok(())
    }

    /// Nothing of it may stay at the storage.
    async fn take_back(&mut self, context: &Context, storage: &Storage) {
        let mut attempts = storage.attempts();
        for _ in 0..LAST_ATTEMPTS {
            match take_back(context, storage, &self.parcel, &mut self.progress).await {
                Ok(()) => return,
                Err(error) => storage.failed(&error, &mut attempts).await,
            }
        }
        tracing::warn!(output = %self.parcel.output, key = self.parcel.key, "an upload that nobody needs stays open");
    }
}

/// One attempt to leave nothing of an object at the storage.
pub async fn take_back(
    context: &Context,
    storage: &Storage,
    parcel: &Parcel,
    progress: &mut Progress,
) -> Result<(), UploadError> {
    if progress.upload.is_none() && progress.orphans.is_empty() && !progress.strays {
        return Ok(());
    }
    let bucket = storage.bucket().await?;
    let lane = context.lane(&bucket, storage, parcel, None);
    match progress.growing.map(|growing| growing.way(lane.limits())) {
        Some(Way::Compose(_)) => {
            media_of(parcel).give_up(&lane, progress).await?;
            super::compose::tidy(parcel, &lane).await
        }
        _ => parcel.give_up(&lane, progress).await,
    }
}
