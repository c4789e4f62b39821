//! Rows of the database, as they are after a change, to directives that need nothing looked up.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use recorder_db::{AnyConnection, blocks};
use recorder_proto::matching::{self, Level};
use recorder_proto::pb::node::directive::domain_policy::Block;
use recorder_proto::pb::node::directive::{Backlog, Directive as Kind, DomainPolicy, Standing};
use recorder_proto::pb::node::{Directive, Plan};
use recorder_proto::pb::v1::domain::publish_auth::Mode;
use recorder_proto::pb::v1::{Domain, Rule, Storage, Template, rule};
use recorder_proto::time;

use super::changelog::{self, Scope};
use super::names;
use super::plan::{Storages, plan};
use super::source::{self, Concern, Source};
use super::task::{self, OpenTask};

/// Brings the directives in line with all rows, inside the transaction that changed those; returns the version of the
/// directives after it, which is a new one only if something has changed for the nodes.
pub fn recompile(connection: &mut AnyConnection, now: DateTime<Utc>) -> recorder_db::Result<u64> {
    let catalogue = load(connection)?;
    changelog::record(connection, &Scope::Everything, &compile(&catalogue), now)
}

/// [`recompile`] for the rows that have changed: the same result, provided that all others were in line before.
pub fn follow(
    connection: &mut AnyConnection,
    sources: &BTreeSet<Source>,
    now: DateTime<Utc>,
) -> recorder_db::Result<u64> {
    let (scope, compiled) = concerned(connection, sources)?;
    changelog::record(connection, &scope, &compiled, now)
}

/// Whether [`follow`] would change something.
pub fn is_behind(connection: &mut AnyConnection, sources: &BTreeSet<Source>) -> recorder_db::Result<bool> {
    let (scope, compiled) = concerned(connection, sources)?;
    changelog::differs(connection, &scope, &compiled)
}

fn concerned(
    connection: &mut AnyConnection,
    sources: &BTreeSet<Source>,
) -> recorder_db::Result<(Scope, BTreeMap<String, Directive>)> {
    let Concern { names, catalogue } = source::concern(connection, sources)?;
    let mut compiled = compile(&catalogue);
    // A backlog of some templates only would be too short.
    compiled.retain(|name, _| names.contains(name));
    Ok((Scope::Named(names), compiled))
}

/// Everything that directives are compiled from; ids are bare, references in resources are full names.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// Every domain with its publish keys.
    pub domains: Vec<(Domain, Vec<Bytes>)>,
    /// Streams that nobody may publish for a while.
    pub blocks: Vec<blocks::Row>,
    /// Every binding.
    pub bindings: Vec<Binding>,
    /// Every rule.
    pub rules: Vec<Rule>,
    /// Latest revisions, by bare id.
    pub templates: BTreeMap<String, Template>,
    /// Every storage.
    pub storages: Storages,
    /// Tasks that are not over.
    pub tasks: Vec<OpenTask>,
}

impl Catalogue {
    /// Bare ids of the templates that bindings, rules and tasks record with.
    pub(super) fn templates_needed(&self) -> BTreeSet<String> {
        let of_bindings = self.bindings.iter().map(|binding| binding.template.as_str());
        let of_rules = self.rules.iter().map(|rule| bare(&rule.template));
        let of_tasks = self.tasks.iter().map(|task| task.template.as_str());
        let named = of_bindings.chain(of_rules).chain(of_tasks).filter(|id| !id.is_empty());
        named.map(str::to_owned).collect()
    }
}

/// A binding, by bare ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// DNS name.
    pub domain: String,
    /// Empty = every app.
    pub app: String,
    /// Template id.
    pub template: String,
    /// When it was bound: between equals the older one wins.
    pub created: DateTime<Utc>,
}

