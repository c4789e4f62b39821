//! What the codecs' threads change about the stream: nothing.

use super::*;
use bytes::Bytes;
use media::{Frame, OpusConfig};

/// 20 ms of silence in stereo, as libopus codes it.
const SILENCE: &[u8] = &[0xfc, 0xff, 0xfe];

fn frame(track: TrackKind, millis: i64, data: Bytes) -> Timed {
    let dts = MediaTime::from_millis(millis);
    Timed::Frame(Frame { track, dts, pts: dts, keyframe: true, data })
}

/// `seconds` of 25 pictures of `size` bytes and 50 packets a second.
fn stream(seconds: i64, size: usize) -> Vec<Timed> {
    let opus = OpusConfig { channels: 2, pre_skip: 0, sample_rate_in: 48_000 };
    let mut items = vec![Timed::Config(TrackKind::Audio, CodecConfig::Opus(Arc::new(opus)))];
    let picture = Bytes::from(vec![7; size]);
    for n in 0..seconds * 50 {
        if n % 2 == 0 {
            items.push(frame(TrackKind::Video, n * 20, picture.clone()));
        }
        items.push(frame(TrackKind::Audio, n * 20, Bytes::from_static(SILENCE)));
    }
    items
}

/// What a stage makes of it without threads.
fn expected(items: &[Timed]) -> Vec<Timed> {
    let (mut stage, mut out) = (Stage::new(), Vec::new());
    items.iter().for_each(|item| stage.push(item, &mut out));
    stage.finish(&mut out);
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_out_is_what_a_stage_makes_of_it_in_order() {
    let items = stream(4, 100);
    let (mut sound, mut out) = (Sound::new(), Vec::new());
    for (n, piece) in items.chunks(3).enumerate() {
        sound.push(piece, Duration::from_millis(n as u64 * 40));
        sound.poll(&mut out);
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    sound.flush(&mut out);
    assert_eq!(out, expected(&items));
}

/// A process that ends has no runtime any more.
#[test]
fn without_a_runtime_it_works_where_it_stands() {
    let items = stream(1, 100);
    let (mut sound, mut out) = (Sound::new(), Vec::new());
    sound.push(&items, Duration::ZERO);
    sound.poll(&mut out);
    assert!(out.len() > 60, "{} items", out.len());
    sound.flush(&mut out);
    assert_eq!(out, expected(&items));
}

#[tokio::test]
async fn when_nothing_comes_any_more_no_picture_waits() {
    let items = stream(1, 100);
    let (mut sound, mut out) = (Sound::new(), Vec::new());
    let mut now = Duration::ZERO;
    sound.push(&items, now);
    for _ in 0..1_000 {
        let Some(at) = sound.next_look() else { break };
        now = at;
        sound.tick(now);
        sound.poll(&mut out);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(sound.next_look(), None, "something is under way for ever");
    let pictures = out.iter().filter(|item| matches!(item, Timed::Frame(frame) if frame.track == TrackKind::Video));
    assert_eq!(pictures.count(), 25);
}

#[test]
fn a_publisher_faster_than_the_codecs_has_to_wait() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let guard = runtime.enter();
    let mut sound = Sound::new();
    // The codecs are busy with something else.
    let shared = Arc::clone(&sound.shared);
    let busy = shared.codecs.lock().unwrap();
    let items = stream(10, 40_000);
    let mut sent = 0;
    for item in &items {
        if sound.is_full() {
            break;
        }
        sound.push(std::slice::from_ref(item), Duration::ZERO);
        sent += 1;
    }
    assert!(sent < items.len() / 2, "10 MB went in");
    let bytes = sound.shared.waiting.lock().unwrap().bytes;
    assert!(bytes < FULL.0 + 50_000, "{bytes} bytes wait");
    drop(busy);
    let mut out = Vec::new();
    sound.push(&items[sent..], Duration::ZERO);
    sound.flush(&mut out);
    assert_eq!(out, expected(&items));
    drop(guard);
}
