//! The node's durable local journal: every muxed byte goes through it, and it is the only caller of fsync.
//!
//! A publication task hands what its muxers say ([`mux::Output`]) to a [`Writer`], which never waits for the disk. A few
//! dedicated threads write it to the page cache, append an extent record per object to the output's journal and sync
//! both every [`Config::flush_interval`]: that interval is what a crash may cost. Shipping hears through [`Events`] what
//! is on disk, reads it back, notes its own progress in the same journal ([`Record`]) and releases the bytes at the end.
//!
//! A disk that is full makes outputs wait, in memory and then by [`Spool::writable`]; one that fails ends what is open on
//! it, and new outputs go to [`Config::spares`]. Bytes are freed object by object ([`Spool::release`]), never in part.
//!
//! On disk: `<path>/<recording>-e<epoch>/<format>/journal` and beside it `<file>-<part>.data` and `.head` per object. What a
//! start can make nothing of it moves to `<path>/set-aside`, where it counts as used until somebody takes it away.

mod appender;
mod aside;
mod checks;
mod config;
mod decode;
mod disk;
mod error;
mod event;
mod fault;
#[cfg(any(test, feature = "sim"))]
pub mod fuzz;
mod growing;
mod inbox;
mod journal;
mod key;
mod mend;
mod noted;
mod object;
mod output;
mod reading;
mod recover;
mod roots;
mod spool;
mod state;
mod step;
mod stored;
mod summary;
#[cfg(test)]
mod tests;
mod threads;
mod volume;
mod work;
mod writer;

pub use config::{Config, Usage};
pub use error::Error;
pub use event::{Event, Events};
pub use key::{OutputKey, object_name};
pub use spool::Spool;
pub use stored::{
    Committed, ObjectState, Part, Record, ReleasedFile, ReleasedObject, StoredFile, StoredObject, StoredOutput,
    StoredPlaylist, Upload,
};
pub use writer::Writer;
#[cfg(feature = "sim")]
pub use {fault::FaultyDisk, spool::Stepped, step::Stepper};
