//! Recordings about to begin: those that may go on with what another node left, or may be the first of their task, ask the
//! control plane first, for a moment.

use std::sync::Arc;
use std::time::Duration;

use media::{Timed, Tracks};
use recorder_proto::ids::RecordingId;
use recorder_proto::pb::v1::recording::EndReason;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::node::Node;
use crate::plans::Chosen;
use crate::publication::Publisher;
use crate::recording::{Feed, Grant, Recording, StartError, is_wanted, wants_aac, window_of};
use crate::shipping::Wall;

/// How long the control plane may take to say whether a recording goes on. Later than that it is a new one.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the answers are looked for.
const LOOK: Duration = Duration::from_millis(10);
/// Frames held meanwhile, in bytes; then the publisher waits too.
const MAX_HELD_BYTES: usize = 8 << 20;

/// See the module.
pub struct Starting {
    candidates: Vec<Candidate>,
    tracks: Tracks,
    wall: Wall,
    held: Vec<Timed>,
    /// The same with the sound in AAC, where that is not the same.
    heard: Option<Vec<Timed>>,
    held_bytes: usize,
    next_look: Duration,
    deadline: Duration,
}

/// What has begun.
#[derive(Default)]
pub struct Started {
    /// The recordings.
    pub recordings: Vec<Recording>,
    /// Why one of them did not, if the next attempt may do better.
    pub failure: Option<String>,
}

struct Candidate {
    chosen: Chosen,
    grant: Grant,
    answer: Option<oneshot::Receiver<Grant>>,
}

impl Starting {
    /// Of the plans that make something of these tracks.
    pub fn new(
        node: &Arc<Node>,
        publisher: &Publisher,
        chosen: Vec<Chosen>,
        tracks: Tracks,
        wall: Wall,
        now: Duration,
    ) -> Self {
        let candidates =
            chosen.into_iter().map(|chosen| Candidate::new(node, publisher, chosen, tracks, wall)).collect();
        let (next_look, deadline) = (now + LOOK, now + PATIENCE);
        Self { candidates, tracks, wall, held: Vec::new(), heard: None, held_bytes: 0, next_look, deadline }
    }

    /// They begin behind this, which the stream brought before; `heard` = the same with the sound in AAC, as far as it is
    /// ready, where that is not the same. It is kept for the stream anyway, so it counts for no publisher's wait.
    pub fn begin_with(&mut self, items: Vec<Timed>, heard: Option<Vec<Timed>>) {
        (self.held, self.heard) = (items, heard);
    }

    /// A track has come meanwhile.
    pub fn know(&mut self, tracks: Tracks) {
        self.tracks = tracks;
    }

    /// When to look for answers.
    pub fn due(&self) -> Duration {
        self.next_look.min(self.deadline)
    }

    /// Keeps what the recordings have to begin with.
    pub fn hold(&mut self, feed: Feed, items: &[Timed]) {
        if feed != Feed::Both {
            self.heard.get_or_insert_with(|| self.held.clone());
        }
        if feed.includes(Feed::Original) {
            let size = |item: &Timed| if let Timed::Frame(frame) = item { frame.data.len() } else { 0 };
            self.held_bytes += items.iter().map(size).sum::<usize>();
            self.held.extend_from_slice(items);
        }
        if let Some(heard) = self.heard.as_mut().filter(|_| feed.includes(Feed::Aac)) {
            heard.extend_from_slice(items);
        }
    }

    /// Whether any of them may want its sound in AAC.
    pub fn wants_aac(&self) -> bool {
        let template = |candidate: &Candidate| candidate.chosen.plan.template.clone().unwrap_or_default();
        self.candidates.iter().any(|candidate| wants_aac(&template(candidate), self.tracks))
    }

    /// No more should be read from the publisher for the moment.
    pub fn is_full(&self) -> bool {
        self.held_bytes >= MAX_HELD_BYTES
    }

    /// Whether every recording is known, or no longer waited for.
    pub fn is_settled(&mut self, now: Duration) -> bool {
        self.next_look = now + LOOK;
        self.candidates.iter_mut().for_each(Candidate::look);
        now >= self.deadline || self.candidates.iter().all(|candidate| candidate.answer.is_none())
    }

    /// Begins them, with everything held for them.
    pub fn start(self, node: &Arc<Node>, publisher: &Publisher) -> Started {
        let Self { candidates, tracks, wall, held, heard, .. } = self;
        let begin = |recording: &mut Recording| match &heard {
            None => recording.take(Feed::Both, &held),
            Some(heard) => recording.take(Feed::Original, &held).or_else(|| recording.take(Feed::Aac, heard)),
        };
        let mut started = Started::default();
        for mut candidate in candidates {
            candidate.look();
            let Candidate { chosen, grant, .. } = candidate;
            match Recording::start(node, publisher, chosen, tracks, wall, &grant) {
                Ok(Some(mut recording)) => match begin(&mut recording) {
                    None => started.recordings.push(recording),
                    Some(reason) => {
                        if reason == EndReason::Error {
                            started.failure = Some("the recording failed as it began".to_owned());
                        }
                        recording.finish(reason);
                    }
                },
                // The plan has no format for these tracks, for example AAC of a stream with picture.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(stream = %publisher.stream, %error, "recording cannot start");
                    // A directive that is not usable is not usable the next time either.
                    if let StartError::Spool(error) = error {
                        started.failure = Some(format!("the recording cannot start: {error}"));
                    }
                }
            }
        }
        started
    }
}

impl Candidate {
    fn new(node: &Arc<Node>, publisher: &Publisher, chosen: Chosen, tracks: Tracks, wall: Wall) -> Self {
        let id = RecordingId::new(node.clock.now(), rand::random());
        let template = chosen.plan.template.as_ref();
        let is_wanted = template.is_some_and(|template| is_wanted(template, tracks));
        let may_resume = template.is_some_and(|template| !window_of(template, tracks).is_zero());
        let may_be_first = chosen.task.as_ref().is_some_and(|task| !task.begun && task.node != node.settings.node.id);
        let asks = is_wanted && (may_resume || may_be_first) && node.link.is_connected();
        let answer = asks.then(|| ask(node, publisher, &chosen, (id, may_resume), wall));
        Self { chosen, grant: Grant::new(id), answer }
    }

    fn look(&mut self) {
        let Some(answer) = &mut self.answer else { return };
        match answer.try_recv() {
            Ok(grant) => (self.grant, self.answer) = (grant, None),
            Err(TryRecvError::Empty) => {}
            // No answer will come: it is a new recording.
            Err(TryRecvError::Closed) => self.answer = None,
        }
    }
}

/// Asks whether a recording waits for this publisher. An answer that comes too late is not taken: what it gave away waits
/// for its deadline at the control plane, as it did before.
fn ask(
    node: &Arc<Node>,
    publisher: &Publisher,
    chosen: &Chosen,
    (id, may_resume): (RecordingId, bool),
    wall: Wall,
) -> oneshot::Receiver<Grant> {
    let (tell, answer) = oneshot::channel();
    let claim = crate::link::resume_claim(node, publisher, chosen, id, wall.at, may_resume);
    let node = Arc::clone(node);
    tokio::spawn(async move {
        match node.link.claim(claim, id).await {
            Ok(grant) => {
                if let Err(grant) = tell.send(grant)
                    && grant.inheritance.is_some()
                {
                    tracing::warn!(recording = %grant.id, "too late: a new recording has begun");
                }
            }
            Err(status) => tracing::warn!(%status, "whether a recording goes on is not known; a new one begins"),
        }
    });
    answer
}
