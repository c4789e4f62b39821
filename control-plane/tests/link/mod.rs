//! The control plane as media nodes and watchers meet it: the real listeners, on every database that is there.

pub mod binary;
mod chaos;
mod claims;
pub mod control;
mod crowd;
mod directives;
mod disk;
mod drains;
mod facts;
mod keys;
mod kills;
mod health;
mod leases;
mod listeners;
pub mod node;
mod outages;
mod process;
mod proxy;
mod recordings;
mod resuming;
mod returns;
mod running;
pub mod story;
mod watches;
mod watching;
mod tasks;
