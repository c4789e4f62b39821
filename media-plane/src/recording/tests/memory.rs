//! What a recording keeps in memory while it grows.

use super::*;

/// All that threads and tasks of this process hold.
fn held() -> usize {
    let stats = stats_alloc::INSTRUMENTED_SYSTEM.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Minutes of pictures, of sizes and distances that vary; a group of pictures is 50.
async fn feed(life: &mut Life, recording: &mut Recording, minutes: std::ops::Range<i64>) {
    let payload = Bytes::from(vec![0x41; 600]);
    for n in minutes.start * 1_500..minutes.end * 1_500 {
        let dts = MediaTime::from_millis(n * FRAME + n * 7 % 5);
        let pts = dts + MediaTime::from_millis([80, 160, 40][n as usize % 3]);
        let (keyframe, data) = (n % 50 == 0, payload.slice(..300 + n as usize * 37 % 300));
        let frame = Frame { track: TrackKind::Video, dts, pts, keyframe, data };
        assert_eq!(recording.take(Feed::Both, &[Timed::Frame(frame)]), None);
        if n % 25 == 0 {
            life.turn().await;
        }
    }
}

/// Every sample's entry of the index took two bytes of memory: twelve hours five megabytes of each recording.
#[tokio::test]
async fn an_hour_of_mp4_took_memory_for_its_index() {
    const MOST: usize = 16 << 10;
    let folder = tempfile::tempdir().unwrap();
    let (disk, bucket) = (FaultyDisk::new(), Arc::new(Memory::default()));
    let mut life = Life::start(folder.path(), false, &disk, &bucket);
    let hours = Some(recorder_proto::time::duration(Duration::from_secs(7_200)));
    let mp4 = Some(Mp4 { max_file_duration: hours, ..Mp4::default() });
    let mut recording = start(&life.node, Template { hls: None, flv: None, mp4, ..template() }, None);
    recording.take(Feed::Both, &[avc()]);
    feed(&mut life, &mut recording, 0..5).await;
    let before = held();
    feed(&mut life, &mut recording, 5..60).await;
    let grown = held().saturating_sub(before);
    println!("{grown} bytes for {} samples", 55 * 1_500);
    assert!(grown < MOST, "{grown} bytes");
    recording.finish(EndReason::PublisherEnded);
    life.until("a manifest", |life| life.facts().iter().any(|fact| matches!(fact, FactKind::RecordingManifest(_))))
        .await;
    let told = Told::of(life.facts());
    let [file] = told.available.as_slice() else { panic!("{:?}", told.available) };
    let bytes = bucket.get_range(&file.object_key, 0..file.size_bytes).await.unwrap();
    let media = mux::demux::mp4(&bytes).unwrap();
    assert_eq!(media.samples.len(), 60 * 1_500);
    let of_index = told.ended.outputs[0].bytes_recorded;
    assert_eq!(of_index, file.size_bytes, "what is told to be recorded has the index in it");
    life.die().await;
}
