//! Directives: what the media nodes are told, from the rows of the database to an acknowledged message.
//!
//! [`compile`] turns rows into fully resolved directives, [`changelog`] keeps their versions, [`session`] speaks with
//! one node, [`status`] tells from the acknowledgements how far a directive has come.
pub mod changelog;
pub mod command;
pub mod compile;
pub mod names;
pub mod plan;
pub mod session;
pub mod status;
pub mod task;
