//! Every rpc of the contract is served; those that this release does not build say so, and are listed here: the list
//! may only shrink.

use std::time::Duration;

use crate::support::running::Running;
use prost::Message;
use prost_types::FileDescriptorSet;
use recorder_db::Kind;
use recorder_db::scratch::Scratch;
use recorder_proto::Problem;
use recorder_proto::pb::FILE_DESCRIPTOR_SET;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// What this release answers UNIMPLEMENTED to.
const LATER: &[&str] = &[
    "recorder.v1.StandbyService/CreateStandby",
    "recorder.v1.StandbyService/DeleteStandby",
    "recorder.v1.StandbyService/GetStandby",
    "recorder.v1.StandbyService/ListStandbys",
    "recorder.v1.StandbyService/StartStandby",
    "recorder.v1.StandbyService/StopStandby",
    "recorder.v1.StandbyService/UpdateStandby",
    "recorder.v1.TranscodingService/CreateTranscoding",
    "recorder.v1.TranscodingService/DeleteTranscoding",
    "recorder.v1.TranscodingService/GetTranscoding",
    "recorder.v1.TranscodingService/ListTranscodings",
    "recorder.v1.TranscodingService/UpdateTranscoding",
    "recorder.v1.WatermarkService/CreateWatermark",
    "recorder.v1.WatermarkService/DeleteWatermark",
    "recorder.v1.WatermarkService/GetWatermark",
    "recorder.v1.WatermarkService/ListWatermarks",
    "recorder.v1.WatermarkService/UpdateWatermark",
];

#[test]
fn the_list_of_what_is_not_built_only_shrinks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scratch = tokio::task::spawn_blocking(|| Scratch::new(Kind::Sqlite)).await.unwrap().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = Running::start(&scratch.url, folder.path()).await;
        let mut later = Vec::new();
        for method in methods() {
            let channel = if method.starts_with("recorder.node.") { &server.link } else { &server.api };
            let Err(status) = call(channel, &method, None).await else { continue };
            if status.code() != Code::Unimplemented {
                continue;
            }
            let problem = Problem::from(&status);
            // A service that is not served at all is UNIMPLEMENTED too, but without a reason of ours.
            assert_eq!(problem.reason, "NOT_IMPLEMENTED", "{method} is not served: {status:?}");
            assert!(problem.message.contains("comes with the release that"), "{method}: {}", problem.message);
            assert!(method.ends_with(&problem.metadata["rpc"]), "{method}: {:?}", problem.metadata);
            later.push(method);
        }
        later.sort();
        assert_eq!(later, LATER);
        server.stop().await;
    });
}

/// `package.Service/Method` of every rpc of the contract.
pub fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let ours = set.file.iter().filter(|file| file.package().starts_with("recorder."));
    let services = ours.flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
    let of = |(package, service): (&str, &prost_types::ServiceDescriptorProto)| {
        let name = format!("{package}.{}", service.name());
        service.method.iter().map(move |method| format!("{name}/{}", method.name())).collect::<Vec<_>>()
    };
    let methods: Vec<String> = services.flat_map(of).collect();
    assert!(methods.len() > 80, "{}", methods.len());
    methods
}

/// Calls with an empty request and takes the beginning of whatever comes; unary and streaming look alike from here.
pub async fn call(channel: &Channel, method: &str, token: Option<&str>) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/{method}").parse().unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let mut request = Request::new(());
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let reply = client.server_streaming(request, path, codec);
    // A stream that is open has been accepted; there is nothing to wait for.
    let Ok(reply) = tokio::time::timeout(Duration::from_secs(5), reply).await else { return Ok(()) };
    let mut stream = reply?.into_inner();
    match tokio::time::timeout(Duration::from_millis(100), stream.message()).await {
        Ok(first) => first.map(drop),
        Err(_) => Ok(()),
    }
}
