//! The last good directives: what this node records, decided without asking anyone.
//!
//! Kept on disk, so that a node that restarts while the control plane is away still knows what to record.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_proto::key::KeyTemplate;
use recorder_proto::limits;
use recorder_proto::matching;
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::directive::{self, DomainPolicy, Scheduled, Standing};
use recorder_proto::pb::node::plan::StorageRef;
use recorder_proto::pb::node::stream_directives_request::nack::Rejection;
use recorder_proto::pb::node::{Directive, GetSnapshotResponse, Plan};
use recorder_proto::time::{datetime, std_duration};
use tonic::Code;
use tonic_types::pb::Status;

use crate::recording::of_template;

const FILE: &str = "directives.pb";
/// Name of the directive about what is kept of live streams.
const BACKLOG: &str = "backlog/all";

/// What the node does beside remembering when directives change.
#[derive(Debug, Default)]
pub struct Applied {
    /// Directives that were refused; their last good version stays.
    pub rejections: Vec<Rejection>,
    /// Commands that arrived.
    pub controls: Vec<directive::Control>,
    /// Streams whose tasks are others now.
    pub tasks: BTreeSet<StreamKey>,
}

#[derive(Default)]
struct Known {
    version: u64,
    by_name: BTreeMap<String, Directive>,
    /// Names of DomainPolicy and Standing directives by push domain, so that a publish reads only its own.
    by_domain: HashMap<String, BTreeSet<String>>,
    /// Names of tasks by stream.
    by_stream: HashMap<StreamKey, BTreeSet<String>>,
    /// Streams whose tasks have changed since that was asked for.
    changed: BTreeSet<StreamKey>,
    /// Names seen in the snapshot that is arriving in chunks.
    arriving: Option<BTreeSet<String>>,
}

/// The directives of this node.
pub struct Directives {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    /// The file is written where that is asked for: a simulation has no other threads.
    inline: bool,
    known: RwLock<Known>,
    /// Held while the file is written: a write whose caller went away must not overtake the next one.
    disk: Mutex<()>,
}

impl Directives {
    /// Reads what an earlier run left; an unreadable file counts as none, because the control plane has the truth.
    pub fn open(folder: &Path) -> Self {
        Self::read_from(folder, false)
    }

    /// [`Self::open`] without the help of other threads.
    #[cfg(feature = "sim")]
    pub fn open_inline(folder: &Path) -> Self {
        Self::read_from(folder, true)
    }

    fn read_from(folder: &Path, inline: bool) -> Self {
        let path = folder.join(FILE);
        let mut known = Known::default();
        match std::fs::read(&path).map(|bytes| GetSnapshotResponse::decode(bytes.as_slice())) {
            Ok(Ok(stored)) => {
                known.version = stored.version;
                stored.directives.into_iter().for_each(|directive| known.put(directive));
            }
            Ok(Err(error)) => tracing::warn!(%error, "stored directives are unreadable; waiting for the control plane"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "stored directives cannot be read; waiting for the control plane"),
        }
        Self { shared: Arc::new(Shared { path, inline, known: RwLock::new(known), disk: Mutex::new(()) }) }
    }

    /// The version held completely.
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// One chunk of a snapshot. After the `last` one everything it did not name is forgotten, and [`Directives::store`]
    /// is due.
    pub fn snapshot(&self, version: u64, directives: Vec<Directive>, last: bool) -> Applied {
        let mut known = self.write();
        let mut arriving = known.arriving.take().unwrap_or_default();
        arriving.extend(directives.iter().map(|directive| directive.name.clone()));
        let applied = known.upsert(directives);
        if last {
            let gone: Vec<String> = known.by_name.keys().filter(|name| !arriving.contains(*name)).cloned().collect();
            gone.iter().for_each(|name| known.remove(name));
            known.version = version;
        } else {
            known.arriving = Some(arriving);
        }
        Applied { tasks: std::mem::take(&mut known.changed), ..applied }
    }

