//! What a peer may cost before and after it has proven anything.

use std::time::Duration;

/// An offer, in bytes. Browsers send 3 to 8 KiB, with simulcast and every codec they know 20.
pub const MAX_OFFER_BYTES: usize = 64 * 1024;
/// A trickle fragment, in bytes: some hundred candidates.
pub const MAX_FRAGMENT_BYTES: usize = 32 * 1024;
/// Lines of an offer.
pub const MAX_OFFER_LINES: usize = 4_000;
/// Payload types of one media section; there are 128.
pub const MAX_FORMATS: usize = 128;
/// Simulcast layers of one offer.
pub const MAX_LAYERS: usize = 8;
/// Candidates a session may announce over its life. They are counted, not kept: the peer that has to reach the other one
/// is the publisher.
pub const MAX_CANDIDATES: u32 = 1_000;

/// Datagrams of one session that wait to be read.
pub const MAX_QUEUED_DATAGRAMS: usize = 2_048;
/// Largest datagram that is taken, in bytes; larger ones are cut by the socket and fail their checks.
pub const MAX_DATAGRAM_BYTES: usize = 2_048;
/// Addresses one session may send from over its life: several interfaces, several times changed.
pub const MAX_PATHS: usize = 32;
/// Media of one session that waits while its disk is slow, in bytes; more is lost and told.
pub const MAX_HELD_BYTES: usize = 8 * 1024 * 1024;
/// Streams (SSRCs) of one session that are handed on.
pub const MAX_STREAMS: usize = 32;

/// From the offer to the end of the DTLS handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Without any packet of the selected path the connection counts as lost; RFC 7675 gives consent 30 s.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(25);

/// ICE-TCP connections at once, of all sessions.
pub const MAX_TCP_CONNECTIONS: usize = 1_000;
/// A TCP connection that has not said which session it belongs to by then does not.
pub const TCP_FIRST_PACKET: Duration = Duration::from_secs(5);
/// Packets that wait to be written to one TCP connection.
pub const MAX_TCP_QUEUE: usize = 256;
/// A TCP peer that does not take what is written for this long is gone.
pub const TCP_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of this machine that an answer lists.
pub const MAX_ADDRESSES: usize = 8;
