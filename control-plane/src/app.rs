//! The composition root: everything is opened and bound before anything is served.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use recorder_db::{Db, Options};
use recorder_proto::pb::v1;
use recorder_runtime::accept::{Limits, Listener};
use recorder_runtime::admin::Admin;
use recorder_runtime::clock::{Clock, SystemClock};
use recorder_runtime::config::common::ListenerTls;
use recorder_runtime::drain::{Drain, Outcome, Signal};
use recorder_runtime::readiness::{Check, Readiness};
use recorder_runtime::secret::{self, Sealer};
use recorder_runtime::serve::{self, GrpcServer, MAX_REPLY_BYTES, MAX_REQUEST_BYTES};
use recorder_runtime::telemetry::{self, LogHandle};
use recorder_runtime::tls::{Protocol, Tls};
use recorder_runtime::{metrics, ready};
use tokio::task::JoinSet;

use crate::access::bootstrap::{Origin, standing};
use crate::access::guard::{Demand, Guard, Port};
use crate::api::Api;
use crate::api::unimplemented::Later;
use crate::api::verify;
use crate::api::watch::Watches;
use crate::api::webhooks::Hooks;
use crate::config::{Config, Tokens};
use crate::directives::align;
use crate::link::Link;
use crate::link::service::LinkServer;
use crate::progress::Rounds;
use crate::pulse::Pulse;
use crate::usage::backfill;
use crate::webhooks::client::Client;
use crate::webhooks::dispatch::Dispatcher;
use crate::{Error, deletion, playback, timers};

/// How often readiness asks whether the database answers.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// What a process has once, so that several servers in one test process can have it each.
#[derive(Clone)]
pub struct Environment {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Log filter, for the admin port.
    pub logs: LogHandle,
    /// For `/metrics`.
    pub metrics: PrometheusHandle,
    /// The settings in effect, masked, for `/config`.
    pub config: String,
}

impl Environment {
    /// An environment that installs nothing process-wide.
    ///
    /// # Errors
    /// Never, as far as is known: the parts are made from constants.
    pub fn detached() -> Result<Self, Error> {
        let (_, logs) = telemetry::subscriber(telemetry::Format::Pretty, "info", false, std::io::sink)?;
        let metrics = metrics::recorder()?.handle();
        Ok(Self { clock: SystemClock::shared(), logs, metrics, config: String::new() })
    }
}

/// A control plane that is ready to run.
pub struct App {
    /// Where the public API listens.
    pub api_addr: SocketAddr,
    /// Where the node link listens.
    pub link_addr: SocketAddr,
    /// Where the admin port listens.
    pub admin_addr: SocketAddr,
    /// Where players fetch what no bucket serves.
    pub playback_addr: SocketAddr,
    config: Config,
    db: Db,
    clock: Arc<dyn Clock>,
    drain: Drain,
    database: Check,
    pulse: Pulse,
    rounds: Rounds,
    dispatcher: Dispatcher,
    services: Api,
    api: (GrpcServer, Listener),
    link: (GrpcServer, Listener),
    admin: (Admin, Listener),
    playback: Listener,
    /// By listener.
    tls: Vec<(&'static str, Tls)>,
}

impl App {
    /// Opens the database, seeds it, and takes the ports.
    ///
    /// # Errors
    /// Whatever keeps it from serving completely.
    pub async fn build(config: Config, environment: Environment, drain: Drain) -> Result<Self, Error> {
        let Environment { clock, logs, metrics, config: printed } = environment;
        let mut tls = Vec::new();
        let mut bind = async |name, address, files: &ListenerTls, protocol| {
            let loaded = files.load(protocol)?;
            tls.extend(loaded.clone().map(|loaded| (name, loaded)));
            Ok::<_, Error>(Listener::bind(address).await?.secured(loaded))
        };
        let api_listener = bind("api", config.api.listen, &config.api.tls, Protocol::Grpc).await?;
        let link_listener = bind("link", config.link.listen, &config.link.tls, Protocol::Grpc).await?;
        let playback_listener = bind("playback", config.playback.listen, &config.playback.tls, Protocol::Http).await?;
        let admin_listener = bind("admin", config.admin.listen, &config.admin.tls, Protocol::Http).await?;
        // After the ports: a second process on the same folder makes no token.
        let demand = demand(&config)?;
        let sealer = sealer(&config)?;
        let db = open(&config).await?;
        let api = Api::start(db.clone(), Arc::clone(&sealer), Arc::clone(&clock), config.library.root.clone()).await?;
        let pulse = Pulse::new(&db).await?;
        let signal = drain.signal();
        let readiness = Readiness::new(signal.clone());
        let database = readiness.register("database");
        database.ready();
        let rounds = Rounds::default();
        let watches = Watches {
            api: api.clone(),
            pulse: pulse.clone(),
            rounds: rounds.clone(),
            drain: signal.clone(),
            bookmark_interval: config.watch.bookmark_interval,
            buffer: config.watch.buffer,
            verifications: Arc::new(tokio::sync::Semaphore::new(verify::AT_ONCE)),
            playback_url: config.playback.base(playback_listener.address()).into(),
        };
        let link = Link::new(db.clone(), Arc::clone(&clock), sealer, pulse.clone(), signal.clone(), config.link.lease);
        let hooks = Hooks { api: api.clone(), client: Client::new(config.webhooks.policy()) };
        let dispatcher = Dispatcher::new(api.clone(), hooks.client.clone(), config.events.retention);
        let gate = |port| {
            let (db, revocations) = (db.clone(), api.revocations.clone());
            Arc::new(Guard::new(port, demand.clone(), db, Arc::clone(&clock), revocations))
        };
        let server = |name| {
            let options = serve::Options::default();
            GrpcServer::new(name, options, readiness.clone(), signal.clone(), Arc::clone(&clock))
        };
        let (api_server, link_server) = (
            public(server("api").behind(gate(Port::Api)), api.clone(), watches, hooks),
            nodes(server("link").behind(gate(Port::Link)), link),
        );
        let admin = Admin {
            name: "recorder-control",
            readiness,
            drain: signal,
            metrics,
            logs,
            config: printed,
            clock: Arc::clone(&clock),
        };
        Ok(Self {
            api_addr: api_listener.address(),
            link_addr: link_listener.address(),
            admin_addr: admin_listener.address(),
            playback_addr: playback_listener.address(),
            config,
            db,
            clock,
            drain,
            database,
            pulse,
            rounds,
            dispatcher,
            services: api,
            api: (api_server, api_listener),
            link: (link_server, link_listener),
            admin: (admin, admin_listener),
            playback: playback_listener,
            tls,
        })
    }

