//! How a start scales: with the number of outputs, not with their bytes.

use std::time::{Duration, Instant};

use mux::Output;

use super::{WHOLE, apply, mark, pattern, spec};
use crate::{Config, ObjectState, OutputKey, Spool};

#[tokio::test]
async fn fifty_open_outputs_are_recovered_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _, _events) = Spool::open(Config::new(dir.path())).unwrap();
    let mut writers = Vec::new();
    for number in 0..50 {
        let key = OutputKey { recording: format!("R{number:02}"), epoch: 1, format: "flv".into() };
        let mut writer = spool.create(key, &serde_json::json!({})).unwrap();
        apply(&mut writer, [Output::Open(spec(WHOLE))]);
        writers.push(writer);
    }
    let piece = pattern(100_000, 1);
    for round in 0..20 {
        for writer in &mut writers {
            apply(writer, [Output::Append(WHOLE, piece.clone()), mark(WHOLE, round)]);
        }
        spool.flush().await;
    }
    for writer in &mut writers {
        apply(writer, [Output::Append(WHOLE, piece.clone())]);
    }
    drop((writers, spool));
    let started = Instant::now();
    let (_spool, stored, _events) = open_when_free(dir.path()).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(stored.len(), 50);
    for output in stored {
        let found = &output.objects[0];
        assert!(matches!(found.state, ObjectState::Open { bytes: 2_000_000, .. }), "{found:?}");
        assert_eq!(found.damaged, None);
    }
}

/// The threads of a dropped spool let go of the directory when they have ended.
async fn open_when_free(path: &std::path::Path) -> (Spool, Vec<crate::StoredOutput>, crate::Events) {
    loop {
        match Spool::open(Config::new(path)) {
            Err(crate::Error::Locked(_)) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}
