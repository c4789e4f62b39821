//! The composition root: every port is taken and every file opened before anything is served.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use recorder_proto::ids::BootId;
use recorder_proto::names::RecordingName;
use recorder_proto::pb::node::directive::{Control, control::Action};
use recorder_runtime::accept::{Limits, Listener};
use recorder_runtime::admin::Admin;
use recorder_runtime::clock::{Clock, SystemClock};
use recorder_runtime::config::Settings;
use recorder_runtime::drain::{self, Drain, Outcome, Stage};
use recorder_runtime::readiness::{Check, Readiness};
use recorder_runtime::tls::{Files, Protocol, Tls};
use recorder_runtime::{metrics, ready, telemetry};
use spool::{Spool, StoredOutput};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::backlog::Budget;
use crate::config::{self, Config};
use crate::http;
use crate::ingest::{self, RtmpListener, Sockets};
use crate::leaving::{self, Order};
use crate::link::{Credentials, Directives, FactLog, Link};
use crate::manifest::Manifests;
use crate::node::{Facts, Node};
use crate::registry::Command;
use crate::relief::{Measure, Relief};
use crate::shipping::{self, Shipping};
use crate::{fencing, revival};

/// Commands of the control plane that wait for the registry.
pub(crate) const CONTROLS: usize = 64;
/// How often gauges that nobody pushes are read.
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);
/// Players at once. Descriptors are shared with the spool, which must never run out of them.
const HTTP_CONNECTIONS: usize = 500;

/// A node that is ready to run.
pub struct App {
    node: Arc<Node>,
    drain: Drain,
    controls: mpsc::Receiver<Control>,
    shipping: Shipping,
    rtmp: Vec<RtmpListener>,
    whip: Sockets,
    http: Http,
    admin: (Admin, Listener),
    checks: Checks,
    addresses: Vec<(&'static str, SocketAddr)>,
}

impl App {
    /// Opens everything. Fails, rather than serving half of it, with words for the operator.
    pub async fn build(config: Config, settings: &Settings) -> anyhow::Result<Self> {
        let logs = telemetry::init(config.log.format, &config.log.filter)?;
        settings.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        let prometheus = metrics::install()?;
        let clock = SystemClock::shared();
        let drain = Drain::new();
        drain::signals(drain.clone())?;
        let readiness = Readiness::new(drain.signal());
        let checks = Checks { spool: readiness.register("spool"), facts: readiness.register("facts") };

        let rtmp = bind_rtmp(&config).await?;
        let http = Http::bind(&config.http).await?;
        let whip = Sockets::bind(&config.whip).await?;
        let tls = config.admin.tls.load(Protocol::Http).context("admin.tls_certificate")?;
        let admin = Listener::bind(config.admin.listen).await?.secured(tls);
        let [udp, tcp] = whip.addresses()?;
        let mut addresses =
            vec![("http", http.plain.address()), ("admin", admin.address()), ("whip-udp", udp), ("whip-tcp", tcp)];
        addresses.extend(http.tls.as_ref().map(|listener| ("https", listener.address())));
        for listener in &rtmp {
            addresses.push((if listener.tls.is_some() { "rtmps" } else { "rtmp" }, listener.socket.local_addr()?));
        }

        let (node, shipping, controls) = open(config, &clock, &drain, &addresses)?;
        let admin_page = Admin {
            name: "recorder-media",
            readiness,
            drain: drain.signal(),
            metrics: prometheus,
            logs,
            config: settings.print(),
            clock,
        };
        Ok(Self { node, drain, controls, shipping, rtmp, whip, http, admin: (admin_page, admin), checks, addresses })
    }

