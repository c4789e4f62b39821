//! Generated messages, clients and servers of `recorder.v1` and `recorder.node.v1`.
#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// The nesting mirrors the protobuf packages, because generated code refers to its neighbours by relative paths.
mod recorder {
    pub mod v1 {
        tonic::include_proto!("recorder.v1");
    }
    pub mod node {
        pub mod v1 {
            tonic::include_proto!("recorder.node.v1");
        }
    }
}

pub use recorder::node::v1 as node;
pub use recorder::v1;

/// Everything above plus google.rpc and the well-known types, for reflection and descriptor tests.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
