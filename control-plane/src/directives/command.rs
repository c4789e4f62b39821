//! Commands to one recording: directives for its node alone, done once per command id.
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::{Control, Directive as Kind, control::Action};
use recorder_proto::pb::node::plan::StorageRef;

use super::names;

/// Name of the directive that stops a recording (bare id); the command id is part of it.
pub fn stop_name(recording: &str) -> String {
    names::control(&stop_id(recording))
}

/// Finish the recording (bare id) now. Asking twice is the same command.
pub fn stop(recording: &str, epoch: u64) -> Directive {
    directive(recording, epoch, Action::Stop, stop_name(recording), stop_id(recording))
}

/// Begin new files in every output of the recording (bare id) at the next key frame. Each `id` is a command of its own;
/// one that no node has heard of gives way to the next, since a recording is cut where it is now.
pub fn split(recording: &str, epoch: u64, id: &str) -> Directive {
    directive(recording, epoch, Action::Split, split_name(recording), format!("split-{recording}-{id}"))
}

/// Every command that a recording (bare id) can have while it goes on; they are over with it.
pub fn names_of(recording: &str) -> [String; 2] {
    [stop_name(recording), split_name(recording)]
}

/// Try at once what of the recording (bare id) waits for its storage or has failed; in another storage, when one is
/// given. Each `id` is a command of its own.
pub fn retry(recording: &str, epoch: u64, id: &str, storage: Option<StorageRef>) -> Directive {
    let command_id = format!("retry-{recording}-{id}");
    let mut retry = directive(recording, epoch, Action::RetryUploads, retry_name(recording), command_id);
    if let Some(Kind::Control(control)) = &mut retry.directive {
        control.storage = storage;
    }
    retry
}

/// The storage that an earlier [`retry`] has named.
pub fn retry_storage(retry: Directive) -> Option<StorageRef> {
    match retry.directive? {
        Kind::Control(control) => control.storage,
        _ => None,
    }
}

/// Name of the directive that has the uploads of a recording (bare id) tried again.
pub fn retry_name(recording: &str) -> String {
    names::control(&format!("retry-{recording}"))
}

/// Close the connection of a session (bare id). Asking twice is the same command.
pub fn disconnect(session: &str, reason: &str) -> Directive {
    let (name, command_id) = (disconnect_name(session), format!("disconnect-{session}"));
    let (recording, reason) = (format!("streams/{session}"), reason.to_owned());
    let control = Control { recording, epoch: 0, action: Action::Disconnect as i32, command_id, reason, storage: None };
    Directive { name, version: 0, directive: Some(Kind::Control(control)) }
}

/// Name of the directive that closes the connection of a session (bare id).
pub fn disconnect_name(session: &str) -> String {
    names::control(&format!("disconnect-{session}"))
}

fn split_name(recording: &str) -> String {
    names::control(&format!("split-{recording}"))
}

fn directive(recording: &str, epoch: u64, action: Action, name: String, command_id: String) -> Directive {
    let recording = format!("recordings/{recording}");
    let control = Control { recording, epoch, action: action as i32, command_id, reason: String::new(), storage: None };
    Directive { name, version: 0, directive: Some(Kind::Control(control)) }
}

/// A recording is stopped once in its life, so its id says which command it is.
fn stop_id(recording: &str) -> String {
    format!("stop-{recording}")
}
