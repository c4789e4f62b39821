//! A machine that has too little of everything: a slow disk, and no processor to spare.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Builds what makes the disk of a process slow and gives the settings that load it: a disk that takes
/// `bytes_per_second` in files whose path holds `folder`.
pub fn disk(build: &Path, folder: &str, bytes_per_second: u64) -> Vec<(&'static str, String)> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools/slow_disk.c");
    let library = build.join("slow_disk.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("a C compiler");
    assert!(built.success(), "slow_disk.c");
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("SLOW_DISK_FOLDER", folder.to_owned()),
        ("SLOW_DISK_BYTES_PER_SECOND", bytes_per_second.to_string()),
    ]
}

/// Keeps every processor of the machine busy until it is dropped.
pub struct Busy(Arc<AtomicBool>);

impl Busy {
    /// Twice as many busy threads as there are processors.
    pub fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..2 * processors {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
