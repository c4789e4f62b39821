//! Directives: what the media nodes are told, from the rows of the database to an acknowledged message.
//!
//! [`compile`] turns rows into fully resolved directives, [`source`] knows which of them a change concerns, [`changelog`]
//! keeps their versions, [`parcel`] encodes them once for all nodes, [`session`] speaks with one node, [`status`] tells from the acknowledgements how far a directive has come.
pub mod align;
pub mod changelog;
pub mod command;
pub mod compile;
pub mod names;
pub mod parcel;
pub mod plan;
pub mod session;
pub mod source;
pub mod status;
pub mod task;
