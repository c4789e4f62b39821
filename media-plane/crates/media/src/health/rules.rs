//! From when on something counts as abnormal. Media times in ticks of [`MediaTime`]. Not settings: the vendor, whose codes
//! they are, has none.

use crate::MediaTime;

const SECOND: i64 = MediaTime::SCALE;

/// A step of a track's clock by more than this, back, or ahead of what has passed, is a jump; the vendor calls so what is
/// above a second, too.
pub(super) const JUMP: i64 = SECOND;
/// The same step ahead while the publisher sends faster than real time, when arrival says nothing about what has passed;
/// the timeline's own limit.
pub(super) const JUMP_WHEN_FAST: i64 = 10 * SECOND;
/// Composition offsets beyond this are garbage; the timeline's own limit.
pub(super) const COMPOSITION: i64 = 10 * SECOND;
/// Tracks further apart than this, by timestamps that arrive together, are out of any player's buffer.
pub(super) const APART: i64 = 3 * SECOND;
/// So long both tracks have to go on while they are apart: one that is only late catches up sooner.
pub(super) const APART_FOR: i64 = 2 * SECOND;
/// A track that does not come while the other goes on for so long is absent. Screen shares and muted cameras send a
/// picture a second, discontinuous sound a packet every 400 ms.
pub(super) const ABSENT: i64 = 5 * SECOND;
/// Pictures in a row with one timestamp. No encoder makes so many of one moment.
pub(super) const STATIC_PICTURES: u32 = 10;
/// Sound frames in a row with one timestamp: half a second of AAC, where some encoders send a few frames as one.
pub(super) const STATIC_SOUNDS: u32 = 25;
/// A group of pictures longer than this: HLS segments cannot be cut at their 10 s any more.
pub(super) const GOP: i64 = 10 * SECOND;
/// Sound is missing where the clock is so far ahead of what the frames before add up to.
pub(super) const HOLE: i64 = SECOND / 10;
/// So far the clock may be behind what the frames add up to, by frames of one timestamp or a step back, and catch up
/// without a hole.
pub(super) const LEAD: i64 = SECOND;
/// A picture is only missed where pictures came so long at the rate that the publisher announced: everything else may be
/// a variable frame rate.
pub(super) const STEADY: i64 = 10 * SECOND;
/// Pictures that have to be missing at once.
pub(super) const MISSING_PICTURES: i64 = 3;
/// Timestamps are judged as even or not over so much media.
pub(super) const WINDOW: i64 = 10 * SECOND;
/// Steps a window has at least.
pub(super) const WINDOW_STEPS: u32 = 20;
/// Pictures closer together than this were never taken so: 250 frames per second.
pub(super) const CLOSE_PICTURES: i64 = SECOND * 4 / 1_000;
/// Share of close pictures, percent, that makes a window uneven.
pub(super) const UNEVEN_PICTURES: u32 = 10;
/// Share of sound frames, percent, whose step is off by more than half of their length that makes a window uneven.
pub(super) const UNEVEN_SOUNDS: u32 = 25;
/// Steps beyond this say nothing about evenness, and nothing about how far a track has gone.
pub(super) const LONGEST_STEP: i64 = SECOND;
/// How fast a publisher sends is looked at so often.
pub(super) const PACE: i64 = 5 * SECOND;
