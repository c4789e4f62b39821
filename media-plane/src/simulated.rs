//! A node without threads, listeners and clocks of its own: the same parts as [`crate::app`] puts together, worked by
//! a simulation.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::Drain;
use spool::{FaultyDisk, Spool, Stepper};
use store::Bucket;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::app::{self, Parts};
use crate::config::Config;
use crate::ingest;
use crate::link::{Directives, FactLog, Link};
use crate::node::Node;
use crate::shipping::Shipping;
use crate::{fencing, leaving};

pub use crate::link::{Dial, FactStepper};

/// What a simulation puts in the place of the machine.
pub struct World {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The network to the control plane.
    pub dial: Dial,
    /// The spool's disk.
    pub disk: FaultyDisk,
    /// What every storage is.
    pub bucket: Arc<dyn Bucket>,
}

/// What has to be called again and again for the node to write anything down.
pub struct Steppers {
    /// The spool's threads.
    pub spool: Stepper,
    /// The fact log's thread.
    pub facts: FactStepper,
}

/// A node that runs.
pub struct Simulated {
    /// Its parts.
    pub node: Arc<Node>,
    /// On the way out?
    pub drain: Drain,
}

impl Simulated {
    /// Opens the node and spawns what it does on the current runtime, as a process that starts.
    ///
    /// # Errors
    /// Whatever would keep the process from starting.
    pub fn start(config: Config, world: World) -> anyhow::Result<(Self, Steppers)> {
        let World { clock, dial, disk, bucket } = world;
        let drain = Drain::new();
        let state = Node::state_folder(&config);
        std::fs::create_dir_all(&state)?;
        let spool_config = app::spool_config(&config);
        let (spool, stored, events, spool_stepper) = Spool::open_stepped(spool_config, disk).context("spool")?;
        let (facts, fact_stepper) = FactLog::open_stepped(&state)?;
        let (send_control, controls) = mpsc::channel(app::CONTROLS);
        let directives = Directives::open_inline(&state);
        let link = Link::over(dial, &config.link.control, directives, facts.clone(), Arc::clone(&clock), send_control)?;
        let addresses = Vec::new();
        let node =
            app::assemble(Parts { config, clock, drain: &drain, link, facts, spool, stored: &stored, addresses });
        let shipping = Shipping::into_bucket(bucket, Arc::clone(&node), stored, events);
        tokio::spawn(app::obey(Arc::clone(&node), controls));
        tokio::spawn(leaving::run(Arc::clone(&node)));
        tokio::spawn(fencing::run(Arc::clone(&node)));
        tokio::spawn(shipping.run());
        let linked = Arc::clone(&node);
        tokio::spawn(async move { linked.link.run(Arc::clone(&linked) as _, linked.drain.clone()).await });
        Ok((Self { node, drain }, Steppers { spool: spool_stepper, facts: fact_stepper }))
    }

    /// Serves one RTMP connection to its end.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S, remote: SocketAddr) {
        ingest::rtmp::serve(Arc::clone(&self.node), socket, remote).await;
    }
}
