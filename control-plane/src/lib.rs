//! The control plane: templates, domains, rules and what was recorded; directives to media nodes and facts from them.
pub mod access;
pub mod api;
pub mod app;
pub mod config;
pub mod directives;
pub mod domain;
mod error;
pub mod event_data;
pub mod feed;
pub mod ledger;
pub mod link;
pub mod pulse;
pub mod timers;
pub mod usage;
mod tasks;
mod verify;
pub mod webhooks;

pub use error::Error;
