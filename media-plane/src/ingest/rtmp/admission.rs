//! Who may publish on a connection, and what becomes of its publication when it no longer does.

use std::sync::Arc;
use std::time::Duration;

use ::rtmp::{PublishRequest, Refusal};
use media::ingest::EndCause;
use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::protocol;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Publishing};
use crate::hold;
use crate::ingest::auth::{self, Credentials};
use crate::ingest::calm::Calm;
use crate::node::Node;
use crate::publication::{Publication, Publisher};
use crate::registry::Command;

/// How long the publisher that is replaced may take to let go.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(5);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Decides about a publish request: names, then authentication, then admission, then the registry.
    pub(super) async fn publish(&mut self, request: &PublishRequest) {
        let stream = match StreamKey::new(&request.domain(), &request.app, &request.stream) {
            Ok(stream) => stream,
            Err(error) => return self.refuse(Refusal::BadName, &error.to_string(), "name"),
        };
        let policy = self.node.link.directives().domain(stream.domain());
        let credentials = Credentials { secret: request.param("txSecret"), time: request.param("txTime") };
        let now = self.node.clock.now();
        let allowed =
            auth::check(policy.as_ref(), stream.domain(), protocol::Kind::Rtmp, stream.stream(), credentials, now);
        if let Err(denied) = allowed {
            return self.refuse(Refusal::Denied, &denied.to_string(), "auth");
        }
        if let Err(reason) = self.node.admits() {
            return self.refuse(Refusal::Failed, reason, "admission");
        }
        // One connection, one publication: a second publish on it ends the first.
        self.unpublish(&EndCause::Unpublished);
        let session = SessionId::new(now, rand::random());
        let admission = self.node.registry.admit(&stream, session);
        let publisher = Publisher {
            session,
            stream: stream.clone(),
            protocol: protocol::Kind::Rtmp,
            remote: self.remote.to_string(),
            encoder: request.encoder.clone().unwrap_or_default(),
            since: now,
        };
        // A drain that began meanwhile has not seen this publisher.
        if let Err(reason) = self.node.admits() {
            self.node.registry.leave(&stream, session);
            if let Some(mut replaced) = admission.replaced {
                // What was handed over already goes on waiting; from now on it comes back to the one who hands it over.
                replaced.close();
                if let Ok(publication) = replaced.try_recv() {
                    hold::take_back(&self.node, publication);
                }
            }
            return self.refuse(Refusal::Failed, reason, "admission");
        }
        let replaced = match admission.replaced {
            Some(mut replaced) => match tokio::time::timeout(TAKE_OVER_TIMEOUT, &mut replaced).await {
                Ok(publication) => publication.ok(),
                Err(_) => {
                    // What is handed over from now on comes back to the one who hands it over.
                    replaced.close();
                    replaced.try_recv().ok()
                }
            },
            None => None,
        };
        let publication = match replaced {
            Some(mut publication) => {
                publication.resume(publisher);
                publication
            }
            None => Box::new(Publication::start(Arc::clone(&self.node), publisher)),
        };
        tracing::info!(%session, %stream, remote = %self.remote, "publishing");
        self.publishing = Some(Publishing { stream, session, mailbox: admission.mailbox, publication });
        let now = self.session_now();
        self.session.accept(now);
        self.calm = Calm::new(self.node.clock.monotonic());
        // The encoder sends nothing before it has heard of this.
        self.is_urgent = true;
        self.took_everything = true;
    }

    fn refuse(&mut self, refusal: Refusal, reason: &str, kind: &'static str) {
        tracing::info!(remote = %self.remote, reason, "publisher refused");
        metrics::counter!("recorder_publish_rejected_total", "protocol" => "rtmp", "reason" => kind).increment(1);
        self.session.reject(refusal, reason);
    }

    pub(super) fn hand_over(&mut self, hand_over: tokio::sync::oneshot::Sender<Box<Publication>>) {
        let Some(mut publishing) = self.publishing.take() else { return };
        publishing.publication.interrupt(&EndCause::Replaced);
        if let Err(publication) = hand_over.send(publishing.publication) {
            hold::take_back(&self.node, publication);
        }
        hold::forward(&self.node, &mut publishing.mailbox);
    }

    /// The publisher is gone: who asked for its publication meanwhile gets it, else its recordings wait or end.
    pub(super) fn unpublish(&mut self, cause: &EndCause) {
        let Some(mut publishing) = self.publishing.take() else { return };
        let drained = self.moving.is_some() || (self.node.leaving.is_leaving() && is_ours(cause));
        while let Some(command) = self.asked.take().or_else(|| publishing.mailbox.try_recv()) {
            match command {
                Command::TakeOver(hand_over) => {
                    publishing.publication.interrupt(cause);
                    if let Err(publication) = hand_over.send(publishing.publication) {
                        hold::take_back(&self.node, publication);
                    }
                    return hold::forward(&self.node, &mut publishing.mailbox);
                }
                Command::Stop { recording } => publishing.publication.stop(&recording),
                Command::Orphan { recording } => drop(publishing.publication.orphan(&recording)),
                Command::Split { .. } | Command::PutDown { .. } | Command::Disconnect { .. } | Command::Move { .. } => {
                }
            }
        }
        publishing.lose(&self.node, cause, drained);
    }
}

impl Publishing {
    /// Ends the publisher. What waits for another one keeps the place; without that the place is given up last, so that a
    /// node with a place taken is a node with work to do.
    pub(super) fn lose(self, node: &Arc<Node>, cause: &EndCause, drained: bool) {
        let Self { stream, session, mailbox, mut publication } = self;
        publication.interrupt(cause);
        match publication.begin_waiting(drained) {
            Some(publication) => hold::keep(node, publication, mailbox),
            None => node.registry.leave(&stream, session),
        }
    }
}

/// Whether this side ended the connection.
fn is_ours(cause: &EndCause) -> bool {
    matches!(cause, EndCause::Disconnected(_))
}
