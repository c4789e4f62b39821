//! `make soak` and `make soak-memory`: the long form of the fault tests.
//!
//! `SOAK_SECONDS` (default 3600, with `--memory` 600), `SOAK_PUBLISHERS` (default 7) and `SOAK_SEED` (default random)
//! say how long, how crowded and which. Ends with 1 when a frame is lost beyond the allowance, found twice, or anything
//! else is wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::ExitCode;
use std::time::Duration;

use recorder_tests::soak::{self, Settings, memory};

#[tokio::main]
async fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SOAK_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let clean = if std::env::args().any(|argument| argument == "--memory") {
        let outage = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(600));
        let report = memory::run(outage, number("SOAK_PUBLISHERS").unwrap_or(20) as usize).await;
        println!("{report}");
        report.is_clean()
    } else {
        let duration = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(3_600));
        let publishers = number("SOAK_PUBLISHERS").unwrap_or(7) as usize;
        println!(
            "{} s of chaos with {publishers} numbered publishers and one real, SOAK_SEED={seed}",
            duration.as_secs()
        );
        let report = soak::run(Settings { duration, publishers, seed }).await;
        println!("{report}");
        report.is_clean()
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
