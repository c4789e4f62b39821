//! One log line and two metrics per gRPC request (method, code, seconds; never bodies), and the bound on how many run.
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prost::Message;
use recorder_proto::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::gate::Caller;
use crate::metrics;

/// What a refused client is asked to wait.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// A method as logs and metrics name it. Paths that no descriptor knows share one entry: labels must stay bounded
/// whatever clients ask for.
#[derive(Debug, Clone)]
struct Method {
    service: Arc<str>,
    name: Arc<str>,
    /// Lives as long as the client likes: its seconds are no latency, and it does not count as running.
    streaming: bool,
    /// Probes and tools, which would drown the rest.
    quiet: bool,
}

/// Every method of the given descriptor sets, by request path.
#[derive(Debug)]
pub(crate) struct Methods {
    known: HashMap<String, Method>,
    unknown: Method,
}

impl Methods {
    pub(crate) fn of(descriptor_sets: &[&[u8]]) -> Self {
        let mut known = HashMap::new();
        let sets = descriptor_sets.iter().filter_map(|set| prost_types::FileDescriptorSet::decode(*set).ok());
        for file in sets.flat_map(|set| set.file) {
            for service in &file.service {
                let full: Arc<str> = format!("{}.{}", file.package(), service.name()).into();
                for method in &service.method {
                    let entry = Method {
                        service: full.clone(),
                        name: method.name().into(),
                        streaming: method.server_streaming() || method.client_streaming(),
                        quiet: full.starts_with("grpc."),
                    };
                    known.insert(format!("/{full}/{}", method.name()), entry);
                }
            }
        }
        let unknown = Method { service: "unknown".into(), name: "unknown".into(), streaming: false, quiet: false };
        Self { known, unknown }
    }

    fn get(&self, path: &str) -> Method {
        self.known.get(path).unwrap_or(&self.unknown).clone()
    }
}

/// Puts the log and the bound around a service; clones share the bound.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    pub(crate) listener: &'static str,
    pub(crate) methods: Arc<Methods>,
    pub(crate) running: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for AccessLog {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged { inner, log: self.clone() }
    }
}

/// A service with its log.
#[derive(Debug, Clone)]
pub(crate) struct Logged<S> {
    inner: S,
    log: AccessLog,
}

impl<S> Service<Request<Body>> for Logged<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.log.methods.get(request.uri().path());
        let permit = self.log.running.clone().try_acquire_owned();
        let admitted = permit.is_ok();
        let mut entry = Entry {
            listener: self.log.listener,
            started: self.log.clock.monotonic(),
            clock: self.log.clock.clone(),
            method,
            permit: permit.ok(),
            caller: None,
            done: false,
        };
        if !admitted {
            entry.finish(Code::ResourceExhausted);
            return Box::pin(std::future::ready(Ok(Status::from(Problem::rate_limited(BUSY_RETRY)).into_http())));
        }
        let reply = self.inner.call(request);
        Box::pin(async move {
            let mut response = reply.await.inspect_err(|_| entry.finish(Code::Unknown))?;
            entry.caller = response.extensions_mut().remove::<Caller>().map(|caller| caller.0);
            if let Some(code) = code(response.headers()) {
                entry.finish(code);
                return Ok(response);
            }
            if entry.method.streaming {
                entry.permit = None;
            }
            Ok(response.map(|inner| Body::new(Observed { inner, entry })))
        })
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    Status::from_header_map(headers).map(|status| status.code())
}

/// One request until its outcome is known; dropped before that, the client has gone away.
#[derive(Debug)]
struct Entry {
    listener: &'static str,
    method: Method,
    started: Duration,
    clock: Arc<dyn Clock>,
    permit: Option<OwnedSemaphorePermit>,
    caller: Option<Arc<str>>,
    done: bool,
}

impl Entry {
    fn finish(&mut self, code: Code) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        self.permit = None;
        let seconds = self.clock.monotonic().saturating_sub(self.started).as_secs_f64();
        let Method { service, name, streaming, quiet } = &self.method;
        let code_name = code_name(code);
        ::metrics::counter!(metrics::API_REQUESTS_TOTAL,
            "service" => service.clone(), "method" => name.clone(), "code" => code_name)
        .increment(1);
        if !streaming {
            ::metrics::histogram!(metrics::API_REQUEST_SECONDS, "service" => service.clone(), "method" => name.clone())
                .record(seconds);
        }
        let listener = self.listener;
        let caller = self.caller.as_deref();
        match code {
            Code::Internal | Code::Unknown | Code::DataLoss => {
                tracing::error!(listener, caller, %service, method = %name, code = code_name, seconds, "request");
            }
            Code::Unavailable | Code::ResourceExhausted => {
                tracing::warn!(listener, caller, %service, method = %name, code = code_name, seconds, "request");
            }
            _ if *quiet => {
                tracing::debug!(listener, caller, %service, method = %name, code = code_name, seconds, "request")
            }
            _ => tracing::info!(listener, caller, %service, method = %name, code = code_name, seconds, "request"),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

/// A reply's body, watched for the trailers that carry its code.
struct Observed {
    inner: Body,
    entry: Entry,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code) {
                    self.entry.finish(code);
                }
            }
            Poll::Ready(Some(Err(status))) => {
                let code = status.code();
                self.entry.finish(code);
            }
            // A gRPC reply ends with trailers; without them the client will call it unknown, too.
            Poll::Ready(None) => self.entry.finish(Code::Unknown),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The code as google.rpc.Code spells it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