    /// Serves until the drain is over.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self { node, drain, controls, shipping, rtmp, whip, http, admin, checks, addresses } = self;
        for (listener, address) in &addresses {
            tracing::info!(node = %node.settings.node.id, listener, %address, "listening");
        }
        let permits = Arc::new(Semaphore::new(node.settings.rtmp.max_connections));
        let listeners = [("https", http.tls()), ("admin", admin.1.tls())].into_iter();
        let listeners = listeners.chain(rtmp.iter().map(|listener| ("rtmps", listener.tls.as_ref())));
        for (name, tls) in listeners.filter_map(|(name, tls)| Some((name, tls?.clone()))) {
            tokio::spawn(tls.follow(name, node.drain.clone()));
        }
        for listener in rtmp {
            tokio::spawn(listener.run(Arc::clone(&node), Arc::clone(&permits)));
        }
        let (sessions, reachable) = whip.start(&node.settings.whip)?;
        http.serve(&node, Arc::new(ingest::Whip { node: Arc::clone(&node), sessions, reachable }));
        tokio::spawn(admin.0.run(admin.1));
        tokio::spawn(obey(Arc::clone(&node), controls));
        tokio::spawn(leaving::run(Arc::clone(&node)));
        tokio::spawn(fencing::run(Arc::clone(&node)));
        tokio::spawn(measure(Arc::clone(&node), checks));
        let mut shipped = tokio::spawn(shipping.run());
        let mut linked = {
            let node = Arc::clone(&node);
            tokio::spawn(async move { node.link.run(Arc::clone(&node) as _, node.drain.clone()).await })
        };
        if let Some(file) = &node.settings.ready.file {
            ready::announce(file, &addresses).with_context(|| file.display().to_string())?;
        }
        // Neither ends by itself. A service manager restarts the node, which ships what the spool holds.
        let (mut is_shipped, mut is_unlinked) = (false, false);
        let stopped = tokio::select! {
            biased;
            () = node.drain.draining() => None,
            reason = node.link.fenced() => bail!("another process took this node's id: {reason}"),
            ended = &mut shipped => { is_shipped = true; Some(("shipping", ended)) }
            ended = &mut linked => { is_unlinked = true; Some(("the control link", ended)) }
        };
        // A drain that finds nothing to do ends them before it is noticed here.
        if let Some((what, ended)) = stopped.filter(|_| node.drain.stage() == Stage::Accepting) {
            bail!("{what} has stopped: {ended:?}");
        }
        leave(&node, &drain).await;
        if !is_unlinked {
            let _ = linked.await;
        }
        if !is_shipped {
            let _ = shipped.await;
        }
        node.spool.close().await;
        Ok(())
    }
}

async fn bind_rtmp(config: &Config) -> anyhow::Result<Vec<RtmpListener>> {
    let listen = async |name: &str, address: SocketAddr| {
        TcpListener::bind(address).await.with_context(|| format!("{name}.listen {address}"))
    };
    let mut rtmp = vec![RtmpListener { socket: listen("rtmp", config.rtmp.listen).await?, tls: None }];
    if let Some(address) = config.rtmp.tls_listen {
        let (Some(certificate), Some(key)) = (&config.rtmp.tls_certificate, &config.rtmp.tls_key) else {
            bail!("rtmp.tls_listen needs rtmp.tls_certificate and rtmp.tls_key");
        };
        let files = Files { certificate: certificate.clone(), key: key.clone(), client_ca: None };
        let tls = Some(Tls::load(files, Protocol::Other).context("rtmp.tls_listen")?);
        rtmp.push(RtmpListener { socket: listen("rtmp.tls", address).await?, tls });
    }
    Ok(rtmp)
}

/// The listeners of WHIP and the library.
struct Http {
    plain: Listener,
    tls: Option<Listener>,
}

impl Http {
    async fn bind(config: &config::Http) -> anyhow::Result<Self> {
        let plain = Listener::bind(config.listen).await.context("http.listen")?;
        let Some(address) = config.tls_listen else { return Ok(Self { plain, tls: None }) };
        let tls = config.tls.load(Protocol::Http).context("http.tls_certificate")?;
        let tls = tls.context("http.tls_listen needs http.tls_certificate and http.tls_key")?;
        let listener = Listener::bind(address).await.context("http.tls_listen")?;
        Ok(Self { plain, tls: Some(listener.secured(Some(tls))) })
    }

