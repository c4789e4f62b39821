//! Lost replies and deaths at every step: one object, the right bytes, nothing left behind.

use bytes::Bytes;
use mux::Output;
use recorder_proto::facts::FactKind;
use recorder_proto::format::Format;
use store::{Bucket, Faults};

use super::growing::{PART, append, begin, end, growing};
use super::{OutputMeta, PLAYLIST, WHOLE, Yard, key, meta, object, pattern, playlist, segment, summary, wait};

/// A file of more than two parts, sent while it grows or after, with its head known last or not.
struct Case {
    meta: OutputMeta,
    head: Option<Bytes>,
    media: Bytes,
}

impl Case {
    fn all() -> Vec<Self> {
        let media = pattern(2 * PART + 4_321, 6);
        let head = || Some(pattern(999, 7));
        vec![
            Self { meta: growing(Format::Flv, false), head: None, media: media.clone() },
            Self { meta: growing(Format::Mp4, true), head: head(), media: media.clone() },
            Self { meta: meta(Format::Mp4), head: head(), media },
            Self { meta: growing(Format::Aac, false), head: None, media: pattern(10_000, 8) },
        ]
    }

    fn whole(&self) -> Vec<u8> {
        [self.head.clone().unwrap_or_default(), self.media.clone()].concat()
    }

    /// The recording side: goes on with whatever the spool holds, and closes it.
    fn record(&self, yard: &Yard) {
        let mut writer = match yard.spool.reopen(&key(&self.meta)) {
            Ok(writer) => writer,
            Err(_) => {
                let mut writer = yard.writer(&self.meta);
                begin(&mut writer);
                append(&mut writer, self.media.slice(..self.media.len() - 100));
                append(&mut writer, self.media.slice(self.media.len() - 100..));
                writer
            }
        };
        if self.head.is_some() {
            writer.apply(Output::Head(WHOLE, self.head.clone().unwrap_or_default())).unwrap();
        }
        end(writer, None);
    }

    async fn assert_right(&self, yard: &Yard, what: &str) {
        let file = yard
            .fact(|kind| match kind {
                FactKind::FileAvailable(file) if file.format == self.meta.format => Some(file.clone()),
                _ => None,
            })
            .await;
        assert_eq!(file.object_key, self.meta.object_key(WHOLE), "{what}");
        assert!(yard.get(&file.object_key).await == self.whole(), "{what}: other bytes");
    }
}

/// The first seeds, or as many as `RECORDER_TEST_SEEDS` says.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("RECORDER_TEST_SEEDS").ok().and_then(|text| text.parse().ok());
    0..wanted.unwrap_or(count)
}

/// reliability.md test 9, in memory: every operation is carried out and its reply lost with p = 0.3.
#[tokio::test]
async fn s3_lost_replies() {
    for seed in seeds(2) {
        let what = format!("seed {seed}");
        let faults = Faults { lose_reply: 0.3, seed, ..Faults::default() };
        // Google's sessions cannot be listed: one whose id was lost ends by itself, so those are counted elsewhere.
        for in_order in [false, true] {
            let yard = if in_order { Yard::in_order(faults) } else { Yard::new(faults) };
            let cases = Case::all();
            for (number, case) in cases.iter().enumerate() {
                if number != 2 {
                    case.record(&yard);
                }
            }
            let hls = meta(Format::Hls);
            let mut writer = yard.writer(&hls);
            for number in 0..4 {
                object(&mut writer, segment(number), pattern(10_000, number as u8));
                playlist(&mut writer, number + 1, number == 3);
            }
            writer.apply(Output::FileDone(0, summary(0, 4_000))).unwrap();
            writer.finish();
            for case in cases.iter().enumerate().filter(|(number, _)| *number != 2).map(|(_, case)| case) {
                case.assert_right(&yard, &what).await;
            }
            yard.fact(|kind| matches!(kind, FactKind::FileAvailable(file) if file.format == Format::Hls).then_some(()))
                .await;
            assert!(yard.keys().await.contains(&hls.object_key(PLAYLIST)), "{what}");
            yard.acknowledged_and_empty().await;
            assert_eq!(yard.keys().await.len(), 3 + 5, "{what}: {:?}", yard.keys().await);
            assert!(in_order || yard.memory.open_uploads() == 0, "{what}: uploads stay open");
        }
    }
}

