//! Where publishers come in: one shell per protocol around a sans-IO session.

pub mod auth;
mod calm;
pub mod rtmp;
mod rtmp_listener;

pub use rtmp_listener::RtmpListener;
