//! One attempt's time limit, by the number of bytes it moves.
use std::future::Future;
use std::time::Duration;

use crate::error::{Error, Kind};

/// How long one attempt may take: `base` plus the time its bytes need at the slowest acceptable rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptLimit {
    /// For connecting, signing and answering.
    pub base: Duration,
    /// Bytes a second below which an upload counts as stalled.
    pub bytes_per_second: u64,
}

impl Default for AttemptLimit {
    /// 30 s, and 256 KiB/s: a 2 Mbit/s uplink, below which a live recording cannot be shipped anyway.
    fn default() -> Self {
        Self { base: Duration::from_secs(30), bytes_per_second: 256 << 10 }
    }
}

impl AttemptLimit {
    /// For an attempt that moves this many bytes.
    pub fn for_bytes(&self, bytes: u64) -> Duration {
        self.base + Duration::from_secs(bytes / self.bytes_per_second.max(1))
    }

    /// Runs one attempt; late is [`Kind::Timeout`].
    pub(crate) async fn run<T, F>(&self, operation: &'static str, key: &str, bytes: u64, work: F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let limit = self.for_bytes(bytes);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("no answer within {} s", limit.as_secs_f64());
                Err(Error::new(operation, key, Kind::Timeout, "Timeout", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn late_attempts_end_as_timeouts() {
        let limit = AttemptLimit { base: Duration::from_millis(5), bytes_per_second: 10 };
        assert_eq!(limit.for_bytes(100), Duration::from_millis(10_005));
        let error = limit.run::<(), _>("put", "k", 0, std::future::pending()).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (Kind::Timeout, "Timeout"));
        assert!(error.message.contains("0.005 s"));
    }
}
