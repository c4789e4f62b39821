use std::collections::BTreeMap;

use chrono::{DateTime, TimeZone as _, Utc};

use super::*;
use crate::format::Format;
use crate::ids::{Epoch, FileIndex, RecordingId};

fn start() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 29, 0, 59, 7).unwrap() + chrono::TimeDelta::milliseconds(45)
}

fn context<'a>(labels: &'a BTreeMap<String, String>) -> KeyContext<'a> {
    KeyContext {
        source: RecordSource::Origin,
        domain: "push.example.com",
        app: "live",
        stream: "cam1",
        recording: RecordingId::new(start(), [1; 10]),
        record_id: None,
        epoch: Epoch::FIRST,
        start: start(),
        time_zone: TimeZone::Utc,
        random: [0xab; 10],
        template: "show",
        format: Format::Mp4,
        file_index: FileIndex(0),
        labels,
    }
}

fn expand(template: &str, change: impl FnOnce(&mut KeyContext<'_>)) -> String {
    let labels = BTreeMap::from([("team".to_owned(), "news/../x".to_owned())]);
    let mut context = context(&labels);
    change(&mut context);
    KeyTemplate::parse(template).unwrap().expand(&context)
}

fn errors(template: &str) -> Vec<String> {
    KeyTemplate::parse(template).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn r38_the_default_is_the_vendors_byte_for_byte() {
    let template = KeyTemplate::parse("").unwrap();
    assert_eq!(
        template.to_string(),
        "{RecordSource}/{Domain}/{AppName}/{StreamID}/{RecordId}/{StartYear}-{StartMonth}-{StartDay}-{StartHour}-{StartMinute}-{StartSecond}"
    );
    let id = RecordingId::new(start(), [1; 10]);
    assert_eq!(expand("", |_| ()), format!("origin/push.example.com/live/cam1/{id}/2026-03-29-00-59-07"));
}

#[test]
fn r39_every_variable_expands() {
    let id = RecordingId::new(start(), [1; 10]);
    let key = expand(
        "{TemplateId}_{Format}_{FileIndex}_{label.team}_{label.none}_{RandomID}_{StartMillisecond}/{RecordId}",
        |c| {
            c.file_index = FileIndex(7);
        },
    );
    assert_eq!(key, format!("show_mp4_7_news___x___abababababababababab_045/{id}"));
    assert!(expand("{RecordSource}/{RecordId}", |c| c.source = RecordSource::Transcoding("hd")).starts_with("hd/"));
}

#[test]
fn r32_end_variables_are_refused_with_the_reason_and_the_list() {
    for name in ["EndYear", "EndMillisecond", "EndTime"] {
        let errors = errors(&format!("{{{name}}}/{{RecordId}}"));
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains(&format!("{{{name}}} cannot be used: the key is fixed when the upload starts")));
        assert!(errors[0].contains("{StartHour}") && errors[0].contains("{label.x}"));
    }
}

#[test]
fn r16_a_task_gives_its_id() {
    assert_eq!(expand("{StreamID}/{RecordId}", |c| c.record_id = Some("ny")), "cam1/ny");
    let later = |c: &mut KeyContext<'_>| (c.record_id, c.epoch) = (Some("ny_0123456789abcdef"), Epoch(2));
    assert_eq!(expand("{RecordId}", later), "ny_0123456789abcdef-e2");
    assert!(expand("{StreamID}", |c| c.record_id = Some("ny")).ends_with("/ny"), "where it is appended, too");
}

#[test]
fn every_fault_is_named_at_once() {
    let errors = errors("{Nope}//{EndDay}/%/.x/{RecordId}");
    let all = errors.join("\n");
    assert_eq!(errors.len(), 5, "{all}");
    for part in ["{Nope} is not a variable", "{EndDay} cannot", "must not contain '%'", "`//`", "start with a dot"] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn malformed_templates_are_refused() {
    for template in [
        "{",
        "}",
        "{}",
        "{RecordId",
        "RecordId}",
        "{{RecordId}}",
        "a//{RecordId}",
        "{RecordId}/",
        "//{RecordId}",
        "/",
        "../{RecordId}",
        "a/../{RecordId}",
        ".hidden/{RecordId}",
        "{RecordId}..",
        "a\\{RecordId}",
        "a\n{RecordId}",
        "a?{RecordId}",
        "{recordid}",
        "{label.}",
        "{label.A}",
        "{label.a/b}",
        "trailing/",
    ] {
        assert!(KeyTemplate::parse(template).is_err(), "{template}");
    }
    assert!(KeyTemplate::parse(&"a".repeat(1025)).is_err());
    assert!(
        KeyTemplate::parse(&format!("{}{{RecordId}}", "a".repeat(190))).is_err(),
        "a part longer than file systems take"
    );
    assert!(KeyTemplate::parse(&"{StreamID}/".repeat(60)).is_err(), "can never fit");
}

#[test]
fn r40_a_unique_id_is_appended_when_missing() {
    assert_eq!(KeyTemplate::parse("/a/{StreamID}").unwrap().to_string(), "a/{StreamID}/{RecordId}");
    for template in ["a/{RecordId}", "a/{RandomID}"] {
        assert_eq!(KeyTemplate::parse(template).unwrap().to_string(), template);
    }
}

#[test]
fn r41_values_are_harmless() {
    let key = |stream: &'static str| {
        expand("{StreamID}/{RecordId}", |c| c.stream = stream).rsplit_once('/').unwrap().0.to_owned()
    };
    assert_eq!(key(".."), "_");
    assert_eq!(key("../../etc/passwd"), "____etc_passwd");
    assert_eq!(key(".hidden"), "_hidden");
    assert_eq!(key("a\0b\u{7f}\u{9f}"), "a_b__");
    assert_eq!(key("%2e%2e%2f"), "_2e_2e_2f");
    assert_eq!(key("直播?#\\"), "直播___");
    assert_eq!(key("a...b"), "a_.b");
    assert_eq!(key(""), "_");
    assert_eq!(expand("{AppName}/{RecordId}", |c| c.app = "a/../.b//c").rsplit_once('/').unwrap().0, "a/_/_b/c");
    assert!(!expand("{StreamID}.{label.x}/{RecordId}", |c| c.stream = "a.").contains(".."), "dots of neighbours");
}

#[test]
fn epochs_follow_the_id() {
    let id = RecordingId::new(start(), [1; 10]);
    assert_eq!(expand("{RecordId}", |c| c.epoch = Epoch(2)), format!("{id}-e2"));
    assert_eq!(expand("{RandomID}", |c| c.epoch = Epoch(2)), "abababababababababab-e2");
    assert_eq!(expand("{RandomID}/{RecordId}", |c| c.epoch = Epoch(2)), format!("abababababababababab/{id}-e2"));
}

#[test]
fn r8_time_zones_touch_the_start_variables() {
    let hour = |zone: &str, at: DateTime<Utc>| {
        expand("{StartYear}{StartMonth}{StartDay}T{StartHour}{StartMinute}/{RecordId}", |c| {
            c.time_zone = zone.parse().unwrap();
            c.start = at;
        })
        .split_once('/')
        .unwrap()
        .0
        .to_owned()
    };
    assert_eq!(hour("UTC", start()), "20260329T0059");
    assert_eq!(hour("UTC+8", start()), "20260329T0859");
    // Berlin skips from 02:00 to 03:00 at 01:00 UTC that night.
    assert_eq!(hour("Europe/Berlin", start()), "20260329T0159");
    assert_eq!(hour("Europe/Berlin", start() + chrono::TimeDelta::minutes(1)), "20260329T0300");
    assert_eq!(hour("America/New_York", start()), "20260328T2059");
    for wrong in ["utc", "UTC+9", "Mars/Olympus", "+08:00"] {
        assert!(wrong.parse::<TimeZone>().is_err(), "{wrong}");
    }
    assert_eq!("Asia/Shanghai".parse::<TimeZone>().unwrap().to_string(), "Asia/Shanghai");
}

#[test]
fn long_values_are_cut_and_stay_apart() {
    let long = "直".repeat(170);
    let other = format!("{}x", "直".repeat(169));
    let key = |stream: &str| {
        let labels = BTreeMap::new();
        KeyTemplate::default().expand(&KeyContext { stream, ..context(&labels) })
    };
    let (a, b) = (key(&long), key(&other));
    assert_ne!(a, b);
    assert!(a.contains("直~") && a.len() <= BASE_MAX_BYTES && a.split('/').all(|part| part.len() <= 200), "{a}");
    assert_eq!(a, key(&long), "the same every time");
}

#[test]
fn object_names() {
    let key = |format, index, part| object_key("rec/", "a/b", format, FileIndex(index), part);
    assert_eq!(key(Format::Flv, 0, ObjectPart::Whole), "rec/a/b.flv");
    assert_eq!(key(Format::Mp4, 3, ObjectPart::Whole), "rec/a/b-3.mp4");
    assert_eq!(key(Format::Aac, 0, ObjectPart::Manifest), "rec/a/b.aac.json");
    assert_eq!(key(Format::Hls, 0, ObjectPart::Whole), "rec/a/b/index.m3u8");
    assert_eq!(key(Format::Hls, 1, ObjectPart::Playlist), "rec/a/b-1/index.m3u8");
    assert_eq!(key(Format::Hls, 1, ObjectPart::Segment(12)), "rec/a/b-1/12.ts");
    assert_eq!(key(Format::Hls, 0, ObjectPart::Fragment(12)), "rec/a/b/12.m4s");
    assert_eq!(key(Format::Hls, 0, ObjectPart::Init(1)), "rec/a/b/init-1.mp4");
    assert_eq!(object_key("", "a", Format::Flv, FileIndex(0), ObjectPart::Whole), "a.flv");
}

#[test]
fn prefixes() {
    for good in ["", "rec", "rec/", "a/b-c/直播"] {
        assert_eq!(check_prefix(good), Ok(()), "{good}");
    }
    let long = "a/".repeat(129);
    for bad in ["/", "/a", "a//b", "a//", "..", "a/../b", ".a", "a b\n", "{Domain}", "a\\b", "a%2f", long.as_str()] {
        assert!(check_prefix(bad).is_err(), "{bad}");
    }
}
