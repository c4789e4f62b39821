//! Where finished files go: the [`Bucket`] port and its backends (file system, S3, Google over HMAC keys and over a
//! service account, memory), each with errors that say whether to retry and whom to blame.
//!
//! Keys given to a bucket are whole object keys: a storage's `prefix` is joined by the caller with [`join_key`].
//! Retrying is the caller's business: no backend repeats a request by itself.

mod attempt;
mod bucket;
mod checksum;
mod content;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
mod gcs;
mod key;
mod library;
mod memory;
mod open;
mod part_size;
mod probe;
mod s3;
mod stream;
mod unreliable;
mod uri;

pub use attempt::AttemptLimit;
pub use bucket::{Bucket, ByteStream, Capabilities, If, Listed, ObjectMeta, Part, Stored, Upload, UploadId};
pub use checksum::{crc32c_base64, crc32c_of_parts};
pub use content::{CACHE_IMMUTABLE, CACHE_NO_STORE, content_type_of_key};
pub use error::{Blame, Error, Kind, Retry};
pub use key::{join_key, percent_encode};
pub use library::Library;
pub use memory::Memory;
pub use open::{Credential, Dialect, Target, TargetKind, open};
pub use part_size::{MAX_PART_COUNT, part_size};
pub use probe::{Step, probe};
pub use unreliable::{Faults, Unreliable};
pub use uri::object_uri;
