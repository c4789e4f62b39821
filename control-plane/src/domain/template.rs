//! Recording templates: every bound of the mission, and what stands for a field that is not set.
use recorder_proto::key::{KeyTemplate, TimeZone};
use recorder_proto::names::{StorageName, TranscodingName, WatermarkName, check_description, check_display_name};
use recorder_proto::pb::v1::Template;
use recorder_proto::pb::v1::template::{Aac, AudioMode, Content, Flv, Hls, Mp4, Thumbnails, aac, hls, mp4};
use recorder_proto::problem::Violations;
use recorder_proto::{limits, time};

use crate::api::validate::{self, Span};

/// A file of FLV or MP4 (R26, R27, R29).
const FILE: Span = Span::or(limits::FILE_DURATION_MIN, limits::FILE_DURATION_MAX, limits::FILE_DURATION_DEFAULT);
/// A file of AAC (R28, R29).
const AAC_FILE: Span =
    Span::or(limits::FILE_DURATION_MIN, limits::AAC_FILE_DURATION_MAX, limits::FILE_DURATION_DEFAULT);
/// A playlist of HLS; off by default (R24).
const PLAYLIST: Span = Span::or_off(limits::FILE_DURATION_MIN, limits::FILE_DURATION_MAX);
/// A segment of HLS (R24).
const SEGMENT: Span = Span::or(limits::HLS_SEGMENT_MIN, limits::HLS_SEGMENT_MAX, limits::HLS_SEGMENT_DEFAULT);
/// The wait for a lost publisher; off by default (R25, R30).
const RESUME: Span = Span::or_off(limits::RESUME_TIMEOUT_MIN, limits::RESUME_TIMEOUT_MAX);
/// Media from before the start.
const PRE_ROLL: Span = Span::or_off(std::time::Duration::from_nanos(1), limits::PRE_ROLL_MAX);
/// Time between pictures.
const PICTURES: Span =
    Span::or(limits::THUMBNAIL_INTERVAL_MIN, limits::THUMBNAIL_INTERVAL_MAX, limits::THUMBNAIL_INTERVAL_DEFAULT);

/// How long a recording with this template waits for a lost publisher: as long as the most patient of its formats.
pub fn resume_window(template: &Template) -> std::time::Duration {
    let waits = [
        template.hls.as_ref().and_then(|hls| hls.resume_timeout.as_ref()),
        template.flv.as_ref().and_then(|flv| flv.resume_timeout.as_ref()),
        template.mp4.as_ref().and_then(|mp4| mp4.resume_timeout.as_ref()),
        template.aac.as_ref().and_then(|aac| aac.resume_timeout.as_ref()),
    ];
    waits.into_iter().flatten().filter_map(time::std_duration).max().unwrap_or_default()
}

/// The template as it takes effect: checked, every default filled in, nothing that the server sets. `storage` stays
/// empty for "whichever storage is the default one". Violations are noted under `template.`.
pub fn effective(id: &str, given: Template, violations: &mut Violations) -> Template {
    let content = validate::choice(violations, "template.content", given.content, Content::Original);
    let audio = validate::choice(violations, "template.audio", given.audio, AudioMode::Auto);
    check_standby(given.record_standby, content, violations);
    check_sound(given.aac.is_some(), audio, violations);
    validate::labels(violations, "template.labels", &given.labels);
    let none = given.hls.is_none() && given.flv.is_none() && given.mp4.is_none() && given.aac.is_none();
    let hls = if none { Some(Hls::default()) } else { given.hls };
    Template {
        name: String::new(),
        display_name: display_name(id, given.display_name, violations),
        description: description(given.description, violations),
        storage: reference::<StorageName>(violations, "template.storage", &given.storage),
        content: content.into(),
        audio: audio.into(),
        record_standby: given.record_standby,
        time_zone: time_zone(&given.time_zone, violations),
        path: path(&given.path, violations),
        hls: hls.map(|hls| effective_hls(hls, violations)),
        flv: given.flv.map(|flv| effective_flv(flv, violations)),
        mp4: given.mp4.map(|mp4| effective_mp4(mp4, violations)),
        aac: given.aac.map(|aac| effective_aac(aac, violations)),
        thumbnails: given.thumbnails.map(|thumbnails| effective_thumbnails(thumbnails, violations)),
        labels: given.labels,
        max_duration: max_duration(given.max_duration, violations),
        watermark: reference::<WatermarkName>(violations, "template.watermark", &given.watermark),
        transcoding: reference::<TranscodingName>(violations, "template.transcoding", &given.transcoding),
        pre_roll: PRE_ROLL.wire(violations, "template.pre_roll", given.pre_roll.as_ref()),
        revision: 0,
        create_time: None,
        update_time: None,
        etag: String::new(),
    }
}

