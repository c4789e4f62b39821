//! HTTP on a local port, with the power to end a connection instead of answering.
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{Request, Response};
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

type Answer = Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send>>;
type Handler = Arc<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// A listening server; dropping it ends it and its connections.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on a free local port. A handler that returns `None` ends the connection.
pub(super) async fn listen<F, R>(handle: F) -> Server
where
    F: Fn(Request<Body>) -> R + Send + Sync + 'static,
    R: Future<Output = Option<Response<Body>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = Front(Arc::new(move |request| Box::pin(handle(request))));
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let front = TowerToHyperService::new(front.clone());
            connections.spawn(async move {
                // A connection that ends in an error is one that we ended, or the client's business.
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), front).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    Server { address, task }
}

#[derive(Clone)]
struct Front(Handler);

impl<B> tower::Service<Request<B>> for Front
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = (self.0)(request.map(Body::new));
        Box::pin(async move { answer.await.ok_or_else(|| std::io::Error::other("connection ended on purpose")) })
    }
}
