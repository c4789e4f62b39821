//! Commands to one recording: directives for its node alone, done once per command id.
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::{Control, Directive as Kind, control::Action};

use super::names;

/// Name of the directive that stops a recording (bare id); the command id is part of it.
pub fn stop_name(recording: &str) -> String {
    names::control(&stop_id(recording))
}

/// Finish the recording (bare id) now. Asking twice is the same command.
pub fn stop(recording: &str, epoch: u64) -> Directive {
    let control = Control {
        recording: format!("recordings/{recording}"),
        epoch,
        action: Action::Stop as i32,
        command_id: stop_id(recording),
    };
    Directive { name: stop_name(recording), version: 0, directive: Some(Kind::Control(control)) }
}

/// A recording is stopped once in its life, so its id says which command it is.
fn stop_id(recording: &str) -> String {
    format!("stop-{recording}")
}
