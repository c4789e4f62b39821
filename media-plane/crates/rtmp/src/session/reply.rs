//! What the server says.

use bytes::Bytes;

use crate::amf0::{Value, Writer};
use crate::chunk::writer::Layout;
use crate::message::{Message, kind, user_control};

/// Announced with Set Chunk Size in the answer to `connect`; until then the protocol's default holds.
const CHUNK_SIZE: u32 = 4096;
const DEFAULT_CHUNK_SIZE: usize = 128;
/// How much the peer may send before it hears an acknowledgement, in bytes: what Flash Media Server uses.
const WINDOW: u32 = 2_500_000;
/// Chunk stream ids by use, as every server has them.
const CSID_CONTROL: u32 = 2;
const CSID_COMMAND: u32 = 3;
const CSID_STATUS: u32 = 5;
/// "The peer decides" (RTMP 1.0 section 5.4.5).
const LIMIT_DYNAMIC: u8 = 2;

/// Bits of `capsEx` (Enhanced RTMP v2).
pub(super) mod caps {
    pub(in crate::session) const RECONNECT: u32 = 1;
    pub(in crate::session) const MOD_EX: u32 = 4;
    /// What this server understands.
    pub(in crate::session) const SUPPORTED: u32 = RECONNECT | MOD_EX;
}
/// "Can decode" of the `FourCc` info maps.
const CAN_DECODE: f64 = 1.0;

/// A status: level, code and words for the human.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status<'a> {
    pub(super) level: &'static str,
    pub(super) code: &'static str,
    pub(super) description: &'a str,
}

impl<'a> Status<'a> {
    pub(super) fn ok(code: &'static str, description: &'a str) -> Self {
        Self { level: "status", code, description }
    }

    pub(super) fn error(code: &'static str, description: &'a str) -> Self {
        Self { level: "error", code, description }
    }

    fn properties(self) -> Vec<(String, Value)> {
        [("level", self.level), ("code", self.code), ("description", self.description)]
            .map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())))
            .into()
    }
}

/// Messages to the peer, as bytes waiting to be sent.
#[derive(Debug)]
pub(super) struct Replies {
    /// Bytes to send.
    pub(super) out: Vec<u8>,
    chunk_size: usize,
}

impl Default for Replies {
    fn default() -> Self {
        Self { out: Vec::new(), chunk_size: DEFAULT_CHUNK_SIZE }
    }
}

impl Replies {
    fn send(&mut self, csid: u32, message_kind: u8, stream_id: u32, payload: Vec<u8>) {
        let message = Message { kind: message_kind, timestamp: 0, stream_id, payload: Bytes::from(payload) };
        for chunk in Layout::full(csid, 0, self.chunk_size).chunks(&message) {
            self.out.extend_from_slice(&chunk);
        }
    }

    fn control(&mut self, message_kind: u8, payload: &[u8]) {
        self.send(CSID_CONTROL, message_kind, 0, payload.to_vec());
    }

    fn user_control(&mut self, event: u16, value: u32) {
        let payload = [&event.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.control(kind::USER_CONTROL, &payload);
    }

    pub(super) fn acknowledge(&mut self, received: u32) {
        self.control(kind::ACKNOWLEDGEMENT, &received.to_be_bytes());
    }

    pub(super) fn pong(&mut self, time: u32) {
        self.user_control(user_control::PING_RESPONSE, time);
    }

    /// Answers `connect`. `enhanced` is the client's `capsEx` if it speaks Enhanced RTMP at all.
    pub(super) fn connected(&mut self, transaction: f64, object_encoding: f64, enhanced: Option<u32>) {
        self.control(kind::WINDOW_ACK_SIZE, &WINDOW.to_be_bytes());
        self.control(kind::SET_PEER_BANDWIDTH, &[&WINDOW.to_be_bytes()[..], &[LIMIT_DYNAMIC]].concat());
        self.control(kind::SET_CHUNK_SIZE, &CHUNK_SIZE.to_be_bytes());
        self.chunk_size = CHUNK_SIZE as usize;
        let mut server = vec![
            ("fmsVer".to_owned(), Value::String("FMS/3,5,7,7009".to_owned())),
            ("capabilities".to_owned(), Value::Number(31.0)),
            ("mode".to_owned(), Value::Number(1.0)),
        ];
        let mut info = Status::ok("NetConnection.Connect.Success", "connection succeeded").properties();
        info.push(("objectEncoding".to_owned(), Value::Number(object_encoding)));
        if let Some(client) = enhanced {
            // Clients look for these in either object.
            for object in [&mut server, &mut info] {
                object.extend(capabilities(client));
            }
        }
        let body = Writer::new()
            .string("_result")
            .number(transaction)
            .value(&Value::Object(server))
            .value(&Value::Object(info))
            .finish();
        self.send(CSID_COMMAND, kind::COMMAND_AMF0, 0, body);
    }

    /// `_result` with one value: the id for `createStream`, undefined for the courtesy calls.
    pub(super) fn result(&mut self, transaction: f64, value: &Value) {
        let body = Writer::new().string("_result").number(transaction).null().value(value).finish();
        self.send(CSID_COMMAND, kind::COMMAND_AMF0, 0, body);
    }

    pub(super) fn error(&mut self, transaction: f64, status: Status<'_>) {
        let info = Value::Object(status.properties());
        let body = Writer::new().string("_error").number(transaction).null().value(&info).finish();
        self.send(CSID_COMMAND, kind::COMMAND_AMF0, 0, body);
    }

    pub(super) fn stream_begin(&mut self, stream_id: u32) {
        self.user_control(user_control::STREAM_BEGIN, stream_id);
    }

    pub(super) fn status(&mut self, stream_id: u32, status: Status<'_>) {
        self.notify("onStatus", stream_id, status.properties());
    }

    /// `onFCPublish` and `onFCUnpublish`.
    pub(super) fn notify_status(&mut self, command: &str, status: Status<'_>) {
        self.notify(command, 0, status.properties());
    }

    pub(super) fn reconnect(&mut self, tc_url: Option<&str>, description: &str) {
        let mut info = Status::ok("NetConnection.Connect.ReconnectRequest", description).properties();
        if let Some(url) = tc_url {
            info.push(("tcUrl".to_owned(), Value::String(url.to_owned())));
        }
        self.notify("onStatus", 0, info);
    }

    fn notify(&mut self, command: &str, stream_id: u32, info: Vec<(String, Value)>) {
        let body = Writer::new().string(command).number(0.0).null().value(&Value::Object(info)).finish();
        self.send(CSID_STATUS, kind::COMMAND_AMF0, stream_id, body);
    }
}

/// What this server can take, in the vocabulary of Enhanced RTMP v2.
fn capabilities(client: u32) -> Vec<(String, Value)> {
    let decodes = |codecs: &[&str]| {
        Value::Object(codecs.iter().map(|codec| ((*codec).to_owned(), Value::Number(CAN_DECODE))).collect())
    };
    let pictures = ["avc1", "hvc1", "av01", "vp09", "vp08"];
    let sounds = ["mp4a", "Opus"];
    let list = pictures.iter().chain(&sounds).map(|codec| Value::String((*codec).to_owned())).collect();
    vec![
        ("fourCcList".to_owned(), Value::StrictArray(list)),
        ("videoFourCcInfoMap".to_owned(), decodes(&pictures)),
        ("audioFourCcInfoMap".to_owned(), decodes(&sounds)),
        ("capsEx".to_owned(), Value::Number(f64::from(client & caps::SUPPORTED))),
    ]
}
