//! What directives are compiled from, and which of them a change concerns: compiling a hundred thousand rules anew
//! because one was added would keep every other writer waiting.
use std::collections::{BTreeMap, BTreeSet};

use recorder_db::tasks::Filter;
use recorder_db::{AnyConnection, Result, bindings, blocks, domains, rules, storages, tasks, templates};

use super::compile::{self, Catalogue};
use super::names;
use super::task::OpenTask;
use crate::domain::task::OPEN;

/// A row, by bare ids, that has changed, is new or is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A domain, its keys or its blocks.
    Domain(String),
    /// A binding: domain, app (empty = every app) and template.
    Binding(String, String, String),
    /// A rule.
    Rule(String),
    /// A template, and everything that records with it.
    Template(String),
    /// A storage, and everything that writes there.
    Storage(String),
    /// Another storage is the default one, or none is any more.
    DefaultStorage,
    /// A task.
    Task(String),
    /// How much of live streams the templates together want to be kept.
    Backlog,
}

impl Source {
    /// The directive that is compiled from this row alone; None for what stands behind many.
    pub fn directive(&self) -> Option<String> {
        match self {
            Self::Domain(id) => Some(names::domain(id)),
            Self::Binding(domain, app, template) => Some(names::binding(domain, template, app)),
            Self::Rule(id) => Some(names::rule(id)),
            Self::Task(id) => Some(names::task(id)),
            Self::Backlog => Some(names::BACKLOG.to_owned()),
            Self::Template(_) | Self::Storage(_) | Self::DefaultStorage => None,
        }
    }

    /// Where a compiled directive came from; None for one that is not compiled from a row of its own.
    pub fn of_directive(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_once('/')?;
        match kind {
            "domain" => Some(Self::Domain(rest.to_owned())),
            "rule" => Some(Self::Rule(rest.to_owned())),
            "task" => Some(Self::Task(rest.to_owned())),
            "binding" => {
                let (domain, bound) = rest.split_once('/')?;
                let (template, app) = bound.split_once('~').unwrap_or((bound, ""));
                Some(Self::Binding(domain.to_owned(), app.to_owned(), template.to_owned()))
            }
            "backlog" => Some(Self::Backlog),
            _ => None,
        }
    }
}

/// The directives that a change concerns, and all that those are compiled from.
#[derive(Debug, Default)]
pub(super) struct Concern {
    /// Every directive that may be another now, or gone.
    pub(super) names: BTreeSet<String>,
    /// Holds all that is needed for these, and nothing that would compile to anything else but a backlog.
    pub(super) catalogue: Catalogue,
}

/// Reads what a change concerns.
pub(super) fn concern(db: &mut AnyConnection, sources: &BTreeSet<Source>) -> Result<Concern> {
    let mut found = Found::default();
    let mut named = Vec::new();
    for source in sources {
        match source {
            Source::Domain(id) => found.domain(db, id)?,
            Source::Binding(domain, app, template) => {
                named.push(names::binding(domain, template, app));
                found.bindings(bindings::get(db, domain, app, template)?);
            }
            Source::Rule(id) => {
                named.push(names::rule(id));
                found.rules(rules::get(db, id)?);
            }
            Source::Task(id) => {
                named.push(names::task(id));
                let open = |row: &tasks::Row| OPEN.iter().any(|state| *state as i32 == row.state);
                found.tasks(tasks::get(db, id)?.filter(open));
            }
            Source::Template(_) | Source::Storage(_) | Source::DefaultStorage | Source::Backlog => {}
        }
    }
    for template in templates_of(db, sources)? {
        found.rules(rules::of_template(db, &template)?);
        found.bindings(bindings::of_template(db, &template)?);
        let states = OPEN.map(|state| state as i32).to_vec();
        found.tasks(tasks::all(db, &Filter { template: Some(template), states, ..Filter::default() })?);
    }
    let backlog = sources.iter().any(|source| matches!(source, Source::Template(_) | Source::Backlog));
    found.finish(db, named, backlog)
}

