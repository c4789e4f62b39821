//! The bounds of templates, from a table; tests are named after the lines of the mission.
use recorder_proto::problem::FieldViolation;

use super::*;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn check(given: Template) -> (Template, Vec<FieldViolation>) {
    let mut violations = Violations::new();
    let template = effective("t1", given, &mut violations);
    (template, violations.finish().err().map(|problem| problem.fields).unwrap_or_default())
}

fn accepted(given: Template) -> Template {
    let (template, violations) = check(given);
    assert_eq!(violations, []);
    template
}

/// The one violation of a template, as `field: description`.
fn refused(given: Template) -> String {
    let (_, violations) = check(given.clone());
    assert_eq!(violations.len(), 1, "{given:?} {violations:?}");
    format!("{}: {}", violations[0].field, violations[0].description)
}

#[test]
fn an_empty_template_shows_every_default() {
    let template = accepted(Template::default());
    let expected = Template {
        display_name: "t1".to_owned(),
        content: Content::Original.into(),
        audio: AudioMode::Auto.into(),
        time_zone: "UTC".to_owned(),
        path: limits::PATH_DEFAULT.to_owned(),
        hls: Some(Hls {
            segment_duration: seconds(10),
            max_file_duration: None,
            resume_timeout: seconds(0),
            segment: hls::Segment::Ts.into(),
        }),
        max_duration: seconds(0),
        pre_roll: seconds(0),
        ..Template::default()
    };
    assert_eq!(template, expected);
    assert_eq!(accepted(template.clone()), template, "what takes effect stays as it is");
}

#[test]
fn every_format_has_its_defaults() {
    let template = accepted(Template {
        flv: Some(Flv::default()),
        mp4: Some(Mp4::default()),
        aac: Some(Aac::default()),
        thumbnails: Some(Thumbnails::default()),
        ..Template::default()
    });
    assert_eq!(template.hls, None, "HLS is the default only when no format is set");
    let (file, off) = (seconds(1800), seconds(0));
    assert_eq!(template.flv, Some(Flv { max_file_duration: file, upload_while_recording: false, resume_timeout: off }));
    let layout = mp4::Layout::FastStart.into();
    assert_eq!(
        template.mp4,
        Some(Mp4 { max_file_duration: file, upload_while_recording: false, resume_timeout: off, layout })
    );
    let when = aac::When::AudioOnlyStreams.into();
    assert_eq!(
        template.aac,
        Some(Aac { max_file_duration: file, upload_while_recording: false, resume_timeout: off, when })
    );
    assert_eq!(template.thumbnails, Some(Thumbnails { interval: seconds(10), width: 320 }));
}

fn hls(change: impl FnOnce(&mut Hls)) -> Template {
    let mut hls = Hls::default();
    change(&mut hls);
    Template { hls: Some(hls), ..Template::default() }
}

fn flv(seconds: Option<prost_types::Duration>) -> Template {
    Template { flv: Some(Flv { max_file_duration: seconds, ..Flv::default() }), ..Template::default() }
}

fn mp4(seconds: Option<prost_types::Duration>) -> Template {
    Template { mp4: Some(Mp4 { max_file_duration: seconds, ..Mp4::default() }), ..Template::default() }
}

fn aac(seconds: Option<prost_types::Duration>) -> Template {
    Template { aac: Some(Aac { max_file_duration: seconds, ..Aac::default() }), ..Template::default() }
}

#[test]
fn r2_display_name_alphabet_and_length() {
    for name in ["晚间新闻_Show-1", "a", &"中".repeat(85)] {
        accepted(Template { display_name: name.to_owned(), ..Template::default() });
    }
    for name in ["two words", "a.b", "é", "a/b", &"中".repeat(86), &"a".repeat(256)] {
        let refusal = refused(Template { display_name: name.to_owned(), ..Template::default() });
        assert!(refusal.starts_with("template.display_name: must be 1 to 255 bytes of Chinese"), "{refusal}");
    }
}

#[test]
fn r3_description_alphabet_and_length() {
    for text in ["晚间 新闻 Show_1-2", &"a".repeat(1024)] {
        accepted(Template { description: text.to_owned(), ..Template::default() });
    }
    for text in ["tab\there", "full stop.", &"a".repeat(1025), &"中".repeat(342)] {
        let refusal = refused(Template { description: text.to_owned(), ..Template::default() });
        assert!(refusal.starts_with("template.description: must be at most 1024 bytes"), "{refusal}");
    }
}

#[test]
fn r5_content_falls_back_without_a_watermark_or_transcoding() {
    for content in [Content::Original, Content::Watermarked, Content::Transcoded] {
        let template = accepted(Template { content: content.into(), ..Template::default() });
        assert_eq!((template.content(), template.watermark.as_str()), (content, ""));
    }
    assert!(refused(Template { content: 4, ..Template::default() }).starts_with("template.content: "));
    let refusal = refused(Template { watermark: "Not An Id".to_owned(), ..Template::default() });
    assert!(refusal.starts_with("template.watermark: "), "{refusal}");
}

