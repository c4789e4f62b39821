//! One node's side of the directive stream without the stream: what to send for a change, and what its answers mean.
use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use recorder_proto::pb::node::stream_directives_response::{Bookmark, Delta, Fenced, Message as Body, Snapshot};
use recorder_proto::pb::node::{Directive, StreamDirectivesResponse};
use tonic_types::pb::Status;

use super::changelog::{Effect, touched};

/// Directives of one message, in bytes: well below the 4 MiB that gRPC clients accept by default.
const CHUNK_BYTES: usize = 1 << 20;

/// Messages without an answer before the session waits for one; a node that falls so far behind is busy or stuck.
const MAX_UNANSWERED: usize = 32;

/// Bytes of a refusal that are kept; a longer one was written by something that is not our node.
const MAX_REFUSAL_BYTES: usize = 4096;

/// What was sent to a node and not answered yet.
#[derive(Debug)]
pub struct Session {
    /// Version that the node has once it has applied everything sent.
    sent: u64,
    last_nonce: u64,
    unanswered: BTreeMap<u64, Unanswered>,
}

#[derive(Debug)]
struct Unanswered {
    version: u64,
    names: BTreeSet<String>,
    everything: bool,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The node is at this version now.
    pub version: u64,
    /// Directives that it took (or removed); an older refusal of them is over.
    pub accepted: BTreeSet<String>,
    /// Directives that it could not apply.
    pub rejected: BTreeMap<String, Status>,
    /// The message was a whole snapshot: refusals of anything else are over as well.
    pub everything: bool,
}

impl Session {
    /// A session with a node that says it has this version.
    pub fn new(applied: u64) -> Self {
        Self { sent: applied, last_nonce: 0, unanswered: BTreeMap::new() }
    }

    /// The version that the node has once it has applied everything sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether more may be sent before the node answers.
    pub fn is_open(&self) -> bool {
        self.unanswered.len() < MAX_UNANSWERED
    }

    /// Everything, in chunks; only the last one is answered, since only it takes effect.
    pub fn snapshot(&mut self, effect: &Effect) -> Vec<StreamDirectivesResponse> {
        let names = touched(effect);
        let mut chunks = chunks(&effect.upserts);
        let last = chunks.pop().unwrap_or_default();
        let first = chunks.into_iter().map(|directives| {
            response(String::new(), effect.version, Body::Snapshot(Snapshot { directives, last: false }))
        });
        let mut messages: Vec<_> = first.collect();
        let nonce = self.expect(effect.version, names, true);
        messages.push(response(nonce, effect.version, Body::Snapshot(Snapshot { directives: last, last: true })));
        messages
    }

    /// One transaction's effect. A very large one is split; all but the last part leave the version where it was, so
    /// that a node that loses the connection in between gets the whole effect again.
    pub fn delta(&mut self, effect: &Effect) -> Vec<StreamDirectivesResponse> {
        let before = self.sent;
        let mut chunks = chunks(&effect.upserts);
        let last = chunks.pop().unwrap_or_default();
        let mut messages = Vec::with_capacity(chunks.len() + 1);
        for upserts in chunks {
            let names = upserts.iter().map(|directive| directive.name.clone()).collect();
            let nonce = self.expect(before, names, false);
            messages.push(response(nonce, before, Body::Delta(Delta { upserts, removed: Vec::new() })));
        }
        let names = last.iter().map(|directive| directive.name.clone()).chain(effect.removed.iter().cloned());
        let nonce = self.expect(effect.version, names.collect(), false);
        let delta = Delta { upserts: last, removed: effect.removed.clone() };
        messages.push(response(nonce, effect.version, Body::Delta(delta)));
        messages
    }

    /// Nothing new; keeps the connection and the node's trust in it alive.
    pub fn bookmark(&self) -> StreamDirectivesResponse {
        response(String::new(), self.sent, Body::Bookmark(Bookmark {}))
    }

    /// The node's message with this nonce was applied, but for the rejections. None when nothing was sent under it,
    /// or it was answered already.
    pub fn answer(&mut self, nonce: &str, rejections: Vec<(String, Status)>) -> Option<Answer> {
        let Unanswered { version, names, everything } = self.unanswered.remove(&nonce.parse().ok()?)?;
        let known = rejections.into_iter().filter(|(name, _)| names.contains(name));
        let rejected: BTreeMap<String, Status> = known.map(|(name, status)| (name, bounded(status))).collect();
        let accepted = names.into_iter().filter(|name| !rejected.contains_key(name)).collect();
        Some(Answer { version, accepted, rejected, everything })
    }

    fn expect(&mut self, version: u64, names: BTreeSet<String>, everything: bool) -> String {
        self.last_nonce += 1;
        self.sent = version;
        self.unanswered.insert(self.last_nonce, Unanswered { version, names, everything });
        self.last_nonce.to_string()
    }
}

