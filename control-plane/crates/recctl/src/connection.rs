//! The way to the server: TLS, the token, and calls whose messages are bytes until somebody knows their type.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Where the server is unless it is said.
const SERVER: &str = "http://127.0.0.1:7080";

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Pages of a thousand large resources are larger than gRPC's usual 4 MiB.
const LARGEST: usize = 64 << 20;

/// A connection with whatever it takes to be let in.
#[derive(Clone)]
pub struct Connection {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    timeout: Duration,
}

/// A streaming answer.
pub type Messages = Streaming<Bytes>;

impl Connection {
    /// Connects as the flags and the environment say.
    pub async fn open(arguments: &Arguments) -> Result<Self, Failure> {
        let server = address(arguments);
        let timeout = arguments.timeout()?;
        let wrong = |error: tonic::transport::Error| Failure::Usage(format!("--server {server}: {}", chain(&error)));
        let mut endpoint = Endpoint::from_shared(server.clone()).map_err(wrong)?;
        if endpoint.uri().scheme_str() == Some("https") {
            endpoint = endpoint.tls_config(tls(arguments)?).map_err(wrong)?;
        }
        endpoint = endpoint.connect_timeout(CONNECT.min(timeout)).http2_keep_alive_interval(Duration::from_secs(30));
        let token = token(arguments)?;
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|error| Failure::Unreachable { server, why: chain(&error) })?;
        Ok(Self { channel, token, timeout })
    }

    /// One question, one answer.
    pub async fn call<T: Message + Default>(&self, path: &str, request: &impl Message) -> Result<T, Failure> {
        read(&self.bytes(path, request).await?)
    }

    /// The same, with the answer as it came.
    pub async fn bytes(&self, path: &str, request: &impl Message) -> Result<Bytes, Failure> {
        let (mut grpc, mut request) = self.ready(request).await?;
        request.set_timeout(self.timeout);
        Ok(grpc.unary(request, route(path)?, Raw).await?.into_inner())
    }

    /// One question, many answers, for as long as it takes.
    pub async fn stream(&self, path: &str, request: &impl Message) -> Result<Messages, Failure> {
        let (mut grpc, request) = self.ready(request).await?;
        Ok(grpc.server_streaming(request, route(path)?, Raw).await?.into_inner())
    }

    async fn ready(&self, request: &impl Message) -> Result<(Grpc<Channel>, Request<Vec<u8>>), Failure> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        grpc.ready().await.map_err(|error| Status::unavailable(chain(&error)))?;
        let mut request = Request::new(request.encode_to_vec());
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok((grpc, request))
    }
}

/// The server's URL.
pub fn address(arguments: &Arguments) -> String {
    let server = arguments.get("--server").unwrap_or(SERVER);
    if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
}

/// Bytes of the wire as a message.
pub fn read<T: Message + Default>(bytes: &Bytes) -> Result<T, Failure> {
    T::decode(bytes.clone()).map_err(|error| Failure::Answer(error.to_string()))
}

/// An error with its reasons, which tonic hides behind "transport error".
pub fn chain(error: &dyn Error) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(reason) = source {
        let _ = write!(text, ": {reason}");
        source = reason.source();
    }
    text
}

fn route(path: &str) -> Result<PathAndQuery, Failure> {
    path.parse().map_err(|_| Failure::Usage(format!("{path} is no method")))
}

fn file(path: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Io { what: path.to_owned(), error })
}

fn tls(arguments: &Arguments) -> Result<ClientTlsConfig, Failure> {
    let config = match arguments.get("--ca") {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    match (arguments.get("--certificate"), arguments.get("--key")) {
        (Some(certificate), Some(key)) => Ok(config.identity(Identity::from_pem(file(certificate)?, file(key)?))),
        (None, None) => Ok(config),
        _ => Err(Failure::Usage("--certificate and --key belong together".to_owned())),
    }
}

fn token(arguments: &Arguments) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let token = match (arguments.get("--token"), arguments.get("--token-file")) {
        (Some(token), _) => token.to_owned(),
        (None, Some(path)) => String::from_utf8_lossy(&file(path)?).trim().to_owned(),
        (None, None) => return Ok(None),
    };
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| Failure::Usage("the token is no header value".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Messages as they are on the wire.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
