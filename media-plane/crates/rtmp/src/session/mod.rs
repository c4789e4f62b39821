//! One publisher's connection: handshake, commands, then media, under deadlines.

mod commands;
mod reply;
mod request;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::ingest::{EndCause, Event};

use crate::chunk::{ChunkReader, Policy};
use crate::error::{Phase, SessionError};
use crate::flv::TagReader;
use crate::handshake::Handshake;
use crate::limits::Limits;
use crate::message::{Aggregate, Message, kind, user_control};
use commands::Connection;
use reply::{Replies, Status};
pub use request::PublishRequest;

/// Events that wait for [`Session::poll_event`] before [`Session::handle`] stops reading: tiny messages cannot be
/// turned into a pile of large events.
const MAX_EVENTS: usize = 256;
/// Answers that wait for [`Session::take_output`]; a peer that causes more does not read them.
const MAX_OUTPUT: usize = 256 * 1024;
/// Acknowledgement window before the peer names one, in bytes.
const DEFAULT_WINDOW: u32 = 2_500_000;
/// Smaller windows than this are not honoured, in bytes.
const MIN_WINDOW: u32 = 1024;

/// What happened on the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// The peer asks to publish. Nothing more is read until [`Session::accept`] or [`Session::reject`].
    Publish(Box<PublishRequest>),
    /// Media of the accepted publication.
    Media(Event),
    /// The publication ended by command; the connection is still open and another may follow.
    Ended(EndCause),
}

/// Why a publisher is turned away; decides the code the encoder sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The name is not acceptable, or somebody else publishes under it.
    BadName,
    /// Not authorised.
    Denied,
    /// The server cannot take it now.
    Failed,
}

impl Refusal {
    fn code(self) -> &'static str {
        match self {
            Self::BadName => "NetStream.Publish.BadName",
            Self::Denied => "NetStream.Publish.Denied",
            Self::Failed => "NetStream.Publish.Failed",
        }
    }
}

fn is_media(message_kind: u8) -> bool {
    matches!(message_kind, kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3)
}

/// How far the conversation has come.
#[derive(Debug)]
enum State {
    Handshake(Handshake),
    Connecting,
    Connected,
    Deciding { stream_id: u32 },
    Publishing { stream_id: u32 },
    Closed,
}

/// A server session. Sans-IO: bytes and time in, events and bytes out.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    state: State,
    deadline: Option<(Duration, Phase)>,
    reader: ChunkReader,
    aggregate: Option<Aggregate>,
    tags: TagReader,
    events: VecDeque<SessionEvent>,
    replies: Replies,
    connection: Connection,
    /// Bytes consumed after the handshake, and how many of them are acknowledged; wrapping as on the wire.
    received: u32,
    acknowledged: u32,
    window: u32,
}

impl Session {
    /// For a connection accepted at `now`. `random` fills the handshake; `now` may count from any moment, but all
    /// calls must count from the same.
    pub fn new(limits: Limits, random: [u8; 32], now: Duration) -> Self {
        Self {
            state: State::Handshake(Handshake::new(random)),
            deadline: Some((now.saturating_add(limits.handshake_timeout), Phase::Handshake)),
            reader: ChunkReader::new(Policy::before_publish(&limits)),
            aggregate: None,
            tags: TagReader::new(),
            events: VecDeque::new(),
            replies: Replies::default(),
            connection: Connection::default(),
            received: 0,
            acknowledged: 0,
            window: DEFAULT_WINDOW,
            limits,
        }
    }

