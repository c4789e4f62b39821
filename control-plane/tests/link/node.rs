//! A media node without media: speaks the link as the real one does, step by step.
use std::collections::BTreeMap;

use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::stream_directives_request::nack::Rejection;
use recorder_proto::pb::node::stream_directives_request::{Ack, Heartbeat, Hello, Message as Say, Nack};
use recorder_proto::pb::node::stream_directives_response::{Delta, Fenced, Message as Heard, Snapshot};
use recorder_proto::pb::node::{
    Directive, Fact, RegisterRequest, RegisterResponse, ReportFactsRequest, ReportFactsResponse,
    StreamDirectivesRequest, StreamDirectivesResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::control::{Control, PATIENCE};

pub struct Node {
    pub client: NodeLinkServiceClient<Channel>,
    pub name: String,
    pub epoch: u64,
    pub registered: RegisterResponse,
    pub held: BTreeMap<String, Directive>,
    pub version: u64,
    stream: Option<(mpsc::Sender<StreamDirectivesRequest>, Streaming<StreamDirectivesResponse>)>,
    facts: Option<(mpsc::Sender<ReportFactsRequest>, Streaming<ReportFactsResponse>)>,
}

impl Node {
    /// Registers a process.
    pub async fn register(control: &Control, name: &str, boot: &str) -> Self {
        Self::register_with(control, RegisterRequest { node: name.into(), boot_id: boot.into(), ..Default::default() })
            .await
    }

    pub async fn register_with(control: &Control, request: RegisterRequest) -> Self {
        let mut client = NodeLinkServiceClient::new(control.link.clone());
        let registered = client.register(request.clone()).await.unwrap().into_inner();
        Self {
            client,
            name: request.node,
            epoch: registered.node_epoch,
            registered,
            held: BTreeMap::new(),
            version: 0,
            stream: None,
            facts: None,
        }
    }

    /// Registers, gets and acknowledges everything there is.
    pub async fn ready(control: &Control, name: &str) -> Self {
        let mut node = Self::register(control, name, "boot-1").await;
        node.hello(0).await;
        node.settle().await;
        node
    }

    /// Opens the directive stream with this version.
    pub async fn hello(&mut self, applied_version: u64) {
        let (say, outbox) = mpsc::channel(64);
        let hello = Hello { node: self.name.clone(), node_epoch: self.epoch, applied_version };
        say.send(message(Say::Hello(hello))).await.unwrap();
        let inbox = self.client.stream_directives(ReceiverStream::new(outbox)).await.unwrap().into_inner();
        self.version = applied_version;
        self.stream = Some((say, inbox));
    }

    /// The next message, whatever it is.
    pub async fn heard(&mut self) -> Result<Option<StreamDirectivesResponse>, Status> {
        let (_, inbox) = self.stream.as_mut().expect("hello comes first");
        tokio::time::timeout(PATIENCE, inbox.message()).await.expect("a message in time")
    }

    /// The next message that is no bookmark.
    pub async fn next(&mut self) -> StreamDirectivesResponse {
        loop {
            let response = self.heard().await.unwrap().expect("the stream is open");
            if !matches!(response.message, Some(Heard::Bookmark(_))) {
                return response;
            }
        }
    }

    pub async fn snapshot(&mut self) -> (String, u64, Snapshot) {
        match self.next().await {
            StreamDirectivesResponse { nonce, version, message: Some(Heard::Snapshot(snapshot)), .. } => {
                (nonce, version, snapshot)
            }
            other => panic!("expected a snapshot, got {other:?}"),
        }
    }

    pub async fn delta(&mut self) -> (String, u64, Delta) {
        match self.next().await {
            StreamDirectivesResponse { nonce, version, message: Some(Heard::Delta(delta)), .. } => {
                (nonce, version, delta)
            }
            other => panic!("expected a delta, got {other:?}"),
        }
    }

    pub async fn fenced(&mut self) -> Fenced {
        match self.next().await {
            StreamDirectivesResponse { message: Some(Heard::Fenced(fenced)), .. } => fenced,
            other => panic!("expected to be fenced, got {other:?}"),
        }
    }

    /// Takes the first snapshot, chunk by chunk, and acknowledges it.
    pub async fn settle(&mut self) {
        loop {
            let (nonce, version, snapshot) = self.snapshot().await;
            for directive in snapshot.directives {
                self.held.insert(directive.name.clone(), directive);
            }
            if snapshot.last {
                return self.ack(&nonce, version).await;
            }
        }
    }

    /// Takes a delta and acknowledges it.
    pub async fn follow(&mut self) -> Delta {
        let (nonce, version, delta) = self.delta().await;
        for directive in &delta.upserts {
            self.held.insert(directive.name.clone(), directive.clone());
        }
        for name in &delta.removed {
            self.held.remove(name);
        }
        self.ack(&nonce, version).await;
        delta
    }

    pub async fn ack(&mut self, nonce: &str, version: u64) {
        self.version = version;
        self.say(Say::Ack(Ack { nonce: nonce.into(), applied_version: version })).await;
    }

    pub async fn nack(&mut self, nonce: &str, version: u64, directive: &str, why: &str) {
        self.version = version;
        let error = tonic_types::pb::Status { code: 3, message: why.into(), details: Vec::new() };
        let rejections = vec![Rejection { directive: directive.into(), error: Some(error) }];
        self.say(Say::Nack(Nack { nonce: nonce.into(), applied_version: version, rejections })).await;
    }

    pub async fn heartbeat(&mut self, heartbeat: Heartbeat) {
        self.say(Say::Heartbeat(heartbeat)).await;
    }

    async fn say(&mut self, say: Say) {
        let (outbox, _) = self.stream.as_ref().expect("hello comes first");
        outbox.send(message(say)).await.unwrap();
    }

    /// Hangs up.
    pub fn hang_up(&mut self) {
        self.stream = None;
        self.facts = None;
    }

    /// Reports facts and waits for the answer.
    pub async fn try_report(&mut self, facts: Vec<Fact>) -> Result<ReportFactsResponse, Status> {
        if self.facts.is_none() {
            let (send, outbox) = mpsc::channel(4);
            let request = ReportFactsRequest { node_epoch: self.epoch, facts };
            send.send(request).await.unwrap();
            let inbox = self.client.report_facts(ReceiverStream::new(outbox)).await?.into_inner();
            self.facts = Some((send, inbox));
        } else if let Some((send, _)) = &self.facts {
            send.send(ReportFactsRequest { node_epoch: self.epoch, facts }).await.unwrap();
        }
        let (_, inbox) = self.facts.as_mut().unwrap();
        let answer = tokio::time::timeout(PATIENCE, inbox.message()).await.expect("an answer in time");
        answer.map(|answer| answer.expect("the stream is open"))
    }

    /// Reports facts, all of which are taken.
    pub async fn report(&mut self, facts: Vec<Fact>) {
        let last = facts.last().map(|fact| fact.sequence);
        let answer = self.try_report(facts).await.unwrap();
        assert_eq!(answer.refusals, [], "every fact is taken");
        assert_eq!(Some(answer.durable_sequence), last);
    }
}

fn message(say: Say) -> StreamDirectivesRequest {
    StreamDirectivesRequest { message: Some(say) }
}
