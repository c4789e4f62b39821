//! The control plane as media nodes and watchers meet it: the real listeners, on every database that is there.

mod binary;
mod chaos;
mod claims;
mod control;
mod crowd;
mod directives;
mod disk;
mod drains;
mod facts;
mod keys;
mod kills;
mod leases;
mod listeners;
mod node;
mod outages;
mod process;
mod proxy;
mod recordings;
mod resuming;
mod returns;
mod running;
mod story;
mod watches;
mod watching;