    /// Serves until the drain that was given to [`App::build`] is over.
    ///
    /// # Errors
    /// When a listener fails; the others are drained then.
    pub async fn run(self) -> Result<(), Error> {
        let Self {
            config,
            db,
            clock,
            drain,
            database,
            pulse,
            rounds,
            dispatcher,
            services,
            api,
            link,
            admin,
            playback: players,
            tls,
            ..
        } = self;
        let signal = drain.signal();
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        tasks.spawn(async move { Ok(api.0.run(api.1).await.map(drop)?) });
        tasks.spawn(async move { Ok(link.0.run(link.1).await.map(drop)?) });
        let limits = Limits { max_connections: playback::MAX_CONNECTIONS, ..Limits::default() };
        let routes = playback::routes(services.clone());
        let playing = recorder_runtime::http::serve("playback", players, limits, routes, signal.clone());
        tasks.spawn(async move { Ok(playing.await?) });
        let mut background: JoinSet<()> = JoinSet::new();
        background.spawn(deletion::run(services, signal.clone()));
        background.spawn(dispatcher.run(pulse.clone(), signal.clone()));
        background.spawn(rounds.run(db.clone(), signal.clone()));
        background.spawn(pulse.run(db.clone(), signal.clone()));
        background.spawn(timers::run(
            db.clone(),
            Arc::clone(&clock),
            config.link.lease,
            config.events.retention,
            signal.clone(),
        ));
        background.spawn(backfill::run(db.clone(), signal.clone()));
        background.spawn(align::run(db.clone(), Arc::clone(&clock), signal.clone()));
        background.spawn(ping(db, database, signal.clone()));
        for (name, tls) in tls {
            background.spawn(tls.follow(name, signal.clone()));
        }
        let admin = tokio::spawn(admin.0.run(admin.1));
        if let Some(file) = &config.ready.file {
            let addresses = [
                ("api", self.api_addr),
                ("link", self.link_addr),
                ("admin", self.admin_addr),
                ("playback", self.playback_addr),
            ];
            let folder = |source| Error::Folder { path: file.clone(), source };
            ready::announce(file, &addresses).map_err(folder)?;
        }
        let mut outcome = Ok(());
        tokio::select! {
            () = signal.draining() => {}
            // A listener that ends by itself has failed, or the drain has begun.
            Some(ended) = tasks.join_next() => outcome = ended.map_err(Error::from).and_then(|ended| ended),
        }
        if let Outcome::Deadline { holders } = drain.wait(config.drain.deadline).await {
            tracing::warn!(holders = holders.join(", "), "left before these were done");
        }
        while let Some(ended) = tasks.join_next().await {
            outcome = outcome.and(ended.map_err(Error::from).and_then(|ended| ended));
        }
        background.shutdown().await;
        admin.await??;
        tracing::info!("stopped");
        outcome
    }
}

/// What callers are asked for.
fn demand(config: &Config) -> Result<Demand, Error> {
    let access = &config.access;
    if access.tokens == Tokens::None {
        tracing::warn!(
            api = %config.api.listen, link = %config.link.listen,
            "nobody is asked for a token: whoever reaches these addresses may do everything; \
             access.tokens = required changes that"
        );
        return Ok(Demand::Nothing);
    }
    let file = config.admin_token_file();
    if let Some(folder) = file.parent().filter(|path| !path.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    }
    let origin = |token: &Option<_>, file: &Option<_>| Origin { token: token.clone(), file: file.clone() };
    let admin = origin(&access.admin_token, &access.admin_token_file);
    let node = origin(&access.node_token, &access.node_token_file);
    let standing = standing(&admin, &node, &file)?;
    Ok(Demand::Tokens { standing: standing.into(), rate: config.api.rate_limit })
}

/// The key that seals secrets; made on the first start.
fn sealer(config: &Config) -> Result<Arc<Sealer>, Error> {
    let file = config.seal_key_file();
    let (keys, origin) = config.seal.keys(&file)?;
    if origin == secret::Origin::Generated {
        tracing::warn!(
            file = %file.display(),
            "a new key that seals stored secrets was made: back this file up, without it they are lost"
        );
    }
    Ok(Arc::new(Sealer::new(&keys)?))
}

async fn open(config: &Config) -> Result<Db, Error> {
    if let Some(folder) = config.database.file().and_then(Path::parent).filter(|path| !path.as_os_str().is_empty()) {
        let failed = |source| Error::Folder { path: folder.to_owned(), source };
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let url = config.database.url.clone();
    let options = Options { connections: config.database.connections, ..Options::default() };
    Ok(tokio::task::spawn_blocking(move || Db::open_with(&url, &options)).await??)
}

/// Every service of `recorder.v1`; with the bounds of [`serve`].
macro_rules! add {
    ($server:ident, $($module:ident :: $service:ident ($implementation:expr)),+ $(,)?) => {
        $server$(.service(
            $module::$service::new($implementation)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .max_encoding_message_size(MAX_REPLY_BYTES),
        ))+
    };
}

fn public(server: GrpcServer, api: Api, watches: Watches, hooks: Hooks) -> GrpcServer {
    use v1::access_service_server as access;
    use v1::domain_service_server as domain;
    use v1::event_service_server as event;
    use v1::node_service_server as node;
    use v1::recording_service_server as recording;
    use v1::rule_service_server as rule;
    use v1::standby_service_server as standby;
    use v1::storage_service_server as storage;
    use v1::stream_service_server as stream;
    use v1::system_service_server as system;
    use v1::task_service_server as task;
    use v1::template_service_server as template;
    use v1::transcoding_service_server as transcoding;
    use v1::usage_service_server as usage;
    use v1::watermark_service_server as watermark;
    use v1::webhook_service_server as webhook;
    add!(
        server,
        storage::StorageServiceServer(api.clone()),
        template::TemplateServiceServer(api.clone()),
        domain::DomainServiceServer(api.clone()),
        rule::RuleServiceServer(api.clone()),
        system::SystemServiceServer(api.clone()),
        stream::StreamServiceServer(watches.clone()),
        node::NodeServiceServer(watches.clone()),
        event::EventServiceServer(watches.clone()),
        recording::RecordingServiceServer(watches),
        task::TaskServiceServer(api.clone()),
        webhook::WebhookServiceServer(hooks),
        usage::UsageServiceServer(api.clone()),
        access::AccessServiceServer(api),
        watermark::WatermarkServiceServer(Later),
        transcoding::TranscodingServiceServer(Later),
        standby::StandbyServiceServer(Later),
    )
}

fn nodes(server: GrpcServer, link: Link) -> GrpcServer {
    server.service(LinkServer::new(link))
}

/// Keeps readiness in line with the database.
async fn ping(db: Db, check: Check, drain: Signal) {
    loop {
        tokio::select! {
            () = drain.deadline() => return,
            () = tokio::time::sleep(PING_INTERVAL) => {}
        }
        match db.ping().await {
            Ok(()) => check.ready(),
            Err(error) => check.failing(error.to_string()),
        }
    }
}