/// Tells a process that another one has its node id now.
pub fn fenced(current_epoch: u64) -> StreamDirectivesResponse {
    let reason = "another process registered under this node id; stop writing, then exit or register again".to_owned();
    response(String::new(), 0, Body::Fenced(Fenced { current_epoch, reason }))
}

fn response(nonce: String, version: u64, message: Body) -> StreamDirectivesResponse {
    StreamDirectivesResponse { nonce, version, lease: None, message: Some(message) }
}

fn chunks(directives: &[Directive]) -> Vec<Vec<Directive>> {
    let mut chunks: Vec<Vec<Directive>> = Vec::new();
    let mut bytes = 0;
    for directive in directives {
        let length = directive.encoded_len();
        match chunks.last_mut().filter(|_| bytes + length <= CHUNK_BYTES) {
            Some(chunk) => {
                chunk.push(directive.clone());
                bytes += length;
            }
            None => {
                chunks.push(vec![directive.clone()]);
                bytes = length;
            }
        }
    }
    chunks
}

fn bounded(status: Status) -> Status {
    let message = status.message.chars().take(MAX_REFUSAL_BYTES / 4).collect();
    let details = if status.encoded_len() > MAX_REFUSAL_BYTES { Vec::new() } else { status.details };
    Status { code: status.code, message, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directive(name: &str) -> Directive {
        Directive { name: name.to_owned(), version: 1, directive: None }
    }

    fn effect(version: u64, names: &[&str], removed: &[&str]) -> Effect {
        Effect {
            version,
            upserts: names.iter().map(|name| directive(name)).collect(),
            removed: removed.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn large(count: usize) -> Effect {
        let names: Vec<String> = (0..count).map(|n| format!("rule/{n}-{}", "x".repeat(CHUNK_BYTES / 3))).collect();
        let mut effect = effect(9, &[], &["rule/old"]);
        effect.upserts = names.iter().map(|name| directive(name)).collect();
        effect
    }

    #[test]
    fn an_empty_snapshot_still_prunes() {
        let messages = Session::new(0).snapshot(&Effect::default());
        let [StreamDirectivesResponse { nonce, message: Some(Body::Snapshot(snapshot)), .. }] = messages.as_slice()
        else {
            panic!("{messages:?}")
        };
        assert!(snapshot.last && snapshot.directives.is_empty() && nonce == "1");
    }

    #[test]
    fn a_large_snapshot_comes_in_chunks_and_is_answered_once() {
        let mut session = Session::new(0);
        let messages = session.snapshot(&large(5));
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|message| message.encoded_len() < 2 * CHUNK_BYTES));
        assert_eq!(messages.iter().filter(|message| !message.nonce.is_empty()).count(), 1);
        let answer = session.answer(&messages[2].nonce, Vec::new()).unwrap();
        assert!(answer.everything && answer.version == 9);
        assert_eq!(answer.accepted.len(), 6, "five directives and one removal");
    }

    #[test]
    fn a_split_delta_moves_the_version_with_its_last_part_only_and_removes_there() {
        let mut session = Session::new(8);
        let messages = session.delta(&large(5));
        let versions: Vec<u64> = messages.iter().map(|message| message.version).collect();
        assert_eq!(versions, [8, 8, 9]);
        let removed = messages.iter().map(|message| match &message.message {
            Some(Body::Delta(delta)) => delta.removed.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(removed.collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(session.answer("1", Vec::new()).unwrap().version, 8);
    }

    #[test]
    fn a_nack_names_the_bad_ones_and_takes_the_rest() {
        let mut session = Session::new(3);
        let messages = session.delta(&effect(4, &["domain/d", "rule/bad", "rule/good"], &["rule/gone"]));
        let refusal = Status { code: 3, message: "no such format".to_owned(), details: Vec::new() };
        let rejections =
            vec![("rule/bad".to_owned(), refusal.clone()), ("rule/never-sent".to_owned(), refusal.clone())];
        let answer = session.answer(&messages[0].nonce, rejections).unwrap();
        assert_eq!(answer.rejected, BTreeMap::from([("rule/bad".to_owned(), refusal)]));
        let accepted: Vec<_> = answer.accepted.iter().map(String::as_str).collect();
        assert_eq!(accepted, ["domain/d", "rule/gone", "rule/good"]);
        assert_eq!(session.answer(&messages[0].nonce, Vec::new()), None, "one answer per message");
        assert_eq!(session.answer("nonsense", Vec::new()), None);
    }

    #[test]
    fn a_node_that_does_not_answer_is_not_sent_more_without_bound() {
        let mut session = Session::new(0);
        let mut version = 0;
        while session.is_open() {
            version += 1;
            session.delta(&effect(version, &["rule/a"], &[]));
        }
        assert_eq!(version, MAX_UNANSWERED as u64);
        session.answer("1", Vec::new());
        assert!(session.is_open());
    }

    #[test]
    fn a_refusal_is_kept_within_bounds() {
        let status = Status { code: 3, message: "é".repeat(100_000), details: Vec::new() };
        assert!(bounded(status).encoded_len() <= MAX_REFUSAL_BYTES);
    }
}
