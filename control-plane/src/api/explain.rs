//! ExplainMatch: what would be recorded, from the very directives that the nodes decide by.
use recorder_db::{AnyConnection, domains};
use recorder_proto::Problem;
use recorder_proto::matching::{self, Standing};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::directive::Directive as Kind;
use recorder_proto::pb::v1::{ExplainMatchRequest, ExplainMatchResponse};
use recorder_proto::problem::Violations;

use super::Api;
use crate::directives::changelog;

/// Answers ExplainMatch.
///
/// # Errors
/// When the stream is none, its domain unknown, or the database away.
pub async fn explain(api: &Api, request: ExplainMatchRequest) -> Result<ExplainMatchResponse, Problem> {
    let stream = request.stream.unwrap_or_default();
    let mut violations = Violations::new();
    let key = violations.take("stream", StreamKey::try_from(&stream));
    violations.finish()?;
    let Some(key) = key else { return Err(Problem::invalid_field("stream", "is required")) };
    api.db
        .read(move |connection| {
            if domains::get(connection, key.domain())?.is_none() {
                return Err(Problem::not_found("domain", &format!("domains/{}", key.domain())));
            }
            let standings = standings(connection)?;
            Ok(ExplainMatchResponse::from(&matching::decide(&key, &standings)))
        })
        .await
}

/// Everything in force that may record something.
fn standings(connection: &mut AnyConnection) -> Result<Vec<Standing>, Problem> {
    let snapshot = changelog::snapshot(connection)?;
    let standing = |kind: Option<Kind>| match kind {
        // What a node cannot use it refuses, and the binding or rule shows that.
        Some(Kind::Standing(standing)) => Standing::try_from(&standing).ok(),
        _ => None,
    };
    Ok(snapshot.upserts.into_iter().filter_map(|directive| standing(directive.directive)).collect())
}
