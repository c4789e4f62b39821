//! What can be wrong, under the vendor's distinctions (mission.md, row 28).

use super::rules;
use crate::MediaTime;

macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident,)+) => {
        /// Something abnormal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])+ $kind,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),+];
        }
    };
}

kinds! {
    /// -8
    AudioTimestampJump,
    /// -9
    VideoTimestampJump,
    /// -10
    TimestampsApart,
    /// -11
    VideoTimestampInvalid,
    /// -17
    NoAudio,
    /// -18
    NoVideo,
    /// -22
    AudioTimestampStatic,
    /// -23
    VideoTimestampStatic,
    /// -24
    AudioTimestampInvalid,
    /// -100
    ResolutionChanged,
    /// -104, which no detector finds: whoever writes knows.
    WriteFailed,
    /// -120
    CodecChanged,
    /// -130
    VideoFramesDropped,
    /// -131
    AudioFramesDropped,
    /// -132
    GopAbnormal,
    /// -200
    AudioTimestampUneven,
    /// -201
    VideoTimestampUneven,
}

impl Kind {
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// From when on it is told, for people.
    pub fn when(self) -> String {
        use rules::*;
        let jump = || {
            format!(
                "a step back, or ahead of what has passed meanwhile, of more than {} ({} while the publisher sends faster \
                 than real time)",
                length(JUMP),
                length(JUMP_WHEN_FAST)
            )
        };
        let absent = |what: &str, other: &str| {
            format!("{what} was announced or has come, and none comes for {} of the {other}", length(ABSENT))
        };
        match self {
            Self::AudioTimestampJump | Self::VideoTimestampJump => jump(),
            Self::TimestampsApart => {
                format!("more than {} apart while both go on for {}", length(APART), length(APART_FOR))
            }
            Self::VideoTimestampInvalid => format!(
                "a step back of up to {}, or a picture to be shown more than {} from when it is decoded",
                length(JUMP),
                length(COMPOSITION)
            ),
            Self::AudioTimestampInvalid => format!("a step back of up to {}", length(JUMP)),
            Self::NoAudio => absent("sound", "picture"),
            Self::NoVideo => absent("a picture", "sound"),
            Self::AudioTimestampStatic => format!("{STATIC_SOUNDS} frames in a row with one timestamp"),
            Self::VideoTimestampStatic => format!("{STATIC_PICTURES} pictures in a row with one timestamp"),
            Self::ResolutionChanged => "a new configuration with another picture size".to_owned(),
            Self::WriteFailed => "the node's disk refused or lost media, or a format failed".to_owned(),
            Self::CodecChanged => "a new configuration that differs in anything else".to_owned(),
            Self::VideoFramesDropped => format!(
                "lost on the way or unusable; or, after {} at the announced rate, a hole of at least {MISSING_PICTURES} \
                 pictures and {}",
                length(STEADY),
                length(HOLE)
            ),
            Self::AudioFramesDropped => {
                format!("lost on the way or unusable; or a hole of at least {} in AAC", length(HOLE))
            }
            Self::GopAbnormal => format!("no key frame for more than {}", length(GOP)),
            Self::AudioTimestampUneven => format!(
                "in {}, at least {UNEVEN_SOUNDS} % of the steps differ by more than half from the frames' length (Opus: \
                 fall short of it)",
                length(WINDOW)
            ),
            Self::VideoTimestampUneven => format!(
                "in {}, at least {UNEVEN_PICTURES} % of the pictures less than {} after the one before",
                length(WINDOW),
                length(CLOSE_PICTURES)
            ),
        }
    }
}

fn length(ticks: i64) -> String {
    let millis = MediaTime(ticks).as_millis();
    if millis % 1_000 == 0 { format!("{} s", millis / 1_000) } else { format!("{millis} ms") }
}
