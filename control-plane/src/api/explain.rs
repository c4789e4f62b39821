//! ExplainMatch: what would be recorded, from the very directives that the nodes decide by.
use chrono::{DateTime, SecondsFormat, Utc};
use recorder_db::domains;
use recorder_proto::Problem;
use recorder_proto::matching::{self, Standing};
use recorder_proto::names::StreamKey;
use recorder_proto::pb::node::Directive;
use recorder_proto::pb::node::directive::Directive as Kind;
use recorder_proto::pb::v1::explain_match_response::Candidate;
use recorder_proto::pb::v1::{ExplainMatchRequest, ExplainMatchResponse, StreamRef};
use recorder_proto::problem::Violations;
use recorder_proto::time::datetime;

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
    let now = api.now();
    api.db
        .read(move |connection| {
            if domains::get(connection, key.domain())?.is_none() {
                return Err(Problem::not_found("domain", &format!("domains/{}", key.domain())));
            }
            let everything = changelog::of_domain(connection, key.domain())?;
            let tasks = tasks(&everything, &key, now);
            let standings = standings(everything);
            let ruled = ExplainMatchResponse::from(&matching::decide(&key, &standings));
            Ok(with_tasks(ruled, tasks))
        })
        .await
}

/// Tasks of the stream, earliest first: each makes a recording of its own, beside whatever rules and bindings do.
fn tasks(everything: &[Directive], key: &StreamKey, now: DateTime<Utc>) -> Vec<Candidate> {
    let of_stream = |directive: &&Directive| match &directive.directive {
        Some(Kind::Scheduled(task)) => task.stream.as_ref() == Some(&StreamRef::from(key)),
        _ => false,
    };
    let mut tasks: Vec<_> = everything.iter().filter(of_stream).filter_map(|directive| task(directive, now)).collect();
    tasks.sort_by_key(|(start, _)| *start);
    tasks.into_iter().map(|(_, candidate)| candidate).collect()
}

fn task(directive: &Directive, now: DateTime<Utc>) -> Option<(DateTime<Utc>, Candidate)> {
    let Some(Kind::Scheduled(task)) = &directive.directive else { return None };
    let template = task.plan.as_ref()?.template.as_ref()?.name.clone();
    let (start, end) = (datetime(task.start_time.as_ref()?)?, datetime(task.end_time.as_ref()?)?);
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let chosen = (start..end).contains(&now);
    let why = match chosen {
        true => format!("a task records with {template} until {}, beside whatever rules and bindings do", text(end)),
        false => format!("the task records with {template} from {} to {}", text(start), text(end)),
    };
    Some((start, Candidate { source: task.origin.clone(), template, chosen, why }))
}

fn with_tasks(ruled: ExplainMatchResponse, tasks: Vec<Candidate>) -> ExplainMatchResponse {
    let mut templates: Vec<String> = Vec::new();
    let of_tasks = tasks.iter().filter(|task| task.chosen).map(|task| task.template.clone());
    for template in of_tasks.chain(ruled.templates) {
        if !templates.contains(&template) {
            templates.push(template);
        }
    }
    ExplainMatchResponse { candidates: [tasks, ruled.candidates].concat(), templates }
}

/// Everything in force that may record something.
fn standings(everything: Vec<Directive>) -> Vec<Standing> {
    let standing = |kind: Option<Kind>| match kind {
        // What a node cannot use it refuses, and the binding or rule shows that.
        Some(Kind::Standing(standing)) => Standing::try_from(&standing).ok(),
        _ => None,
    };
    everything.into_iter().filter_map(|directive| standing(directive.directive)).collect()
}
