//! Manifests through crashes at every point of a recording's life.

use serde_json::Value;

use super::*;
use crate::manifest::tests::{ended, gap, meta as recording_meta};
use crate::manifest::{Entry, FORMAT, RecordingMeta};

const FORMATS: [Format; 2] = [Format::Hls, Format::Flv];

/// A recording by steps; after each of them everything is durable.
struct Story {
    yard: Option<Yard>,
    meta: RecordingMeta,
    hls: Option<Writer>,
    flv: Option<Writer>,
}

const STEPS: usize = 8;

impl Story {
    fn new(faults: Faults) -> Self {
        Self { yard: Some(Yard::new(faults)), meta: recording_meta(&FORMATS), hls: None, flv: None }
    }

    fn yard(&self) -> &Yard {
        self.yard.as_ref().unwrap()
    }

    fn note(&self, entry: Entry) {
        self.yard().manifests.handle(&key(&self.meta.output)).unwrap().note(entry);
    }

    async fn step(&mut self, number: usize) {
        match number {
            0 => drop(self.yard().manifests.create(self.meta.clone()).unwrap()),
            1 => {
                self.hls = Some(self.yard().writer(&self.meta.output_of(Format::Hls)));
                self.flv = Some(self.yard().writer(&self.meta.output_of(Format::Flv)));
                open(self.flv.as_mut().unwrap(), WHOLE, pattern(700, 1));
            }
            2 => {
                let hls = self.hls.as_mut().unwrap();
                object(hls, segment(0), pattern(100, 2));
                playlist(hls, 1, false);
            }
            3 => self.note(Entry::Gap(gap(5, 250))),
            4 => {
                let hls = self.hls.as_mut().unwrap();
                object(hls, segment(1), pattern(200, 3));
                playlist(hls, 2, false);
            }
            5 => {
                let mut flv = self.flv.take().unwrap();
                flv.apply(Output::Close(WHOLE, summary(0, 1_000))).unwrap();
                flv.apply(Output::FileDone(0, summary(0, 1_000))).unwrap();
                flv.finish();
            }
            6 => self.note(ended(vec![gap(5, 250)])),
            _ => {
                let mut hls = self.hls.take().unwrap();
                playlist(&mut hls, 2, true);
                hls.apply(Output::FileDone(0, summary(0, 2_000))).unwrap();
                hls.finish();
            }
        }
        self.durable().await;
    }

    async fn durable(&self) {
        wait(|| self.yard().manifests.is_idle().then_some(())).await;
        self.yard().spool.flush().await;
    }

    async fn restart(&mut self, faults: Faults) {
        let unfinished = [(self.hls.take(), Format::Hls), (self.flv.take(), Format::Flv)];
        let open: Vec<_> = unfinished.into_iter().filter_map(|(writer, format)| writer.map(|_| format)).collect();
        self.yard = Some(self.yard.take().unwrap().restart(faults).await);
        for format in open {
            let writer = Some(self.yard().spool.reopen(&key(&self.meta.output_of(format))).unwrap());
            if format == Format::Hls { self.hls = writer } else { self.flv = writer }
        }
    }

    /// The one manifest, when everything is delivered and the spool is empty.
    async fn manifest(&self) -> Value {
        let told = self.yard().fact(|kind| match kind {
            FactKind::RecordingManifest(manifest) => Some(manifest.clone()),
            _ => None,
        });
        let told = told.await;
        assert_eq!(told.object_key, self.meta.key);
        let body = self.yard().get(&self.meta.key).await;
        assert_eq!((told.size_bytes, told.crc32c), (body.len() as u64, store::crc32c_base64(crc32c::crc32c(&body))));
        self.yard().acknowledged_and_empty().await;
        serde_json::from_slice(&body).unwrap()
    }
}

fn down() -> Faults {
    Faults { refuse: 1.0, ..Faults::default() }
}

async fn undisturbed() -> Value {
    let mut story = Story::new(Faults::default());
    for number in 0..STEPS {
        story.step(number).await;
    }
    story.manifest().await
}

#[tokio::test]
async fn a_manifest_follows_its_files() {
    let document = undisturbed().await;
    let files = document["files"].as_array().unwrap();
    assert_eq!(files.len(), 2);
    assert_eq!(files[0]["format"], "hls");
    assert_eq!(files[0]["objects"].as_array().unwrap().len(), 3);
    assert_eq!(files[0]["objects"][1]["size"], 200);
    let crc = store::crc32c_base64(crc32c::crc32c(&pattern(200, 3)));
    assert_eq!(files[0]["objects"][1]["crc32c"], Value::from(crc));
    assert_eq!(files[1]["size"], 700);
    assert_eq!(files[1]["crc32c"], Value::from(store::crc32c_base64(crc32c::crc32c(&pattern(700, 1)))));
    assert_eq!(document["gaps"].as_array().unwrap().len(), 1);
    assert_eq!(document["state"], "INCOMPLETE");
}

