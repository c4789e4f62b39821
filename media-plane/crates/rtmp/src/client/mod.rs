//! A publisher for tests and benchmarks: bytes to feed a server with, in the shapes encoders send them.

pub mod payload;

use bytes::Bytes;

use crate::amf0::{Property, Value, Writer};
use crate::chunk::writer::Layout;
use crate::handshake::{PACKET, VERSION, digest};
use crate::message::{Message, kind};

/// Chunk streams as ffmpeg uses them.
const CSID_CONTROL: u32 = 2;
const CSID_COMMAND: u32 = 3;
const CSID_AUDIO: u32 = 4;
const CSID_VIDEO: u32 = 6;
const CSID_DATA: u32 = 5;

/// Which handshake to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// C1 with time and version zero.
    Simple,
    /// With a digest in the first half.
    DigestZero,
    /// With a digest in the second half.
    DigestOne,
}

impl Hello {
    /// C0 and C1.
    pub fn bytes(self, seed: [u8; 32]) -> Vec<u8> {
        let c1 = match self {
            Self::Simple => {
                let mut c1 = digest::random_packet(&seed, 1);
                c1.iter_mut().take(8).for_each(|byte| *byte = 0);
                c1
            }
            Self::DigestZero => digest::client_hello(digest::Scheme::Zero, &seed),
            Self::DigestOne => digest::client_hello(digest::Scheme::One, &seed),
        };
        [&[VERSION][..], &c1].concat()
    }

    /// Whether `reply` (S0, S1, S2) is the right answer to what [`Self::bytes`] gave as `hello`.
    pub fn verify(self, hello: &[u8], reply: &[u8]) -> bool {
        let Some((version, packets)) = reply.split_first() else { return false };
        let Some(c1) = hello.get(1..).and_then(<[u8]>::first_chunk::<PACKET>) else { return false };
        let Some((s1, rest)) = packets.split_first_chunk::<PACKET>() else { return false };
        let Some(s2) = rest.first_chunk::<PACKET>() else { return false };
        let right = match self {
            Self::Simple => s1.starts_with(&[0; 8]) && s2 == c1,
            Self::DigestZero | Self::DigestOne => digest::verify_server(c1, s1, s2),
        };
        *version == VERSION && right && rest.len() == PACKET
    }
}

/// How to send one message.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Chunk stream id, 2 to 65 599.
    pub csid: u32,
    /// Type of the first header: 0 to 3.
    pub format: u8,
    /// The time field of the first header: absolute for type 0, else the step.
    pub time: u32,
    /// Repeat extended timestamps in type 3 headers, as the specification says.
    pub repeat_extended: bool,
}

impl Shape {
    /// A type 0 header.
    pub fn full(csid: u32, time: u32) -> Self {
        Self { csid, format: 0, time, repeat_extended: true }
    }
}

/// Builds what a publisher sends. Remembers only the chunk size.
#[derive(Clone, Debug)]
pub struct Client {
    chunk_size: usize,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// With the protocol's default chunk size of 128 bytes.
    pub fn new() -> Self {
        Self { chunk_size: 128 }
    }

    /// C0, C1 and C2 at once; our server does not mind.
    pub fn handshake(&self) -> Vec<u8> {
        let mut bytes = Hello::Simple.bytes([7; 32]);
        bytes.extend_from_slice(&[0; PACKET]);
        bytes
    }

    /// Set Chunk Size; later messages are cut so. 0 is announced but not followed.
    pub fn set_chunk_size(&mut self, size: u32) -> Vec<u8> {
        let bytes = self.control(kind::SET_CHUNK_SIZE, &size.to_be_bytes());
        self.chunk_size = (size as usize).max(1);
        bytes
    }

    /// A protocol control message.
    pub fn control(&self, message_kind: u8, payload: &[u8]) -> Vec<u8> {
        self.message(Shape::full(CSID_CONTROL, 0), message_kind, 0, payload)
    }

