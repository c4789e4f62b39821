//! A stream's recordings as the control plane tells them, their objects as the bucket holds them, and the frames as
//! they were sent: all three must tell the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use media::TrackKind;
use recorder_proto::Problem;
use recorder_proto::pb::v1;

use crate::accounting::{Accounting, BOTH, Ledger};
use crate::reading::{self, Fetch, FileFrames};
use crate::scene::Clients;

/// What `flush_interval` (500 ms) and one frame (34 ms) allow a crash to cost.
pub const ALLOWANCE: Duration = Duration::from_millis(534);

/// A recording with its files, as the control plane tells them.
pub type Told = (v1::Recording, Vec<v1::File>);

/// What became of one stream.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Accounting by format.
    pub formats: BTreeMap<&'static str, Accounting>,
    /// Everything that is wrong, in words.
    pub problems: Vec<String>,
    /// Every object that a file is made of.
    pub objects: BTreeSet<String>,
    /// Files read back.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
}

/// True when nothing more will happen to a recording.
pub fn is_over(recording: &v1::Recording) -> bool {
    use v1::recording::State;
    matches!(recording.state(), State::Succeeded | State::Incomplete | State::Failed)
}

/// Every recording of a stream with its files; `None` while the control plane does not answer.
pub async fn told(clients: &mut Clients, domain: &str, stream: &str) -> Option<Vec<Told>> {
    let stream = v1::StreamRef { domain: domain.into(), app: "live".into(), stream: stream.into() };
    let request = v1::ListRecordingsRequest { stream: Some(stream), page_size: 1_000, ..Default::default() };
    let mut recordings = clients.recordings.list_recordings(request).await.ok()?.into_inner().recordings;
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    let mut told = Vec::new();
    for recording in recordings {
        let request = v1::ListFilesRequest { parent: recording.name.clone(), page_size: 1_000, ..Default::default() };
        let mut files = clients.recordings.list_files(request).await.ok()?.into_inner().files;
        files.sort_by_key(|file| (file.format, file.index, file.epoch));
        told.push((recording, files));
    }
    Some(told)
}

/// Whether a node died before anything of the file was on its disk. What is missing counts as lost like everything else.
fn is_empty(file: &v1::File) -> bool {
    file.state() == v1::file::State::Failed
        && file.error.as_ref().is_some_and(|error| Problem::from(error).reason == "FILE_EMPTY")
}

/// Holds everything about one stream against everything else. `formats` are those that its template enables.
pub fn verify(
    ledger: &Ledger<'_>,
    told: &[Told],
    formats: &[&'static str],
    allowance: Duration,
    fetch: Fetch<'_>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut by_format: BTreeMap<&str, Vec<FileFrames>> = BTreeMap::new();
    for (recording, files) in told {
        // A playlist that another node went on with names segments that the continued one names too.
        let mut counted = BTreeSet::new();
        let mut files: Vec<&v1::File> = files.iter().collect();
        files.sort_by_key(|file| Reverse(file.epoch));
        for file in files {
            let name = &file.name;
            if is_empty(file) {
                continue;
            }
            if file.state() != v1::file::State::Available {
                verdict.problems.push(format!("{name} is {} ({:?})", file.state().as_str_name(), recording.state()));
                continue;
            }
            let format = file.format().as_str_name();
            let read = reading::read(format, &file.object_key, fetch).and_then(|whole| {
                verdict.problems.extend(compare(file, &whole, fetch));
                if whole.objects.iter().any(|object| counted.contains(object)) {
                    return reading::read_beyond(format, &file.object_key, &counted, fetch);
                }
                Ok(whole)
            });
            match read {
                Ok(frames) => {
                    verdict.add(&frames);
                    verdict.bytes += file.size_bytes;
                    if file.format() == v1::format::Kind::Hls {
                        counted.extend(frames.objects.iter().cloned());
                    }
                    by_format.entry(format).or_default().push(frames);
                }
                Err(problem) => verdict.problems.push(format!("{name}: {problem}")),
            }
        }
    }
    for format in formats {
        let tracks: &[TrackKind] = if *format == "AAC" { &[TrackKind::Audio] } else { &BOTH };
        let files = by_format.get(format).map_or(&[][..], Vec::as_slice);
        let accounting = ledger.account(tracks, files);
        let problems = accounting.problems(allowance);
        if !problems.is_empty() {
            verdict.problems.push(format!("{format}: {problems}"));
        }
        verdict.formats.insert(format, accounting);
    }
    verdict
}

impl Verdict {
    /// no two files share an object.
    fn add(&mut self, file: &FileFrames) {
        self.files += 1;
        for object in &file.objects {
            if !self.objects.insert(object.clone()) {
                self.problems.push(format!("{object} belongs to two files"));
            }
        }
    }

    /// The longest time before a crash from which a frame is missing, in any format, of those that are allowed.
    pub fn longest_loss_within(&self, allowance: Duration) -> Duration {
        let lost = self.formats.values().flat_map(|format| &format.lost);
        lost.filter_map(|lost| lost.before_crash).filter(|before| *before <= allowance).max().unwrap_or_default()
    }

    /// Panics unless everything agrees.
    pub fn assert_clean(&self, what: &str) {
        assert!(self.problems.is_empty(), "{what}:\n{}", self.problems.join("\n"));
    }
}

/// size and checksum as told are those of the object.
fn compare(file: &v1::File, frames: &FileFrames, fetch: Fetch<'_>) -> Vec<String> {
    let bodies: Vec<_> = frames.objects.iter().filter_map(|key| fetch(key)).collect();
    let size: u64 = bodies.iter().map(|body| body.len() as u64).sum();
    let mut problems = Vec::new();
    // A playlist that goes on from another node's names segments that were counted there.
    let is_continued = file.format() == v1::format::Kind::Hls && file.epoch > 1;
    if size != file.size_bytes && !(is_continued && size > file.size_bytes) {
        problems.push(format!("{}: {} bytes told, {size} there", file.name, file.size_bytes));
    }
    if let ([body], false) = (&bodies[..], file.format() == v1::format::Kind::Hls) {
        let crc = BASE64_STANDARD.encode(crc32c::crc32c(body).to_be_bytes());
        if crc != file.crc32c {
            problems.push(format!("{}: CRC32C {} told, {crc} there", file.name, file.crc32c));
        }
    }
    problems
}
