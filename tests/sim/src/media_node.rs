//! A media node: the real one, on a simulated machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use recorder_media::config::{Config, PROGRAM};
use recorder_media::simulated::{Dial, Simulated, Steppers, World};
use recorder_runtime::config::Invocation;
use spool::FaultyDisk;
use store::Bucket;
use tonic::transport::Endpoint;

use crate::clock::HostClock;
use crate::host::Host;
use crate::net::{HostId, Network};
use crate::plan::CONTROL;

/// What a crash may cost at most, besides a frame.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// A node that runs. Dropping it is a crash of its process.
pub struct MediaNode {
    /// The node.
    pub simulated: Arc<Simulated>,
    steppers: Steppers,
    /// Ends when another process took its id.
    fence: Pin<Box<dyn Future<Output = ()>>>,
    fenced: bool,
    /// Last, so that tasks go after what they share.
    pub host: Host,
}

impl MediaNode {
    /// Starts it on what is in `folder`.
    pub fn start(
        now: u64,
        id: HostId,
        skew: i64,
        folder: &Path,
        disk: &FaultyDisk,
        bucket: Arc<dyn Bucket>,
        network: &Network,
    ) -> anyhow::Result<Self> {
        let host = Host::start(now);
        let (simulated, steppers) = host.block_on(async {
            let clock = Arc::new(HostClock::at(Duration::from_millis(now), skew));
            let world = World { clock, dial: dial(id, network.clone()), disk: disk.clone(), bucket };
            let (simulated, steppers) = Simulated::start(settings(id, folder), world)?;
            let simulated = Arc::new(simulated);
            tokio::spawn(accept(id, Arc::clone(&simulated), network.clone()));
            anyhow::Ok((simulated, steppers))
        })?;
        network.listen(id, true);
        let watched = Arc::clone(&simulated);
        let fence = Box::pin(async move { drop(watched.node.link.fenced().await) });
        Ok(Self { simulated, steppers, fence, fenced: false, host })
    }

    /// Lets it work until `now`; its disk works a little later, if at all.
    pub fn tick(&mut self, now: u64, disk_works: bool) {
        self.fenced |= self.host.tick_unless(now, &mut self.fence);
        if disk_works {
            self.steppers.facts.step();
            self.steppers.spool.step(Duration::from_millis(now));
        }
    }

    /// Another process took its id: it ends, and is started anew.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// What keeps it from being quiet; nothing when all is delivered.
    pub fn unrest(&self) -> Option<String> {
        let node = &self.simulated.node;
        let (streams, recordings) = node.registry.counts();
        let (held, bytes) = (node.registry.held(), node.spool.usage().bytes);
        let facts = node.link.facts().unreported();
        let quiet = streams + recordings + held + facts == 0 && bytes == 0;
        (!quiet).then(|| {
            format!("{streams} streams, {recordings} recordings, {held} held, {facts} facts, {bytes} bytes spooled")
        })
    }
}

async fn accept(id: HostId, simulated: Arc<Simulated>, network: Network) {
    loop {
        let socket = network.accept(id).await;
        let simulated = Arc::clone(&simulated);
        let remote = std::net::SocketAddr::from(([192, 0, 2, 7], 50_000));
        tokio::spawn(async move { simulated.serve(socket, remote).await });
    }
}

fn dial(id: HostId, network: Network) -> Dial {
    Arc::new(move |endpoint: Endpoint| {
        let network = network.clone();
        Box::pin(async move {
            let connector = tower::service_fn(move |_| {
                let network = network.clone();
                async move { network.dial(id, CONTROL).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        })
    })
}

fn settings(id: HostId, folder: &Path) -> Config {
    let arguments = [
        ("--node-id", format!("m{id}")),
        ("--link-control", "http://control:7081".to_owned()),
        ("--library-root", folder.join("library").display().to_string()),
        ("--spool-path", folder.join("node").display().to_string()),
        ("--spool-flush-interval", format!("{}ms", FLUSH_INTERVAL.as_millis())),
        ("--rtmp-idle-timeout", "6s".to_owned()),
    ];
    let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
    match PROGRAM.load(arguments, &BTreeMap::new()).expect("settings") {
        Invocation::Run(settings) => settings.deserialize().expect("settings"),
        Invocation::Print(text) => panic!("{text}"),
    }
}
