//! The media node: takes live streams in, writes them to the customer's storage, tells the control plane.
//!
//! ```text
//! ingest (RTMP shell) -> publication (timeline, start gate) -> recording (muxers) -> spool -> shipping -> storage
//!                              ^ plans (directives)                                     \-> facts -> link
//! ```

pub mod app;
pub mod config;
mod http;
pub mod ingest;
pub mod link;
mod manifest;
pub mod node;
mod plans;
mod publication;
mod recording;
mod registry;
mod shipping;
mod stream_facts;
