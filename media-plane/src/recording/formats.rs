//! From a template to the outputs of one recording.

use std::time::{Duration, SystemTime};

use media::{MediaTime, Tracks};
use mux::registry::{Format, Layout, Options, Segment, Wish};
use recorder_proto::pb::v1::Template;
use recorder_proto::pb::v1::template::{AudioMode, aac, hls, mp4};
use recorder_proto::time::std_duration;

use crate::shipping::Wall;

/// Single files when the template says nothing (R29).
const DEFAULT_FILE_DURATION: Duration = Duration::from_secs(1_800);
/// Segments when the template says nothing (R24).
const DEFAULT_SEGMENT_DURATION: Duration = Duration::from_secs(10);

/// Every output the template asks for, whatever the stream carries.
pub fn of_template(template: &Template, wall_anchor: Option<SystemTime>) -> Vec<(Format, Options)> {
    let mut outputs = Vec::new();
    let base = Options { wall_anchor, ..Options::default() };
    let file = |duration: &Option<prost_types::Duration>| {
        Some(duration.as_ref().and_then(std_duration).unwrap_or(DEFAULT_FILE_DURATION))
    };
    if let Some(hls) = &template.hls {
        let segment = match hls.segment() {
            hls::Segment::Fmp4 => Segment::Fmp4,
            hls::Segment::Ts | hls::Segment::Unspecified => Segment::Ts,
        };
        let segment_duration = hls.segment_duration.as_ref().and_then(std_duration).unwrap_or(DEFAULT_SEGMENT_DURATION);
        let max_file_duration = hls.max_file_duration.as_ref().and_then(std_duration);
        outputs.push((Format::Hls, Options { segment, segment_duration, max_file_duration, ..base.clone() }));
    }
    if let Some(flv) = &template.flv {
        outputs.push((Format::Flv, Options { max_file_duration: file(&flv.max_file_duration), ..base.clone() }));
    }
    if let Some(mp4) = &template.mp4 {
        let layout = match mp4.layout() {
            mp4::Layout::Fragmented => Layout::Fragmented,
            mp4::Layout::FastStart | mp4::Layout::Unspecified => Layout::FastStart,
        };
        let max_file_duration = file(&mp4.max_file_duration);
        outputs.push((Format::Mp4, Options { layout, max_file_duration, ..base.clone() }));
    }
    if let Some(aac) = &template.aac {
        outputs.push((Format::Aac, Options { max_file_duration: file(&aac.max_file_duration), ..base }));
    }
    outputs
}

/// How one format of a recording is made; with the defaults where the template does not have it any more.
pub fn options_of(format: Format, template: &Template, wall: Wall) -> Options {
    let wall_anchor = Some(wall.at(MediaTime::ZERO).into());
    let set = of_template(template, wall_anchor).into_iter().find(|(of, _)| *of == format);
    set.map_or_else(|| Options { wall_anchor, ..Options::default() }, |(_, options)| options)
}

/// What the template wants of the sound.
pub fn wish(template: &Template) -> Wish {
    match template.audio() {
        AudioMode::Unspecified | AudioMode::Auto => Wish::Any,
        AudioMode::Copy => Wish::AsItComes,
        AudioMode::AacLc => Wish::Aac,
        AudioMode::None => Wish::None,
    }
}

/// Whether this output is made of a stream with these tracks (R10: AAC by default only of sound without picture).
pub fn is_made(format: Format, template: &Template, tracks: Tracks) -> bool {
    if format != Format::Aac {
        return true;
    }
    let always = template.aac.as_ref().is_some_and(|aac| aac.when() == aac::When::Always);
    tracks.is_audio_only() || (always && tracks.audio == media::Presence::Present)
}

/// How long this format waits for a lost publisher; zero unless the template says so.
pub fn resume_timeout(format: Format, template: &Template) -> Duration {
    let set = match format {
        Format::Hls => template.hls.as_ref().and_then(|hls| hls.resume_timeout.as_ref()),
        Format::Flv => template.flv.as_ref().and_then(|flv| flv.resume_timeout.as_ref()),
        Format::Mp4 => template.mp4.as_ref().and_then(|mp4| mp4.resume_timeout.as_ref()),
        Format::Aac => template.aac.as_ref().and_then(|aac| aac.resume_timeout.as_ref()),
    };
    set.and_then(std_duration).unwrap_or_default()
}

/// Whether this format's files go to the storage while they grow; off unless the template says so.
pub fn uploads_while_recording(format: Format, template: &Template) -> bool {
    match format {
        Format::Hls => false,
        Format::Flv => template.flv.as_ref().is_some_and(|flv| flv.upload_while_recording),
        Format::Mp4 => template.mp4.as_ref().is_some_and(|mp4| mp4.upload_while_recording),
        Format::Aac => template.aac.as_ref().is_some_and(|aac| aac.upload_while_recording),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::Presence;
    use recorder_proto::pb::v1::template::{Aac, Flv, Hls, Mp4};

    #[test]
    fn r24_r29_defaults_of_each_format() {
        let template = Template {
            hls: Some(Hls::default()),
            flv: Some(Flv::default()),
            mp4: Some(Mp4::default()),
            aac: Some(Aac::default()),
            ..Default::default()
        };
        let outputs = of_template(&template, None);
        let durations: Vec<_> = outputs.iter().map(|(format, options)| (*format, options.max_file_duration)).collect();
        let half_hour = Some(Duration::from_secs(1_800));
        assert_eq!(
            durations,
            [(Format::Hls, None), (Format::Flv, half_hour), (Format::Mp4, half_hour), (Format::Aac, half_hour)]
        );
        assert_eq!(outputs[0].1.segment_duration, Duration::from_secs(10));
    }

    #[test]
    fn r10_aac_is_made_of_sound_without_picture_or_always() {
        let template = |when: aac::When| Template {
            aac: Some(Aac { when: when.into(), ..Default::default() }),
            ..Default::default()
        };
        let both = Tracks { video: Presence::Present, audio: Presence::Present };
        let quasi = Tracks { video: Presence::Announced, audio: Presence::Present };
        let silent = Tracks { video: Presence::Present, audio: Presence::Absent };
        assert!(!is_made(Format::Aac, &template(aac::When::AudioOnlyStreams), both));
        assert!(is_made(Format::Aac, &template(aac::When::AudioOnlyStreams), quasi));
        assert!(is_made(Format::Aac, &template(aac::When::Always), both));
        assert!(!is_made(Format::Aac, &template(aac::When::Always), silent));
    }
}
