//! SystemService: what this server is and what it allows.
use recorder_db::directives;
use recorder_proto::pb::v1::system_service_server::SystemService;
use recorder_proto::pb::v1::{GetServerInfoRequest, ServerInfo};
use recorder_proto::{Problem, limits, time};
use recorder_runtime::build_info;
use tonic::{Request, Response, Status, async_trait};

use super::{Api, answer};

#[async_trait]
impl SystemService for Api {
    async fn get_server_info(&self, _: Request<GetServerInfoRequest>) -> Result<Response<ServerInfo>, Status> {
        answer(info(self).await)
    }
}

async fn info(api: &Api) -> Result<ServerInfo, Problem> {
    let version = api.db.read(directives::version).await?;
    Ok(ServerInfo {
        version: build_info::VERSION.to_owned(),
        git_sha: build_info::SHA.to_owned(),
        database: api.db.kind().as_str().to_owned(),
        directives_version: u64::try_from(version).unwrap_or_default(),
        now: Some(time::timestamp(api.now())),
        limits: limits::table(),
    })
}
