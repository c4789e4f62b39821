//! RTP publishers: packets and sender reports in, [`media::ingest::Event`]s and requests to the publisher out. No I/O,
//! no clock of its own, no thread.
//!
//! ```text
//! Packet ──> Session ─> reorder ─> h264 | opus ─> simulcast ─> release ──> Event::{Config, Lost, Frame, Rejected}
//! sender report ────────────────> clock ────────────────────────^         KeyFrameRequest
//! ```
//!
//! Use: [`Session::push_rtp`] for every packet and [`Session::push_sender_report`] for every sender report, in order of
//! arrival; [`Session::handle_timeout`] when [`Session::next_timeout`] has passed; [`Session::poll`] until `None` after
//! each of them; [`Session::end`] at the end. All times are of one monotonic clock.

mod clock;
mod composition;
mod counts;
mod h264;
mod keyframes;
mod opus;
mod packet;
mod release;
mod reorder;
mod retransmission;
mod session;
mod simulcast;
mod stream;

pub use counts::{ClockCounts, Counts, TrackCounts};
pub use keyframes::{KeyFrameRequest, Want};
pub use packet::{Format, Packet};
pub use session::{Output, Session, Settings};
