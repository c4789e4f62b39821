//! Commands: from `connect` to `publish` and back.

use std::time::Duration;

use media::ingest::EndCause;

use super::reply::{Status, caps};
use super::{PublishRequest, Session, SessionEvent, State};
use crate::amf0::{Reader, Text, Value};
use crate::chunk::Policy;
use crate::encoder;
use crate::error::{Phase, SessionError};

/// Stream ids handed out per connection; encoders need one, and wrap around after this many.
const MAX_STREAM_ID: u32 = 1_000_000;

/// What `connect` said.
#[derive(Debug, Default)]
pub(super) struct Connection {
    app: String,
    tc_url: String,
    encoder: Option<String>,
    caps_ex: u32,
    last_stream_id: u32,
}

impl Connection {
    pub(super) fn can_reconnect(&self) -> bool {
        self.caps_ex & caps::RECONNECT != 0
    }
}

/// A command, taken apart.
struct Command {
    name: String,
    transaction: f64,
    /// The command object, then the arguments.
    values: Vec<Value>,
}

impl Command {
    fn parse(body: &[u8]) -> Result<Option<Self>, SessionError> {
        let mut reader = Reader::new(body, Text::Strict);
        let name = match reader.read()? {
            None => return Ok(None),
            Some(Value::String(name)) => name,
            Some(_) => return Err(SessionError::Incomplete { command: "a command", what: "a name" }),
        };
        let transaction = reader.read()?.and_then(|value| value.as_f64()).unwrap_or(0.0);
        let mut values = Vec::new();
        while let Some(value) = reader.read()? {
            values.push(value);
        }
        Ok(Some(Self { name, transaction, values }))
    }

    fn object(&self) -> &Value {
        self.values.first().unwrap_or(&Value::Null)
    }

    /// The string argument after the command object.
    fn name_argument(&self) -> Option<&str> {
        self.values.get(1).and_then(Value::as_str)
    }
}

impl Session {
    pub(super) fn command(&mut self, body: &[u8], now: Duration) -> Result<(), SessionError> {
        let Some(command) = Command::parse(body)? else { return Ok(()) };
        match command.name.as_str() {
            "connect" => self.connect(&command, now),
            "createStream" => self.create_stream(&command),
            "publish" => self.publish(&command),
            "releaseStream" | "FCPublish" => {
                self.courtesy(&command);
                Ok(())
            }
            "FCUnpublish" | "deleteStream" | "closeStream" => {
                self.courtesy(&command);
                self.unpublish(now);
                Ok(())
            }
            "play" | "play2" | "pause" | "seek" => {
                let status = Status::error("NetStream.Play.Failed", "this server records, it does not play");
                self.replies.status(self.connection.last_stream_id, status);
                Ok(())
            }
            // Answers to us, and calls that want none.
            "_result" | "_error" | "onStatus" => Ok(()),
            other => {
                if command.transaction != 0.0 {
                    let description = format!("{} is not known", other.chars().take(64).collect::<String>());
                    let status = Status::error("NetConnection.Call.Failed", &description);
                    self.replies.error(command.transaction, status);
                }
                Ok(())
            }
        }
    }

    fn connect(&mut self, command: &Command, now: Duration) -> Result<(), SessionError> {
        if !matches!(self.state, State::Connecting) {
            return Err(SessionError::OutOfOrder { command: "connect", when: "twice" });
        }
        let object = command.object();
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let app = text("app").ok_or(SessionError::Incomplete { command: "connect", what: "an app" })?;
        // A float to integer cast saturates; 0 stands for anything that makes no sense.
        let caps_ex = object.get("capsEx").and_then(Value::as_f64).map(|caps| caps as u32);
        let lists = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap"];
        let enhanced = caps_ex.is_some() || lists.iter().any(|name| object.get(name).is_some());
        self.connection = Connection {
            app: app.to_owned(),
            tc_url: text("tcUrl").unwrap_or_default().to_owned(),
            encoder: text("flashVer").map(encoder::name),
            caps_ex: caps_ex.unwrap_or(0),
            last_stream_id: 0,
        };
        let encoding = object.get("objectEncoding").and_then(Value::as_f64).unwrap_or(0.0);
        self.replies.connected(command.transaction, encoding, enhanced.then_some(self.connection.caps_ex));
        self.state = State::Connected;
        self.arm(now, Phase::Publish);
        Ok(())
    }

    fn create_stream(&mut self, command: &Command) -> Result<(), SessionError> {
        if matches!(self.state, State::Connecting) {
            return Err(SessionError::OutOfOrder { command: "createStream", when: "before connect" });
        }
        self.connection.last_stream_id = self.connection.last_stream_id % MAX_STREAM_ID + 1;
        self.replies.result(command.transaction, &Value::Number(f64::from(self.connection.last_stream_id)));
        Ok(())
    }

    fn publish(&mut self, command: &Command) -> Result<(), SessionError> {
        let stream_id = self.connection.last_stream_id;
        match self.state {
            State::Connected => {}
            State::Publishing { .. } => {
                let status = Status::error("NetStream.Publish.BadName", "this connection publishes already");
                self.replies.status(stream_id, status);
                return Ok(());
            }
            _ => return Err(SessionError::OutOfOrder { command: "publish", when: "before connect" }),
        }
        let name =
            command.name_argument().ok_or(SessionError::Incomplete { command: "publish", what: "a stream name" })?;
        let Connection { app, tc_url, encoder, .. } = &self.connection;
        let request = PublishRequest::new(tc_url, app, name, encoder.clone());
        self.state = State::Deciding { stream_id };
        self.deadline = None;
        self.events.push_back(SessionEvent::Publish(Box::new(request)));
        Ok(())
    }

    /// Calls every server answers and no server needs.
    fn courtesy(&mut self, command: &Command) {
        let note = match command.name.as_str() {
            "FCPublish" => Some(("onFCPublish", "NetStream.Publish.Start")),
            "FCUnpublish" => Some(("onFCUnpublish", "NetStream.Unpublish.Success")),
            _ => None,
        };
        if command.transaction != 0.0 && command.name != "deleteStream" && command.name != "closeStream" {
            self.replies.result(command.transaction, &Value::Undefined);
        }
        if let Some((notification, code)) = note {
            self.replies.notify_status(notification, Status::ok(code, ""));
        }
    }

    fn unpublish(&mut self, now: Duration) {
        if let State::Publishing { stream_id } = self.state {
            self.replies.status(stream_id, Status::ok("NetStream.Unpublish.Success", "unpublished"));
            self.reader.set_policy(Policy::before_publish(&self.limits));
            self.aggregate = None;
            self.state = State::Connected;
            self.arm(now, Phase::Publish);
            self.events.push_back(SessionEvent::Ended(EndCause::Unpublished));
        }
    }
}
