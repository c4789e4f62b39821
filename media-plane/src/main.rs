//! The media node: parse settings, build, serve, drain.

use std::process::ExitCode;

use recorder_media::app::App;
use recorder_media::config::{Config, PROGRAM};
use recorder_runtime::config::EX_USAGE;

// Thousands of connections come and go; glibc keeps what they freed, jemalloc gives it back (its settings: .cargo/config.toml).
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    let settings = PROGRAM.start();
    let config: Config = match settings.deserialize() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(u8::try_from(EX_USAGE).unwrap_or(1));
        }
    };
    // Every connection and every open output takes a descriptor; the usual soft limit of 1024 is soon reached.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("recorder-media: the limit of open files stays as it is: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the async runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    #[cfg(feature = "count-allocations")]
    runtime.spawn(show_allocations());
    let outcome = runtime.block_on(async { App::build(config, &settings).await?.run().await });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder-media: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Keeps `recorder_allocated_bytes_total` up to date.
#[cfg(feature = "count-allocations")]
async fn show_allocations() {
    loop {
        metrics::counter!("recorder_allocated_bytes_total").absolute(ALLOCATOR.stats().bytes_allocated as u64);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
