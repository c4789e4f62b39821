//! Sans-IO muxers: frames in, object bytes out. One module a container; [`Muxer`] is the port they share.

mod aac;
mod adts;
pub mod demux;
mod flv;
pub mod hls;
mod mp4;
mod notes;
mod output;
mod past;
mod picture;
pub mod registry;
mod scratch;
mod sound;
mod split;

pub use mp4::Index;
pub use output::{
    Finished, Mark, Muxer, ObjectId, ObjectPart, ObjectSpec, Output, Reaction, Rejected, Restored, RestoredFile,
    RestoredObject, Summary,
};
pub use registry::{Format, Layout, Options, Segment, Treatment, Unavailable, Wish, open, restore};
