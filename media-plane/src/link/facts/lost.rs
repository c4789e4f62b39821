//! Sequences whose facts are gone: a damaged log, or a state folder that was replaced while the spool stayed. Whoever
//! waits for the acknowledgement of such a fact must tell of it again. Kept beside the log, because the mark of
//! acknowledged facts passes them by.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::link::persist;

const FILE: &str = "facts.lost";

/// Ranges that are remembered; the oldest are forgotten first.
const MOST: usize = 1_000;

/// See the module.
#[derive(Default)]
pub(super) struct Lost(Vec<RangeInclusive<u64>>);

impl Lost {
    pub(super) fn read(folder: &Path) -> std::io::Result<Self> {
        let text = match std::fs::read_to_string(folder.join(FILE)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let range = |line: &str| {
            let (from, to) = line.split_once(' ')?;
            Some(from.parse().ok()?..=to.parse().ok()?)
        };
        Ok(Self(text.lines().filter_map(range).collect()))
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.0.iter().any(|range| range.contains(&sequence))
    }

    /// Adds a range; gives the text that is to be written.
    pub(super) fn add(&mut self, range: RangeInclusive<u64>) -> String {
        if !range.is_empty() {
            self.0.push(range);
        }
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
        self.0.iter().map(|range| format!("{} {}\n", range.start(), range.end())).collect()
    }
}

/// Writes what [`Lost::add`] gave.
pub(super) fn write(folder: &Path, text: &str) -> std::io::Result<()> {
    persist::replace(&folder.join(FILE), text.as_bytes())
}
