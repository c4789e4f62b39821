//! NodeService: the media nodes as the control plane sees them.
use chrono::{DateTime, Utc};
use recorder_db::nodes::{self, Row};
use recorder_db::{AnyConnection, Page, node_acks};
use recorder_proto::names::NodeName;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::node::State;
use recorder_proto::pb::v1::node_service_server::NodeService;
use recorder_proto::problem::Violations;
use recorder_proto::{Problem, time};
use tonic::{Request, Response, Status, async_trait};

use super::validate::only_name;
use super::watch::Watches;
use super::{Api, answer, drain, watch_nodes};
use crate::directives::changelog;

#[async_trait]
impl NodeService for Watches {
    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        answer(list(&self.api, request.into_inner()).await)
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::Node>, Status> {
        answer(get(&self.api, request.into_inner()).await)
    }

    async fn drain_node(&self, request: Request<v1::DrainNodeRequest>) -> Result<Response<v1::Node>, Status> {
        answer(drain::drain(&self.api, request.into_inner()).await)
    }

    async fn resume_node(&self, request: Request<v1::ResumeNodeRequest>) -> Result<Response<v1::Node>, Status> {
        answer(drain::resume(&self.api, request.into_inner()).await)
    }

    async fn forget_node(&self, request: Request<v1::ForgetNodeRequest>) -> Result<Response<()>, Status> {
        answer(drain::forget(&self.api, request.into_inner()).await)
    }

    type WatchNodesStream = watch_nodes::Messages;

    async fn watch_nodes(
        &self,
        request: Request<v1::WatchNodesRequest>,
    ) -> Result<Response<Self::WatchNodesStream>, Status> {
        answer(watch_nodes::open(self.clone(), request.into_inner()).await)
    }
}

async fn list(api: &Api, request: v1::ListNodesRequest) -> Result<v1::ListNodesResponse, Problem> {
    let mut violations = Violations::new();
    let list = v1::ListNodesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let method = "recorder.v1.NodeService/ListNodes";
    let paging = api.tokens.paging(&mut violations, method, &list, request.page_size, &request.page_token);
    violations.finish()?;
    let states: Vec<i32> = request.states.into_iter().filter(|state| *state != 0).collect();
    let (page, tokens, now) = (paging.page(), api.tokens.clone(), api.now());
    let limit = usize::try_from(page.limit).unwrap_or_default();
    api.db
        .read(move |db| {
            // There are few nodes, and their state is only known once the lease is looked at.
            let rows = nodes::page(db, &Page { limit: i64::MAX, ..page })?;
            let shown = rows.iter().map(|row| Ok((row.id.clone(), shown(db, row, now)?)));
            let mut nodes = shown.collect::<Result<Vec<_>, Problem>>()?;
            nodes.retain(|(_, node)| states.is_empty() || states.contains(&node.state));
            nodes.truncate(limit);
            let next_page_token = tokens.next(&paging, &mut nodes, |(id, _)| id.clone());
            Ok(v1::ListNodesResponse { nodes: nodes.into_iter().map(|(_, node)| node).collect(), next_page_token })
        })
        .await
}

async fn get(api: &Api, request: v1::GetNodeRequest) -> Result<v1::Node, Problem> {
    let name: NodeName = only_name("name", &request.name)?;
    let now = api.now();
    api.db
        .read(move |db| {
            let row = nodes::get(db, name.id())?.ok_or_else(|| Problem::not_found("node", &name.to_string()))?;
            shown(db, &row, now)
        })
        .await
}

/// A lease that has run out counts from that moment, not from when a timer noticed.
pub(super) fn shown(db: &mut AnyConnection, row: &Row, now: DateTime<Utc>) -> Result<v1::Node, Problem> {
    let decided = State::try_from(row.state).unwrap_or_default();
    let overdue = row.lease_until <= time::micros(now) && matches!(decided, State::Active | State::Draining);
    let state = if overdue { State::Lost } else { decided };
    let rejected = node_acks::of_node(db, &row.id)?.into_iter().map(|row| row.directive).collect();
    Ok(v1::Node {
        state: state as i32,
        epoch: u64::try_from(row.epoch).unwrap_or_default(),
        directives_version: u64::try_from(row.applied_version).unwrap_or_default(),
        directives_version_wanted: changelog::version(db)?,
        rejected_directives: rejected,
        lease_expire_time: Some(time::timestamp(time::from_micros(row.lease_until))),
        ..row.node()?
    })
}
