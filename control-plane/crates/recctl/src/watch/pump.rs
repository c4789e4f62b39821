//! A watch that outlives its connection: it goes on from the last resume token.

use std::time::Duration;

use prost::bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, Value as Reflected};
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::connection::{Connection, Messages};
use crate::contract;
use crate::failure::Failure;
use crate::verbs;

/// Pauses before trying again: the first and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// One watch.
pub struct Pump {
    connection: Connection,
    method: MethodDescriptor,
    request: Map<String, Value>,
    messages: Option<Messages>,
    /// A first connection that fails is a mistake of the caller's; a later one is the network's.
    was_open: bool,
    pause: Duration,
}

impl Pump {
    /// A watch by this method.
    pub fn new(connection: Connection, method: &str, request: Map<String, Value>) -> Result<Self, Failure> {
        let method = contract::method(method)?;
        Ok(Self { connection, method, request, messages: None, was_open: false, pause: PAUSES.0 })
    }

    /// What its messages are.
    pub fn output(&self) -> MessageDescriptor {
        self.method.output()
    }

    /// The next message, waiting for the server to come back if it must.
    pub async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            match self.attempt().await {
                Ok(bytes) => {
                    self.pause = PAUSES.0;
                    if let Some(token) = token(self.method.output(), &bytes) {
                        self.request.insert("resume_token".to_owned(), json!(token));
                    }
                    return Ok(bytes);
                }
                Err(failure) if self.was_open && passes(&failure) => {
                    eprintln!("recctl: the connection is lost, trying again: {failure}");
                    self.messages = None;
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSES.1);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn attempt(&mut self) -> Result<Bytes, Failure> {
        let mut messages = match self.messages.take() {
            Some(messages) => messages,
            None => verbs::open(&self.connection, &self.method, self.request.clone()).await?,
        };
        let message = messages.message().await?;
        self.was_open = true;
        self.messages = Some(messages);
        message.ok_or_else(|| tonic::Status::unavailable("the server has ended the watch").into())
    }
}

/// Whether a later attempt may go better.
fn passes(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } => true,
        Failure::Refused(problem) => matches!(problem.code, Code::Unavailable | Code::Unknown | Code::Cancelled),
        _ => false,
    }
}

fn token(descriptor: MessageDescriptor, bytes: &Bytes) -> Option<String> {
    let message = DynamicMessage::decode(descriptor, bytes.clone()).ok()?;
    match message.get_field_by_name("resume_token")?.as_ref() {
        Reflected::String(token) if !token.is_empty() => Some(token.clone()),
        _ => None,
    }
}
