//! The control plane: templates, domains, rules and what was recorded; directives to media nodes and facts from them.
pub mod access;
pub mod api;
pub mod app;
pub mod config;
pub mod deletion;
pub mod directives;
pub mod domain;
mod error;
pub mod event_data;
pub mod feed;
pub mod ledger;
pub mod link;
pub mod playback;
pub mod progress;
pub mod pulse;
mod tasks;
pub mod timers;
pub mod usage;
mod verify;
pub mod webhooks;

pub use error::Error;
