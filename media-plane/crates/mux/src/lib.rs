//! Sans-IO muxers: frames in, object bytes out. One module a container; [`Muxer`] is the port they share.

mod output;

pub use output::{Finished, Mark, Muxer, ObjectId, ObjectPart, ObjectSpec, Output, Reaction, Rejected, Summary};
