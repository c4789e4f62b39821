//! RTP publishers: packets and sender reports in, [`media::ingest::Event`]s and requests to the publisher out. No I/O,
//! no clock of its own, no thread.
//!
//! ```text
//! Packet ──> Session ─> reorder ─> picture | opus ─> simulcast ─> release ──> Event::{Config, Lost, Frame, Rejected}
//! sender report ────────────────> clock ────────────────────────^         KeyFrameRequest
//! ```
//!
//! Use: [`Session::push_rtp`] for every packet and [`Session::push_sender_report`] for every sender report, in order of
//! arrival; [`Session::handle_timeout`] when [`Session::next_timeout`] has passed; [`Session::poll`] until `None` after
//! each of them; [`Session::end`] at the end. All times are of one monotonic clock. Nothing fails: what makes no sense is
//! dropped and counted ([`Session::counts`]).
//!
//! # What the transport has to do
//!
//! - Decrypt, and take padding and header extensions off. Payloads are kept as they are handed over: one that is a slice
//!   of a larger buffer keeps that buffer.
//! - Put retransmissions in as they came, with [`Format::Retransmission`] and [`Session::add_repair`], or unwrapped as the
//!   packets they repeat. Send NACKs, and tell the round-trip time ([`Session::set_round_trip`]).
//! - Negotiate neither RED nor ULPFEC nor video-orientation (`urn:3gpp:video-orientation`): a browser that may not tell
//!   its rotation apart turns the picture itself.
//!
//! # What comes out
//!
//! - Per track, a configuration before the frames that need it, and times that strictly increase. Both tracks are on one
//!   clock of 90,000 ticks per second that wraps at 2^32, which [`media::Timeline`] takes for the publisher's.
//! - A frame leaves only if it can be shown. After a loss that is the next key frame, unless the loss was inside a picture
//!   that no other builds on; [`media::ingest::Event::Lost`] then precedes it. Sound missing for up to 100 ms is counted
//!   only: the hole in the times is what a decoder conceals. Discontinuous transmission (DTX) is a hole in the times too.
//! - Frames of both tracks in the order of their times, as far as that costs no waiting beyond that for missing packets.
//! - An Opus frame is one packet; `pre_skip` is 0, because RTP has no place to say it.
//! - Pictures that are shown in another order than they come in get decode times, at most 16 pictures ahead. OBS puts decode
//!   times into RTP; with B-frames nothing says when its pictures are to be shown, and they are shown when decoded.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | a missing packet is waited for | 2 round trips + 100 ms, 250 ms to 1 s (400 ms while unknown); 100 ms without NACK |
//! | the start is held for sender reports of both tracks | [`Settings::start_hold`], 1 s |
//! | a picture without successor leaves after its marker | 60 ms |
//! | a source without name takes over from a silent one | 150 ms; a dead simulcast layer is left after 1.5 s |
//! | a key frame is asked for | every 500 ms at most, every 2 s when nobody answers |
//! | corrections of the clock | picture 5 %, sound 0.5 %; by arrival alone 0.5 % or 0.05 % |
//! | packets held per source | 2,048, 4 MiB; access unit 8 MiB; sources 12 |
//! | frames held | 1,024 per track, 16 MiB |

mod clock;
mod composition;
mod counts;
mod keyframes;
mod opus;
mod packet;
mod picture;
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
