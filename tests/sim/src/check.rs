//! The judgement: over what the database, the bucket and the publishers say.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use media::TrackKind;
use recorder_db::{Page, events, files, recordings};
use recorder_proto::ids::Sequence;
use recorder_proto::invariants::{
    ObjectFacts, available_when_confirmed, events_gap_free, keys_unique, no_upload_open, timestamps_increase,
    within_bound,
};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::file::State as FileState;
use recorder_proto::pb::v1::format::Kind as Format;
use recorder_proto::pb::v1::recording::State;
use recorder_tests::marker::Mark;
use recorder_tests::reading::{self, FileFrames};
use spool::Spool;

use crate::control::Control;
use crate::log::{Log, broken};
use crate::media_node::FLUSH_INTERVAL;
use crate::publisher::{Publisher, Sent};
use crate::world::World;

/// Loss that a crash may cause: the interval between two syncs, a frame, and what the way from the socket to the disk
/// takes (reads are paced, and the simulated disk works at the end of a tick, if at all).
pub const ALLOWANCE: u64 = FLUSH_INTERVAL.as_millis() as u64 + 40 + 160;

/// What is said of frames that no file of the control plane has, but a playlist of an earlier epoch.
pub const TAILS: &str = "a playlist that a later epoch took over";

/// Media at the end of what a connection brought that may still wait in memory when nothing follows: a frame ends where
/// the next begins, and sound waits for the picture beside it.
const HELD: u64 = 60;

/// How long the media of a new connection may wait in memory until it is known which recording it goes on with: the
/// control plane is asked, and given up after this.
const STARTING: u64 = 1_000;

/// A recording with its files as the control plane shows them.
struct Told {
    recording: v1::Recording,
    files: Vec<v1::File>,
}

fn told(control: &Control) -> Vec<Told> {
    let read = control.db.read(|db| {
        let page = Page { before: None, limit: 1_000 };
        let mut told = Vec::new();
        for row in recordings::page(db, &recordings::Filter::default(), &page)? {
            let mut all = Vec::new();
            for file in files::of_recording(db, &row.id)? {
                all.push(file.file()?);
            }
            told.push(Told { recording: row.recording()?, files: all });
        }
        Ok::<_, recorder_db::Error>(told)
    });
    control.host.block_on(read).expect("the database")
}

/// What has not come to an end; nothing when all has.
pub fn unsettled(control: &Control) -> Option<String> {
    for Told { recording, files } in told(control) {
        let state = recording.state();
        if !matches!(state, State::Succeeded | State::Incomplete | State::Failed) {
            return Some(format!("{} is {state:?}", recording.name));
        }
        let is_open = |file: &&v1::File| matches!(file.state(), FileState::Open | FileState::Uploading);
        if let Some(file) = files.iter().find(is_open) {
            return Some(format!("{} is {:?}", file.name, file.state()));
        }
    }
    None
}

/// R-5, as far as it shows: epochs only grow.
pub fn epochs_grow(control: &Control, known: &mut BTreeMap<String, i64>, log: &Log) {
    let read = control
        .db
        .read(|db| recordings::page(db, &recordings::Filter::default(), &Page { before: None, limit: 1_000 }));
    for row in control.host.block_on(read).expect("the database") {
        let before = known.insert(row.id.clone(), row.epoch).unwrap_or(0);
        if row.epoch < before {
            log.broken("control", &broken("R-5", format!("epoch {before} of {} became {}", row.id, row.epoch)));
        }
    }
}

/// R-12, as far as it shows: the spool's memory.
pub fn bounded(spool: &Spool, log: &Log) {
    log.hold("world", within_bound("the spool's queue", spool.usage().queued as u64, 80 << 20));
}