    /// The effect of one transaction of the control plane; [`Directives::store`] is due.
    pub fn delta(&self, version: u64, upserts: Vec<Directive>, removed: &[String]) -> Applied {
        let mut known = self.write();
        let applied = known.upsert(upserts);
        removed.iter().for_each(|name| known.remove(name));
        known.version = version;
        Applied { tasks: std::mem::take(&mut known.changed), ..applied }
    }

    /// Nothing changed up to `version`.
    pub fn bookmark(&self, version: u64) {
        let mut known = self.write();
        if version > known.version && known.arriving.is_none() {
            known.version = version;
        }
    }

    /// A broken stream forgets the half of a snapshot that had arrived.
    pub fn interrupted(&self) {
        self.write().arriving = None;
    }

    /// The policy of a push domain.
    pub fn domain(&self, domain: &str) -> Option<DomainPolicy> {
        let known = self.read();
        known.of_domain(domain).find_map(|directive| match directive.directive.as_ref() {
            Some(directive::Directive::Domain(policy)) => Some(policy.clone()),
            _ => None,
        })
    }

    /// Bindings and rules of a push domain.
    pub fn standings(&self, domain: &str) -> Vec<Standing> {
        let known = self.read();
        let of_domain = known.of_domain(domain);
        of_domain
            .filter_map(|directive| match directive.directive.as_ref() {
                Some(directive::Directive::Standing(standing)) => Some(standing.clone()),
                _ => None,
            })
            .collect()
    }

    /// The tasks of a stream, due or not.
    pub fn tasks(&self, stream: &StreamKey) -> Vec<Scheduled> {
        let known = self.read();
        let names = known.by_stream.get(stream).into_iter().flatten();
        names.filter_map(|name| known.task(name)).cloned().collect()
    }

    /// When the task ends that is the origin of something; `None` = it is no task, `Some(None)` = one that is not known.
    pub fn task_end(&self, origin: &str) -> Option<Option<DateTime<Utc>>> {
        let name = format!("task/{}", origin.strip_prefix("tasks/")?);
        let known = self.read();
        Some(known.task(&name).and_then(|task| task.end_time.as_ref()).and_then(datetime))
    }

    /// A recording of the task begins. Whether one has begun before, here or, as far as is known, elsewhere.
    pub fn begin_task(&self, id: &str) -> bool {
        let mut known = self.write();
        let directive = known.by_name.get_mut(&format!("task/{id}")).and_then(|known| known.directive.as_mut());
        match directive {
            Some(directive::Directive::Scheduled(task)) => std::mem::replace(&mut task.begun, true),
            _ => true,
        }
    }

    /// Commands to send files to another storage.
    pub fn retries(&self) -> Vec<directive::Control> {
        let known = self.read();
        let control = |directive: &Directive| match &directive.directive {
            Some(directive::Directive::Control(control)) if control.storage.is_some() => Some(control.clone()),
            _ => None,
        };
        known.by_name.values().filter_map(control).collect()
    }

    /// How much a task may want of a stream from before its start.
    pub fn pre_roll(&self) -> Duration {
        let known = self.read();
        let backlog = known.by_name.get(BACKLOG).and_then(|directive| directive.directive.as_ref());
        match backlog {
            Some(directive::Directive::Backlog(backlog)) => {
                backlog.pre_roll.as_ref().and_then(std_duration).unwrap_or_default().min(limits::PRE_ROLL_MAX)
            }
            _ => Duration::ZERO,
        }
    }

