//! Manifests: what happened to each recording, kept beside its media in the spool and shipped as `manifest.json`.
//!
//! Every recording has one more spool output, of the format `manifest`. Its meta is [`RecordingMeta`], its notes are
//! [`Entry`]s. After a restart they are what a running recording is rebuilt from ([`Manifests::restored`]). Once
//! [`Entry::Ended`] is noted and every output is settled, the entries become one JSON document, which is shipped like
//! any object; nothing waits for it. The spool output is released when the document and every fact about its files
//! have arrived, so that a restart anywhere before still produces it.
//!
//! A file that failed and whose bytes are kept for another try is waited for: there is one document, and it is true.
//!
//! # The document
//!
//! `<folder>/manifest.json` when the folder of the first file belongs to this recording and epoch alone, else
//! `<first file without extension>-manifest.json`; for HLS the folder is the playlist's. UTF-8 JSON, one object:
//!
//! | field | meaning |
//! |---|---|
//! | `version` | 1; fields may be added to it |
//! | `recording`, `epoch`, `stream`, `origin`, `session` | which recording, written under which epoch, of what |
//! | `template`, `template_revision`, `storage`, `labels` | how it was recorded |
//! | `state` | `SUCCEEDED`, `INCOMPLETE` (gaps, or something was lost) or `FAILED` (nothing usable) as this node knows it |
//! | `start_time`, `end_time` | RFC 3339, UTC, microseconds |
//! | `end_reason`, `error` | as in `Recording` |
//! | `media_duration` | seconds with six decimals, such as `12.345000s` |
//! | `files[]` | `format`, `index`, `state`, `storage`, `key`, `uri`, `size` (segments included; of a playlist that goes on with an earlier epoch's, those of the last epoch), `crc32c` (base64 of the big-endian CRC-32C; not for HLS), `start_time`, `end_time` (wall clock), `first_timestamp`, `last_timestamp` (seconds from the recording's start), `video_frames`, `audio_frames`, `video`, `audio`, `gaps[]` inside the file, `error` |
//! | `files[].objects[]` | HLS: `key`, `size`, `crc32c` of every segment, initialisation section and the playlist |
//! | `gaps[]` | `start`, `duration`, `reason` |
//! | `codec_changes[]` | `at`, `track`, `from`, `to`; `codec_changes_left_out` counts those after the 1,000th |
//! | `findings[]` | what is abnormal in the media, as in `Recording.health`: `kind`, `code`, `level`, `count`, `first_time`, `last_time`; only when something was found |

mod abnormal;
mod document;
mod entry;
mod keeper;
mod meta;
#[cfg(test)]
pub mod tests;

pub use abnormal::Abnormal;
pub use entry::{CodecChange, Entry, FileEntry, FileMedia, FileState, MAX_PIECES, Packed, Piece};
pub use keeper::{Handle, Manifests, RestoredRecording};
pub use meta::{FORMAT, Late, RecordingMeta};
