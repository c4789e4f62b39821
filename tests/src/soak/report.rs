//! What a soak has seen, as numbers and as text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::NODES;
use super::judge::{Leftovers, total};
use crate::verify::{ALLOWANCE, Verdict};

/// Problems that are shown in full.
const SHOWN: usize = 40;

/// Counts of everything.
#[derive(Debug, Default)]
pub struct Report {
    /// How long things broke.
    pub duration: Duration,
    /// Disasters by kind.
    pub disasters: BTreeMap<&'static str, usize>,
    /// SIGKILLs to nodes.
    pub node_kills: usize,
    /// SIGKILLs to the control plane.
    pub control_kills: usize,
    /// SIGSTOPs.
    pub pauses: usize,
    /// Nodes that ended themselves because they were taken for dead.
    pub self_ended: usize,
    /// Times at which the bucket misbehaved.
    pub bucket_faults: usize,
    /// Streams published.
    pub streams: usize,
    /// Connections that published.
    pub sessions: usize,
    /// Publishers that left in the middle by themselves.
    pub disconnects: usize,
    /// Refusals by their words.
    pub refusals: BTreeMap<String, usize>,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Frames sent.
    pub frames_sent: usize,
    /// Frames to be found, over all formats.
    pub frames_due: usize,
    /// Frames lost within the allowance before a crash or after it, over all formats.
    pub frames_lost: usize,
    /// Frames lost without an explanation.
    pub frames_lost_beyond: usize,
    /// Longest time before a crash from which a frame is missing.
    pub longest_loss: Duration,
    /// Frames that are there twice.
    pub duplicates: usize,
    /// Frames out of order.
    pub out_of_order: usize,
    /// Largest shift of sound against picture.
    pub worst_skew: i64,
    /// Recordings by state.
    pub recordings: BTreeMap<&'static str, usize>,
    /// Manifests found.
    pub manifests: usize,
    /// Playlists that were continued by another node's, and are kept as they were.
    pub superseded: usize,
    /// Files read back frame by frame.
    pub files: usize,
    /// Bytes of these.
    pub file_bytes: u64,
    /// Files of real encoders that decode.
    pub decoded: usize,
    /// Streams verified.
    pub verified: usize,
    /// Uploads that are still open at the end.
    pub orphan_uploads: usize,
    /// Objects that no file of a recording knows.
    pub unclaimed: Vec<String>,
    /// Objects written once.
    pub objects_written: usize,
    /// Objects written again with the same bytes.
    pub objects_rewritten: usize,
    /// Versions of playlists seen, each of them valid at its time unless listed as a problem.
    pub playlist_versions: usize,
    /// Overwritten or deleted objects, invalid playlists.
    pub bucket_problems: Vec<String>,
    /// Everything else that is wrong, by stream.
    pub problems: Vec<String>,
    /// Smallest and largest resident set of each node, in KiB.
    pub memory: [(u64, u64); NODES],
    /// Where the logs were kept.
    pub logs: Option<PathBuf>,
}

impl Report {
    pub(super) fn add(&mut self, stream: &str, verdict: Verdict, leftovers: Leftovers) {
        let formats = &verdict.formats;
        let longest = verdict.longest_loss_within(ALLOWANCE);
        self.verified += 1;
        self.frames_due += total(formats, |format| format.sent);
        let beyond = total(formats, |format| format.unexplained(ALLOWANCE).len());
        self.frames_lost += total(formats, |format| format.lost.len()) - beyond;
        self.frames_lost_beyond += beyond;
        self.longest_loss = self.longest_loss.max(longest);
        self.duplicates += total(formats, |format| format.duplicates);
        self.out_of_order += total(formats, |format| format.out_of_order);
        self.worst_skew = formats.values().map(|format| format.worst_skew).fold(self.worst_skew, i64::max);
        self.files += verdict.files;
        self.file_bytes += verdict.bytes;
        self.manifests += leftovers.manifests;
        self.superseded += leftovers.superseded;
        self.unclaimed.extend(leftovers.unclaimed);
        for (state, count) in leftovers.states {
            *self.recordings.entry(state).or_default() += count;
        }
        for problem in &verdict.problems {
            eprintln!("{stream}: {problem}");
        }
        self.problems.extend(verdict.problems.into_iter().map(|problem| format!("{stream}: {problem}")));
    }