    /// Consumes what it can of `input`. What stays (an incomplete C1 or chunk header, at most 1536 bytes; anything
    /// while [`Self::wants_input`] is false or 256 events wait) must be there again, followed by new bytes, at the
    /// next call.
    ///
    /// # Errors
    /// The peer broke a rule. The session is closed; events before the error and a last message to the peer are still
    /// to be collected.
    pub fn handle(&mut self, input: &mut BytesMut, now: Duration) -> Result<(), SessionError> {
        let before = input.len();
        let counted = !matches!(self.state, State::Handshake(_));
        let outcome = self.consume(input, now);
        if counted {
            let consumed = before.saturating_sub(input.len());
            // Wrapping is what the wire format does; one call never consumes 4 GiB.
            self.received = self.received.wrapping_add(consumed as u32);
        }
        match outcome {
            Ok(()) => self.acknowledge(),
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    fn consume(&mut self, input: &mut BytesMut, now: Duration) -> Result<(), SessionError> {
        while self.events.len() < MAX_EVENTS {
            match &mut self.state {
                State::Closed => {
                    input.clear();
                    return Ok(());
                }
                State::Deciding { .. } => return Ok(()),
                State::Handshake(handshake) => {
                    if !handshake.advance(input, &mut self.replies.out)? {
                        return Ok(());
                    }
                    self.state = State::Connecting;
                    self.arm(now, Phase::Connect);
                }
                State::Connecting | State::Connected | State::Publishing { .. } => {
                    let Some(message) = self.next_message(input)? else { return Ok(()) };
                    self.dispatch(message, now)?;
                    if self.replies.out.len() > MAX_OUTPUT {
                        return Err(SessionError::OutputFull { limit: MAX_OUTPUT });
                    }
                }
            }
        }
        Ok(())
    }

    fn next_message(&mut self, input: &mut BytesMut) -> Result<Option<Message>, SessionError> {
        if let Some(aggregate) = &mut self.aggregate {
            // Only media belongs in there: a Set Chunk Size would change how the bytes around it are read.
            if let Some(message) = aggregate.find(|message| is_media(message.kind)) {
                return Ok(Some(message));
            }
            self.aggregate = None;
        }
        self.reader.read(input)
    }

    fn dispatch(&mut self, message: Message, now: Duration) -> Result<(), SessionError> {
        if matches!(self.state, State::Publishing { .. }) {
            self.arm(now, Phase::Media);
        }
        if message.payload.is_empty() {
            // Legal for every type and says nothing.
            return Ok(());
        }
        match message.kind {
            kind::SET_CHUNK_SIZE => self.reader.set_chunk_size(message.control_value()?)?,
            kind::ABORT => self.reader.abort(message.control_value()?),
            kind::WINDOW_ACK_SIZE => {
                let window = message.control_value()?;
                self.window = if window == 0 { DEFAULT_WINDOW } else { window.max(MIN_WINDOW) };
            }
            kind::USER_CONTROL => self.user_control(&message)?,
            kind::COMMAND_AMF0 => self.command(&message.payload, now)?,
            // The first byte says which AMF follows; publishers always mean AMF0 (zero).
            kind::COMMAND_AMF3 => self.command(message.payload.get(1..).unwrap_or_default(), now)?,
            kind::AUDIO | kind::VIDEO | kind::DATA_AMF0 | kind::DATA_AMF3 | kind::AGGREGATE => self.media(message),
            _ => {}
        }
        Ok(())
    }

    fn media(&mut self, message: Message) {
        if !matches!(self.state, State::Publishing { .. }) {
            return;
        }
        match message.kind {
            kind::AUDIO => self.tags.audio(message.timestamp, message.payload),
            kind::VIDEO => self.tags.video(message.timestamp, message.payload),
            kind::DATA_AMF0 => self.tags.data(&message.payload),
            kind::DATA_AMF3 => self.tags.data(message.payload.strip_prefix(&[0]).unwrap_or(&message.payload)),
            kind::AGGREGATE => self.aggregate = Some(Aggregate::new(message)),
            _ => {}
        }
        while let Some(event) = self.tags.poll() {
            self.events.push_back(SessionEvent::Media(event));
        }
    }

    fn user_control(&mut self, message: &Message) -> Result<(), SessionError> {
        let too_short = SessionError::ControlTooShort { kind: message.kind, length: message.payload.len() };
        let (event, rest) = message.payload.split_first_chunk::<2>().ok_or(too_short.clone())?;
        if u16::from_be_bytes(*event) == user_control::PING_REQUEST {
            let time = rest.first_chunk::<4>().ok_or(too_short)?;
            self.replies.pong(u32::from_be_bytes(*time));
        }
        Ok(())
    }

    /// At most one acknowledgement per call, however small the window.
    fn acknowledge(&mut self) -> Result<(), SessionError> {
        if self.received.wrapping_sub(self.acknowledged) >= self.window && !self.is_closed() {
            self.acknowledged = self.received;
            self.replies.acknowledge(self.received);
        }
        Ok(())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Bytes to send, in order; empty when there are none.
    pub fn take_output(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.replies.out))
    }

    /// Whether reading from the peer makes sense now: not while a publish request waits for its answer.
    pub fn wants_input(&self) -> bool {
        !matches!(self.state, State::Deciding { .. } | State::Closed)
    }

    /// Nothing more will happen; flush the output and close the connection.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Memory held for this connection besides the events: unfinished messages, an aggregate being split, answers.
    pub fn buffered_bytes(&self) -> usize {
        let aggregate = self.aggregate.as_ref().map_or(0, Aggregate::remaining_bytes);
        self.reader.buffered_bytes() + aggregate + self.replies.out.capacity()
    }

    /// When [`Self::handle_timeout`] must be called at the latest. `None` while a publish request waits for its
    /// answer, and after the end.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadline.map(|(at, _)| at)
    }