#[test]
fn r6_standby_needs_watermarked_or_transcoded_content() {
    for content in [Content::Watermarked, Content::Transcoded] {
        accepted(Template { record_standby: true, content: content.into(), ..Template::default() });
    }
    for content in [Content::Unspecified, Content::Original] {
        let refusal = refused(Template { record_standby: true, content: content.into(), ..Template::default() });
        assert!(refusal.starts_with("template.record_standby: needs content WATERMARKED or TRANSCODED"), "{refusal}");
    }
    assert!(!accepted(Template::default()).record_standby, "off by default");
}

#[test]
fn r8_time_zones() {
    for (given, effective) in [("", "UTC"), ("UTC", "UTC"), ("UTC+8", "UTC+8"), ("Asia/Shanghai", "Asia/Shanghai")] {
        assert_eq!(accepted(Template { time_zone: given.to_owned(), ..Template::default() }).time_zone, effective);
    }
    for given in ["UTC+7", "Mars/Olympus", "+08:00", "utc+8"] {
        let refusal = refused(Template { time_zone: given.to_owned(), ..Template::default() });
        assert!(refusal.starts_with("template.time_zone: must be UTC, UTC+8 or an IANA name"), "{refusal}");
    }
}

#[test]
fn r9_any_formats_at_once() {
    let all = accepted(Template {
        hls: Some(Hls::default()),
        flv: Some(Flv::default()),
        mp4: Some(Mp4::default()),
        aac: Some(Aac::default()),
        ..Template::default()
    });
    assert!(all.hls.is_some() && all.flv.is_some() && all.mp4.is_some() && all.aac.is_some());
}

#[test]
fn r10_aac_is_for_streams_with_sound_only_unless_asked_otherwise() {
    let template = accepted(aac(None));
    assert_eq!(template.aac.unwrap().when(), aac::When::AudioOnlyStreams);
    let silent = Template { audio: AudioMode::None.into(), ..aac(None) };
    assert!(refused(silent).starts_with("template.aac: "));
}

#[test]
fn r24_hls_segments_and_segmentation() {
    for length in [1, 10, 60] {
        accepted(hls(|hls| hls.segment_duration = seconds(length)));
    }
    for length in [-1, 61] {
        let refusal = refused(hls(|hls| hls.segment_duration = seconds(length)));
        assert_eq!(refusal, format!("template.hls.segment_duration: must be 1s to 60s, got {length}s"));
    }
    for length in [60, 43_200] {
        let template = accepted(hls(|hls| hls.max_file_duration = seconds(length)));
        assert_eq!(template.hls.unwrap().max_file_duration, seconds(length));
    }
    for length in [1, 59, 43_201] {
        let refusal = refused(hls(|hls| hls.max_file_duration = seconds(length)));
        assert_eq!(refusal, format!("template.hls.max_file_duration: must be 0s or 60s to 43200s, got {length}s"));
    }
    let off = accepted(hls(|hls| hls.max_file_duration = seconds(0)));
    assert_eq!(off.hls.unwrap().max_file_duration, None, "segmentation is off by default");
}

#[test]
fn r25_resume_timeout_is_off_or_1_to_1800_seconds() {
    for length in [0, 1, 1800] {
        let template = accepted(hls(|hls| hls.resume_timeout = seconds(length)));
        assert_eq!(template.hls.unwrap().resume_timeout, seconds(length));
    }
    for length in [-1, 1801] {
        let refusal = refused(hls(|hls| hls.resume_timeout = seconds(length)));
        assert_eq!(refusal, format!("template.hls.resume_timeout: must be 0s or 1s to 1800s, got {length}s"));
    }
    let half = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });
    assert!(refused(hls(|hls| hls.resume_timeout = half)).ends_with("got 0.5s"));
}

#[test]
fn r26_flv_duration_bounds() {
    for length in [60, 43_200] {
        assert_eq!(accepted(flv(seconds(length))).flv.unwrap().max_file_duration, seconds(length));
    }
    for length in [10, 59, 43_201] {
        let expected = format!("template.flv.max_file_duration: must be 60s to 43200s, got {length}s");
        assert_eq!(refused(flv(seconds(length))), expected);
    }
}

#[test]
fn r27_mp4_duration_bounds() {
    for length in [60, 43_200] {
        assert_eq!(accepted(mp4(seconds(length))).mp4.unwrap().max_file_duration, seconds(length));
    }
    for length in [10, 59, 43_201] {
        let expected = format!("template.mp4.max_file_duration: must be 60s to 43200s, got {length}s");
        assert_eq!(refused(mp4(seconds(length))), expected);
    }
}

