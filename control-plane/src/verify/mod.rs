//! Reads a recording back from its storages and compares it with what was written.
//!
//! What was written is known from the manifest, object by object; without one, from the files' own sizes and checksums,
//! and a playlist's entries then only have to be there. Nothing is held of an object but the piece being read.
mod expected;
mod object;
mod playlist;
mod run;

pub(crate) use expected::Manifest;
pub(crate) use object::text;
pub(crate) use playlist::{entries, rewritten};
pub(crate) use run::{File, Job, Place, run};
