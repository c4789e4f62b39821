//! Simulated media nodes: each registers, takes its directives, acknowledges them, and keeps its lease.

use std::time::{Duration, Instant};

use recorder_proto::pb::node::node_link_service_client::NodeLinkServiceClient;
use recorder_proto::pb::node::stream_directives_request::{Ack, Heartbeat, Hello, Message as Say};
use recorder_proto::pb::node::{RegisterRequest, StreamDirectivesRequest};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::wire::{Shallow, Sized};

/// Well within a lease of 15 s.
const HEARTBEAT: Duration = Duration::from_secs(4);

/// A node and what it holds.
pub struct Node {
    /// Its own connection, as on a machine of its own.
    pub channel: Channel,
    /// For facts.
    pub epoch: u64,
    /// From the call of Register to the first directive.
    pub first: Duration,
    /// From there to the last part of everything.
    pub whole: Duration,
    /// Bytes of everything on the wire.
    pub bytes: usize,
    /// How many directives that were.
    pub directives: usize,
    /// The newest version that it has acknowledged, and when.
    pub acknowledged: watch::Receiver<(u64, Instant)>,
}

/// Starts a node; it is ready when it has acknowledged everything there is.
pub async fn join(link: &str, number: usize) -> Node {
    let name = format!("n{number}");
    let channel = Channel::from_shared(link.to_owned()).expect("address").connect().await.expect("link");
    let started = Instant::now();
    let request = RegisterRequest { node: name.clone(), boot_id: "boot".to_owned(), ..Default::default() };
    let registered = NodeLinkServiceClient::new(channel.clone()).register(request).await.expect("register");
    let epoch = registered.into_inner().node_epoch;
    let (say, outbox) = mpsc::channel(64);
    let hello = Hello { node: name, node_epoch: epoch, applied_version: 0 };
    tell(&say, Say::Hello(hello)).await;
    let mut inbox = open(channel.clone(), outbox).await;
    let (mut first, mut bytes, mut directives) = (None, 0, 0);
    let (nonce, version) = loop {
        let (heard, length) = next(&mut inbox).await;
        first.get_or_insert_with(|| started.elapsed());
        bytes += length;
        if let Some(snapshot) = heard.snapshot {
            directives += snapshot.directives.len();
            if snapshot.last {
                break (heard.nonce, heard.version);
            }
        }
    };
    let whole = started.elapsed();
    tell(&say, Say::Ack(Ack { nonce, applied_version: version })).await;
    let (told, acknowledged) = watch::channel((version, Instant::now()));
    tokio::spawn(follow(say, inbox, told));
    Node { channel, epoch, first: first.unwrap_or(whole), whole, bytes, directives, acknowledged }
}

async fn open(channel: Channel, outbox: mpsc::Receiver<StreamDirectivesRequest>) -> Streaming<Sized> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
    grpc.ready().await.expect("link");
    let path = PathAndQuery::from_static("/recorder.node.v1.NodeLinkService/StreamDirectives");
    grpc.streaming(tonic::Request::new(ReceiverStream::new(outbox)), path, Shallow).await.expect("stream").into_inner()
}

async fn next(inbox: &mut Streaming<Sized>) -> Sized {
    inbox.message().await.expect("a message").expect("the stream is open")
}

async fn tell(say: &mpsc::Sender<StreamDirectivesRequest>, message: Say) {
    // A server that is gone is told by the other direction.
    let _ = say.send(StreamDirectivesRequest { message: Some(message) }).await;
}

/// Acknowledges what comes and keeps the lease, until the server is gone.
async fn follow(
    say: mpsc::Sender<StreamDirectivesRequest>,
    mut inbox: Streaming<Sized>,
    told: watch::Sender<(u64, Instant)>,
) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            heard = inbox.message() => {
                let Ok(Some((heard, _))) = heard else { return };
                if !heard.nonce.is_empty() {
                    tell(&say, Say::Ack(Ack { nonce: heard.nonce, applied_version: heard.version })).await;
                    told.send_replace((heard.version, Instant::now()));
                }
            }
            _ = ticks.tick() => tell(&say, Say::Heartbeat(Heartbeat { accepting: true, ..Default::default() })).await,
        }
    }
}
