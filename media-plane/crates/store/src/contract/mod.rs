//! What every backend must do, as cases; [`crate::bucket_contract!`] makes one test of each.
//!
//! A harness is an async function that opens an empty bucket: `async fn open() -> (Guard, Arc<dyn Bucket>)`, where the
//! guard keeps server or directory alive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
#![allow(missing_docs, reason = "the names of the cases say what they show")]

mod objects;
mod streams;
mod uploads;

pub use objects::*;
pub use streams::*;
pub use uploads::*;

use bytes::Bytes;

use crate::bucket::Bucket;
use crate::error::{Error, Retry};

/// One test per case, in a module of that name: `bucket_contract!(memory, open_memory);`
#[macro_export]
macro_rules! bucket_contract {
    ($name:ident, $open:path) => {
        $crate::bucket_contract!(@cases $name, $open,
            put_then_read_back ranges_are_cut_at_the_end missing_objects zero_byte_object overwrite_replaces
            if_absent_refuses_the_second unicode_and_spaces_in_keys bad_keys_are_refused list_by_prefix
            delete_twice uris_name_the_object probe_passes_every_step
            t1_multipart_of_more_than_20_mib part_one_last parts_are_replaced one_small_part
            nothing_is_visible_before_complete if_absent_on_complete parts_are_listed uploads_are_listed
            abort_frees_the_upload complete_again_is_a_success foreign_parts_are_refused objects_are_joined
            short_stream_is_one_object long_stream_is_one_object failed_stream_leaves_nothing
            lost_replies_and_retries_make_one_object);
    };
    (@cases $name:ident, $open:path, $($case:ident)*) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    let (_guard, bucket) = $open().await;
                    $crate::contract::$case(bucket).await;
                }
            )*
        }
    };
}

/// Bytes that differ at every offset and from seed to seed.
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// The whole object.
pub async fn read(bucket: &dyn Bucket, key: &str) -> Bytes {
    let size = bucket.head(key).await.unwrap().unwrap_or_else(|| panic!("no object {key:?}")).size;
    let body = bucket.get_range(key, 0..size).await.unwrap();
    assert_eq!(body.len() as u64, size);
    body
}

/// Compares without printing megabytes.
pub fn assert_same(found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "length");
    let differs = found.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "offset of the first difference");
}

/// As shipping does, without the pauses: again as long as the error says that it may help.
pub async fn persist<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    let mut last = None;
    for _ in 0..20 {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if error.retry() == Retry::Never => panic!("not to be retried: {error}"),
            Err(error) => last = Some(error),
        }
    }
    panic!("still failing: {last:?}")
}
