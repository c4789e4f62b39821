//! One node's side of the directive stream without the stream: what to send for a change, and what its answers mean.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use recorder_proto::pb::node::stream_directives_response::{Bookmark, Delta, Fenced, Message as Body, Snapshot};
use recorder_proto::pb::node::{Directive, StreamDirectivesResponse};
use tonic_types::pb::Status;

use super::parcel::{Names, Outgoing, Parcel, Part};

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
    /// What was told to every node; shared by all sessions.
    shared: Arc<Names>,
    /// What was told to this one.
    own: Names,
    everything: bool,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The node is at this version now.
    pub version: u64,
    /// Directives that it took (or removed); an older refusal of them is over. Empty for a whole snapshot.
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

    /// Everything, in chunks; only the last one is answered, since only it takes effect. `node` is the bare id.
    pub fn snapshot(&mut self, parcel: &Parcel, node: &str) -> Vec<Outgoing> {
        let version = parcel.version;
        let mut parts: Vec<Bytes> = parcel.chunks.iter().map(|chunk| chunk.bytes.clone()).collect();
        let last = parts.pop().unwrap_or_default();
        let part = |shared| Part::of_snapshot(String::new(), version, shared, &Snapshot::default());
        let mut messages: Vec<_> = parts.into_iter().map(part).map(Outgoing::Part).collect();
        let (directives, own) = commands(parcel, node);
        let nonce = self.expect(version, Arc::clone(&parcel.names), own, true);
        let own = Snapshot { directives, last: true };
        messages.push(Outgoing::Part(Part::of_snapshot(nonce, version, last, &own)));
        messages
    }

    /// One transaction's effect. A very large one is split; all but the last part leave the version where it was, so
    /// that a node that loses the connection in between gets the whole effect again.
    pub fn delta(&mut self, parcel: &Parcel, node: &str) -> Vec<Outgoing> {
        let before = self.sent;
        let mut messages = Vec::with_capacity(parcel.chunks.len() + 1);
        let (last, first) = match parcel.chunks.split_last() {
            Some((last, first)) => (last.bytes.clone(), first),
            None => (Bytes::new(), &[][..]),
        };
        for chunk in first {
            let nonce = self.expect(before, Arc::clone(&chunk.names), Names::new(), false);
            messages.push(Outgoing::Part(Part::of_delta(nonce, before, chunk.bytes.clone(), &Delta::default())));
        }
        let (upserts, mut own) = commands(parcel, node);
        own.extend(parcel.removed.iter().cloned());
        let names = parcel.chunks.last().map(|chunk| Arc::clone(&chunk.names)).unwrap_or_default();
        let nonce = self.expect(parcel.version, names, own, false);
        let own = Delta { upserts, removed: parcel.removed.clone() };
        messages.push(Outgoing::Part(Part::of_delta(nonce, parcel.version, last, &own)));
        messages
    }

    /// Nothing new; keeps the connection and the node's trust in it alive.
    pub fn bookmark(&self) -> Outgoing {
        Outgoing::Own(response(self.sent, Body::Bookmark(Bookmark {})))
    }

    /// The node's message with this nonce was applied, but for the rejections. None when nothing was sent under it,
    /// or it was answered already.
    pub fn answer(&mut self, nonce: &str, rejections: Vec<(String, Status)>) -> Option<Answer> {
        let Unanswered { version, shared, own, everything } = self.unanswered.remove(&nonce.parse().ok()?)?;
        let known = rejections.into_iter().filter(|(name, _)| shared.contains(name) || own.contains(name));
        let rejected: BTreeMap<String, Status> = known.map(|(name, status)| (name, bounded(status))).collect();
        let accepted = match everything {
            true => Names::new(),
            false => shared.iter().chain(&own).filter(|name| !rejected.contains_key(*name)).cloned().collect(),
        };
        Some(Answer { version, accepted, rejected, everything })
    }

    fn expect(&mut self, version: u64, shared: Arc<Names>, own: Names, everything: bool) -> String {
        self.last_nonce += 1;
        self.sent = version;
        self.unanswered.insert(self.last_nonce, Unanswered { version, shared, own, everything });
        self.last_nonce.to_string()
    }
}

/// The commands to a node, and their names.
fn commands(parcel: &Parcel, node: &str) -> (Vec<Directive>, Names) {
    let of_node = parcel.commands.iter().filter(|(to, _)| to == node).map(|(_, directive)| directive.clone());
    let directives: Vec<Directive> = of_node.collect();
    let names = directives.iter().map(|directive| directive.name.clone()).collect();
    (directives, names)
}

/// Tells a process that another one has its node id now.
pub fn fenced(current_epoch: u64) -> Outgoing {
    let reason = "another process registered under this node id; stop writing, then exit or register again".to_owned();
    Outgoing::Own(response(0, Body::Fenced(Fenced { current_epoch, reason })))
}

fn response(version: u64, message: Body) -> StreamDirectivesResponse {
    StreamDirectivesResponse { nonce: String::new(), version, lease: None, message: Some(message) }
}

