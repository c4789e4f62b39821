//! The whole session: no panic, bounded memory, and the way the input is cut into reads changes nothing.
//!
//! Input: how far the peer behaves, the size of the reads, then what it sends.
#![no_main]

use std::time::Duration;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use rtmp::client::{Client, payload};
use rtmp::{Limits, Session, SessionError, SessionEvent};

const NOW: Duration = Duration::from_secs(1);
/// Answers a session lets pile up before it ends, doubled for the growth of their buffer.
const ANSWERS: usize = 520 * 1024;

struct Peer {
    session: Session,
    input: BytesMut,
    events: Vec<SessionEvent>,
    limit: usize,
}

impl Peer {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.input.extend_from_slice(bytes);
        loop {
            let outcome = self.session.handle(&mut self.input, NOW);
            assert!(self.session.buffered_bytes() <= self.limit + ANSWERS);
            let mut progress = false;
            while let Some(event) = self.session.poll_event() {
                progress = true;
                if matches!(event, SessionEvent::Publish(_)) {
                    self.session.accept(NOW);
                }
                self.events.push(event);
            }
            let _ = self.session.take_output();
            outcome?;
            if !progress {
                return Ok(());
            }
        }
    }

    fn run(start: &[u8], bytes: &[u8], step: usize) -> (Result<(), SessionError>, Vec<SessionEvent>) {
        let limits = Limits::default();
        let limit = limits.max_buffered;
        let session = Session::new(limits, [9; 32], Duration::ZERO);
        let mut peer = Self { session, input: BytesMut::new(), events: Vec::new(), limit };
        let mut outcome = peer.feed(start);
        for piece in bytes.chunks(step) {
            if outcome.is_ok() {
                outcome = peer.feed(piece);
            }
        }
        (outcome, peer.events)
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([phase, step], bytes)) = data.split_first_chunk::<2>() else { return };
    let client = Client::new();
    let start = match phase % 4 {
        0 => vec![],
        1 => client.handshake(),
        2 => [client.handshake(), client.connect("live", "rtmp://x/live")].concat(),
        _ => [
            client.start("live", "rtmp://x/live", "k"),
            client.video(0, &payload::avc_header(payload::AVC_RECORD)),
            client.audio(0, &payload::aac_header(payload::ASC)),
        ]
        .concat(),
    };
    let whole = Peer::run(&start, bytes, bytes.len().max(1));
    let pieces = Peer::run(&start, bytes, usize::from(*step).max(1));
    // The bound on unfinished messages is met at another place when more of them arrive whole.
    let is_full = |run: &(Result<(), SessionError>, _)| matches!(run.0, Err(SessionError::BufferFull { .. }));
    if is_full(&whole) || is_full(&pieces) {
        return;
    }
    assert_eq!(whole.0, pieces.0);
    // As text, because a NaN in metadata does not equal itself.
    assert_eq!(format!("{:?}", whole.1), format!("{:?}", pieces.1));
});
