//! The control plane over the wire, on every database that is there. One binary: linking the cloud libraries once is
//! what takes the time and the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod access;
mod calls;
mod domains;
mod events;
mod link;
mod rules;
mod secrets;
mod storages;
mod support;
mod tasks;
mod templates;
mod tls;
mod unimplemented;
mod usage;
mod webhooks;
