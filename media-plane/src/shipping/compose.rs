//! A file whose head is known last, at a store that takes the bytes of an upload in order only (Google with a service
//! account): its media is uploaded as an object of its own while it grows; at the end the head becomes a second one and
//! the store joins both. Neither stays.

use mux::ObjectPart;
use store::{If, Kind, Part, Stored, crc32c_of_parts};

use super::lane::Lane;
use super::plan::Plan;
use super::progress::Progress;
use super::upload::{Parcel, Span, UploadError, again, timed};

/// The media of a file until it is joined: an object beside the file, whose key nobody else has.
pub fn media_of(parcel: &Parcel) -> Parcel {
    Parcel { key: format!("{}.media-part", parcel.key), ..parcel.clone() }
}

fn head_key(parcel: &Parcel) -> String {
    format!("{}.head-part", parcel.key)
}

/// One attempt to bring a closed object home.
pub(super) async fn send(
    parcel: &Parcel,
    lane: &Lane<'_>,
    progress: &mut Progress,
    plan: Plan,
) -> Result<Stored, UploadError> {
    let media = media_of(parcel);
    debug_assert_eq!(parcel.spec.object.part, ObjectPart::Whole);
    let is_there = |found: &Stored| found.size == parcel.size && found.crc32c == Some(parcel.crc32c);
    let mut found = lane.bucket.head(&parcel.key).await?.filter(is_there);
    if found.is_none() {
        let stored = media_object(&media, lane, progress, plan).await?;
        join(parcel, &media, lane, progress, &stored).await?;
        found = lane.bucket.head(&parcel.key).await?.filter(is_there);
    }
    let Some(found) = found else {
        return Err(again(&parcel.key, "ContentMismatch", "the joined object is not there yet").into());
    };
    // Its session, if the object was there before it was completed.
    progress.discard();
    media.clean(lane, progress).await?;
    tidy(parcel, lane).await?;
    Ok(found)
}

/// Completes the media's own object.
async fn media_object(
    media: &Parcel,
    lane: &Lane<'_>,
    progress: &mut Progress,
    plan: Plan,
) -> Result<Stored, UploadError> {
    let size = media.size.saturating_sub(progress.head);
    if let Some(found) = lane.bucket.head(&media.key).await?.filter(|found| found.size == size) {
        return Ok(found);
    }
    let span = Span { plan, head: progress.head, end: media.size, closed: true };
    media.prepare(lane, progress, span).await?;
    media.send_parts(lane, progress, span).await?;
    media.complete(lane, progress).await?;
    let found = lane.bucket.head(&media.key).await?.filter(|found| found.size == size);
    found.ok_or_else(|| {
        progress.discard();
        again(&media.key, "ContentMismatch", "the media's object has another size").into()
    })
}

/// Puts the head and joins it to the media, if together they are what was recorded.
async fn join(
    parcel: &Parcel,
    media: &Parcel,
    lane: &Lane<'_>,
    progress: &mut Progress,
    stored: &Stored,
) -> Result<(), UploadError> {
    let permit = lane.permit().await;
    let head = parcel.read(lane.spool, 0, progress.head).await?;
    let parts = [
        Part { number: 1, size: head.len() as u64, etag: String::new(), crc32c: Some(crc32c::crc32c(&head)) },
        Part { number: 2, size: stored.size, etag: String::new(), crc32c: stored.crc32c },
    ];
    if crc32c_of_parts(&parts) != Some(parcel.crc32c) {
        lane.bucket.delete(&media.key).await?;
        progress.discard();
        return Err(again(&parcel.key, "ChecksumMismatch", "the media is sent again").into());
    }
    let head_key = head_key(parcel);
    timed(lane.bucket.put(&head_key, head, &parcel.meta, If::Any)).await?;
    drop(permit);
    timed(lane.bucket.compose(&parcel.key, &[head_key, media.key.clone()], &parcel.meta)).await?;
    Ok(())
}

/// Removes what was only needed for joining.
pub async fn tidy(parcel: &Parcel, lane: &Lane<'_>) -> Result<(), UploadError> {
    for key in [head_key(parcel), media_of(parcel).key] {
        match lane.bucket.delete(&key).await {
            Err(error) if error.kind == Kind::Denied => {
                tracing::warn!(key, %error, "a temporary object cannot be deleted and stays");
            }
            done => done?,
        }
    }
    Ok(())
}
