//! Who may publish on a connection, and what becomes of its publication when it no longer does.

use ::rtmp::{PublishRequest, Refusal};
use media::ingest::EndCause;
use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::protocol;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Publishing};
use crate::ingest::auth::{self, Credentials};
use crate::ingest::calm::Calm;
use crate::publication::Publisher;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Decides about a publish request: names, then authentication, then admission, then the registry.
    pub(super) async fn publish(&mut self, request: &PublishRequest) {
        let stream = match StreamKey::new(&request.domain(), &request.app, &request.stream) {
            Ok(stream) => stream,
            Err(error) => return self.refuse(Refusal::BadName, &error.to_string(), "name"),
        };
        let policy = self.node.link.directives().domain(stream.domain());
        let credentials =
            Credentials { secret: request.param("txSecret"), time: request.param("txTime"), key: request.param("key") };
        let now = self.node.clock.now();
        let allowed =
            auth::check(policy.as_ref(), stream.domain(), protocol::Kind::Rtmp, stream.stream(), credentials, now);
        let allowed = allowed.and_then(|()| auth::check_block(policy.as_ref(), &stream, now));
        if let Err(denied) = allowed {
            return self.refuse(Refusal::Denied, &denied.to_string(), "auth");
        }
        if let Err(reason) = self.node.admits() {
            return self.refuse(Refusal::Failed, reason, "admission");
        }
        // One connection, one publication: a second publish on it ends the first.
        self.unpublish(&EndCause::Unpublished);
        let session = SessionId::new(now, rand::random());
        let publisher = Publisher {
            session,
            stream,
            protocol: protocol::Kind::Rtmp,
            remote: self.remote.to_string(),
            encoder: request.encoder.clone().unwrap_or_default(),
            since: now,
        };
        match Publishing::admit(&self.node, publisher).await {
            Ok(publishing) => self.publishing = Some(publishing),
            Err(reason) => return self.refuse(Refusal::Failed, reason, "admission"),
        }
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

    /// The publisher is gone: who asked for its publication meanwhile gets it, else its recordings wait or end.
    pub(super) fn unpublish(&mut self, cause: &EndCause) {
        if let Some(publishing) = self.publishing.take() {
            publishing.leave(&self.node, cause, self.moving.is_some(), self.asked.take());
        }
    }
}