fn bounded(status: Status) -> Status {
    let message = status.message.chars().take(MAX_REFUSAL_BYTES / 4).collect();
    let details = if status.encoded_len() > MAX_REFUSAL_BYTES { Vec::new() } else { status.details };
    Status { code: status.code, message, details }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directives::parcel::{DELTA_CHUNK_BYTES, Packing, SNAPSHOT_CHUNK_BYTES};

    fn directive(name: &str) -> Directive {
        Directive { name: name.to_owned(), ..Directive::default() }
    }

    fn parcel(packing: Packing, version: u64, names: &[&str], removed: &[&str]) -> Parcel {
        let mut packing = packing;
        for name in names {
            packing.add(name, version, &directive(name).encode_to_vec());
        }
        packing.close(version, removed.iter().map(|name| (*name).to_owned()).collect())
    }

    fn delta(version: u64, names: &[&str], removed: &[&str]) -> Parcel {
        parcel(Packing::delta(), version, names, removed)
    }

    /// Names of which one and a half fill a message.
    fn large(packing: Packing, bytes: usize) -> Parcel {
        let names: Vec<String> = (0..5).map(|n| format!("rule/{n}-{}", "x".repeat(bytes / 3))).collect();
        parcel(packing, 9, &names.iter().map(String::as_str).collect::<Vec<_>>(), &["rule/old"])
    }

    fn decoded(messages: &[Outgoing]) -> Vec<StreamDirectivesResponse> {
        messages.iter().map(|message| message.message().unwrap()).collect()
    }

    #[test]
    fn an_empty_snapshot_still_prunes() {
        let messages = decoded(&Session::new(0).snapshot(&Parcel::default(), "m1"));
        let [StreamDirectivesResponse { nonce, message: Some(Body::Snapshot(snapshot)), .. }] = messages.as_slice()
        else {
            panic!("{messages:?}")
        };
        assert!(snapshot.last && snapshot.directives.is_empty() && nonce == "1");
    }

    #[test]
    fn a_large_snapshot_comes_in_chunks_and_is_answered_once() {
        let mut session = Session::new(0);
        let messages = decoded(&session.snapshot(&large(Packing::everything(), SNAPSHOT_CHUNK_BYTES), "m1"));
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|message| message.encoded_len() < 2 * SNAPSHOT_CHUNK_BYTES));
        assert_eq!(messages.iter().filter(|message| !message.nonce.is_empty()).count(), 1);
        let told = messages.iter().flat_map(|message| match &message.message {
            Some(Body::Snapshot(snapshot)) => snapshot.directives.clone(),
            other => panic!("{other:?}"),
        });
        let told: Vec<_> = told.map(|directive| (directive.name[..6].to_owned(), directive.version)).collect();
        assert_eq!(told, (0..5).map(|n| (format!("rule/{n}"), 9)).collect::<Vec<_>>());
        let refused = vec![(format!("rule/0-{}", "x".repeat(SNAPSHOT_CHUNK_BYTES / 3)), Status::default())];
        let answer = session.answer(&messages[2].nonce, refused).unwrap();
        assert!(answer.everything && answer.version == 9 && answer.accepted.is_empty());
        assert_eq!(answer.rejected.len(), 1, "one that was told in an earlier chunk");
    }

    #[test]
    fn a_split_delta_moves_the_version_with_its_last_part_only_and_removes_there() {
        let mut session = Session::new(8);
        let messages = decoded(&session.delta(&large(Packing::delta(), DELTA_CHUNK_BYTES), "m1"));
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
    fn a_command_is_told_to_its_node_alone_and_comes_last() {
        let stop = crate::directives::command::stop("01JD", 1);
        let pack = |packing: Packing| {
            let mut packing = packing;
            packing.add("rule/a", 4, &directive("rule/a").encode_to_vec());
            packing.add("domain/d", 4, &directive("domain/d").encode_to_vec());
            packing.command("m1".to_owned(), stop.clone());
            packing.close(4, Vec::new())
        };
        let names = |messages: &[Outgoing]| {
            let told = decoded(messages).into_iter().flat_map(|message| match message.message {
                Some(Body::Snapshot(Snapshot { directives, .. }) | Body::Delta(Delta { upserts: directives, .. })) => {
                    directives
                }
                other => panic!("{other:?}"),
            });
            told.map(|directive| directive.name).collect::<Vec<_>>()
        };
        for (node, expected) in [("m1", &["domain/d", "rule/a", &stop.name][..]), ("m2", &["domain/d", "rule/a"])] {
            assert_eq!(names(&Session::new(0).snapshot(&pack(Packing::everything()), node)), expected);
            let mut session = Session::new(3);
            assert_eq!(names(&session.delta(&pack(Packing::delta()), node)), expected);
            let accepted = session.answer("1", Vec::new()).unwrap().accepted;
            assert_eq!(
                accepted.into_iter().collect::<BTreeSet<_>>(),
                expected.iter().map(|n| (*n).to_owned()).collect()
            );
        }
    }

    #[test]
    fn a_nack_names_the_bad_ones_and_takes_the_rest() {
        let mut session = Session::new(3);
        let messages = session.delta(&delta(4, &["domain/d", "rule/bad", "rule/good"], &["rule/gone"]), "m1");
        let refusal = Status { code: 3, message: "no such format".to_owned(), details: Vec::new() };
        let rejections =
            vec![("rule/bad".to_owned(), refusal.clone()), ("rule/never-sent".to_owned(), refusal.clone())];
        let answer = session.answer(messages[0].nonce(), rejections).unwrap();
        assert_eq!(answer.rejected, BTreeMap::from([("rule/bad".to_owned(), refusal)]));
        let accepted: Vec<_> = answer.accepted.iter().map(String::as_str).collect();
        assert_eq!(accepted, ["domain/d", "rule/gone", "rule/good"]);
        assert_eq!(session.answer(messages[0].nonce(), Vec::new()), None, "one answer per message");
        assert_eq!(session.answer("nonsense", Vec::new()), None);
    }

    #[test]
    fn a_node_that_does_not_answer_is_not_sent_more_without_bound() {
        let mut session = Session::new(0);
        let mut version = 0;
        while session.is_open() {
            version += 1;
            session.delta(&delta(version, &["rule/a"], &[]), "m1");
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
