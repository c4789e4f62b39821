//! What both binaries need to run: configuration, listeners, drain, health, telemetry, secrets, time and retries.
#![doc = ""]
#![doc = include_str!("../README.md")]
pub mod accept;
pub mod access_log;
pub mod admin;
pub mod build_info;
pub mod clock;
pub mod config;
pub mod drain;
mod error;
pub mod gate;
pub mod http;
pub mod metrics;
pub mod readiness;
pub mod ready;
pub mod retry;
pub mod secret;
pub mod serve;
pub mod sizes;
pub mod telemetry;
pub mod tls;

pub use error::Error;
