//! Facts over gRPC: a report is one transaction, its answer says what the node may forget.
use recorder_proto::Problem;
use recorder_proto::pb::node::{ReportFactsRequest, ReportFactsResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Link, ResponseStream, Result, node};
use crate::ledger;

/// Answers on their way to a node that does not read them; it gets no further reports in either.
const QUEUE: usize = 4;

/// Facts in one report. A transaction must not keep other writers waiting for long.
const MAX_FACTS: usize = 1000;

/// Opens the stream; it ends with the node's side or the drain.
pub(super) fn open(link: Link, mut inbound: Streaming<ReportFactsRequest>) -> ResponseStream<ReportFactsResponse> {
    let (outbound, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let drain = link.drain.clone();
        loop {
            let report = tokio::select! {
                () = drain.draining() => return,
                report = inbound.message() => report,
            };
            let answer = match report {
                Ok(Some(report)) => apply(&link, report).await,
                Ok(None) => return,
                Err(status) => Err(status),
            };
            let over = answer.is_err();
            if outbound.send(answer).await.is_err() || over {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}

async fn apply(link: &Link, report: ReportFactsRequest) -> Result<ReportFactsResponse, Status> {
    if report.facts.len() > MAX_FACTS {
        return Err(Problem::invalid_field("facts", format!("must be up to {MAX_FACTS} in one report")).into());
    }
    link.vouch_epoch(report.node_epoch).await?;
    let now = link.clock.now();
    let applied = link.db.write(move |db| {
        let row = node::by_epoch(db, report.node_epoch)?;
        Ok::<_, Problem>(ledger::apply(db, &row, &report.facts, now)?)
    });
    Ok(applied.await?)
}