    /// Puts what is known on disk, off the async threads and without keeping any reader waiting. A failure is logged:
    /// it only matters to a restart without the control plane.
    pub async fn store(&self) {
        let shared = Arc::clone(&self.shared);
        if shared.inline {
            return shared.store();
        }
        if let Err(error) = tokio::task::spawn_blocking(move || shared.store()).await {
            tracing::error!(%error, "storing the directives was cut short");
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.shared.read()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.shared.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn store(&self) {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        // Encoded after the disk is free, so that the last to write always writes the newest.
        let bytes = self.read().encode();
        if let Err(error) = super::persist::replace(&self.path, &bytes) {
            tracing::error!(%error, "directives cannot be stored; a restart without the control plane would not record");
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn encode(&self) -> Vec<u8> {
        // Commands are done once; a restart must not repeat them. Files that are sent elsewhere go on being sent there.
        let keep = |directive: &&Directive| match &directive.directive {
            Some(directive::Directive::Control(control)) => control.storage.is_some(),
            _ => true,
        };
        let directives = self.by_name.values().filter(keep).cloned().collect();
        GetSnapshotResponse { version: self.version, directives }.encode_to_vec()
    }

    fn upsert(&mut self, directives: Vec<Directive>) -> Applied {
        let mut applied = Applied::default();
        for directive in directives {
            match check(&directive) {
                Err(message) => applied.rejections.push(reject(&directive.name, message)),
                Ok(()) => {
                    if let Some(directive::Directive::Control(control)) = &directive.directive {
                        applied.controls.push(control.clone());
                    }
                    self.put(directive);
                }
            }
        }
        applied
    }

    fn put(&mut self, mut directive: Directive) {
        if let Some(directive::Directive::Scheduled(task)) = &mut directive.directive {
            // This node may know it sooner than the control plane.
            task.begun |= self.task(&directive.name).is_some_and(|known| known.begun);
        }
        self.remove(&directive.name);
        if let Some(stream) = stream_of(&directive) {
            self.by_stream.entry(stream.clone()).or_default().insert(directive.name.clone());
            self.changed.insert(stream);
        }
        if let Some(domain) = domain_of(&directive) {
            self.by_domain.entry(domain.to_owned()).or_default().insert(directive.name.clone());
        }
        self.by_name.insert(directive.name.clone(), directive);
    }

    fn remove(&mut self, name: &str) {
        let Some(old) = self.by_name.remove(name) else { return };
        if let Some(stream) = stream_of(&old) {
            if let Some(names) = self.by_stream.get_mut(&stream) {
                names.remove(name);
                if names.is_empty() {
                    self.by_stream.remove(&stream);
                }
            }
            self.changed.insert(stream);
        }
        let Some(domain) = domain_of(&old) else { return };
        if let Some(names) = self.by_domain.get_mut(domain) {
            names.remove(name);
            if names.is_empty() {
                self.by_domain.remove(domain);
            }
        }
    }

    fn task(&self, name: &str) -> Option<&Scheduled> {
        match self.by_name.get(name)?.directive.as_ref()? {
            directive::Directive::Scheduled(task) => Some(task),
            _ => None,
        }
    }

    fn of_domain(&self, domain: &str) -> impl Iterator<Item = &Directive> {
        let names = self.by_domain.get(domain);
        names.into_iter().flatten().filter_map(|name| self.by_name.get(name))
    }
}

fn domain_of(directive: &Directive) -> Option<&str> {
    match directive.directive.as_ref()? {
        directive::Directive::Domain(policy) => Some(&policy.domain),
        directive::Directive::Standing(standing) => Some(&standing.domain),
        _ => None,
    }
}

/// The stream of a task.
fn stream_of(directive: &Directive) -> Option<StreamKey> {
    match directive.directive.as_ref()? {
        directive::Directive::Scheduled(task) => StreamKey::try_from(task.stream.as_ref()?).ok(),
        _ => None,
    }
}

fn reject(name: &str, message: String) -> Rejection {
    let error = Status { code: Code::InvalidArgument as i32, message, details: Vec::new() };
    Rejection { directive: name.to_owned(), error: Some(error) }
}

/// What this release cannot do must be said now, not discovered when the stream is live.
fn check(directive: &Directive) -> Result<(), String> {
    match directive.directive.as_ref() {
        None => Err("this node does not know this kind of directive".into()),
        Some(directive::Directive::Standing(standing)) => {
            matching::Standing::try_from(standing).map_err(|unusable| unusable.to_string())?;
            standing.plan.as_ref().filter(|_| !standing.skip).map_or(Ok(()), check_plan)
        }
        Some(directive::Directive::Scheduled(scheduled)) => {
            StreamKey::try_from(scheduled.stream.as_ref().ok_or("the stream is missing")?)
                .map_err(|error| format!("stream: {error}"))?;
            let times = [&scheduled.start_time, &scheduled.end_time];
            if times.iter().any(|time| time.as_ref().and_then(datetime).is_none()) {
                return Err("a time is missing".into());
            }
            check_plan(scheduled.plan.as_ref().ok_or("the plan is missing")?)
        }
        Some(directive::Directive::Control(control)) => control.storage.as_ref().map_or(Ok(()), check_storage),
        Some(_) => Ok(()),
    }
}

fn check_storage(storage: &StorageRef) -> Result<(), String> {
    if !["s3", "gcs", "file_system"].contains(&storage.kind.as_str()) {
        return Err(format!("storage.kind: this node cannot write to {:?}", storage.kind));
    }
    Ok(())
}

fn check_plan(plan: &Plan) -> Result<(), String> {
    let template = plan.template.as_ref().ok_or("plan.template is missing")?;
    let storage = plan.storage.as_ref().ok_or("plan.storage is missing")?;
    check_storage(storage).map_err(|problem| format!("plan.{problem}"))?;
    for (format, options) in of_template(template, None) {
        mux::registry::open(format, &options).map_err(|unavailable| format!("plan.template: {unavailable}"))?;
    }
    KeyTemplate::parse(&template.path).map(drop).map_err(|errors| {
        let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("plan.template.path: {}", sentences.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use recorder_proto::pb::v1::Template;

    fn standing(name: &str, domain: &str, kind: &str) -> Directive {
        let storage = StorageRef { name: "storages/library".into(), kind: kind.into(), ..Default::default() };
        let template = Template { name: "templates/t".into(), ..Default::default() };
        let plan = Plan { template: Some(template), storage: Some(storage), ..Default::default() };
        let rank = matching::rank(matching::Level::Domain, 0);
        let standing = Standing { domain: domain.into(), rank, plan: Some(plan), ..Default::default() };
        Directive { name: name.into(), version: 1, directive: Some(directive::Directive::Standing(standing)) }
    }

    #[test]
    fn a_snapshot_in_chunks_prunes_only_after_its_last_chunk() {
        let folder = tempfile::tempdir().unwrap();
        let directives = Directives::open(folder.path());
        directives.delta(3, vec![standing("old", "a.example", "s3")], &[]);
        directives.snapshot(7, vec![standing("one", "a.example", "s3")], false);
        assert_eq!(directives.standings("a.example").len(), 2);
        assert_eq!(directives.version(), 3);
        directives.snapshot(7, vec![standing("two", "b.example", "s3")], true);
        assert_eq!(directives.standings("a.example").len(), 1);
        assert_eq!(directives.version(), 7);
    }

    fn task(begun: bool, end: i64) -> Directive {
        let Some(directive::Directive::Standing(like)) = standing("x", "a.example", "s3").directive else { panic!() };
        let wire = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let stream = Some(recorder_proto::pb::v1::StreamRef {
            domain: "a.example".into(),
            stream: "cam".into(),
            ..Default::default()
        });
        let (origin, node) = ("tasks/ny".to_owned(), String::new());
        let (start_time, end_time, plan) = (wire(1), wire(end), like.plan);
        let scheduled = Scheduled { stream, start_time, end_time, plan, origin, begun, node };
        let directive = Some(directive::Directive::Scheduled(scheduled));
        Directive { name: "task/ny".into(), version: 1, directive }
    }

    #[tokio::test]
    async fn tasks_are_found_by_stream_and_whoever_records_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let directives = Directives::open(folder.path());
        let stream = StreamKey::new("a.example", "", "cam").unwrap();
        let applied = directives.delta(1, vec![task(false, 60), standing("one", "a.example", "s3")], &[]);
        assert_eq!(applied.tasks, [stream.clone()].into());
        assert_eq!((directives.tasks(&stream).len(), directives.standings("a.example").len()), (1, 1));
        assert_eq!(directives.task_end("tasks/ny").unwrap().unwrap().timestamp(), 60);
        assert_eq!((directives.task_end("tasks/x"), directives.task_end("rules/ny")), (Some(None), None));
        assert!(!directives.begin_task("ny"), "the first recording of it");
        directives.store().await;
        let directives = Directives::open(folder.path());
        assert!(directives.begin_task("ny"), "a restart knows that it began");
        directives.delta(2, vec![task(false, 90)], &[]);
        assert!(directives.begin_task("ny"), "and so does who has heard an older word of the control plane");
        assert_eq!(directives.task_end("tasks/ny").unwrap().unwrap().timestamp(), 90);
        let applied = directives.snapshot(3, vec![standing("one", "a.example", "s3")], true);
        assert_eq!(applied.tasks, [stream.clone()].into());
        assert!(directives.tasks(&stream).is_empty() && directives.begin_task("ny"));
        assert!(directives.snapshot(4, vec![standing("one", "a.example", "s3")], true).tasks.is_empty());
    }

    #[tokio::test]
    async fn directives_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let directives = Directives::open(folder.path());
        directives.delta(9, vec![standing("one", "a.example", "file_system")], &[]);
        directives.store().await;
        let directives = Directives::open(folder.path());
        assert_eq!(directives.version(), 9);
        assert_eq!(directives.standings("a.example").len(), 1);
    }

    #[test]
    fn a_bad_directive_is_named_and_its_last_good_version_stays() {
        let folder = tempfile::tempdir().unwrap();
        let directives = Directives::open(folder.path());
        directives.delta(1, vec![standing("one", "a.example", "s3")], &[]);
        let update = vec![standing("one", "a.example", "tape"), standing("two", "a.example", "s3")];
        let applied = directives.delta(2, update, &[]);
        assert_eq!(applied.rejections.len(), 1);
        assert_eq!(applied.rejections[0].directive, "one");
        assert_eq!(directives.standings("a.example").len(), 2);
        assert_eq!(directives.version(), 2);
    }

    #[test]
    fn a_damaged_file_is_no_reason_not_to_start() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), b"\xff\xff\xff garbage").unwrap();
        assert_eq!(Directives::open(folder.path()).version(), 0);
    }

    #[tokio::test]
    async fn every_publish_waited_while_directives_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let directives = Directives::open(folder.path());
        // A disk that takes nothing until the test reads: opening a pipe for writing waits for a reader.
        let staged = folder.path().join("directives.new");
        assert!(std::process::Command::new("mkfifo").arg(&staged).status().unwrap().success());
        directives.delta(9, vec![standing("one", "a.example", "s3")], &[]);
        let mut store = Box::pin(directives.store());
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(store.as_mut().poll(context))).await;
        assert!(polled.is_pending(), "the disk is not done, and this thread is free");
        assert_eq!(directives.standings("a.example").len(), 1);
        directives.delta(10, vec![standing("two", "a.example", "s3")], &[]);
        assert_eq!(directives.standings("a.example").len(), 2);
        let written = tokio::task::spawn_blocking(move || std::fs::read(&staged).unwrap()).await.unwrap();
        store.await;
        let written = GetSnapshotResponse::decode(written.as_slice()).unwrap();
        assert!(written.directives.iter().any(|directive| directive.name == "one"), "{written:?}");
    }
}
