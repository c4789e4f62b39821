//! What open files have to do with a spool that fills up: they cannot be shipped, so that a disk full of them would stay
//! full for ever.

use spool::Usage;

/// Growth since the last cut after which files are cut again, as a share of the limit: an uplink that is slower than what
/// is recorded fills the spool with the files that were opened since.
const CUT_EVERY: u64 = 50;
/// Looks at a full spool with nothing to ship after which its open files are closed. One look may fall between two events.
const STUCK_AFTER: u32 = 2;

/// What recordings have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Go on.
    Nothing,
    /// Begin new files at the next key frame, while there is room for one.
    Cut,
    /// Close what is open at once: nothing is read any more, so that no key frame comes.
    PutDown,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Relief {
    /// Bytes at the last cut; none below the high-water mark.
    cut_at: Option<u64>,
    /// Looks at which the spool was full and nothing was on its way.
    stuck: u32,
}

impl Relief {
    /// What is due now. `idle` = nothing that is closed waits for its storage.
    pub fn look(&mut self, usage: &Usage, idle: bool) -> Measure {
        if usage.accepting {
            *self = Self::default();
            return Measure::Nothing;
        }
        let is_full = usage.bytes >= usage.limit;
        self.stuck = if is_full && idle { self.stuck + 1 } else { 0 };
        if self.stuck >= STUCK_AFTER {
            self.stuck = 0;
            return Measure::PutDown;
        }
        // What was released meanwhile makes room for as much again.
        let cut_at = self.cut_at.map(|cut_at| cut_at.min(usage.bytes));
        self.cut_at = cut_at;
        if is_full || cut_at.is_some_and(|cut_at| usage.bytes - cut_at < usage.limit / CUT_EVERY) {
            return Measure::Nothing;
        }
        self.cut_at = Some(usage.bytes);
        Measure::Cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(bytes: u64) -> Usage {
        Usage { bytes, limit: 1_000, queued: 0, accepting: bytes < 800 }
    }

    #[test]
    fn a_spool_that_went_on_filling_up_was_cut_once() {
        let mut relief = Relief::default();
        let mut measures = Vec::new();
        for bytes in [700, 800, 810, 819, 820, 839, 840, 830, 849, 850, 700, 801] {
            measures.push(relief.look(&usage(bytes), false));
        }
        let cuts: Vec<usize> = (0..measures.len()).filter(|at| measures[*at] == Measure::Cut).collect();
        assert_eq!(cuts, [1, 4, 6, 9, 11], "{measures:?}");
        assert!(!measures.contains(&Measure::PutDown));
    }

    #[test]
    fn a_spool_full_of_open_files_hung_for_ever() {
        let mut relief = Relief::default();
        assert_eq!(relief.look(&usage(990), false), Measure::Cut);
        let full = |relief: &mut Relief, idle| relief.look(&usage(1_000), idle);
        assert_eq!(full(&mut relief, false), Measure::Nothing, "what ships makes room");
        assert_eq!([full(&mut relief, true), full(&mut relief, true)], [Measure::Nothing, Measure::PutDown]);
        assert_eq!(full(&mut relief, false), Measure::Nothing, "what was closed is on its way");
    }
}