    /// `connect` with `extra` properties in its object.
    pub fn connect_with(&self, app: &str, tc_url: &str, extra: &[Property]) -> Vec<u8> {
        let mut object = vec![
            ("app".to_owned(), Value::String(app.to_owned())),
            ("type".to_owned(), Value::String("nonprivate".to_owned())),
            ("flashVer".to_owned(), Value::String("FMLE/3.0 (compatible; test)".to_owned())),
            ("tcUrl".to_owned(), Value::String(tc_url.to_owned())),
        ];
        object.extend_from_slice(extra);
        let body = Writer::new().string("connect").number(1.0).value(&Value::Object(object)).finish();
        self.command(0, &body)
    }

    /// `connect`.
    pub fn connect(&self, app: &str, tc_url: &str) -> Vec<u8> {
        self.connect_with(app, tc_url, &[])
    }

    /// `releaseStream`, `FCPublish` and `createStream`, as encoders send them in one go.
    pub fn create_stream(&self, stream: &str) -> Vec<u8> {
        let named = |command: &str, transaction: f64| {
            let body = Writer::new().string(command).number(transaction).null().string(stream).finish();
            self.command(0, &body)
        };
        let create = Writer::new().string("createStream").number(4.0).null().finish();
        [named("releaseStream", 2.0), named("FCPublish", 3.0), self.command(0, &create)].concat()
    }

    /// `publish`.
    pub fn publish(&self, stream: &str) -> Vec<u8> {
        let body = Writer::new().string("publish").number(5.0).null().string(stream).string("live").finish();
        self.command(1, &body)
    }

    /// Everything from the handshake to `publish`.
    pub fn start(&self, app: &str, tc_url: &str, stream: &str) -> Vec<u8> {
        [self.handshake(), self.connect(app, tc_url), self.create_stream(stream), self.publish(stream)].concat()
    }

    /// `FCUnpublish` and `deleteStream`.
    pub fn unpublish(&self, stream: &str) -> Vec<u8> {
        let release = Writer::new().string("FCUnpublish").number(6.0).null().string(stream).finish();
        let delete = Writer::new().string("deleteStream").number(7.0).null().number(1.0).finish();
        [self.command(0, &release), self.command(0, &delete)].concat()
    }

    /// A command with an AMF0 body.
    pub fn command(&self, stream_id: u32, body: &[u8]) -> Vec<u8> {
        self.message(Shape::full(CSID_COMMAND, 0), kind::COMMAND_AMF0, stream_id, body)
    }

    /// `@setDataFrame` `onMetaData` with these properties.
    pub fn metadata(&self, properties: &[Property]) -> Vec<u8> {
        let body = Writer::new()
            .string("@setDataFrame")
            .string("onMetaData")
            .value(&Value::EcmaArray(properties.to_vec()))
            .finish();
        self.message(Shape::full(CSID_DATA, 0), kind::DATA_AMF0, 1, &body)
    }

    /// An audio message, see [`payload`].
    pub fn audio(&self, time: u32, body: &[u8]) -> Vec<u8> {
        self.message(Shape::full(CSID_AUDIO, time), kind::AUDIO, 1, body)
    }

    /// A video message, see [`payload`].
    pub fn video(&self, time: u32, body: &[u8]) -> Vec<u8> {
        self.message(Shape::full(CSID_VIDEO, time), kind::VIDEO, 1, body)
    }

    /// Any message.
    pub fn message(&self, shape: Shape, message_kind: u8, stream_id: u32, payload: &[u8]) -> Vec<u8> {
        self.chunks(shape, message_kind, stream_id, payload).concat()
    }

    /// The chunks of any message, to be interleaved or torn apart.
    pub fn chunks(&self, shape: Shape, message_kind: u8, stream_id: u32, payload: &[u8]) -> Vec<Vec<u8>> {
        let Shape { csid, format, time, repeat_extended } = shape;
        let payload = Bytes::copy_from_slice(payload);
        let message = Message { kind: message_kind, timestamp: time, stream_id, payload };
        Layout { csid, format, time, chunk_size: self.chunk_size, repeat_extended }.chunks(&message)
    }
}
