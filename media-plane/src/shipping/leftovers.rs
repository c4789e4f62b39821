//! Uploads of ours that nobody needs any more, known or not: none of them stays open.
//!
//! Only uploads of exactly the object's own key are ever touched, which no other writer has.

use store::{Kind, UploadId};

use super::lane::Lane;
use super::progress::Progress;
use super::upload::{Parcel, UploadError};

impl Parcel {
    /// Open uploads of exactly this key, which no other writer has.
    pub(super) async fn strays(&self, lane: &Lane<'_>) -> Result<Vec<UploadId>, UploadError> {
        let listed = match lane.bucket.list_uploads(&self.key).await {
            // A credential need not be able to list.
            Err(error) if matches!(error.kind, Kind::Denied | Kind::Unsupported) => return Ok(Vec::new()),
            listed => listed?,
        };
        Ok(listed.into_iter().filter(|upload| upload.key == self.key).map(|upload| upload.id).collect())
    }

    /// Finds uploads of the key that nobody needs any more.
    pub(super) async fn sweep(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<(), UploadError> {
        if progress.strays {
            let found = self.strays(lane).await?;
            progress.orphans.extend(found);
            progress.strays = false;
        }
        Ok(())
    }

    /// Aborts what is no longer needed.
    pub(super) async fn clean(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<(), UploadError> {
        while let Some(orphan) = progress.orphans.last() {
            match lane.bucket.abort(&self.key, orphan).await {
                Err(error) if matches!(error.kind, Kind::Denied | Kind::Unsupported) => {
                    tracing::warn!(key = self.key, %error, "an upload of ours that is not needed stays open");
                }
                done => done?,
            }
            progress.orphans.pop();
        }
        Ok(())
    }

    /// Gives the object up: nothing of it may stay at the storage. One attempt.
    pub async fn give_up(&self, lane: &Lane<'_>, progress: &mut Progress) -> Result<(), UploadError> {
        progress.discard();
        self.sweep(lane, progress).await?;
        self.clean(lane, progress).await
    }
}
