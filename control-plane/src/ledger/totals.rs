//! Numbers of a recording that several epochs have written: a node counts from the beginning of its own epoch, the API
//! shows the whole.
use std::time::Duration;

use prost_types::Duration as WireDuration;
use recorder_proto::facts::{GapSpan, OutputTotals};
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::Output;
use recorder_proto::time;

/// Puts what the current epoch counted on top of what the earlier ones left.
pub(crate) fn outputs(known: &[Output], inherited: &[Output], told: &[OutputTotals]) -> Vec<Output> {
    let of = |outputs: &[Output], format: i32| {
        outputs.iter().find(|output| output.format == format).cloned().unwrap_or_default()
    };
    let mut merged: Vec<Output> = known.to_vec();
    for told in told {
        let told = told.to_pb();
        let (now, before) = (of(known, told.format), of(inherited, told.format));
        let output = Output {
            format: told.format,
            files: told.files.max(before.files).max(if inherited.is_empty() { 0 } else { now.files }),
            bytes_recorded: before.bytes_recorded.saturating_add(told.bytes_recorded),
            // What has been uploaded is counted here, file by file.
            bytes_uploaded: now.bytes_uploaded.max(told.bytes_uploaded),
            upload_lag: told.upload_lag,
            error: told.error.or(before.error),
        };
        match merged.iter_mut().find(|known| known.format == output.format) {
            Some(known) => *known = output,
            None => merged.push(output),
        }
    }
    merged
}

/// Every hole once, in order. The current epoch tells all of its own; those of earlier epochs were told before.
pub(super) fn gaps(inherited: &[v1::Gap], told: &[GapSpan]) -> Vec<v1::Gap> {
    let mut gaps: Vec<v1::Gap> = told.iter().map(GapSpan::to_pb).collect();
    for gap in inherited {
        if !gaps.iter().any(|told| told.start_time == gap.start_time) {
            gaps.push(*gap);
        }
    }
    gaps.sort_by_key(|gap| gap.start_time.map(|time| (time.seconds, time.nanos)));
    gaps
}

/// Length of the media of all epochs.
pub(crate) fn duration(inherited: Option<&WireDuration>, told_micros: u64) -> WireDuration {
    let before = inherited.and_then(time::std_duration).unwrap_or_default();
    time::duration(before.saturating_add(Duration::from_micros(told_micros)))
}

#[cfg(test)]
mod tests {
    use recorder_proto::format::Format;

    use super::*;

    fn told(format: Format, files: u32, bytes_recorded: u64) -> OutputTotals {
        OutputTotals { format, files, bytes_recorded, bytes_uploaded: 0, upload_lag_micros: 0, error: None }
    }

    #[test]
    fn a_second_epoch_adds_to_the_first() {
        let first = outputs(&[], &[], &[told(Format::Mp4, 2, 100), told(Format::Hls, 1, 70)]);
        let second = outputs(&first, &first, &[told(Format::Mp4, 3, 40)]);
        let shown: Vec<(u32, u64)> = second.iter().map(|output| (output.files, output.bytes_recorded)).collect();
        assert_eq!(shown, [(3, 140), (1, 70)]);
        let again = outputs(&second, &first, &[told(Format::Mp4, 3, 60)]);
        assert_eq!(again[0].bytes_recorded, 160, "what it told before is not added twice");
        let length = duration(Some(&time::duration(Duration::from_secs(5))), 2_500_000);
        assert_eq!((length.seconds, length.nanos), (7, 500_000_000));
    }

    #[test]
    fn a_hole_that_both_epochs_tell_of_counts_once() {
        let at = |seconds: i64| chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let gap = |seconds, duration_micros| GapSpan {
            start_time: at(seconds),
            duration_micros,
            reason: v1::gap::Reason::PublisherLost,
        };
        let before = [gap(5, 1).to_pb(), gap(20, 1).to_pb()];
        let merged = gaps(&before, &[gap(30, 3), gap(20, 2)]);
        let shown: Vec<i64> = merged.iter().map(|gap| gap.start_time.unwrap().seconds - 1_800_000_000).collect();
        assert_eq!(shown, [5, 20, 30]);
        assert_eq!(merged[1].duration.unwrap().nanos, 2_000, "in the words of whoever told it last");
    }
}
