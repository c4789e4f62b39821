//! Outputs of which the spool tells no more, because the node is on its way out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::poll_fn;
use tokio::sync::mpsc;

use super::*;
use crate::shipping::output::Shipment;
use crate::shipping::read_meta;

/// A node that drained while its bucket was away used a whole core.
#[tokio::test]
async fn an_output_whose_events_have_ended_asked_for_them_again_and_again() {
    let yard = Yard::new(DOWN);
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_asked);
    let never: Open = Arc::new(move |_, _| {
        asked.store(true, Ordering::Relaxed);
        std::future::pending().boxed()
    });
    let node = (&yard.spool, &yard.manifests, &yard.log, &yard.lag);
    let context = Arc::new(context(node, Copies::new().0, Patience::default(), never));
    let key = key(&meta(Format::Flv));
    let (meta, storage) = read_meta(&key, serde_json::to_value(meta(Format::Flv)).unwrap()).unwrap();
    let mut shipment = Shipment::new(context, key, meta, storage);
    shipment.queue(spec(WHOLE), 3_000, 0, None);
    let (events, inbox) = mpsc::unbounded_channel();
    let mut run = Box::pin(shipment.run(inbox));
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let task = tokio::spawn(poll_fn(move |turn| {
        count.fetch_add(1, Ordering::Relaxed);
        run.as_mut().poll(turn)
    }));
    wait(|| is_asked.load(Ordering::Relaxed).then_some(())).await;
    drop(events);
    let before = polls.load(Ordering::Relaxed);
    // On this one thread, each turn of the test is one of every task that does not wait.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!task.is_finished(), "the object waits for its bucket");
    let turns = polls.load(Ordering::Relaxed) - before;
    assert!((1..10).contains(&turns), "{turns} turns with nothing to do");
    task.abort();
}