/// reliability.md test 2, the shipping side: the process dies at every call in turn, before the bucket has carried it
/// out and after, and once more while it makes that good.
#[tokio::test]
async fn kill9_during_finalize() {
    for case in Case::all() {
        // Parts in order make a difference to files that are sent while they grow.
        let is_sent_growing = case.meta.upload_while_recording && case.media.len() > PART;
        for in_order in [false, true].into_iter().filter(|in_order| !in_order || is_sent_growing) {
            for applied in [false, true] {
                let mut died = 0;
                for call in 0.. {
                    if !dies_and_recovers(&case, in_order, call, applied).await {
                        break;
                    }
                    died += 1;
                }
                assert!(died >= 2, "the sweep must meet the put or parts, and the look at it");
            }
        }
    }
}

async fn dies_and_recovers(case: &Case, in_order: bool, call: u64, applied: bool) -> bool {
    let what = format!("{:?}, in order {in_order}, dies at call {call}, applied {applied}", case.meta.format);
    let yard = if in_order { Yard::in_order(Faults::default()) } else { Yard::new(Faults::default()) };
    yard.bucket.die_at(call, applied);
    case.record(&yard);
    let is_told = |yard: &Yard| yard.facts().iter().any(|fact| matches!(fact.kind, FactKind::FileAvailable(_)));
    let has_died = wait(|| if yard.bucket.is_dead() { Some(true) } else { is_told(&yard).then_some(false) }).await;
    yard.spool.flush().await;
    let yard = yard.restart(Faults::default()).await;
    if yard.spool.reopen(&key(&case.meta)).map(drop).is_ok() {
        panic!("{what}: it was finished");
    }
    case.assert_right(&yard, &what).await;
    yard.acknowledged_and_empty().await;
    assert_eq!(yard.keys().await, [case.meta.object_key(WHOLE)], "{what}");
    // A session whose id never reached the journal is nobody's; Google ends it after a week.
    let lost = if in_order { yard.bucket.calls_of("create_upload") } else { 0 };
    assert!(yard.memory.open_uploads() as u64 <= lost, "{what}: uploads stay open");
    has_died
}

/// reliability.md test 7: fifty unfinished outputs, each with an upload under way.
#[tokio::test]
async fn restart_with_50_open_spools() {
    const OUTPUTS: usize = 50;
    let yard = Yard::new(Faults::default());
    let metas: Vec<OutputMeta> = (0..OUTPUTS)
        .map(|number| {
            let meta = growing(Format::Flv, false);
            let at = meta.wall.at + chrono::TimeDelta::seconds(number as i64);
            OutputMeta { recording: recorder_proto::ids::RecordingId::new(at, [number as u8; 10]), ..meta }
        })
        .collect();
    let data = pattern(PART + 99, 5);
    for meta in metas.iter().rev() {
        let mut writer = yard.writer(meta);
        begin(&mut writer);
        append(&mut writer, data.clone());
        std::mem::forget(writer);
    }
    wait(|| (yard.bucket.calls_of("put_part") >= OUTPUTS as u64).then_some(())).await;
    yard.spool.flush().await;
    let uploads = yard.memory.list_uploads("").await.unwrap();
    assert_eq!(uploads.len(), OUTPUTS);
    let started = std::time::Instant::now();
    let yard = yard.restart(Faults::default()).await;
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "ready after {:?}", started.elapsed());
    for meta in &metas {
        end(yard.spool.reopen(&key(meta)).unwrap(), None);
    }
    let available =
        |yard: &Yard| yard.facts().iter().filter(|fact| matches!(fact.kind, FactKind::FileAvailable(_))).count();
    wait(|| (available(&yard) == OUTPUTS).then_some(())).await;
    for meta in &metas {
        assert!(yard.get(&meta.object_key(WHOLE)).await == data);
    }
    assert_eq!(yard.bucket.calls_of("create_upload"), 0, "every upload went on");
    assert_eq!(yard.bucket.calls_of("put_part"), OUTPUTS as u64, "only the last part of each was left");
    assert_eq!(yard.memory.open_uploads(), 0);
    yard.acknowledged_and_empty().await;
}