/// The directives by name, at version 0: versions belong to the change log.
///
/// The keys of a domain are put into `signing_keys` as they come, that is sealed: compiled directives are stored.
pub fn compile(catalogue: &Catalogue) -> BTreeMap<String, Directive> {
    let plans: BTreeMap<&str, Plan> =
        catalogue.templates.iter().map(|(id, template)| (id.as_str(), plan(template, &catalogue.storages))).collect();
    let policies = catalogue.domains.iter().map(|(domain, keys)| policy(domain, keys, &catalogue.blocks));
    let bindings = catalogue.bindings.iter().filter_map(|binding| standing_of_binding(binding, &plans));
    let rules = catalogue.rules.iter().filter(|rule| !rule.disabled).filter_map(|rule| standing_of_rule(rule, &plans));
    let tasks = catalogue.tasks.iter().filter_map(|task| Some(task.directive(plans.get(task.template.as_str())?)));
    let all = policies.chain(bindings).chain(rules).chain(tasks).chain(backlog(catalogue));
    all.map(|directive| (directive.name.clone(), directive)).collect()
}

/// What a task may want of a live stream from before its order; any template can be that of the next task.
fn backlog(catalogue: &Catalogue) -> Option<Directive> {
    let spans = catalogue.templates.values().filter_map(|template| template.pre_roll.as_ref());
    let longest = spans.filter_map(time::std_duration).max().filter(|longest| !longest.is_zero())?;
    let backlog = Backlog { pre_roll: Some(time::duration(longest)) };
    Some(directive(names::BACKLOG.to_owned(), Kind::Backlog(backlog)))
}

fn directive(name: String, kind: Kind) -> Directive {
    Directive { name, version: 0, directive: Some(kind) }
}

fn policy(domain: &Domain, keys: &[Bytes], blocks: &[blocks::Row]) -> Directive {
    let name = bare(&domain.name);
    let auth = domain.publish_auth.as_ref();
    let mode = auth.map(|auth| auth.mode()).filter(|mode| *mode != Mode::Unspecified).unwrap_or(Mode::Open);
    let policy = DomainPolicy {
        domain: name.to_owned(),
        protocols: domain.protocols.clone(),
        auth_mode: mode.as_str_name().to_owned(),
        key_hashes: Vec::new(),
        external_url: auth.map(|auth| auth.external_url.clone()).unwrap_or_default(),
        disabled: domain.disabled,
        // An open domain's nodes need no keys, so they get none.
        signing_keys: if matches!(mode, Mode::SignedUrl | Mode::StreamKey) { keys.to_vec() } else { Vec::new() },
        blocks: blocks.iter().filter(|block| block.domain == name).map(block).collect(),
    };
    directive(names::domain(name), Kind::Domain(policy))
}

fn block(row: &blocks::Row) -> Block {
    let end_time = Some(time::timestamp(time::from_micros(row.until)));
    Block { app: row.app.clone(), stream: row.stream.clone(), end_time, reason: row.reason.clone() }
}

fn standing_of_binding(binding: &Binding, plans: &BTreeMap<&str, Plan>) -> Option<Directive> {
    let plan = plans.get(binding.template.as_str())?;
    let name = names::binding(&binding.domain, &binding.template, &binding.app);
    let resource = match binding.app.as_str() {
        "" => format!("domains/{}/bindings/{}", binding.domain, binding.template),
        app => format!("domains/{}/bindings/{}~{app}", binding.domain, binding.template),
    };
    let standing = Standing {
        domain: binding.domain.clone(),
        app: binding.app.clone(),
        stream: String::new(),
        rank: matching::rank(Level::of_binding(&binding.app), 0),
        skip: false,
        plan: Some(plan.clone()),
        origin: resource,
        create_time: Some(time::timestamp(binding.created)),
    };
    Some(directive(name, Kind::Standing(standing)))
}

