//! A control plane, two media nodes, a bucket and publishers in one thread, under time, network, disk and entropy that
//! all follow from a seed (issue 3, "Shown by 2"; reliability.md tests 3 and 20).
//!
//! Real: the RTMP shell and session, publications, timeline, recordings, muxers, spool (journal and files, in its
//! stepped form), manifests, shipping, fact log, resumption and fencing; link client and link service over gRPC; claims,
//! directives, timers and ledger on SQLite. Modelled: the network ([`net`]), the bucket ([`bucket`]), publishers
//! ([`publisher`]), the power of the spool's disk ([`spool::FaultyDisk`]), the machine's clock and entropy. Not there:
//! listeners, TLS, HTTP, the public API's server (its functions are called), other storages than an S3-like one.
//!
//! A world is a process of its own ([`run`]), because the standard library and tokio draw from the system's entropy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod bucket;
pub mod check;
pub mod clock;
pub mod control;
pub mod dice;
pub mod host;
pub mod log;
pub mod media_node;
pub mod net;
pub mod plan;
pub mod publisher;
pub mod run;
pub mod world;
