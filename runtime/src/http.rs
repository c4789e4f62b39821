//! Plain HTTP on a listener, within limits, until the drain's deadline.
use std::time::Duration;

use axum::Router;

use crate::Error;
use crate::accept::{Acceptor, Limits, Listener};
use crate::drain::Signal;

/// Clients get this long after the drain's deadline.
const GRACE: Duration = Duration::from_secs(1);

/// Serves `routes`; `name` stands for the listener in logs and metrics.
pub async fn serve(
    name: &'static str,
    listener: Listener,
    limits: Limits,
    routes: Router,
    drain: Signal,
) -> Result<(), Error> {
    tracing::info!(listener = name, address = %listener.address(), "serving HTTP");
    let (acceptor, cutter) = Acceptor::new(listener, name, limits);
    let stop = drain.clone();
    let serving = axum::serve(acceptor, routes).with_graceful_shutdown(async move { stop.deadline().await });
    tokio::select! {
        served = async { serving.await } => served.map_err(Error::from),
        () = async { drain.deadline().await; tokio::time::sleep(GRACE).await; } => {
            cutter.cut();
            Ok(())
        }
    }
}