fn standing_of_rule(rule: &Rule, plans: &BTreeMap<&str, Plan>) -> Option<Directive> {
    let skip = rule.action() == rule::Action::Skip;
    let plan = if skip { None } else { Some(plans.get(bare(&rule.template))?.clone()) };
    let standing = Standing {
        domain: bare(&rule.domain).to_owned(),
        app: rule.app.clone(),
        stream: rule.stream.clone(),
        rank: matching::rank(Level::of_rule(&rule.stream), rule.priority),
        skip,
        plan,
        origin: rule.name.clone(),
        create_time: rule.create_time,
    };
    Some(directive(names::rule(bare(&rule.name)), Kind::Standing(standing)))
}

/// `templates/show` and `show` are both `show`.
fn bare(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, id)| id)
}

/// Reads everything there is.
fn load(connection: &mut AnyConnection) -> recorder_db::Result<Catalogue> {
    let mut keys: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
    // Ordered by slot: primary comes before secondary.
    for key in recorder_db::domains::all_keys(connection)? {
        keys.entry(key.domain).or_default().push(key.sealed.into());
    }
    let mut catalogue =
        Catalogue { storages: storages(connection)?, blocks: blocks::all(connection)?, ..Catalogue::default() };
    for row in recorder_db::domains::all(connection)? {
        catalogue.domains.push((domain(&row)?, keys.remove(&row.id).unwrap_or_default()));
    }
    catalogue.bindings = recorder_db::bindings::all(connection)?.into_iter().map(binding).collect();
    catalogue.rules = recorder_db::rules::all(connection)?.iter().map(rule).collect::<recorder_db::Result<_>>()?;
    catalogue.templates = templates(connection)?;
    catalogue.tasks = task::open(connection)?;
    Ok(catalogue)
}

pub(super) fn domain(row: &recorder_db::domains::Row) -> recorder_db::Result<Domain> {
    Ok(Domain { name: format!("domains/{}", row.id), ..row.domain()? })
}

pub(super) fn binding(row: recorder_db::bindings::Row) -> Binding {
    let created = time::from_micros(row.create_time);
    Binding { domain: row.domain, app: row.app, template: row.template, created }
}

pub(super) fn rule(row: &recorder_db::rules::Row) -> recorder_db::Result<Rule> {
    Ok(Rule {
        name: format!("rules/{}", row.id),
        domain: row.domain.clone(),
        app: row.app.clone(),
        stream: row.stream.clone(),
        template: row.template.as_ref().map(|id| format!("templates/{id}")).unwrap_or_default(),
        create_time: Some(time::timestamp(time::from_micros(row.create_time))),
        ..row.rule()?
    })
}

/// Every template at its latest revision, by bare id.
pub(super) fn templates(connection: &mut AnyConnection) -> recorder_db::Result<BTreeMap<String, Template>> {
    let rows = recorder_db::templates::all(connection)?;
    rows.iter().map(|row| Ok((row.id.clone(), latest(row)?))).collect()
}

/// One template at its latest revision, by bare id.
pub(super) fn template(connection: &mut AnyConnection, id: &str) -> recorder_db::Result<Option<Template>> {
    recorder_db::templates::get(connection, id)?.as_ref().map(latest).transpose()
}

fn latest(row: &recorder_db::templates::Row) -> recorder_db::Result<Template> {
    Ok(Template {
        name: format!("templates/{}", row.id),
        revision: u32::try_from(row.revision).unwrap_or(u32::MAX),
        storage: row.storage.as_ref().map(|id| format!("storages/{id}")).unwrap_or_default(),
        ..row.template()?
    })
}

pub(crate) fn storages(connection: &mut AnyConnection) -> recorder_db::Result<Storages> {
    let mut storages = Storages::default();
    for row in recorder_db::storages::all(connection)? {
        let name = format!("storages/{}", row.id);
        if row.is_default {
            storages.default = Some(name.clone());
        }
        let storage = Storage {
            name: name.clone(),
            backup: row.backup.as_ref().map(|id| format!("storages/{id}")).unwrap_or_default(),
            credential_version: u64::try_from(row.credential_version).unwrap_or_default(),
            ..row.storage()?
        };
        storages.by_name.insert(name, storage);
    }
    Ok(storages)
}

#[cfg(test)]
mod tests;
