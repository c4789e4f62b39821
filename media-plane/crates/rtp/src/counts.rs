//! What a session has seen, for reports and metrics.

/// Counters of one track.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackCounts {
    /// Packets received, duplicates and retransmissions included.
    pub packets: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Packets received more than once.
    pub duplicates: u64,
    /// Packets that came after their place was given up.
    pub late: u64,
    /// Packets that filled a hole: reordered, or sent again.
    pub recovered: u64,
    /// Packets given up.
    pub packets_lost: u64,
    /// Packets and NAL units that do not parse.
    pub malformed: u64,
    /// Frames delivered.
    pub frames: u64,
    /// Frames dropped because a part of them or something they build on was lost.
    pub frames_dropped: u64,
    /// Frames of simulcast layers that were not the chosen one.
    pub frames_unused: u64,
    /// Changes of the synchronisation source that is delivered, layer switches included.
    pub switches: u64,
}

/// Counters of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockCounts {
    /// Sender reports that were used.
    pub reports: u64,
    /// Sender reports that were not believed.
    pub reports_rejected: u64,
    /// Steps of the publisher's wall clock that were taken out.
    pub wall_steps: u64,
    /// Jumps of RTP timestamps that were taken out with the help of arrival times.
    pub timestamp_jumps: u64,
    /// Those of them that were of the sound.
    pub sound_jumps: u64,
    /// How far picture and sound are from where sender reports put them, in microseconds; what is still to be slewed.
    pub correction_micros: i64,
}

/// Everything a session counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The picture.
    pub video: TrackCounts,
    /// The sound.
    pub audio: TrackCounts,
    /// The clock.
    pub clock: ClockCounts,
    /// Key frames asked for.
    pub key_frame_requests: u64,
    /// Packets of payload types that were not negotiated, or of more sources than a session follows.
    pub unknown: u64,
}
