//! A stream with Opus from its events to the files in the bucket, inside one process.

mod tasks;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media::ingest::{EndCause, Event, RawFrame, SourceTime};
use media::{AvcConfig, CodecConfig, OpusConfig, TrackKind};
use mux::demux;
use recorder_proto::facts::{FactKind, FileAvailable};
use recorder_proto::format::Format;
use recorder_proto::pb::v1::Template;
use recorder_proto::pb::v1::template::{Aac, AudioMode, Flv, Hls, Mp4, aac};
use spool::FaultyDisk;
use store::{Bucket, Memory};

use super::Publication;
use crate::recording::tests::{AVC, Life, bind, publisher, standing};

const SECONDS: u32 = 4;
/// 20 ms of silence in stereo, as libopus codes it.
const SILENCE: &[u8] = &[0xfc, 0xff, 0xfe];
/// An AAC frame at 48 kHz, in timeline ticks.
const UNIT: i64 = 1_920;

fn template(audio: AudioMode) -> Template {
    let when = aac::When::Always.into();
    Template {
        name: "templates/all".into(),
        path: "{AppName}/{StreamID}/{RecordId}".into(),
        audio: audio.into(),
        hls: Some(Hls::default()),
        flv: Some(Flv::default()),
        mp4: Some(Mp4::default()),
        aac: Some(Aac { when, ..Aac::default() }).filter(|_| audio != AudioMode::None),
        ..Template::default()
    }
}

/// Key frames every second; 50 packets of sound a second.
fn publish(life: &Life) -> Box<Publication> {
    let mut publication = Box::new(Publication::start(Arc::clone(&life.node), publisher(&life.node)));
    let arrival = life.node.clock.monotonic();
    let avc = AvcConfig::parse(Bytes::from_static(AVC)).unwrap();
    let opus = OpusConfig { channels: 2, pre_skip: 0, sample_rate_in: 48_000 };
    publication.ingest(Event::Config(TrackKind::Video, CodecConfig::Avc(avc.into())), arrival);
    publication.ingest(Event::Config(TrackKind::Audio, CodecConfig::Opus(opus.into())), arrival);
    for millis in (0..SECONDS * 1_000).step_by(20) {
        let time = SourceTime { value: 70_000 + millis, scale: 1_000 };
        let mut frame = |track, keyframe, data| {
            let frame = RawFrame { track, time, composition: 0, keyframe, data };
            publication.ingest(Event::Frame(frame), arrival + Duration::from_millis(millis.into()));
        };
        if millis % 40 == 0 {
            let keyframe = millis % 1_000 == 0;
            let data = [0, 0, 0, 2, if keyframe { 0x65 } else { 0x41 }, 0x9a];
            frame(TrackKind::Video, keyframe, Bytes::copy_from_slice(&data));
        }
        frame(TrackKind::Audio, true, Bytes::from_static(SILENCE));
    }
    publication
}

/// The files that a template makes of the stream, with their bytes.
async fn files(audio: AudioMode) -> Vec<(FileAvailable, Bytes)> {
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    bind(&life, template(audio));
    let mut publication = publish(&life);
    publication.interrupt(&EndCause::Unpublished);
    assert!(publication.begin_waiting(false).is_none(), "nothing waits");
    let is_over = |life: &Life| life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingManifest(_)));
    life.until("a manifest", is_over).await;
    let mut files = Vec::new();
    for fact in life.facts() {
        if let FactKind::FileAvailable(file) = fact {
            let size = bucket.head(&file.object_key).await.unwrap().unwrap().size;
            let bytes = bucket.get_range(&file.object_key, 0..size).await.unwrap();
            files.push((file, bytes));
        }
    }
    life.die().await;
    files
}

fn read(file: &FileAvailable, bytes: &Bytes) -> Option<demux::Media> {
    match file.format {
        Format::Flv => Some(demux::flv(bytes).unwrap()),
        Format::Mp4 => Some(demux::mp4(bytes).unwrap()),
        Format::Aac => Some(demux::adts(bytes).unwrap()),
        // Its object is the playlist.
        Format::Hls => None,
    }
}

fn times(media: &demux::Media, track: TrackKind) -> Vec<i64> {
    media.track(track).map(|sample| sample.dts.0).collect()
}

/// R42, R43, R44: nothing of the sound is lost, wherever it goes.
#[tokio::test]
async fn r42_opus_is_in_every_format_as_aac_from_its_first_sample_to_its_last() {
    let files = files(AudioMode::Auto).await;
    assert_eq!(files.len(), 4);
    for (file, bytes) in &files {
        let audio = file.audio.clone().unwrap_or_else(|| panic!("{} has no sound", file.format));
        assert_eq!((audio.codec.as_str(), audio.sample_rate, audio.channels), ("aac", 48_000, 2), "{}", file.format);
        assert!(audio.transcoded, "{}", file.format);
        let Some(media) = read(file, bytes) else { continue };
        let (video, audio) = (times(&media, TrackKind::Video), times(&media, TrackKind::Audio));
        let (first, last) = (audio[0], audio[audio.len() - 1]);
        // FLV counts milliseconds.
        assert!(audio.windows(2).all(|pair| (pair[1] - pair[0] - UNIT).abs() <= 90), "{}: {audio:?}", file.format);
        if file.format == Format::Aac {
            assert!(last + UNIT >= i64::from(SECONDS) * 90_000, "{}", file.format);
            continue;
        }
        assert_eq!(video.len() as u32, SECONDS * 25);
        // One frame ahead of the first sample, for decoders to start from.
        assert!(
            (video[0] - first - UNIT).abs() <= 90,
            "{}: sound from {first}, picture from {}",
            file.format,
            video[0]
        );
        let end = video[0] + i64::from(SECONDS) * 90_000 - 312 * 90 / 48;
        assert!((end..=end + 2 * UNIT).contains(&(last + UNIT)), "{}: sound up to {last}, not {end}", file.format);
        // In the order of their times, but for the pictures that came before any sound.
        let order: Vec<i64> = media.samples.iter().map(|sample| sample.dts.0).collect();
        let disorder = order.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(disorder <= 1, "{}: {disorder} steps back", file.format);
    }
}

#[tokio::test]
async fn opus_is_copied_where_the_template_asks_for_it_and_left_out_where_it_cannot_be() {
    for (file, bytes) in files(AudioMode::Copy).await {
        let codec = file.audio.clone().map(|audio| (audio.codec, audio.transcoded));
        let expected = (file.format == Format::Mp4).then(|| ("opus".to_owned(), false));
        assert_eq!(codec, expected, "{}", file.format);
        let Some(media) = read(&file, &bytes) else { continue };
        let packets = media.track(TrackKind::Audio).filter(|sample| sample.payload[..] == *SILENCE).count() as u32;
        assert_eq!(packets, if file.format == Format::Mp4 { SECONDS * 50 } else { 0 }, "{}", file.format);
        assert_eq!(media.track(TrackKind::Video).count() as u32, SECONDS * 25, "{}", file.format);
    }
}

#[tokio::test]
async fn a_template_without_sound_records_none() {
    let files = files(AudioMode::None).await;
    assert_eq!(files.len(), 3);
    for (file, bytes) in files {
        assert_eq!(file.audio, None, "{}", file.format);
        let Some(media) = read(&file, &bytes) else { continue };
        assert_eq!(media.track(TrackKind::Audio).count(), 0, "{}", file.format);
        assert_eq!(media.track(TrackKind::Video).count() as u32, SECONDS * 25, "{}", file.format);
    }
}