#[test]
fn r28_aac_duration_bounds() {
    for length in [60, 7_200] {
        assert_eq!(accepted(aac(seconds(length))).aac.unwrap().max_file_duration, seconds(length));
    }
    for length in [59, 7_201, 43_200] {
        let expected = format!("template.aac.max_file_duration: must be 60s to 7200s, got {length}s");
        assert_eq!(refused(aac(seconds(length))), expected);
    }
}

#[test]
fn r29_files_of_30_minutes_by_default() {
    assert_eq!(accepted(flv(None)).flv.unwrap().max_file_duration, seconds(1800));
    assert_eq!(accepted(mp4(seconds(0))).mp4.unwrap().max_file_duration, seconds(1800));
    assert_eq!(accepted(aac(None)).aac.unwrap().max_file_duration, seconds(1800));
}

#[test]
fn r30_r31_single_files_resume_and_upload_while_recording_when_asked() {
    let given = Flv { upload_while_recording: true, resume_timeout: seconds(30), ..Flv::default() };
    let flv = accepted(Template { flv: Some(given), ..Template::default() }).flv.unwrap();
    assert_eq!((flv.upload_while_recording, flv.resume_timeout), (true, seconds(30)));
    let default = accepted(mp4(None)).mp4.unwrap();
    assert_eq!((default.upload_while_recording, default.resume_timeout), (false, seconds(0)));
}

fn path(path: &str) -> Template {
    Template { path: path.to_owned(), ..Template::default() }
}

#[test]
fn r32_end_variables_are_refused_with_the_reason() {
    for variable in ["EndYear", "EndMonth", "EndDay", "EndHour", "EndMinute", "EndSecond", "EndMillisecond"] {
        let refusal = refused(path(&format!("{{RecordId}}-{{{variable}}}")));
        assert!(refusal.starts_with("template.path: ") && refusal.contains("before the end is known"), "{refusal}");
    }
}

#[test]
fn r38_default_path_is_the_vendors_byte_for_byte() {
    let expected = "{RecordSource}/{Domain}/{AppName}/{StreamID}/{RecordId}/\
                    {StartYear}-{StartMonth}-{StartDay}-{StartHour}-{StartMinute}-{StartSecond}";
    assert_eq!(accepted(Template::default()).path, expected);
}

#[test]
fn r39_variables() {
    let every = "{RecordSource}/{Domain}/{AppName}/{StreamID}/{RecordId}/{RandomID}/{TemplateId}/{Format}/{FileIndex}/\
                 {StartYear}{StartMonth}{StartDay}{StartHour}{StartMinute}{StartSecond}{StartMillisecond}/{label.team}";
    assert_eq!(accepted(path(every)).path, every);
    for unknown in ["{RecordId}/{Nope}", "{RecordId}/{startyear}", "{RecordId}/{", "{RecordId}/}"] {
        let (_, violations) = check(path(unknown));
        assert!(violations.iter().any(|violation| violation.field == "template.path"), "{unknown}");
    }
}

#[test]
fn r40_a_path_without_an_id_gets_one() {
    assert_eq!(accepted(path("{StreamID}/{StartYear}")).path, "{StreamID}/{StartYear}/{RecordId}");
    assert_eq!(accepted(path("{StreamID}/{RandomID}")).path, "{StreamID}/{RandomID}");
}

#[test]
fn r41_paths_stay_below_their_folder_and_fit() {
    for bad in
        ["../{RecordId}", "a//{RecordId}", "{RecordId}/", "a/../{RecordId}", ".hidden/{RecordId}", "a\0{RecordId}"]
    {
        assert!(refused(path(bad)).starts_with("template.path: "), "{bad:?}");
    }
    assert!(refused(path(&format!("{}/{{RecordId}}", "a/".repeat(600)))).contains("too long"));
}

#[test]
fn every_mistake_is_told_at_once() {
    let (_, violations) = check(Template {
        display_name: "not good".to_owned(),
        description: "bad.".to_owned(),
        storage: "templates/x".to_owned(),
        content: 9,
        time_zone: "nowhere".to_owned(),
        path: "{EndYear}/{Nope}".to_owned(),
        flv: Some(Flv { max_file_duration: seconds(10), ..Flv::default() }),
        mp4: Some(Mp4 { resume_timeout: seconds(4000), layout: 7, ..Mp4::default() }),
        thumbnails: Some(Thumbnails { interval: seconds(9999), width: 5000 }),
        pre_roll: seconds(61),
        max_duration: seconds(-1),
        ..Template::default()
    });
    let fields: std::collections::BTreeSet<&str> =
        violations.iter().filter_map(|violation| violation.field.strip_prefix("template.")).collect();
    let expected = [
        "content",
        "description",
        "display_name",
        "flv.max_file_duration",
        "max_duration",
        "mp4.layout",
        "mp4.resume_timeout",
        "path",
        "pre_roll",
        "storage",
        "thumbnails.interval",
        "thumbnails.width",
        "time_zone",
    ];
    assert_eq!(fields.into_iter().collect::<Vec<_>>(), expected);
}
