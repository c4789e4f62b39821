//! Where publishers come in: one shell per protocol around a sans-IO session.

pub mod auth;
mod calm;
pub(crate) mod publishing;
pub mod rtmp;
mod rtmp_listener;
pub mod whip;
mod whip_http;
mod whip_listener;
mod whip_pictures;

pub use rtmp_listener::RtmpListener;
pub use whip_http::{Whip, routes};
pub use whip_listener::Sockets;
