//! How far running recordings are, for people who watch: what their nodes said with the newest heartbeat is laid over what
//! facts have told, where it is shown, and changes nothing that is stored.
//!
//! One row a node holds it, so that any replica can show it. Watches are served by one reader for the whole process, which
//! rests while nobody watches.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use recorder_db::recordings::{self, Row};
use recorder_db::{AnyConnection, Db, Result, events, node_progress};
use recorder_proto::facts::OutputTotals;
use recorder_proto::format::Format;
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::stream_directives_request::{Progress as Told, progress::Item};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::{Output, State};
use recorder_proto::time;
use recorder_runtime::drain::Signal;
use tokio::sync::watch;

use crate::api::recording::shown;
use crate::ledger::totals;

/// How often watches are told of progress; nodes tell it with every heartbeat, by default as often.
const INTERVAL: Duration = Duration::from_secs(2);

/// Recordings read for one round: what more has changed has its turn in a later one.
const MOST: usize = 1_000;

/// Rows read in one statement.
const CHUNK: usize = 250;

/// What nodes have said of running recordings.
#[derive(Debug, Default)]
pub struct Known {
    /// By recording id; with the node that said it.
    items: HashMap<String, (String, Item)>,
}

impl Known {
    /// Of the recordings in these rows that run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn of(db: &mut AnyConnection, rows: &[Row]) -> Result<Self> {
        let running = rows.iter().filter(|row| row.state == State::Recording as i32);
        let nodes: BTreeSet<String> = running.map(|row| row.node.clone()).collect();
        Self::of_nodes(db, &nodes.into_iter().collect::<Vec<_>>())
    }

    fn of_nodes(db: &mut AnyConnection, nodes: &[String]) -> Result<Self> {
        let mut items = HashMap::new();
        for nodes in nodes.chunks(CHUNK) {
            for row in node_progress::of_nodes(db, nodes)? {
                // What cannot be read was said by a newer release: it is shown without.
                let told = Told::decode(row.body.as_slice()).unwrap_or_default();
                let id = |item: &Item| item.recording.parse::<RecordingName>().ok().map(|name| name.0.to_string());
                let known = told.recordings.into_iter().filter_map(|item| Some((id(&item)?, (row.node.clone(), item))));
                items.extend(known);
            }
        }
        Ok(Self { items })
    }

    /// Shows a recording as far as it is. Only whoever records it now is heard, and numbers never fall behind the facts.
    ///
    /// # Errors
    /// When the row cannot be read.
    pub fn show(&self, row: &Row, shown: &mut v1::Recording) -> Result<()> {
        let Some((node, item)) = self.items.get(&row.id).filter(|_| shown.state() == State::Recording) else {
            return Ok(());
        };
        if *node != row.node || i64::try_from(item.epoch).ok() != Some(row.epoch) {
            return Ok(());
        }
        let before = row.inherited()?;
        let media = item.media_duration.as_ref().and_then(time::std_duration).unwrap_or_default();
        let media = totals::duration(before.media_duration.as_ref(), u64::try_from(media.as_micros()).unwrap_or(0));
        let is_more = |known: &prost_types::Duration| (known.seconds, known.nanos) < (media.seconds, media.nanos);
        if shown.media_duration.as_ref().is_none_or(is_more) {
            shown.media_duration = Some(media);
        }
        let told: Vec<OutputTotals> = item.outputs.iter().filter_map(counted).collect();
        let merged = totals::outputs(&shown.outputs, &before.outputs, &told);
        for output in merged {
            match shown.outputs.iter_mut().find(|known| known.format == output.format) {
                Some(known) => raise(known, &output),
                None => shown.outputs.push(output),
            }
        }
        Ok(())
    }
}