/// Judges a world that has become quiet.
pub fn judge(world: &World) {
    let control = world.control.as_ref().expect("it runs again");
    let told = told(control);
    for Told { recording, files } in &told {
        let at = |file: &v1::File| format!("{} {:?} {} {}", file.name, file.state(), file.object_key, file.size_bytes);
        let (state, reason, gaps) = (recording.state(), recording.end_reason(), recording.gaps.len());
        world
            .log
            .say("control", format!("{} {state:?} {reason:?} epoch {} gaps {gaps}", recording.name, recording.epoch));
        files.iter().for_each(|file| world.log.say("control", at(file)));
    }
    let stored = world.bucket.keys();
    for Told { recording, files } in &told {
        let id = recording.name.trim_start_matches("recordings/");
        let is_told = stored.iter().any(|(key, ..)| key.contains(id) && key.ends_with("manifest.json"));
        if !is_told && files.iter().any(|file| file.state() == FileState::Available) {
            world.log.broken("control", &broken("manifest", format!("{} has none", recording.name)));
        }
    }
    let keys: Vec<&str> = told.iter().flat_map(|told| &told.files).map(|file| file.object_key.as_str()).collect();
    world.log.hold("control", keys_unique(keys));
    let uploads = world.bucket.open_uploads();
    world.log.hold("bucket", no_upload_open(uploads.iter().map(String::as_str)));
    let sequences = control.host.block_on(control.db.read(|db| events::after(db, 0, 100_000))).expect("events");
    let sequences = sequences.into_iter().map(|event| Sequence(event.seq as u64));
    world.log.hold("control", events_gap_free(Sequence(0), sequences));
    for publisher in &world.publishers {
        Account::of(world, publisher, &told).judge();
    }
}

/// Where the frames of one stream are.
struct Account<'a> {
    world: &'a World,
    publisher: &'a Publisher,
    files: Vec<&'a v1::File>,
}

/// How often each frame was found.
type Found = BTreeMap<(u16, bool, u32), u32>;

impl<'a> Account<'a> {
    fn of(world: &'a World, publisher: &'a Publisher, told: &'a [Told]) -> Self {
        let name = format!("cam{}", publisher.number);
        let ours = told.iter().filter(|told| told.recording.stream.as_ref().is_some_and(|s| s.stream == name));
        Self { world, publisher, files: ours.flat_map(|told| &told.files).collect() }
    }

    fn wrong(&self, rule: &'static str, evidence: impl Into<String>) {
        self.world.log.broken(&format!("cam{}", self.publisher.number), &broken(rule, evidence));
    }

    fn judge(&self) {
        let formats = [(Format::Hls, "HLS"), (Format::Flv, "FLV"), (Format::Mp4, "MP4"), (Format::Aac, "AAC")];
        for ((format, name), resume) in formats.into_iter().zip(self.world.plan.formats) {
            if resume.is_some() {
                let found = self.read(format, name);
                let tails = if format == Format::Hls { self.tails() } else { Found::new() };
                self.account(name, &found, &tails);
            }
        }
    }

    /// Every frame in the available files of one format. A segment that two playlists name is read once.
    fn read(&self, format: Format, name: &str) -> Found {
        let (mut found, mut seen) = (Found::new(), BTreeSet::new());
        let available = |file: &&&v1::File| file.format() == format && file.state() == FileState::Available;
        for file in self.files.iter().filter(available) {
            self.confirm(file);
            let bucket = self.world.bucket.clone();
            let fetch = |key: &str| bucket.get(key);
            match reading::read(name, &file.object_key, &fetch) {
                Ok(frames) => self.count(&frames, &mut seen, &mut found, name),
                Err(problem) => self.wrong("R-1", problem),
            }
        }
        found
    }

    /// Frames in playlists that a later epoch goes on with: what the earlier node shipped after the later one had
    /// begun is reachable there only (reliability.md test 16: it ships its tail under its own epoch).
    fn tails(&self) -> Found {
        let (mut tails, mut seen) = (Found::new(), BTreeSet::new());
        let continued: Vec<&v1::File> =
            self.files.iter().copied().filter(|file| file.format() == Format::Hls && file.epoch > 1).collect();
        let folder_of = |file: &v1::File| file.name.split('/').nth(1).map(str::to_owned).unwrap_or_default();
        let recordings: BTreeSet<String> = continued.into_iter().map(folder_of).collect();
        let known: BTreeSet<&str> = self.files.iter().map(|file| file.object_key.as_str()).collect();
        for (key, ..) in self.world.bucket.keys() {
            let is_tail = key.ends_with(".m3u8") && !known.contains(key.as_str());
            if !is_tail || !recordings.iter().any(|recording| key.contains(recording.as_str())) {
                continue;
            }
            let bucket = self.world.bucket.clone();
            match reading::read("HLS", &key, &|key: &str| bucket.get(key)) {
                Ok(frames) => self.count(&frames, &mut seen, &mut tails, "HLS"),
                Err(problem) => self.wrong("R-1", problem),
            }
        }
        tails
    }

