//! A connection in memory: feeds a session and keeps what comes out.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use media::CodecConfig;
use media::TrackKind;
use media::ingest::{Event, RawFrame, Rejection};
use rtmp::amf0::{Reader, Text, Value};
use rtmp::client::Client;
use rtmp::{ChunkReader, Limits, Policy, PublishRequest, Session, SessionError, SessionEvent, kind};

pub const HANDSHAKE_REPLY: usize = 1 + 2 * 1536;

pub struct Peer {
    pub session: Session,
    pub client: Client,
    pub now: Duration,
    pub events: Vec<SessionEvent>,
    pub output: Vec<u8>,
    pub auto_accept: bool,
    /// Most that [`Session::buffered_bytes`] ever was.
    pub peak: usize,
    input: BytesMut,
    /// Output not decoded yet, the bytes of the handshake still in front of it, and the decoder.
    answers: BytesMut,
    handshake: usize,
    decoder: ChunkReader,
}

impl Peer {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self {
            session: Session::new(limits, [3; 32], Duration::ZERO),
            client: Client::new(),
            now: Duration::ZERO,
            events: Vec::new(),
            output: Vec::new(),
            auto_accept: true,
            peak: 0,
            input: BytesMut::new(),
            answers: BytesMut::new(),
            handshake: HANDSHAKE_REPLY,
            decoder: ChunkReader::new(Policy::publishing(&Limits::default())),
        }
    }

    /// Past the handshake.
    pub fn greeted() -> Self {
        let mut peer = Self::new();
        peer.feed(&peer.client.handshake()).unwrap();
        peer
    }

    /// Past `connect`.
    pub fn connected() -> Self {
        let mut peer = Self::greeted();
        peer.feed(&peer.client.connect("live", "rtmp://x/live")).unwrap();
        peer
    }

    /// Past an accepted `publish`, nothing recorded yet.
    pub fn publishing() -> Self {
        let mut peer = Self::connected();
        peer.feed(&peer.client.create_stream("k")).unwrap();
        peer.feed(&peer.client.publish("k")).unwrap();
        assert!(matches!(peer.events.pop(), Some(SessionEvent::Publish(_))));
        peer.replies();
        peer
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        self.input.extend_from_slice(bytes);
        loop {
            let outcome = self.session.handle(&mut self.input, self.now);
            self.peak = self.peak.max(self.session.buffered_bytes());
            let mut progress = false;
            while let Some(event) = self.session.poll_event() {
                progress = true;
                let asks = matches!(event, SessionEvent::Publish(_));
                self.events.push(event);
                if asks && self.auto_accept {
                    self.session.accept(self.now);
                }
            }
            self.collect();
            outcome?;
            if !progress {
                return Ok(());
            }
        }
    }

    /// In pieces of `size` bytes.
    pub fn drip(&mut self, bytes: &[u8], size: usize) -> Result<(), SessionError> {
        bytes.chunks(size).try_for_each(|piece| self.feed(piece))
    }

    pub fn media(&self) -> Vec<&Event> {
        self.events
            .iter()
            .filter_map(|event| match event {
                SessionEvent::Media(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    pub fn frames(&self, track: TrackKind) -> Vec<&RawFrame> {
        self.media()
            .into_iter()
            .filter_map(|event| match event {
                Event::Frame(frame) if frame.track == track => Some(frame),
                _ => None,
            })
            .collect()
    }

    pub fn times(&self, track: TrackKind) -> Vec<u32> {
        self.frames(track).iter().map(|frame| frame.time.value).collect()
    }

    pub fn configs(&self) -> Vec<&CodecConfig> {
        self.media()
            .into_iter()
            .filter_map(|event| match event {
                Event::Config(_, config) => Some(config),
                _ => None,
            })
            .collect()
    }

    pub fn rejections(&self) -> Vec<(TrackKind, Rejection)> {
        self.media()
            .into_iter()
            .filter_map(|event| match event {
                Event::Rejected(track, why) => Some((*track, *why)),
                _ => None,
            })
            .collect()
    }

    pub fn request(&self) -> &PublishRequest {
        let asked = self.events.iter().find_map(|event| match event {
            SessionEvent::Publish(request) => Some(request),
            _ => None,
        });
        asked.expect("a publish request")
    }

    /// Takes what the session wants to send.
    pub fn collect(&mut self) {
        let bytes = self.session.take_output();
        self.output.extend_from_slice(&bytes);
        self.answers.extend_from_slice(&bytes);
    }

    /// The server's messages since the last call.
    pub fn replies(&mut self) -> Vec<Reply> {
        let skipped = self.handshake.min(self.answers.len());
        self.answers.advance(skipped);
        self.handshake -= skipped;
        let mut replies = Vec::new();
        while let Some(message) = self.decoder.read(&mut self.answers).unwrap() {
            if message.kind == kind::SET_CHUNK_SIZE {
                self.decoder.set_chunk_size(u32::from_be_bytes(message.payload[..4].try_into().unwrap())).unwrap();
            }
            replies.push(Reply::new(message.kind, message.payload));
        }
        assert!(self.answers.is_empty(), "half a message");
        replies
    }

    /// The `code` of every status sent, in order.
    pub fn codes(&mut self) -> Vec<String> {
        self.replies().iter().filter_map(Reply::code).collect()
    }
}

#[derive(Debug)]
pub struct Reply {
    pub kind: u8,
    pub payload: Bytes,
    pub values: Vec<Value>,
}

impl Reply {
    fn new(message_kind: u8, payload: Bytes) -> Self {
        let mut values = Vec::new();
        if message_kind == kind::COMMAND_AMF0 {
            let mut reader = Reader::new(&payload, Text::Strict);
            while let Some(value) = reader.read().unwrap() {
                values.push(value);
            }
        }
        Self { kind: message_kind, payload, values }
    }

    pub fn name(&self) -> Option<&str> {
        self.values.first().and_then(Value::as_str)
    }

    pub fn info(&self, property: &str) -> Option<&Value> {
        self.values.iter().rev().find_map(|value| value.get(property))
    }

    pub fn code(&self) -> Option<String> {
        self.info("code").and_then(Value::as_str).map(str::to_owned)
    }
}