/// Errors are told by facts only.
fn counted(output: &Output) -> Option<OutputTotals> {
    Some(OutputTotals {
        format: Format::try_from(output.format()).ok()?,
        files: output.files,
        bytes_recorded: output.bytes_recorded,
        bytes_uploaded: output.bytes_uploaded,
        upload_lag_micros: 0,
        error: None,
    })
}

fn raise(known: &mut Output, told: &Output) {
    known.files = known.files.max(told.files);
    known.bytes_recorded = known.bytes_recorded.max(told.bytes_recorded);
    known.bytes_uploaded = known.bytes_uploaded.max(told.bytes_uploaded);
}

/// Recordings that have come on, as of one moment.
#[derive(Debug, Default)]
pub struct Round {
    /// The newest event by then.
    pub events: u64,
    /// As the API shows them, by name.
    pub recordings: BTreeMap<String, v1::Recording>,
}

impl Round {
    /// Has a recording, as it was when something was told of it, not fall behind what has been shown.
    pub fn lift(&self, recording: &mut v1::Recording) {
        let is_same = |known: &&v1::Recording| known.epoch == recording.epoch && known.state == recording.state;
        let Some(known) = self.recordings.get(&recording.name).filter(is_same) else { return };
        let length = |of: &v1::Recording| of.media_duration.map(|length| (length.seconds, length.nanos));
        if length(recording) < length(known) {
            recording.media_duration = known.media_duration;
        }
        for output in &mut recording.outputs {
            if let Some(known) = known.outputs.iter().find(|known| known.format == output.format) {
                raise(output, known);
            }
        }
    }
}

/// Rounds for watches; clones and subscriptions share one reader.
#[derive(Debug, Clone, Default)]
pub struct Rounds {
    newest: watch::Sender<Arc<Round>>,
}

impl Rounds {
    /// Changes with every round in which something has come on.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Round>> {
        self.newest.subscribe()
    }

    /// Reads rounds as long as somebody follows them, until the drain begins.
    pub async fn run(self, db: Db, drain: Signal) {
        let (mut times, mut begin) = (HashMap::new(), String::new());
        loop {
            tokio::select! {
                () = drain.draining() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if self.newest.receiver_count() == 0 {
                continue;
            }
            let (before, from) = (std::mem::take(&mut times), std::mem::take(&mut begin));
            let read = db.read(move |db| round(db, &before, &from)).await;
            match read {
                Ok((now, next, round)) => {
                    (times, begin) = (now, next);
                    if !round.recordings.is_empty() {
                        self.newest.send_replace(Arc::new(round));
                    }
                }
                Err(error) => tracing::debug!(%error, "progress cannot be read"),
            }
        }
    }
}

type Times = HashMap<String, i64>;

/// What has come on since `before`: beginning behind the recording `from` when it is more than fits in a round.
fn round(db: &mut AnyConnection, before: &Times, from: &str) -> Result<(Times, String, Round)> {
    let events = u64::try_from(events::last(db)?).unwrap_or_default();
    let times: Times = node_progress::times(db)?.into_iter().collect();
    let changed = times.iter().filter(|(node, time)| before.get(*node) != Some(*time));
    let known = Known::of_nodes(db, &changed.map(|(node, _)| node.clone()).collect::<Vec<_>>())?;
    let mut ids: Vec<String> = known.items.keys().cloned().collect();
    ids.sort_unstable();
    let mut next = String::new();
    if ids.len() > MOST {
        let begin = ids.partition_point(|id| id.as_str() <= from);
        ids.rotate_left(begin);
        ids.truncate(MOST);
        next = ids.last().cloned().unwrap_or_default();
    }
    let mut recordings = BTreeMap::new();
    for ids in ids.chunks(CHUNK) {
        for row in recordings::of_ids(db, ids)? {
            let mut shown = shown(&row)?;
            if shown.state() == State::Recording {
                known.show(&row, &mut shown)?;
                recordings.insert(shown.name.clone(), shown);
            }
        }
    }
    Ok((times, next, Round { events, recordings }))
}