/// Templates whose plan may be another.
fn templates_of(db: &mut AnyConnection, sources: &BTreeSet<Source>) -> Result<BTreeSet<String>> {
    let mut templates = BTreeSet::new();
    let mut default = sources.contains(&Source::DefaultStorage);
    for source in sources {
        match source {
            Source::Template(id) => {
                templates.insert(id.clone());
            }
            Source::Storage(id) => {
                // A plan names the backup of its storage, too.
                let primaries = storages::backed_by(db, id)?;
                for storage in primaries.iter().chain([id]) {
                    templates.extend(templates::of_storage(db, storage)?);
                    default = default || storages::get(db, storage)?.is_some_and(|row| row.is_default);
                }
            }
            _ => {}
        }
    }
    if default {
        templates.extend(templates::of_default_storage(db)?);
    }
    Ok(templates)
}

/// Rows, each once.
#[derive(Default)]
struct Found {
    domains: BTreeMap<String, Option<domains::Row>>,
    bindings: BTreeMap<String, bindings::Row>,
    rules: BTreeMap<String, rules::Row>,
    tasks: BTreeMap<String, tasks::Row>,
}

impl Found {
    fn domain(&mut self, db: &mut AnyConnection, id: &str) -> Result<()> {
        self.domains.insert(id.to_owned(), domains::get(db, id)?);
        Ok(())
    }

    fn bindings(&mut self, rows: impl IntoIterator<Item = bindings::Row>) {
        self.bindings.extend(rows.into_iter().map(|row| (names::binding(&row.domain, &row.template, &row.app), row)));
    }

    fn rules(&mut self, rows: impl IntoIterator<Item = rules::Row>) {
        self.rules.extend(rows.into_iter().map(|row| (names::rule(&row.id), row)));
    }

    fn tasks(&mut self, rows: impl IntoIterator<Item = tasks::Row>) {
        self.tasks.extend(rows.into_iter().map(|row| (names::task(&row.id), row)));
    }

    fn finish(self, db: &mut AnyConnection, named: Vec<String>, backlog: bool) -> Result<Concern> {
        let mut concern = Concern::default();
        let Concern { names: concerned, catalogue } = &mut concern;
        concerned.extend(named);
        concerned.extend(self.domains.keys().map(|id| names::domain(id)));
        for map in [self.bindings.keys().collect::<Vec<_>>(), self.rules.keys().collect(), self.tasks.keys().collect()]
        {
            concerned.extend(map.into_iter().cloned());
        }
        for row in self.domains.into_values().flatten() {
            let keys = domains::keys(db, &row.id)?.into_iter().map(|key| key.sealed.into()).collect();
            catalogue.blocks.extend(blocks::of_domain(db, &row.id)?);
            catalogue.domains.push((compile::domain(&row)?, keys));
        }
        catalogue.bindings = self.bindings.into_values().map(compile::binding).collect();
        catalogue.rules = self.rules.values().map(compile::rule).collect::<Result<_>>()?;
        catalogue.tasks = self.tasks.values().map(|row| OpenTask::of(db, row)).collect::<Result<_>>()?;
        if backlog {
            // The longest span of all templates.
            concerned.insert(names::BACKLOG.to_owned());
            catalogue.templates = compile::templates(db)?;
        } else {
            for id in catalogue.templates_needed() {
                catalogue.templates.extend(compile::template(db, &id)?.map(|template| (id, template)));
            }
        }
        if !catalogue.templates.is_empty() {
            catalogue.storages = compile::storages(db)?;
        }
        Ok(concern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_leads_back_to_its_row() {
        let binding = |app: &str| Source::Binding("d.example.com".to_owned(), app.to_owned(), "show".to_owned());
        let pairs = [
            (names::domain("d.example.com"), Some(Source::Domain("d.example.com".to_owned()))),
            (names::rule("vip"), Some(Source::Rule("vip".to_owned()))),
            (names::task("ny"), Some(Source::Task("ny".to_owned()))),
            (names::binding("d.example.com", "show", ""), Some(binding(""))),
            (names::binding("d.example.com", "show", "live"), Some(binding("live"))),
            (names::BACKLOG.to_owned(), Some(Source::Backlog)),
            (names::control("stop-1"), None),
        ];
        for (name, source) in pairs {
            assert_eq!(Source::of_directive(&name), source, "{name}");
            assert!(source.is_none_or(|source| source.directive().as_ref() == Some(&name)), "{name}");
        }
    }
}