    /// Of the HTTPS listener.
    fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref().and_then(Listener::tls)
    }

    fn serve(self, node: &Arc<Node>, whip: Arc<ingest::Whip>) {
        let library = &node.settings.library;
        let files = if library.open { http::routes(&library.root) } else { Default::default() };
        let routes = files.merge(ingest::routes(whip));
        let limits = Limits { max_connections: HTTP_CONNECTIONS, ..Limits::default() };
        let drain = node.drain.clone();
        if let Some(listener) = self.tls {
            tokio::spawn(recorder_runtime::http::serve("https", listener, limits, routes.clone(), drain.clone()));
        }
        tokio::spawn(recorder_runtime::http::serve("http", self.plain, limits, routes, drain));
    }
}

fn open(
    config: Config,
    clock: &Arc<dyn Clock>,
    drain: &Drain,
    addresses: &[(&'static str, SocketAddr)],
) -> anyhow::Result<(Arc<Node>, Shipping, mpsc::Receiver<Control>)> {
    let create = |folder: &Path| std::fs::create_dir_all(folder).with_context(|| folder.display().to_string());
    let state = Node::state_folder(&config);
    create(&state)?;
    create(&config.library.root)?;
    let (spool, stored, events) = Spool::open(spool_config(&config)).context("spool")?;
    let facts = FactLog::open(&state)?;
    let (send_control, controls) = mpsc::channel(CONTROLS);
    let directives = Directives::open(&state);
    let retries = directives.retries();
    let link = Link::new(&config.link.control, directives, facts.clone(), Arc::clone(clock), send_control)
        .context("link.control")?
        .with(Credentials::from(&config.link));
    let urls = addresses.iter().filter_map(|(name, address)| match *name {
        "rtmp" | "rtmps" => Some(format!("{name}://{address}")),
        "http" | "https" => Some(format!("{name}://{address}/whip")),
        _ => None,
    });
    let addresses = urls.collect();
    let node =
        assemble(Parts { config, clock: Arc::clone(clock), drain, link, facts, spool, stored: &stored, addresses });
    for control in &retries {
        retry(&node, control);
    }
    let shipping = Shipping::new(Arc::clone(&node), stored, events);
    Ok((node, shipping, controls))
}

/// The spool as the settings want it.
pub(crate) fn spool_config(config: &Config) -> spool::Config {
    spool::Config {
        spares: config.spool.spares.clone(),
        limit: config.spool.limit,
        high_water: f64::from(config.spool.high_water) / 100.0,
        flush_interval: config.spool.flush_interval,
        ..spool::Config::new(Node::spool_folder(config))
    }
}

/// What a node is made of.
pub(crate) struct Parts<'a> {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub drain: &'a Drain,
    pub link: Link,
    pub facts: FactLog,
    pub spool: Spool,
    pub stored: &'a [StoredOutput],
    pub addresses: Vec<String>,
}

/// Puts the node together, with what an earlier process left. Within a runtime.
pub(crate) fn assemble(parts: Parts<'_>) -> Arc<Node> {
    let Parts { config, clock, drain, link, facts, spool, stored, addresses } = parts;
    let node = Arc::new(Node {
        boot: BootId::new(clock.now(), rand::random()),
        clock,
        link,
        manifests: Manifests::open(&spool, stored),
        lag: Default::default(),
        progress: Default::default(),
        nudge: Default::default(),
        spool,
        registry: Default::default(),
        drain: drain.signal(),
        backlogs: Budget::new(config.backlog.limit),
        leaving: Default::default(),
        facts: Facts::new(facts),
        addresses,
        found: shipping::inventory(stored),
        settings: config,
    });
    // Nobody is let in yet: a publisher that comes back finds its recording waiting.
    revival::revive(&node, stored);
    node
}

/// Passes the control plane's commands to the connections they concern.
pub(crate) async fn obey(node: Arc<Node>, mut controls: mpsc::Receiver<Control>) {
    while let Some(control) = controls.recv().await {
        let recording = control.recording.clone();
        let done = match control.action() {
            Action::Stop => node.registry.command(Command::Stop { recording: recording.clone() }),
            Action::Split => node.registry.command(Command::Split { recording: recording.clone() }),
            Action::Disconnect => node.registry.disconnect(&recording, told(&control.reason)),
            Action::RetryUploads => retry(&node, &control),
            Action::Unspecified => false,
        };
        tracing::info!(recording, command = control.command_id, done, action = ?control.action(), "command");
    }
}

/// Has uploads of a recording tried again, where the command says.
fn retry(node: &Node, control: &Control) -> bool {
    let Ok(RecordingName(recording)) = control.recording.parse() else { return false };
    let target = control.storage.as_ref().map(shipping::Target::from);
    node.nudge.order(&recording.to_string(), &control.command_id, target);
    true
}

/// What a publisher is told; older control planes give no reason.
fn told(reason: &str) -> &str {
    if reason.is_empty() { "disconnected by an operator" } else { reason }
}

/// What `/readyz` shows of this node.
struct Checks {
    spool: Check,
    facts: Check,
}

/// Reads what nobody pushes: readiness and gauges.
async fn measure(node: Arc<Node>, checks: Checks) {
    let mut interval = tokio::time::interval(GAUGE_INTERVAL);
    let mut relief = Relief::default();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = node.drain.deadline() => return,
        }
        let usage = node.spool.usage();
        relieve(&node, relief.look(&usage, node.lag.oldest().is_zero()));
        if usage.accepting {
            checks.spool.ready();
        } else {
            checks.spool.failing("above its high-water mark");
        }
        match node.link.facts().health() {
            Ok(()) => checks.facts.ready(),
            Err(problem) => checks.facts.failing(problem),
        }
        let (streams, recordings) = node.registry.counts();
        let whip = ingest::whip::publishing();
        ::metrics::gauge!(metrics::PUBLICATIONS, "protocol" => "rtmp").set(streams.saturating_sub(whip) as f64);
        ::metrics::gauge!(metrics::PUBLICATIONS, "protocol" => "whip").set(whip as f64);
        ::metrics::gauge!(metrics::RECORDINGS, "state" => "recording").set(recordings as f64);
        ::metrics::gauge!(metrics::SPOOL_BYTES).set(usage.bytes as f64);
        ::metrics::gauge!(metrics::SPOOL_LIMIT_BYTES).set(usage.limit as f64);
        ::metrics::gauge!(metrics::LINK_CONNECTED).set(f64::from(u8::from(node.link.is_connected())));
        ::metrics::gauge!(metrics::FACTS_UNREPORTED).set(node.link.facts().unreported() as f64);
    }
}

