//! Logs: text for people or JSON for machines, a filter that can be changed while running, and one dictionary of field
//! names for both planes.
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Names of the fields that tie log lines together. `tracing` takes field names as identifiers, so spans write
/// `info_span!("recording", stream = %stream, recording = %id)`; these constants are for code that reads logs, and the
/// list of what the words mean.
pub mod fields {
    /// `domain/app/stream` of a publication.
    pub const STREAM: &str = "stream";
    /// Id of a recording, without `recordings/`.
    pub const RECORDING: &str = "recording";
    /// Id of a file of a recording.
    pub const FILE: &str = "file";
    /// Id of a media node.
    pub const NODE: &str = "node";
    /// Epoch of the claim under which a recording is written.
    pub const EPOCH: &str = "epoch";
    /// One connection of a publisher, or one directive stream of a node.
    pub const SESSION: &str = "session";
    /// All of them.
    pub const ALL: [&str; 6] = [STREAM, RECORDING, FILE, NODE, EPOCH, SESSION];
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Pretty,
}

/// Changes the filter while running.
#[derive(Debug, Clone)]
pub struct LogHandle {
    reload: reload::Handle<EnvFilter, Registry>,
    filter: Arc<Mutex<String>>,
}

impl LogHandle {
    /// The filter in effect, as it was given.
    pub fn filter(&self) -> String {
        self.lock().clone()
    }

    /// Replaces the filter (`info`, `info,rtmp=debug`); on an error the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), Error> {
        let parsed = parse(filter)?;
        let mut current = self.lock();
        self.reload.reload(parsed).map_err(|error| Error::TelemetryInstalled(error.to_string()))?;
        *current = filter.to_owned();
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, String> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use crate::Error;

/// What is said unless the filter names the same target: the WebRTC library tells every peer's mistakes as warnings.
const QUIET: &str = "rtc=error";

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder()
        .parse(format!("{QUIET},{filter}"))
        .map_err(|source| Error::LogFilter { filter: filter.to_owned(), source })
}

/// Installs logging to standard error (standard output belongs to the answers of a program) for the whole process, and
/// sends panics there as well.
pub fn init(format: Format, filter: &str) -> Result<LogHandle, Error> {
    let ansi = std::io::stderr().is_terminal();
    let (subscriber, handle) = subscriber(format, filter, ansi, std::io::stderr)?;
    subscriber.try_init().map_err(|error| Error::TelemetryInstalled(error.to_string()))?;
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(location, %backtrace, "panic: {message}");
    }));
    Ok(handle)
}

/// What [`init`] installs, with the writer as a parameter (a test reads what was logged).
pub fn subscriber<W>(
    format: Format,
    filter: &str,
    ansi: bool,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + 'static, LogHandle), Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter_layer, reload) = reload::Layer::new(parse(filter)?);
    let handle = LogHandle { reload, filter: Arc::new(Mutex::new(filter.to_owned())) };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let layer = match format {
        Format::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(true).boxed(),
        Format::Pretty => layer.boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter_layer).with(layer), handle))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn json_lines_carry_the_fields_of_all_spans() {
        let sink = Sink::default();
        let writer = sink.clone();
        let (subscriber, _handle) = subscriber(Format::Json, "info", false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let _stream = tracing::info_span!("publication", stream = "a/b/c").entered();
            let _recording = tracing::info_span!("recording", recording = "01JD", epoch = 3).entered();
            tracing::info!(bytes = 7, "cut");
        });
        let line: serde_json::Value = serde_json::from_str(&sink.lines()[0]).unwrap();
        assert_eq!((&line["message"], &line["bytes"], &line["level"]), (&"cut".into(), &7.into(), &"INFO".into()));
        assert_eq!(line["spans"][0][fields::STREAM], "a/b/c");
        assert_eq!(line["spans"][1][fields::RECORDING], "01JD");
        assert_eq!(line["spans"][1][fields::EPOCH], 3);
    }

    #[test]
    fn the_filter_changes_while_running_and_a_bad_one_changes_nothing() {
        let sink = Sink::default();
        let writer = sink.clone();
        let (subscriber, handle) = subscriber(Format::Pretty, "warn", false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("hidden");
            handle.set_filter("warn,recorder_runtime=info").unwrap();
            tracing::info!("shown");
            let error = handle.set_filter("recorder=loud").unwrap_err();
            assert_eq!(error.to_string(), "log filter \"recorder=loud\" is not understood");
            assert_eq!(handle.filter(), "warn,recorder_runtime=info");
            tracing::info!("still shown");
        });
        let lines = sink.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("shown") && lines[1].contains("still shown"));
        assert!(parse("a=b=c=d").is_err());
    }
}