    /// Checks the deadline.
    ///
    /// # Errors
    /// It has passed; the session is closed.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        match self.deadline {
            Some((at, phase)) if now >= at => {
                let error = SessionError::TimedOut(phase);
                self.fail(&error);
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Lets the publisher that asked begin. Does nothing unless a [`SessionEvent::Publish`] is unanswered.
    pub fn accept(&mut self, now: Duration) {
        if let State::Deciding { stream_id } = self.state {
            self.reader.set_policy(Policy::publishing(&self.limits));
            self.tags = TagReader::new();
            self.replies.stream_begin(stream_id);
            self.replies.status(stream_id, Status::ok("NetStream.Publish.Start", "publishing"));
            self.state = State::Publishing { stream_id };
            self.arm(now, Phase::Media);
        }
    }

    /// Turns the publisher that asked away and closes the session. Encoders show `description` to their user.
    pub fn reject(&mut self, refusal: Refusal, description: &str) {
        if let State::Deciding { stream_id } = self.state {
            self.replies.status(stream_id, Status::error(refusal.code(), description));
            self.close();
        }
    }

    /// Ends the session from this side and tells the peer why.
    pub fn finish(&mut self, cause: &EndCause) {
        if let State::Publishing { stream_id } | State::Deciding { stream_id } = self.state {
            let status = match cause {
                EndCause::Unpublished => Status::ok("NetStream.Unpublish.Success", "unpublished"),
                EndCause::ConnectionLost => Status::error("NetConnection.Connect.Closed", "connection lost"),
                EndCause::IdleTimeout => Status::error("NetConnection.Connect.IdleTimeOut", "nothing came"),
                EndCause::Replaced => {
                    Status::error("NetStream.Publish.BadName", "a newer publisher of this stream took over")
                }
                EndCause::ProtocolError(reason) => Status::error("NetConnection.Call.Failed", reason),
                EndCause::Disconnected(reason) => Status::error("NetConnection.Connect.Closed", reason),
            };
            self.replies.status(stream_id, status);
        }
        self.close();
    }

    /// Asks the encoder to connect again, to `tc_url` or where it was (Enhanced RTMP v2, for draining a node).
    /// False when it did not announce that it can.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        let able = self.connection.can_reconnect() && !self.is_closed();
        if able {
            self.replies.reconnect(tc_url, description);
        }
        able
    }

    fn arm(&mut self, now: Duration, phase: Phase) {
        let patience = match phase {
            Phase::Handshake => self.limits.handshake_timeout,
            Phase::Connect => self.limits.connect_timeout,
            Phase::Publish => self.limits.publish_timeout,
            Phase::Media => self.limits.idle_timeout,
        };
        self.deadline = Some((now.saturating_add(patience), phase));
    }

    /// Tells the peer which rule it broke, as far as it can still listen.
    fn fail(&mut self, error: &SessionError) {
        let description = error.to_string();
        match self.state {
            State::Handshake(_) | State::Closed => {}
            State::Connecting => {
                self.replies.error(1.0, Status::error("NetConnection.Connect.Rejected", &description));
            }
            State::Connected => self.replies.status(0, Status::error("NetConnection.Call.Failed", &description)),
            State::Deciding { stream_id } | State::Publishing { stream_id } => {
                self.replies.status(stream_id, Status::error("NetConnection.Call.Failed", &description));
            }
        }
        self.close();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.deadline = None;
        self.aggregate = None;
        self.reader = ChunkReader::new(Policy::before_publish(&self.limits));
    }
}
