//! The media node: takes live streams in, writes them to the customer's storage, tells the control plane.
//!
//! ```text
//! ingest (RTMP shell) -> publication (timeline, start gate, sound) -> recording (muxers) -> spool -> shipping -> storage
//!                              ^ plans (directives)                                     \-> facts -> link
//! ```

// Tests say what thousands of waiting objects cost.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

pub mod app;
mod backlog;
pub mod config;
mod fencing;
mod hold;
mod http;
pub mod ingest;
mod leaving;
pub mod link;
mod mailbox;
mod manifest;
mod meter;
pub mod node;
mod plans;
mod publication;
mod publisher;
mod recording;
mod registry;
mod relief;
mod revival;
mod shipping;
#[cfg(feature = "sim")]
pub mod simulated;
mod sound;
mod spool_names;
mod starting;
mod stream_facts;

pub use recording::abnormal_codes;
