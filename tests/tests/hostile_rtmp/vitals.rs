//! The node as the operating system sees it: alive, how large, how many descriptors.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use recorder_tests::wait;
use tokio::task::JoinHandle;
use tokio::time::interval;

/// Growth that is allowed under attack, in KiB. 500 publishers at once are about 50 MB, a tenth of a megabyte each; what
/// the attack before has freed stays with the process for a second or so (the allocator's setting) and adds to it.
const MOST_KIB: u64 = 96 * 1024;
/// Between two looks.
const EVERY: Duration = Duration::from_millis(10);

/// Looks at a process all the time.
pub struct Vitals {
    proc: PathBuf,
    /// Resident KiB and open descriptors at the start.
    baseline: (u64, usize),
    peaks: Arc<Peaks>,
    sampler: JoinHandle<()>,
}

#[derive(Default)]
struct Peaks {
    resident: AtomicU64,
    descriptors: AtomicUsize,
}

impl Vitals {
    /// From now on; what is resident now is the baseline.
    pub fn watch(pid: u32) -> Self {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let peaks = Arc::new(Peaks::default());
        let (path, shared) = (proc.clone(), Arc::clone(&peaks));
        let sampler = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            loop {
                ticks.tick().await;
                shared.resident.fetch_max(resident_kib(&path), Ordering::Relaxed);
                shared.descriptors.fetch_max(descriptors(&path), Ordering::Relaxed);
            }
        });
        Self { baseline: (resident_kib(&proc), descriptors(&proc)), proc, peaks, sampler }
    }

    /// Fails when the process is gone, or has ever been too large.
    pub fn check(&self, what: &str) {
        assert!(self.proc.join("fd").read_dir().is_ok(), "the node died: {what}");
        let grown = self.grown_kib();
        assert!(grown <= MOST_KIB, "{grown} KiB more than the {} KiB before: {what}", self.baseline.0);
    }

    /// The largest growth so far, in KiB.
    pub fn grown_kib(&self) -> u64 {
        self.peaks.resident.load(Ordering::Relaxed).saturating_sub(self.baseline.0)
    }

    /// Open descriptors now.
    pub fn descriptors(&self) -> usize {
        descriptors(&self.proc)
    }

    /// Waits until hardly more descriptors are open than at the start; recordings had not opened all of theirs then.
    pub async fn until_quiet(&self) {
        let most = self.baseline.1 + 16;
        wait::until("the descriptors to be closed", async || (self.descriptors() <= most).then_some(())).await;
    }

    /// The most open descriptors so far.
    pub fn peak_descriptors(&self) -> usize {
        self.peaks.descriptors.load(Ordering::Relaxed)
    }
}

impl Drop for Vitals {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

fn resident_kib(proc: &Path) -> u64 {
    let status = std::fs::read_to_string(proc.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn descriptors(proc: &Path) -> usize {
    proc.join("fd").read_dir().map_or(0, Iterator::count)
}
