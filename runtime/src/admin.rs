//! The operator's HTTP port: liveness, readiness, metrics, the log level while running, the settings in effect.
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::Error;
use crate::accept::{Limits, Listener};
use crate::build_info;
use crate::clock::Clock;
use crate::drain::Signal;
use crate::http;
use crate::readiness::Readiness;
use crate::telemetry::LogHandle;

/// A log filter is a line, not a document.
const MAX_BODY_BYTES: usize = 4 << 10;

/// How long values of histograms are kept apart.
const GATHER_INTERVAL: Duration = Duration::from_secs(5);

/// Scrapes and probes are few; more is a mistake somewhere.
const MAX_CONNECTIONS: usize = 64;

/// What the port shows.
#[derive(Clone)]
pub struct Admin {
    /// Name of the binary.
    pub name: &'static str,
    /// For `/readyz` and `/healthz`.
    pub readiness: Readiness,
    /// For `/healthz`; the port stays open while draining and closes at the deadline.
    pub drain: Signal,
    /// For `/metrics`.
    pub metrics: PrometheusHandle,
    /// For `/log-level`.
    pub logs: LogHandle,
    /// For `/config`: [`crate::config::Settings::print`], which is masked.
    pub config: String,
    /// For the uptime.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Admin {
    /// The routes; a binary may merge its own before it calls [`Admin::run`].
    pub fn router(&self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/healthz", get(healthz))
            .route("/metrics", get(render_metrics))
            .route("/log-level", get(log_level).put(set_log_level))
            .route("/config", get(config))
            .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
            .with_state(self.clone())
    }

    /// Serves the routes until the drain's deadline.
    pub async fn run(self, listener: Listener) -> Result<(), Error> {
        let router = self.router();
        self.run_with(listener, router).await
    }

    /// [`Admin::run`] with routes added to [`Admin::router`].
    pub async fn run_with(self, listener: Listener, router: Router) -> Result<(), Error> {
        let limits = Limits { max_connections: MAX_CONNECTIONS, ..Limits::default() };
        let metrics = self.metrics.clone();
        // Every value a histogram is given is kept until it is gathered: without this, until the next scrape, and where
        // nobody scrapes, for ever.
        let gather = async move {
            let mut due = tokio::time::interval(GATHER_INTERVAL);
            loop {
                due.tick().await;
                metrics.run_upkeep();
            }
        };
        tokio::select! {
            served = http::serve("admin", listener, limits, router, self.drain) => served,
            () = gather => Ok(()),
        }
    }
}

/// Answers at all: the process runs and its executor is not stuck.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let findings = admin.readiness.report();
    let ready = findings.iter().all(|finding| finding.problem.is_none());
    let lines = findings.into_iter().map(|finding| match finding.problem {
        None => format!("[+] {} ok\n", finding.name),
        Some(problem) => format!("[-] {}: {problem}\n", finding.name),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, lines.collect::<String>()).into_response()
}

/// The same for machines and people with questions; always 200, since it is not a probe.
async fn healthz(State(admin): State<Admin>) -> Json<serde_json::Value> {
    let checks: serde_json::Map<_, _> =
        admin.readiness.report().into_iter().map(|finding| (finding.name, json!(finding.problem))).collect();
    Json(json!({
        "name": admin.name,
        "version": build_info::VERSION,
        "sha": build_info::SHA,
        "time": admin.clock.now().to_rfc3339(),
        "uptime_seconds": admin.clock.monotonic().as_secs(),
        "ready": checks.values().all(serde_json::Value::is_null),
        "problems": checks,
        "stage": format!("{:?}", admin.drain.stage()).to_lowercase(),
        "drain_waits_for": admin.drain.holders(),
    }))
}

async fn render_metrics(State(admin): State<Admin>) -> Response {
    // Histograms are gathered between scrapes; this moves them into the output and frees what was gathered.
    admin.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}

async fn log_level(State(admin): State<Admin>) -> String {
    format!("{}\n", admin.logs.filter())
}

async fn set_log_level(State(admin): State<Admin>, filter: String) -> Response {
    match admin.logs.set_filter(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = admin.logs.filter(), "log filter changed");
            format!("{}\n", admin.logs.filter()).into_response()
        }
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            (StatusCode::BAD_REQUEST, format!("{error}{source}\n")).into_response()
        }
    }
}

async fn config(State(admin): State<Admin>) -> String {
    admin.config
}