/// Has every recording do what a spool that fills up needs.
fn relieve(node: &Node, measure: Measure) {
    for (recording, _) in node.registry.running() {
        let recording = RecordingName(recording).to_string();
        let command = match measure {
            Measure::Nothing => return,
            Measure::Cut => Command::Split { recording },
            Measure::PutDown => Command::PutDown { recording },
        };
        node.registry.command(command);
    }
}

/// Lets publishers end or move (operations C.5), then waits for the uploads until the deadline; what is left ships after
/// the next start.
async fn leave(node: &Node, drain: &Drain) {
    let settings = &node.settings.drain;
    let patience = Some(leaving::patience_of(settings.deadline));
    node.leaving.begin(Order { mode: settings.mode, patience });
    let outcome = drain.wait(settings.deadline).await;
    node.spool.flush().await;
    let bytes = node.spool.usage().bytes;
    let waiting = node.registry.held();
    match outcome {
        Outcome::Complete if bytes == 0 => tracing::info!("everything is delivered"),
        Outcome::Complete => tracing::info!(bytes, waiting, "leaving; recordings wait for their publishers"),
        Outcome::Deadline { holders } => {
            let holders = holders.join(", ");
            tracing::warn!(bytes, waiting, holders, "leaving; these bytes ship after the next start");
        }
    }
}
