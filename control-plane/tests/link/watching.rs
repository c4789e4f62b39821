//! The client's side of a watch.
use recorder_proto::pb::v1::watch_recordings_response::Kind;
use recorder_proto::pb::v1::{WatchRecordingsRequest, WatchRecordingsResponse};
use tonic::Streaming;

use super::control::{Control, PATIENCE};

pub struct Watch {
    pub stream: Streaming<WatchRecordingsResponse>,
    /// The last one that was given.
    pub token: String,
}

impl Watch {
    pub async fn open(control: &Control, request: WatchRecordingsRequest) -> Self {
        let stream = control.recordings().watch_recordings(request).await.unwrap().into_inner();
        Self { stream, token: String::new() }
    }

    pub async fn any(&mut self) -> WatchRecordingsResponse {
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("a message in time");
        let message = message.unwrap().expect("the watch is open");
        if !message.resume_token.is_empty() {
            self.token = message.resume_token.clone();
        }
        message
    }

    /// The next message that is no bookmark.
    pub async fn next(&mut self) -> WatchRecordingsResponse {
        loop {
            let message = self.any().await;
            if message.kind() != Kind::Bookmark {
                return message;
            }
        }
    }

    /// What the next messages say, in short.
    pub async fn told(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..count {
            told.push(short(&self.next().await));
        }
        told
    }
}

pub fn short(message: &WatchRecordingsResponse) -> String {
    let state = message.recording.as_ref().unwrap().state().as_str_name();
    match &message.file {
        Some(file) => format!("{}-{} {}", file.name.rsplit('/').next().unwrap(), file.state().as_str_name(), state),
        None => format!("{} {state}", message.kind().as_str_name()),
    }
}

pub fn resumed(token: &str) -> WatchRecordingsRequest {
    WatchRecordingsRequest { resume_token: token.into(), ..Default::default() }
}
