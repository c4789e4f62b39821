//! A publication whose publisher is away: kept in memory, without a buffer, until one returns or its recordings have
//! waited long enough.

use std::sync::Arc;

use recorder_proto::names::StreamKey;
use recorder_proto::pb::v1::recording::EndReason;

use crate::mailbox::Mailbox;
use crate::node::Node;
use crate::publication::Publication;
use crate::registry::Command;

/// Keeps a publication, in the place that its publisher had in the registry or a new one.
pub fn keep(node: &Arc<Node>, publication: Box<Publication>, mailbox: Mailbox) {
    let (stream, session) = (publication.stream().clone(), publication.session());
    node.registry.away(&stream, session);
    tokio::spawn(wait(Arc::clone(node), stream, publication, mailbox));
}

/// Keeps a publication that was to be handed over to a newer publisher, which is gone already.
pub fn take_back(node: &Arc<Node>, publication: Box<Publication>) {
    let (stream, session) = (publication.stream().clone(), publication.session());
    let Some(mailbox) = node.registry.hold(&stream, session) else {
        // A third one has come meanwhile and begins anew.
        return publication.end(EndReason::PublisherEnded);
    };
    match publication.begin_waiting(false) {
        Some(publication) => keep(node, publication, mailbox),
        None => node.registry.leave(&stream, session),
    }
}

async fn wait(node: Arc<Node>, stream: StreamKey, mut publication: Box<Publication>, mut mailbox: Mailbox) {
    let session = publication.session();
    while let Some(due) = publication.wait(node.clock.monotonic()) {
        let pause = due.saturating_sub(node.clock.monotonic());
        let command = tokio::select! {
            biased;
            command = mailbox.recv() => command,
            () = tokio::time::sleep(pause) => continue,
        };
        match command {
            Command::TakeOver(hand_over) => {
                if let Err(publication) = hand_over.send(publication) {
                    take_back(&node, publication);
                }
                return forward(&node, &mut mailbox);
            }
            Command::Stop { recording } => publication.stop(&recording),
            Command::Review => publication.end_tasks(),
            Command::Orphan { recording } => drop(publication.orphan(&recording)),
            Command::Move { .. } => publication.put_down(),
            // No key frame comes at which to cut.
            Command::Split { recording } | Command::PutDown { recording } => publication.put_down_one(&recording),
            // Nobody publishes.
            Command::Disconnect { .. } => {}
        }
    }
    node.registry.leave(&stream, session);
}

/// Commands that came too late for the one who held the publication are for the one who has it now.
pub fn forward(node: &Node, mailbox: &mut Mailbox) {
    for command in mailbox.close() {
        node.registry.command(command);
    }
}
