//! The node link on the wire: as generated, but for the directive stream, whose messages are encoded once for all nodes.
use std::convert::Infallible;
use std::task::{Context, Poll};

use prost::Message;
use recorder_proto::pb::node::StreamDirectivesRequest;
use recorder_proto::pb::node::node_link_service_server::NodeLinkServiceServer;
use recorder_runtime::serve::{MAX_REPLY_BYTES, MAX_REQUEST_BYTES};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::{Link, ResponseStream, stream};
use crate::directives::parcel::Outgoing;

const STREAM_DIRECTIVES: &str = "/recorder.node.v1.NodeLinkService/StreamDirectives";

/// A server of the node link.
#[derive(Clone)]
pub struct LinkServer {
    link: Link,
    generated: NodeLinkServiceServer<Link>,
}

impl LinkServer {
    /// With the bounds of [`recorder_runtime::serve`].
    pub fn new(link: Link) -> Self {
        let generated = NodeLinkServiceServer::new(link.clone())
            .max_decoding_message_size(MAX_REQUEST_BYTES)
            .max_encoding_message_size(MAX_REPLY_BYTES);
        Self { link, generated }
    }
}

impl std::fmt::Debug for LinkServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkServer").finish_non_exhaustive()
    }
}

impl NamedService for LinkServer {
    const NAME: &'static str = <NodeLinkServiceServer<Link> as NamedService>::NAME;
}

impl Service<HttpRequest<Body>> for LinkServer {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        if request.uri().path() != STREAM_DIRECTIVES {
            return self.generated.call(request);
        }
        let method = Directives(self.link.clone());
        Box::pin(async move {
            let grpc = Grpc::new(Prepared);
            let mut grpc = grpc.apply_max_message_size_config(Some(MAX_REQUEST_BYTES), Some(MAX_REPLY_BYTES));
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Directives(Link);

impl StreamingService<StreamDirectivesRequest> for Directives {
    type Response = Outgoing;
    type ResponseStream = ResponseStream<Outgoing>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<StreamDirectivesRequest>>) -> Self::Future {
        let link = self.0.of(&request);
        Box::pin(async move { Ok(Response::new(stream::open(link, request.into_inner()))) })
    }
}

/// Requests are decoded as ever; replies come as bytes.
#[derive(Debug, Clone, Copy)]
struct Prepared;

impl Codec for Prepared {
    type Encode = Outgoing;
    type Decode = StreamDirectivesRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Prepared {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, message: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer);
        Ok(())
    }
}

impl Decoder for Prepared {
    type Item = StreamDirectivesRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<StreamDirectivesRequest>, Status> {
        let decoded = StreamDirectivesRequest::decode(buffer);
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
