//! Sessions over real sockets on the loopback, with the WebRTC library itself as the publisher.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod ends;
mod hostile;
mod media;
mod publisher;
mod transport;
