//! The control plane: parse settings, build, bind, serve, drain.

use std::process::ExitCode;

use recorder_control::app::{App, Environment};
use recorder_control::config::{Config, PROGRAM};
use recorder_runtime::clock::SystemClock;
use recorder_runtime::config::{EX_USAGE, Settings};
use recorder_runtime::drain::{self, Drain};
use recorder_runtime::{metrics, telemetry};

fn main() -> ExitCode {
    let settings = PROGRAM.start();
    let config: Config = match settings.deserialize() {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("recorder-control: {errors}");
            return ExitCode::from(u8::try_from(EX_USAGE).unwrap_or(1));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("recorder-control: the async runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(config, &settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config, settings: &Settings) -> anyhow::Result<()> {
    let logs = telemetry::init(config.log.format, &config.log.filter)?;
    settings.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let environment =
        Environment { clock: SystemClock::shared(), logs, metrics: metrics::install()?, config: settings.print() };
    let drain = Drain::new();
    drain::signals(drain.clone())?;
    let app = App::build(config, environment, drain).await?;
    tracing::info!(api = %app.api_addr, link = %app.link_addr, admin = %app.admin_addr, "listening");
    Ok(app.run().await?)
}