    /// Whether nothing was lost beyond the allowance, orphaned, doubled, or wrong otherwise.
    pub fn is_clean(&self) -> bool {
        self.frames_lost_beyond == 0
            && self.orphan_uploads == 0
            && self.duplicates == 0
            && self.out_of_order == 0
            && self.bucket_problems.is_empty()
            && self.problems.is_empty()
            && self.verified > 0
    }

    /// One line on the way.
    pub(super) fn progress(&self) -> String {
        let Self { verified, streams, files, problems, frames_lost_beyond, .. } = self;
        let problems = problems.len() + self.bucket_problems.len();
        format!(
            "[{verified}/{streams} streams, {files} files, {frames_lost_beyond} frames missing, {problems} problems]"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / (1 << 20);
        writeln!(f, "duration              {} s", self.duration.as_secs())?;
        writeln!(f, "SIGKILL               {} of nodes, {} of the control plane", self.node_kills, self.control_kills)?;
        writeln!(f, "SIGSTOP               {} ({} nodes ended themselves afterwards)", self.pauses, self.self_ended)?;
        writeln!(f, "bucket faults         {}", self.bucket_faults)?;
        for (kind, count) in &self.disasters {
            writeln!(f, "                      {count:>5} x {kind}")?;
        }
        let Self { streams, sessions, disconnects, verified, .. } = self;
        writeln!(
            f,
            "streams               {streams} over {sessions} connections, {disconnects} left early; {verified} verified"
        )?;
        for (reason, count) in &self.refusals {
            writeln!(f, "                      {count:>5} x {reason}")?;
        }
        writeln!(f, "sent                  {} MiB, {} frames", mib(self.bytes_sent), self.frames_sent)?;
        writeln!(
            f,
            "read back             {} files of {} MiB, {} frames due",
            self.files,
            mib(self.file_bytes),
            self.frames_due
        )?;
        let states: Vec<_> = self.recordings.iter().map(|(state, count)| format!("{count} {state}")).collect();
        writeln!(
            f,
            "recordings            {}; {} manifests; {} playlists taken over",
            states.join(", "),
            self.manifests,
            self.superseded
        )?;
        writeln!(f, "decoded by ffmpeg     {} files of a real encoder", self.decoded)?;
        writeln!(
            f,
            "lost at crashes       {} frames, the earliest {:?} before its crash (allowed {ALLOWANCE:?})",
            self.frames_lost, self.longest_loss
        )?;
        writeln!(f, "sound against picture {} ms at worst", self.worst_skew)?;
        let (written, versions) = (self.objects_written, self.playlist_versions);
        writeln!(
            f,
            "bucket                {written} objects, {} written again the same, {versions} playlist versions",
            self.objects_rewritten
        )?;
        for (node, (least, most)) in (1..).zip(self.memory) {
            writeln!(f, "memory of node {node}      {} to {} MiB", least / 1024, most / 1024)?;
        }
        writeln!(f, "unclaimed objects     {}", self.unclaimed.len())?;
        self.unclaimed.iter().take(SHOWN).try_for_each(|key| writeln!(f, "                      {key}"))?;
        writeln!(f, "lost beyond           {} frames", self.frames_lost_beyond)?;
        writeln!(f, "orphan uploads        {}", self.orphan_uploads)?;
        writeln!(f, "duplicates            {} frames, {} out of order", self.duplicates, self.out_of_order)?;
        writeln!(f, "problems              {}", self.problems.len() + self.bucket_problems.len())?;
        self.problems
            .iter()
            .chain(&self.bucket_problems)
            .take(SHOWN)
            .try_for_each(|problem| writeln!(f, "  {problem}"))?;
        match &self.logs {
            Some(folder) => writeln!(f, "logs                  {}", folder.display()),
            None => Ok(()),
        }
    }
}
