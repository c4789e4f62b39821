//! A line that carries so many bytes a second and no more, shared by all requests.
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

/// Bytes that pass in one go.
const PIECE: usize = 16 * 1024;

/// The line of a server.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    bytes_per_second: AtomicU64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    /// From now on so many; 0: as many as come.
    pub(super) fn set(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// The request, whose body arrives at the line's pace.
    pub(super) fn slow(self: &std::sync::Arc<Self>, request: Request<Body>) -> Request<Body> {
        if self.bytes_per_second.load(Ordering::Relaxed) == 0 {
            return request;
        }
        let line = std::sync::Arc::clone(self);
        request.map(|body| {
            let pieces = body.into_data_stream().flat_map(|chunk| {
                let pieces = match chunk {
                    Ok(chunk) => (0..chunk.len())
                        .step_by(PIECE)
                        .map(|from| Ok(chunk.slice(from..chunk.len().min(from + PIECE))))
                        .collect(),
                    Err(error) => vec![Err(error)],
                };
                futures_util::stream::iter(pieces)
            });
            Body::from_stream(pieces.then(move |piece| {
                let line = std::sync::Arc::clone(&line);
                async move {
                    line.pass(piece.as_ref().map_or(0, |piece| piece.len())).await;
                    piece
                }
            }))
        })
    }

    /// Waits until `bytes` have gone over the line.
    async fn pass(&self, bytes: usize) {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begins = free_at.filter(|free_at| *free_at > now).unwrap_or(now);
            *free_at.insert(begins + Duration::from_secs_f64(bytes as f64 / rate as f64))
        };
        sleep_until(until).await;
    }
}