/// The bucket works all the time; the process dies after step k.
#[tokio::test]
async fn a_crash_after_any_step_gives_the_same_manifest() {
    let expected = undisturbed().await;
    for crash in 0..STEPS {
        let mut story = Story::new(Faults::default());
        for number in 0..STEPS {
            story.step(number).await;
            if number == crash {
                story.restart(Faults::default()).await;
            }
        }
        assert_eq!(story.manifest().await, expected, "crash after step {crash}");
    }
}

/// The bucket is away for the whole life of the recording, and each process dies once.
#[tokio::test]
async fn a_manifest_outlives_an_outage_and_crashes_within_it() {
    let expected = undisturbed().await;
    let mut story = Story::new(down());
    for number in 0..STEPS {
        story.step(number).await;
        story.restart(down()).await;
    }
    story.restart(Faults::default()).await;
    assert_eq!(story.manifest().await, expected);
}

/// Everything is shipped and acknowledged but the manifest, whose document is in each state of being written.
#[tokio::test]
async fn a_crash_within_the_writing_of_the_document_is_made_good() {
    let meta = recording_meta(&[Format::Flv]);
    let id = ObjectId { file: 0, part: ObjectPart::Whole };
    for written in 0..5 {
        let yard = Yard::new(Faults::default());
        let mut writer = yard.spool.create(meta.spool_key(), &serde_json::to_value(&meta).unwrap()).unwrap();
        writer.note(serde_json::to_value(Entry::Settled(Format::Flv)).unwrap()).unwrap();
        writer.note(serde_json::to_value(ended(vec![])).unwrap()).unwrap();
        let mut steps = vec![
            Output::Open(ObjectSpec { object: id, extension: "json", content_type: "application/json" }),
            Output::Append(id, Bytes::from_static(b"{")),
        ];
        if written > 2 {
            steps[1] = Output::Append(id, Bytes::from_static(b"{}"));
            steps.push(Output::Commit(id, Mark::default()));
            steps.push(Output::Close(id, Summary::default()));
        }
        for step in steps.into_iter().take(written) {
            writer.apply(step).unwrap();
        }
        yard.spool.flush().await;
        // Dropped while the process lives, it would be told as abandoned; this one died.
        let crashed = yard.restart(Faults::default());
        std::mem::forget(writer);
        let yard = crashed.await;
        let told = yard.fact(|kind| matches!(kind, FactKind::RecordingManifest(_)).then_some(())).await;
        let () = told;
        let body = yard.get(&meta.key).await;
        if written < 3 {
            let document: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(document["end_reason"], "PUBLISHER_ENDED", "after {written} steps");
        }
        yard.acknowledged_and_empty().await;
    }
}

#[tokio::test]
async fn a_recording_without_any_file_has_a_manifest() {
    let yard = Yard::new(Faults::default());
    let meta = recording_meta(&[Format::Flv]);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    yard.writer(&meta.output).finish();
    handle.note(ended(vec![]));
    yard.fact(|kind| matches!(kind, FactKind::RecordingManifest(_)).then_some(())).await;
    let document: Value = serde_json::from_slice(&yard.get(&meta.key).await).unwrap();
    assert_eq!((&document["state"], &document["files"]), (&"FAILED".into(), &Value::Array(vec![])));
    yard.acknowledged_and_empty().await;
}

#[tokio::test]
async fn what_was_noted_comes_back_after_a_restart() {
    let yard = Yard::new(Faults::default());
    let meta = recording_meta(&FORMATS);
    let handle = yard.manifests.create(meta.clone()).unwrap();
    handle.note(Entry::Told("recording.started".into()));
    handle.noted(Entry::Gap(gap(1, 2))).await;
    let yard = yard.restart(Faults::default()).await;
    let mut restored = yard.manifests.restored();
    assert_eq!(restored.len(), 1);
    assert!(yard.manifests.restored().is_empty());
    let restored = restored.remove(0);
    assert_eq!(restored.meta, meta);
    assert_eq!(restored.entries, [Entry::Told("recording.started".into()), Entry::Gap(gap(1, 2))]);
    assert!(!restored.ended);
    let mut other = key(&meta.output);
    other.format = FORMAT.to_owned();
    yard.manifests.handle(&other).unwrap().note(ended(vec![]));
    yard.fact(|kind| matches!(kind, FactKind::RecordingManifest(_)).then_some(())).await;
}
