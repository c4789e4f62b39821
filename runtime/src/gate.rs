//! The port through which a listener asks whether a call may be made, and the layer that asks.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame};
use recorder_proto::Problem;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::request::Parts;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use crate::serve::MAX_REQUEST_BYTES;

/// A first message that is not complete by then is not going to be.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes before a gRPC message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Decides about calls before they are made.
pub trait Gate: std::fmt::Debug + Send + Sync {
    /// Whether the call with this head may be made. What is put into its extensions reaches the service.
    fn admit<'a>(&'a self, head: &'a mut Parts) -> BoxFuture<'a, Result<Pass, Problem>>;
}

/// A question about the first message of a call.
pub type MessageCheck = Box<dyn FnOnce(Bytes) -> BoxFuture<'static, Result<(), Problem>> + Send>;

/// What comes with the permission to call.
#[derive(Default)]
pub struct Pass {
    /// Who calls, for the access log.
    pub caller: Option<Arc<str>>,
    /// To be asked before the call is made; for methods that take one message.
    pub message: Option<MessageCheck>,
    /// Ends a reply that is still going on when it resolves.
    pub until: Option<BoxFuture<'static, Problem>>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pass").field("caller", &self.caller).finish_non_exhaustive()
    }
}

/// Who made the call that a response answers; in the response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Arc<str>);

/// Puts a gate in front of a service; none lets everything pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct GateLayer(pub(crate) Option<Arc<dyn Gate>>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, gate: self.0.clone() }
    }
}

/// A service behind a gate.
#[derive(Debug, Clone)]
pub(crate) struct Gated<S> {
    inner: S,
    gate: Option<Arc<dyn Gate>>,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
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
        let Some(gate) = self.gate.clone() else { return Box::pin(self.inner.call(request)) };
        // The one that is ready is the one to call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let Pass { caller, message, until } = match gate.admit(&mut head).await {
                Ok(pass) => pass,
                Err(problem) => return Ok(Status::from(problem).into_http()),
            };
            let body = match message {
                None => body,
                Some(check) => match checked(body, check).await {
                    Ok(body) => body,
                    Err(problem) => return Ok(Status::from(problem).into_http()),
                },
            };
            let mut response = inner.call(Request::from_parts(head, body)).await?;
            if let Some(caller) = caller {
                response.extensions_mut().insert(Caller(caller));
            }
            Ok(match until {
                None => response,
                Some(until) => response.map(|inner| Body::new(Limited { inner, until: Some(until) })),
            })
        })
    }
}

/// The body of a call with one message, once the message was found good.
async fn checked(body: Body, check: MessageCheck) -> Result<Body, Problem> {
    let framed = tokio::time::timeout(MESSAGE_TIMEOUT, first_message(body)).await;
    let framed = framed.map_err(|_| Problem::invalid_field("", "the request did not come in time"))??;
    let message = framed.slice(PREFIX_BYTES.min(framed.len())..);
    check(message).await?;
    Ok(Body::new(Whole(Some(framed))))
}

/// The first message of a body with its prefix; whatever follows is dropped, so that what is checked is what is done.
async fn first_message(mut body: Body) -> Result<Bytes, Problem> {
    let mut gathered = BytesMut::new();
    loop {
        if let Some(length) = length(&gathered)?
            && gathered.len() >= length
        {
            return Ok(gathered.split_to(length).freeze());
        }
        match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    gathered.extend_from_slice(&data);
                }
            }
            Some(Err(_)) | None => return Err(Problem::invalid_field("", "the request ends before its message does")),
        }
    }
}

/// Length of prefix and message; None while it is not known.
fn length(gathered: &[u8]) -> Result<Option<usize>, Problem> {
    let Some(mut prefix) = gathered.get(..PREFIX_BYTES) else { return Ok(None) };
    if prefix.get_u8() != 0 {
        return Err(Problem::invalid_field("", "compressed requests are not accepted"));
    }
    let length = usize::try_from(prefix.get_u32()).unwrap_or(usize::MAX);
    if length > MAX_REQUEST_BYTES {
        return Err(Problem::invalid_field("", format!("must be at most {MAX_REQUEST_BYTES} bytes, got {length}")));
    }
    Ok(Some(length.saturating_add(PREFIX_BYTES)))
}

/// A body that is there already.
struct Whole(Option<Bytes>);

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A reply that ends when the right to it does.
struct Limited {
    inner: Body,
    until: Option<BoxFuture<'static, Problem>>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(until) = self.until.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(problem) = until.as_mut().poll(context) {
            self.until = None;
            let mut trailers = tonic::codegen::http::HeaderMap::new();
            return Poll::Ready(Some(match Status::from(problem).add_header(&mut trailers) {
                Ok(()) => Ok(Frame::trailers(trailers)),
                Err(status) => Err(status),
            }));
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.until.is_none() || self.inner.is_end_stream()
    }
}