/// R6: standby content exists in what was watermarked or transcoded only.
fn check_standby(record_standby: bool, content: Content, violations: &mut Violations) {
    violations.check(
        !record_standby || content != Content::Original,
        "template.record_standby",
        "needs content WATERMARKED or TRANSCODED: the original stream has no standby content",
    );
}

fn check_sound(aac: bool, audio: AudioMode, violations: &mut Violations) {
    violations.check(
        !aac || audio != AudioMode::None,
        "template.aac",
        "records sound, which audio NONE leaves out; remove one of them",
    );
}

fn display_name(id: &str, given: String, violations: &mut Violations) -> String {
    if given.is_empty() {
        return id.to_owned();
    }
    violations.take("template.display_name", check_display_name(&given));
    given
}

fn description(given: String, violations: &mut Violations) -> String {
    violations.take("template.description", check_description(&given));
    given
}

/// The full name of an optional reference.
fn reference<N>(violations: &mut Violations, field: &str, given: &str) -> String
where
    N: std::str::FromStr<Err = recorder_proto::names::NameError> + std::fmt::Display,
{
    validate::optional_name::<N>(violations, field, given).map(|name| name.to_string()).unwrap_or_default()
}

fn time_zone(given: &str, violations: &mut Violations) -> String {
    violations.take("template.time_zone", given.parse::<TimeZone>()).unwrap_or_default().to_string()
}

fn path(given: &str, violations: &mut Violations) -> String {
    violations.take_all("template.path", KeyTemplate::parse(given)).unwrap_or_default().to_string()
}

/// Any length, none is zero: there is no shortest recording.
fn max_duration(given: Option<prost_types::Duration>, violations: &mut Violations) -> Option<prost_types::Duration> {
    let wire = given.unwrap_or_default();
    violations.check(
        time::std_duration(&wire).is_some(),
        "template.max_duration",
        format!("must not be negative, got {}", time::wire_text(&wire)),
    );
    Some(wire)
}

fn effective_hls(given: Hls, violations: &mut Violations) -> Hls {
    let segment = validate::choice(violations, "template.hls.segment", given.segment, hls::Segment::Ts);
    let playlist = PLAYLIST.effective(violations, "template.hls.max_file_duration", given.max_file_duration.as_ref());
    Hls {
        segment_duration: SEGMENT.wire(violations, "template.hls.segment_duration", given.segment_duration.as_ref()),
        // Unset is the effective value of "one playlist for everything".
        max_file_duration: (!playlist.is_zero()).then(|| time::duration(playlist)),
        resume_timeout: RESUME.wire(violations, "template.hls.resume_timeout", given.resume_timeout.as_ref()),
        segment: segment.into(),
    }
}

fn effective_flv(given: Flv, violations: &mut Violations) -> Flv {
    Flv {
        max_file_duration: FILE.wire(violations, "template.flv.max_file_duration", given.max_file_duration.as_ref()),
        upload_while_recording: given.upload_while_recording,
        resume_timeout: RESUME.wire(violations, "template.flv.resume_timeout", given.resume_timeout.as_ref()),
    }
}

fn effective_mp4(given: Mp4, violations: &mut Violations) -> Mp4 {
    let layout = validate::choice(violations, "template.mp4.layout", given.layout, mp4::Layout::FastStart);
    Mp4 {
        max_file_duration: FILE.wire(violations, "template.mp4.max_file_duration", given.max_file_duration.as_ref()),
        upload_while_recording: given.upload_while_recording,
        resume_timeout: RESUME.wire(violations, "template.mp4.resume_timeout", given.resume_timeout.as_ref()),
        layout: layout.into(),
    }
}

fn effective_aac(given: Aac, violations: &mut Violations) -> Aac {
    let when = validate::choice(violations, "template.aac.when", given.when, aac::When::AudioOnlyStreams);
    let file = given.max_file_duration.as_ref();
    Aac {
        max_file_duration: AAC_FILE.wire(violations, "template.aac.max_file_duration", file),
        upload_while_recording: given.upload_while_recording,
        resume_timeout: RESUME.wire(violations, "template.aac.resume_timeout", given.resume_timeout.as_ref()),
        when: when.into(),
    }
}

fn effective_thumbnails(given: Thumbnails, violations: &mut Violations) -> Thumbnails {
    let bounds = limits::THUMBNAIL_WIDTH_MIN.unsigned_abs()..=limits::THUMBNAIL_WIDTH_MAX.unsigned_abs();
    let width = if given.width == 0 { limits::THUMBNAIL_WIDTH_DEFAULT.unsigned_abs() } else { given.width };
    violations.check(
        bounds.contains(&width),
        "template.thumbnails.width",
        format!("must be {} to {} pixels, got {width}", bounds.start(), bounds.end()),
    );
    let interval = PICTURES.wire(violations, "template.thumbnails.interval", given.interval.as_ref());
    Thumbnails { interval, width }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
