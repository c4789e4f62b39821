//! Tasks as nodes are told of them: from the order until their end, so that a node starts and ends them by itself.
use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::tasks::{self, Filter, Row};
use recorder_db::{AnyConnection, Page, Result, directives, streams};
use recorder_proto::limits;
use recorder_proto::pb::node::directive::{Directive as Kind, Scheduled};
use recorder_proto::pb::node::{Directive, Plan};
use recorder_proto::pb::v1::{StreamRef, Task, Template};
use recorder_proto::time;

use super::compile;
use super::plan::plan;
use super::{changelog, names};
use crate::domain::task::OPEN;

/// A task that nodes have to know of, by bare ids.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenTask {
    /// Id of the task.
    pub id: String,
    /// What to record.
    pub stream: StreamRef,
    /// Template id.
    pub template: String,
    /// From when.
    pub start: DateTime<Utc>,
    /// Until when.
    pub end: DateTime<Utc>,
    /// It has made a recording.
    pub begun: bool,
    /// Id of the node that may begin it under its bare id without asking; empty = none.
    pub node: String,
    /// As its creator gave it.
    pub body: Task,
}

impl OpenTask {
    /// Reads what a directive needs.
    ///
    /// # Errors
    /// When the database fails.
    pub fn of(db: &mut AnyConnection, row: &Row) -> Result<Self> {
        Ok(Self {
            id: row.id.clone(),
            stream: StreamRef { domain: row.domain.clone(), app: row.app.clone(), stream: row.stream.clone() },
            template: row.template.clone(),
            start: time::from_micros(row.start_time),
            end: time::from_micros(row.end_time),
            begun: !tasks::recordings(db, &row.id, 1)?.is_empty(),
            node: first_node(db, row)?,
            body: row.task()?,
        })
    }

    /// The directive, with a plan of its template.
    pub fn directive(&self, plan: &Plan) -> Directive {
        let mut plan = plan.clone();
        if let Some(template) = &mut plan.template {
            label(template, &self.body);
        }
        let scheduled = Scheduled {
            stream: Some(self.stream.clone()),
            start_time: Some(time::timestamp(self.start)),
            end_time: Some(time::timestamp(self.end)),
            plan: Some(plan),
            origin: format!("tasks/{}", self.id),
            begun: self.begun,
            node: self.node.clone(),
        };
        Directive { name: names::task(&self.id), version: 0, directive: Some(Kind::Scheduled(scheduled)) }
    }
}

/// Decided once: what nodes were told may be what one of them acts on while nobody can reach it.
fn first_node(db: &mut AnyConnection, row: &Row) -> Result<String> {
    if let Some(known) = told_first_node(db, &row.id)? {
        return Ok(known);
    }
    let stream = |text: &String| Some(text.clone());
    let filter = streams::Filter {
        domain: stream(&row.domain),
        app: stream(&row.app),
        stream: stream(&row.stream),
        ..streams::Filter::default()
    };
    let live = streams::page(db, &filter, &Page { before: None, limit: 1 })?;
    Ok(live.into_iter().next().map(|live| live.node).unwrap_or_default())
}

/// The node that was told that it may begin a task under its bare id; `None` when no node was told of the task.
fn told_first_node(db: &mut AnyConnection, id: &str) -> Result<Option<String>> {
    let told = directives::get(db, &names::task(id))?;
    let told = told.and_then(|row| Directive::decode(row.body.as_slice()).ok()?.directive);
    Ok(told.map(|kind| if let Kind::Scheduled(scheduled) = kind { scheduled.node } else { String::new() }))
}

/// Whether a recording of this node is the only one that may have the bare id of its task in its keys.
///
/// # Errors
/// When the database fails.
pub fn is_first(db: &mut AnyConnection, task: &str, recording: &str, node: &str) -> Result<bool> {
    // The order of ids is not that of claims: any other one rules it out.
    let made = tasks::recordings(db, task, 2)?;
    let is_only = made.iter().all(|(id, _)| id == recording);
    // Of a task that nobody was told of, or that is over, nothing begins.
    let holder = told_first_node(db, task)?;
    Ok(is_only && holder.is_some_and(|holder| holder.is_empty() || holder == node))
}

/// A recording of a task has the labels of both; the task's own come first where there are too many.
fn label(template: &mut Template, task: &Task) {
    let of_template = std::mem::replace(&mut template.labels, task.labels.clone());
    for (key, value) in of_template {
        if template.labels.len() < limits::LABELS_MAX {
            template.labels.entry(key).or_insert(value);
        }
    }
}

/// Every task that nodes have to know of.
pub(super) fn open(db: &mut AnyConnection) -> Result<Vec<OpenTask>> {
    let filter = Filter { states: OPEN.map(|state| state as i32).to_vec(), ..Filter::default() };
    tasks::all(db, &filter)?.iter().map(|row| OpenTask::of(db, row)).collect()
}

/// How a task with this template would record now; `None` when the template is gone.
///
/// # Errors
/// When the database fails.
pub fn plan_of(db: &mut AnyConnection, template: &str) -> Result<Option<Plan>> {
    let Some(template) = compile::template(db, template)? else { return Ok(None) };
    Ok(Some(plan(&template, &compile::storages(db)?)))
}

/// Tells the nodes of a task, as it is in the database.
///
/// # Errors
/// When the database fails.
pub fn tell(db: &mut AnyConnection, row: &Row, now: DateTime<Utc>) -> Result<()> {
    // Without its template it cannot be told anew; what was told before stays.
    if let Some(plan) = plan_of(db, &row.template)? {
        let directive = OpenTask::of(db, row)?.directive(&plan);
        changelog::put(db, &directive, now)?;
    }
    Ok(())
}

/// Lets the nodes forget a task: what they record of it ends.
///
/// # Errors
/// When the database fails.
pub fn withdraw(db: &mut AnyConnection, id: &str, now: DateTime<Utc>) -> Result<()> {
    changelog::remove(db, &names::task(id), now)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_says_all_that_a_node_needs_and_never_too_many_labels() {
        let labels = |prefix: &str, count: usize| {
            (0..count).map(|number| (format!("{prefix}{number}"), prefix.to_owned())).collect()
        };
        let template =
            Template { name: "templates/t".into(), revision: 3, labels: labels("t", 60), ..Template::default() };
        let task = OpenTask {
            id: "ny".into(),
            stream: StreamRef { domain: "d.example.com".into(), app: "live".into(), stream: "cam".into() },
            template: "t".into(),
            start: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            end: DateTime::from_timestamp(1_800_000_060, 0).unwrap(),
            begun: true,
            node: "m1".into(),
            body: Task { labels: labels("k", 10), ..Task::default() },
        };
        let directive = task.directive(&Plan { template: Some(template), ..Plan::default() });
        assert_eq!(directive.name, "task/ny");
        let Some(Kind::Scheduled(scheduled)) = directive.directive else { panic!("{directive:?}") };
        assert_eq!((scheduled.origin.as_str(), scheduled.begun, scheduled.node.as_str()), ("tasks/ny", true, "m1"));
        assert_eq!(scheduled.end_time.unwrap().seconds - scheduled.start_time.unwrap().seconds, 60);
        let labels = scheduled.plan.unwrap().template.unwrap().labels;
        assert_eq!(labels.len(), limits::LABELS_MAX);
        assert_eq!(labels.keys().filter(|key| key.starts_with('k')).count(), 10);
    }
}