/// Shipping resumes with the oldest bytes.
#[tokio::test]
async fn a_restart_ships_the_oldest_recordings_first() {
    let one_by_one = super::Patience { side_by_side: 1, ..super::Patience::default() };
    let yard = Yard::patient(Faults { refuse: 1.0, ..Faults::default() }, one_by_one);
    let metas: Vec<OutputMeta> = (0..20)
        .map(|number| {
            let meta = meta(Format::Flv);
            let at = meta.wall.at + chrono::TimeDelta::seconds(number);
            OutputMeta { recording: recorder_proto::ids::RecordingId::new(at, [number as u8; 10]), ..meta }
        })
        .collect();
    for meta in metas.iter().rev() {
        let mut writer = yard.writer(meta);
        object(&mut writer, WHOLE, pattern(1_000, 1));
        writer.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
        writer.finish();
    }
    yard.spool.flush().await;
    let yard = yard.restart(Faults::default()).await;
    let wanted: Vec<String> = metas.iter().map(|meta| meta.object_key(WHOLE)).collect();
    wait(|| (yard.bucket.calls_of("put") as usize == metas.len()).then_some(())).await;
    let put = yard.bucket.keys_of("put");
    let ages: Vec<_> = put.iter().map(|key| wanted.iter().position(|other| other == key).unwrap()).collect();
    // Whoever comes to the gate first finds it free; all others wait there, the oldest in front.
    assert!(ages[1..].is_sorted(), "{ages:?}");
}

/// reliability.md test 13, beside the contract suite: nothing is ever written under a condition, so keys alone keep a
/// node that lost its recording from overwriting or ending what the next epoch writes.
#[tokio::test]
async fn gcs_hmac_no_preconditions() {
    let yard = Yard::new(Faults::default());
    let zombie = growing(Format::Flv, false);
    let heir = OutputMeta { epoch: recorder_proto::ids::Epoch(2), ..zombie.clone() };
    let (old, new) = (pattern(2 * PART, 1), pattern(2 * PART, 2));
    let mut writers: Vec<_> = [&zombie, &heir].map(|meta| yard.writer(meta)).into_iter().collect();
    for (writer, data) in writers.iter_mut().zip([&old, &new]) {
        begin(writer);
        append(writer, data.clone());
    }
    wait(|| (yard.memory.open_uploads() == 2).then_some(())).await;
    // The heir is done first; the zombie wakes and finishes as if nothing had happened.
    end(writers.remove(1), None);
    let keys = [zombie.object_key(WHOLE), heir.object_key(WHOLE)];
    assert_ne!(keys[0], keys[1]);
    let is_there = |key: &str| {
        let facts = yard.facts();
        facts.iter().any(|fact| matches!(&fact.kind, FactKind::FileAvailable(file) if file.object_key == key))
    };
    wait(|| is_there(&keys[1]).then_some(())).await;
    assert_eq!(yard.memory.open_uploads(), 1, "the zombie's upload is its own");
    end(writers.remove(0), None);
    wait(|| is_there(&keys[0]).then_some(())).await;
    assert!(yard.get(&keys[0]).await == old && yard.get(&keys[1]).await == new);
    assert_eq!(yard.memory.open_uploads(), 0);
}
