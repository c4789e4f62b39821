//! WatchNodes: the nodes, and every change of one that is more than its load.
use std::pin::Pin;

use prost::Message;
use recorder_db::{events, nodes};
use recorder_proto::Problem;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::WatchNodesResponse;
use recorder_proto::pb::v1::watch_nodes_response::Kind;
use tokio_stream::Stream;
use tonic::Status;

use super::node::shown;
use super::watch::{self, Follower, Scope, Watches, outlet};
use crate::feed;

/// What the rpc answers with.
pub type Messages = Pin<Box<dyn Stream<Item = Result<WatchNodesResponse, Status>> + Send>>;

/// Opens a watch.
pub(super) async fn open(watches: Watches, request: v1::WatchNodesRequest) -> Result<Messages, Problem> {
    let scope = Scope::new("recorder.v1.NodeService/WatchNodes", &v1::WatchNodesRequest::default());
    let resumed = match request.resume_token.as_str() {
        "" => None,
        token => Some(scope.sequence(&watches.api.tokens, token)?),
    };
    let now = watches.api.now();
    let reading = watches.api.db.read(move |db| {
        if let Some(sequence) = resumed {
            watch::check_kept(db, sequence)?;
            return Ok((sequence, Vec::new()));
        }
        let last = u64::try_from(events::last(db)?).unwrap_or_default();
        let rows = nodes::all(db)?;
        let shown = rows.iter().map(|row| shown(db, row, now)).collect::<Result<Vec<_>, Problem>>()?;
        Ok::<_, Problem>((last, shown))
    });
    let (sequence, current) = reading.await?;
    let (outlet, messages) = outlet();
    let mut follower = Follower::new(watches, Nodes, scope, sequence, outlet);
    tokio::spawn(async move {
        for node in current {
            let node = Some(node);
            let message = WatchNodesResponse { kind: Kind::Current as i32, node, resume_token: String::new() };
            if !follower.current(message).await {
                return;
            }
        }
        follower.run().await;
    });
    Ok(Box::pin(messages))
}

struct Nodes;

impl watch::Kind for Nodes {
    type Message = WatchNodesResponse;

    fn change(&self, event: &events::Row, token: String) -> Option<WatchNodesResponse> {
        if !event.kind.starts_with("node.") {
            return None;
        }
        let kind = if event.kind == feed::NODE_DELETED { Kind::Removed } else { Kind::Updated };
        let node = v1::Node::decode(event.body.as_slice()).ok()?;
        Some(WatchNodesResponse { kind: kind as i32, node: Some(node), resume_token: token })
    }

    fn bookmark(&self, token: String) -> WatchNodesResponse {
        WatchNodesResponse { kind: Kind::Bookmark as i32, node: None, resume_token: token }
    }
}
