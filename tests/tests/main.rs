//! Recorder from outside: its processes, publishers, buckets and clients as users have them. One binary: linking the
//! cloud libraries once is what takes the time and the disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod by_hand;
mod closed_library;
mod codecs;
mod control_away;
mod crash;
mod cuts;
mod disk;
mod drain;
mod environment;
mod examples;
mod fmp4;
mod health;
mod hostile_rtmp;
mod outage;
mod readme;
mod recctl;
mod recipes;
mod recording;
mod replicas;
mod restart;
mod resume;
mod retries;
mod same_node;
mod script;
mod scripting;
mod secured;
mod sound;
mod storage;
mod storage_contract;
mod storage_failures;
mod storage_outages;
mod storages;
mod takeover;
mod tasks;
mod telemetry;
mod tree;
mod variants;
mod verify;
mod whip;
