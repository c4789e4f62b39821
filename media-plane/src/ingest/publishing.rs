//! A publisher's place in the node, whatever its protocol: let in, replaced by a newer one, gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use media::ingest::EndCause;
use recorder_proto::ids::SessionId;
use recorder_proto::names::StreamKey;
use tokio::sync::oneshot;

use crate::hold;
use crate::mailbox::Mailbox;
use crate::node::Node;
use crate::publication::{Publication, Publisher};
use crate::registry::Command;

/// How long the publisher that is replaced may take to let go.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A publisher that was let in.
pub struct Publishing {
    /// What is published.
    pub stream: StreamKey,
    /// The publish session.
    pub session: SessionId,
    /// What others ask of it.
    pub mailbox: Mailbox,
    /// What becomes of what it sends.
    pub publication: Box<Publication>,
}

/// What a command means for the connection of the publisher.
pub enum Order {
    /// Nothing: it is done.
    Done,
    /// Hand over and end.
    HandOver(oneshot::Sender<Box<Publication>>),
    /// End.
    End(EndCause),
    /// End at a key frame; the publisher is to go elsewhere.
    Move(String),
}

impl Publishing {
    /// Lets an authenticated publisher in, in the place of whoever publishes the stream now.
    ///
    /// # Errors
    /// The node takes nobody any more; the sentence says why.
    pub async fn admit(node: &Arc<Node>, publisher: Publisher) -> Result<Self, &'static str> {
        let (stream, session) = (publisher.stream.clone(), publisher.session);
        let admission = node.registry.admit(&stream, session);
        // A drain that began meanwhile has not seen this publisher.
        if let Err(reason) = node.admits() {
            refuse(node, &stream, session, admission.replaced);
            return Err(reason);
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
        tracing::info!(%session, %stream, remote = publisher.remote, protocol = ?publisher.protocol, "publishing");
        let publication = match replaced {
            Some(mut publication) => {
                publication.resume(publisher);
                publication
            }
            None => Box::new(Publication::start(Arc::clone(node), publisher)),
        };
        Ok(Self { stream, session, mailbox: admission.mailbox, publication })
    }

    /// Does what others ask, as far as the publication can.
    pub fn obey(&mut self, command: Command) -> Order {
        match command {
            Command::TakeOver(hand_over) => return Order::HandOver(hand_over),
            Command::Stop { recording } => self.publication.stop(&recording),
            Command::Split { recording } => self.publication.split(&recording),
            Command::Review => self.publication.review_now(),
            Command::PutDown { recording } => self.publication.put_down_one(&recording),
            Command::Orphan { recording } => {
                if self.publication.orphan(&recording) {
                    return Order::End(EndCause::Disconnected("the stream goes on at another node".into()));
                }
            }
            Command::Disconnect { reason } => return Order::End(EndCause::Disconnected(reason)),
            Command::Move { reason } => return Order::Move(reason),
        }
        Order::Done
    }

    /// Gives everything to a newer publisher.
    pub fn hand_over(mut self, node: &Arc<Node>, to: oneshot::Sender<Box<Publication>>) {
        self.publication.interrupt(&EndCause::Replaced);
        if let Err(publication) = to.send(self.publication) {
            hold::take_back(node, publication);
        }
        hold::forward(node, &mut self.mailbox);
    }

    /// The publisher is gone: who asked for its publication meanwhile gets it, else its recordings wait or end. `moved` =
    /// it was sent elsewhere, `asked` = what was asked before all in the mailbox and not done yet.
    pub fn leave(mut self, node: &Arc<Node>, cause: &EndCause, moved: bool, mut asked: Option<Command>) {
        let drained = moved || (node.leaving.is_leaving() && is_ours(cause));
        while let Some(command) = asked.take().or_else(|| self.mailbox.try_recv()) {
            match command {
                Command::TakeOver(to) => {
                    self.publication.interrupt(cause);
                    if let Err(publication) = to.send(self.publication) {
                        hold::take_back(node, publication);
                    }
                    return hold::forward(node, &mut self.mailbox);
                }
                Command::Stop { recording } => self.publication.stop(&recording),
                Command::Orphan { recording } => drop(self.publication.orphan(&recording)),
                // Whoever waits without publisher looks at its tasks anyway.
                Command::Split { .. }
                | Command::PutDown { .. }
                | Command::Review
                | Command::Disconnect { .. }
                | Command::Move { .. } => {}
            }
        }
        self.lose(node, cause, drained);
    }

    /// Ends the publisher. What waits for another one keeps the place; without that the place is given up last, so that a
    /// node with a place taken is a node with work to do.
    fn lose(self, node: &Arc<Node>, cause: &EndCause, drained: bool) {
        let Self { stream, session, mailbox, mut publication } = self;
        publication.interrupt(cause);
        match publication.begin_waiting(drained) {
            Some(publication) => hold::keep(node, publication, mailbox),
            None => node.registry.leave(&stream, session),
        }
    }

    /// The task of its connection ended early, for example in a panic.
    pub fn abandon(self, node: &Arc<Node>) {
        let (stream, session) = (self.stream.clone(), self.session);
        tracing::error!(%stream, %session, "the connection's task ended early");
        let cause = EndCause::Disconnected("internal error".into());
        // A second panic while the first unwinds would end the process and every other recording with it.
        if catch_unwind(AssertUnwindSafe(|| self.lose(node, &cause, false))).is_err() {
            node.registry.leave(&stream, session);
        }
    }
}

/// Takes back the place of a publisher that the node does not take after all; what it was to go on with goes on waiting.
pub(crate) fn refuse(
    node: &Arc<Node>,
    stream: &StreamKey,
    session: SessionId,
    replaced: Option<oneshot::Receiver<Box<Publication>>>,
) {
    node.registry.leave(stream, session);
    let Some(mut replaced) = replaced else { return };
    // From now on what is handed over comes back to the one who hands it over.
    replaced.close();
    if let Ok(publication) = replaced.try_recv() {
        hold::take_back(node, publication);
    }
}

/// Whether this side ended the connection.
fn is_ours(cause: &EndCause) -> bool {
    matches!(cause, EndCause::Disconnected(_))
}
