//! A sans-IO RTMP / E-RTMP server session for publishers, ending in [`media::ingest::Event`].
//!
//! ```text
//! bytes -> handshake -> chunk reader -> message dispatch -> FLV tag reader -> ingest events
//! ```
//!
//! The session owns no socket and no clock. The shell around it does, per connection:
//!
//! ```no_run
//! # use std::time::Duration;
//! # use bytes::BytesMut;
//! # use rtmp::{Limits, Session, SessionError, SessionEvent};
//! # fn shell(now: Duration) -> Result<(), SessionError> {
//! let mut session = Session::new(Limits::default(), [0; 32], now);
//! let mut buffer = BytesMut::new();
//! // After each read of at most `READ_BUFFER_BYTES` into `buffer`; while `wants_input()` is false, do not read.
//! loop {
//!     let outcome = session.handle(&mut buffer, now);
//!     let mut progress = false;
//!     while let Some(event) = session.poll_event() {
//!         progress = true;
//!         if let SessionEvent::Publish(request) = event {
//!             println!("{} {} {}", request.domain(), request.app, request.stream);
//!             session.accept(now); // or session.reject(..), now or later
//!         }
//!     }
//!     let _to_send = session.take_output(); // also after an error: it tells the peer why
//!     outcome?;
//!     if !progress {
//!         break;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Parsing is written against hostile input: nothing is allocated because a length was announced, and every limit is
//! a field of [`Limits`].

pub mod amf0;
mod chunk;
pub mod client;
mod encoder;
mod error;
pub mod flv;
mod handshake;
mod limits;
mod message;
mod session;

pub use chunk::{ChunkReader, Policy};
pub use error::{Phase, SessionError};
pub use limits::{Limits, READ_BUFFER_BYTES};
pub use message::{Aggregate, Message, kind};
pub use session::{PublishRequest, Refusal, Session, SessionEvent};
