//! What the contract has and this release has not: every such rpc says which release brings it.
use recorder_proto::Problem;
use recorder_proto::pb::v1::standby_service_server::StandbyService;
use recorder_proto::pb::v1::transcoding_service_server::TranscodingService;
use recorder_proto::pb::v1::watermark_service_server::WatermarkService;
use recorder_proto::pb::v1::*;
use tonic::{Request, Response, Status, async_trait};

/// Tasks, notifications and accounting.
pub const TASKS: &str = "comes with the release that adds tasks, webhooks, events and usage";
/// Watermarks, transcoding and standby content.
pub const PICTURE: &str = "comes with the release that adds watermarks, transcoding and standby content";

/// The answer of an rpc that is not built yet; `rpc` is `Service/Method`.
pub fn refusal(rpc: &str, release: &str) -> Status {
    Problem::unimplemented(rpc, release).into()
}

/// The services of which nothing is built yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Later;

type Reply<T> = Result<Response<T>, Status>;

macro_rules! later {
    ($service:ident, $release:expr; $($rpc:ident $method:literal ($request:ty) -> $reply:ty;)+) => {
        #[async_trait]
        impl $service for Later {
            $(async fn $rpc(&self, _: Request<$request>) -> Reply<$reply> {
                Err(refusal(concat!(stringify!($service), "/", $method), $release))
            })+
        }
    };
}

later! { WatermarkService, PICTURE;
    create_watermark "CreateWatermark" (CreateWatermarkRequest) -> Watermark;
    get_watermark "GetWatermark" (GetWatermarkRequest) -> Watermark;
    list_watermarks "ListWatermarks" (ListWatermarksRequest) -> ListWatermarksResponse;
    update_watermark "UpdateWatermark" (UpdateWatermarkRequest) -> Watermark;
    delete_watermark "DeleteWatermark" (DeleteWatermarkRequest) -> ();
}

later! { TranscodingService, PICTURE;
    create_transcoding "CreateTranscoding" (CreateTranscodingRequest) -> Transcoding;
    get_transcoding "GetTranscoding" (GetTranscodingRequest) -> Transcoding;
    list_transcodings "ListTranscodings" (ListTranscodingsRequest) -> ListTranscodingsResponse;
    update_transcoding "UpdateTranscoding" (UpdateTranscodingRequest) -> Transcoding;
    delete_transcoding "DeleteTranscoding" (DeleteTranscodingRequest) -> ();
}

later! { StandbyService, PICTURE;
    create_standby "CreateStandby" (CreateStandbyRequest) -> Standby;
    get_standby "GetStandby" (GetStandbyRequest) -> Standby;
    list_standbys "ListStandbys" (ListStandbysRequest) -> ListStandbysResponse;
    update_standby "UpdateStandby" (UpdateStandbyRequest) -> Standby;
    delete_standby "DeleteStandby" (DeleteStandbyRequest) -> ();
    start_standby "StartStandby" (StartStandbyRequest) -> ();
    stop_standby "StopStandby" (StopStandbyRequest) -> ();
}
