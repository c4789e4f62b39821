//! The vendor's abnormal codes (mission.md, row 28): number, severity and words of each kind.

use crate::pb::v1::health::{Kind, Level};

/// What is known of a kind beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abnormality {
    /// The kind.
    pub kind: Kind,
    /// The vendor's number of it, in callbacks of event_type 341.
    pub code: i32,
    /// How serious it is.
    pub level: Level,
    /// What it is, for people.
    pub words: &'static str,
}

/// Every kind that is ever told, by number. The vendor's -16 (pull failed) cannot happen: nothing is pulled.
pub const ABNORMALITIES: &[Abnormality] = &[
    of(Kind::AudioTimestampJump, -8, Level::Warning, "audio timestamps jumped"),
    of(Kind::VideoTimestampJump, -9, Level::Warning, "video timestamps jumped"),
    of(Kind::TimestampsApart, -10, Level::Warning, "audio and video timestamps are far apart"),
    of(Kind::VideoTimestampInvalid, -11, Level::Warning, "invalid video timestamp"),
    of(Kind::NoAudio, -17, Level::Warning, "audio is recorded, but none comes"),
    of(Kind::NoVideo, -18, Level::Warning, "video is recorded, but none comes"),
    of(Kind::AudioTimestampStatic, -22, Level::Warning, "audio timestamps stand still"),
    of(Kind::VideoTimestampStatic, -23, Level::Warning, "video timestamps stand still"),
    of(Kind::AudioTimestampInvalid, -24, Level::Warning, "invalid audio timestamp"),
    of(Kind::ResolutionChanged, -100, Level::Info, "the resolution changed"),
    of(Kind::WriteFailed, -104, Level::Error, "media could not be written"),
    of(Kind::CodecChanged, -120, Level::Info, "the codec or its parameters changed"),
    of(Kind::VideoFramesDropped, -130, Level::Error, "video frames are missing"),
    of(Kind::AudioFramesDropped, -131, Level::Error, "audio frames are missing"),
    of(Kind::GopAbnormal, -132, Level::Warning, "key frames are too far apart"),
    of(Kind::AudioTimestampUneven, -200, Level::Warning, "audio timestamps are uneven"),
    of(Kind::VideoTimestampUneven, -201, Level::Warning, "video timestamps are uneven"),
];

const fn of(kind: Kind, code: i32, level: Level, words: &'static str) -> Abnormality {
    Abnormality { kind, code, level, words }
}

impl Abnormality {
    /// Of this kind; `None` for a kind that this release does not know.
    pub fn of(kind: Kind) -> Option<&'static Self> {
        ABNORMALITIES.iter().find(|known| known.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_number_of_the_vendors_own() {
        let kinds: Vec<Kind> = (1..).map_while(|number| Kind::try_from(number).ok()).collect();
        assert_eq!(kinds.len(), ABNORMALITIES.len());
        for kind in kinds {
            let known = Abnormality::of(kind).unwrap_or_else(|| panic!("{}", kind.as_str_name()));
            assert_eq!(known.kind, kind);
        }
        assert_eq!(Abnormality::of(Kind::Unspecified), None);
        // Row 28 of the mission, -16 (pull failed) aside.
        let row = [-8, -9, -10, -11, -17, -18, -22, -23, -24, -100, -104, -120, -130, -131, -132, -200, -201];
        assert_eq!(ABNORMALITIES.iter().map(|known| known.code).collect::<Vec<_>>(), row);
    }
}