    /// R-3, looked at afterwards.
    fn confirm(&self, file: &v1::File) {
        let body: Option<Bytes> = self.world.bucket.get(&file.object_key);
        let shown = body.map(|body| ObjectFacts {
            // That of a playlist is the sum of all it names.
            size: if file.format() == Format::Hls { file.size_bytes } else { body.len() as u64 },
            crc32c: store::crc32c_base64(crc32c::crc32c(&body)),
            etag: format!("{:08x}-{}", crc32c::crc32c(&body), body.len()),
        });
        let crc32c = file.crc32c.clone();
        let ours = ObjectFacts { size: file.size_bytes, crc32c, etag: file.object_etag.clone() };
        self.world.log.hold(&file.name, available_when_confirmed(&ours, shown.as_ref()));
    }

    fn count(&self, file: &FileFrames, seen: &mut BTreeSet<String>, found: &mut Found, name: &str) {
        // Whole files are one object; of a playlist the segments are told apart by their discontinuities only, so the
        // marks themselves say what was seen before.
        let fresh = file.objects.iter().filter(|object| seen.insert((*object).clone())).count();
        let is_again = name == "HLS" && fresh < file.objects.len();
        let mut tracks: BTreeMap<(u32, bool), Vec<i64>> = BTreeMap::new();
        for frame in &file.frames {
            let is_video = frame.track == TrackKind::Video;
            tracks.entry((frame.part, is_video)).or_default().push(frame.dts);
            let Some(mark) = frame.mark.filter(|mark: &Mark| mark.stream == self.publisher.number) else {
                self.wrong("R-1", format!("{} holds a frame that was never sent so", file.key));
                continue;
            };
            let times = found.entry((mark.session, is_video, mark.counter)).or_default();
            *times = if is_again { (*times).max(1) } else { *times + 1 };
        }
        for dts in tracks.into_values() {
            if let Err(broken) = timestamps_increase(dts) {
                self.wrong("R-10", format!("{}: {}", file.key, broken.evidence));
            }
        }
    }

    /// every frame that the node had taken is in one file, or lost in a crash shortly after.
    fn account(&self, name: &str, found: &Found, tails: &Found) {
        let (mut received, mut lost, mut tail, mut longest) = (0, 0, 0, 0);
        let twice = found.iter().filter(|(_, times)| **times > 1).count();
        if twice > 0 {
            self.wrong("R-1", format!("{name}: {twice} frames are there more than once"));
        }
        let mut unexplained = Vec::new();
        for (number, session) in self.publisher.sessions().iter().enumerate() {
            let taken = |frame: &Sent| self.world.network.taken_at(session.pipe, frame.end);
            let begun = session.frames.first().and_then(taken).unwrap_or(0) + STARTING;
            for frame in &session.frames {
                let is_video = frame.track == TrackKind::Video;
                if name == "AAC" && is_video {
                    continue;
                }
                let Some(at) = taken(frame) else { continue };
                received += 1;
                let which = (number as u16, is_video, frame.counter);
                if found.contains_key(&which) {
                    continue;
                }
                if tails.contains_key(&which) {
                    tail += 1;
                    continue;
                }
                lost += 1;
                // From here on it could have been written.
                let after = session.frames.iter().find(|other| other.time() > frame.time() + HELD);
                let free = after.and_then(taken).unwrap_or(u64::MAX).max(begun);
                let crash = self.world.crashes.iter().filter(|crash| crash.host == session.node && crash.at >= at);
                match crash.map(|crash| crash.at.saturating_sub(free)).min() {
                    Some(before) if before <= ALLOWANCE => longest = longest.max(before),
                    before => unexplained.push((number, is_video, frame.counter, at, before)),
                }
            }
        }
        let who = format!("cam{}", self.publisher.number);
        let sum = format!("{name}: {received} received, {lost} lost, at most {longest} ms before a crash");
        self.world.log.say(&who, sum);
        if tail > 0 {
            self.world.log.say(&who, format!("{name}: {tail} frames only in {TAILS}"));
        }
        if let (Some(first), Some(last)) = (unexplained.first(), unexplained.last()) {
            let count = unexplained.len();
            let what = "(session, is video, number, received at ms, ms before a crash)";
            self.wrong(
                "R-1",
                format!("{name}: {count} of {received} frames lost without cause: {first:?} to {last:?} {what}"),
            );
        }
    }
}
