//! Versions of the directives: one per transaction that changes them, kept long enough for nodes to catch up by deltas.
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use prost::Message;
use recorder_db::directives::{self, Change};
use recorder_db::tasks::Filter;
use recorder_db::{AnyConnection, Result};
use recorder_proto::pb::node::Directive;
use recorder_proto::time;

use super::names;
use crate::domain::task::OPEN;

/// A node that missed more versions than this gets a snapshot, which then is the shorter message.
pub const KEPT_VERSIONS: u64 = 1_000;

/// The same for directives: one change can concern a hundred thousand of them.
const KEPT_CHANGES: i64 = 5_000;

/// The effect of one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effect {
    /// The version after it.
    pub version: u64,
    /// New or changed directives, in make-before-break order.
    pub upserts: Vec<Directive>,
    /// Names of directives that are gone.
    pub removed: Vec<String>,
}

/// What a compilation covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every compiled directive.
    Everything,
    /// These directives.
    Named(BTreeSet<String>),
}

/// Makes the compiled directives the ones in force, within the scope; returns the version after it. Commands are not
/// compiled and stay.
pub fn record(
    connection: &mut AnyConnection,
    scope: &Scope,
    compiled: &BTreeMap<String, Directive>,
    now: DateTime<Utc>,
) -> Result<u64> {
    let changes = changes(connection, scope, compiled)?;
    commit(connection, changes, now)
}

/// Whether [`record`] would change something.
pub fn differs(connection: &mut AnyConnection, scope: &Scope, compiled: &BTreeMap<String, Directive>) -> Result<bool> {
    Ok(!changes(connection, scope, compiled)?.is_empty())
}

fn changes(
    connection: &mut AnyConnection,
    scope: &Scope,
    compiled: &BTreeMap<String, Directive>,
) -> Result<Vec<(String, Option<Vec<u8>>)>> {
    let rows = match scope {
        Scope::Everything => directives::all(connection)?,
        Scope::Named(names) => directives::named(connection, &names.iter().cloned().collect::<Vec<_>>())?,
    };
    let before: BTreeMap<String, Vec<u8>> = rows
        .into_iter()
        .filter(|row| names::COMPILED.iter().any(|prefix| row.name.starts_with(prefix)))
        .map(|row| (row.name, row.body))
        .collect();
    let upserts = compiled.iter().map(|(name, directive)| (name.clone(), stored(directive)));
    let upserts = upserts.filter(|(name, body)| before.get(name) != Some(body)).map(|(name, body)| (name, Some(body)));
    let gone = before.keys().filter(|name| !compiled.contains_key(*name)).map(|name| (name.clone(), None));
    Ok(upserts.chain(gone).collect())
}

/// Puts one directive that is not compiled, such as a command; putting the same again changes nothing.
pub fn put(connection: &mut AnyConnection, directive: &Directive, now: DateTime<Utc>) -> Result<u64> {
    let body = stored(directive);
    match directives::get(connection, &directive.name)? {
        Some(row) if row.body == body => version(connection),
        _ => commit(connection, vec![(directive.name.clone(), Some(body))], now),
    }
}

/// One directive in force.
pub fn get(connection: &mut AnyConnection, name: &str) -> Result<Option<Directive>> {
    directives::get(connection, name)?.map(|row| loaded(row.version, &row.body)).transpose()
}

/// Removes one directive that is not compiled; removing what is not there changes nothing.
pub fn remove(connection: &mut AnyConnection, name: &str, now: DateTime<Utc>) -> Result<u64> {
    match directives::get(connection, name)? {
        None => version(connection),
        Some(_) => commit(connection, vec![(name.to_owned(), None)], now),
    }
}

/// The version in force; 0 before the first directive.
pub fn version(connection: &mut AnyConnection) -> Result<u64> {
    Ok(unsigned(directives::version(connection)?))
}

/// Everything in force, in make-before-break order, and the version that it is.
pub fn snapshot(connection: &mut AnyConnection) -> Result<Effect> {
    let version = version(connection)?;
    let rows = directives::all(connection)?;
    let mut upserts = rows.iter().map(|row| loaded(row.version, &row.body)).collect::<Result<Vec<_>>>()?;
    upserts.sort_by_key(|directive| names::order(&directive.name));
    Ok(Effect { version, upserts, removed: Vec::new() })
}

/// What is in force for the streams of a domain: its bindings, rules and open tasks.
pub fn of_domain(connection: &mut AnyConnection, domain: &str) -> Result<Vec<Directive>> {
    let bindings = recorder_db::bindings::of_domain(connection, domain)?;
    let rules = recorder_db::rules::of_domain(connection, domain)?;
    let states = OPEN.map(|state| state as i32).to_vec();
    let tasks = Filter { domain: Some(domain.to_owned()), states, ..Filter::default() };
    let bindings = bindings.iter().map(|row| names::binding(&row.domain, &row.template, &row.app));
    let rules = rules.iter().map(|row| names::rule(&row.id));
    let mut named: Vec<String> = bindings.chain(rules).collect();
    named.extend(recorder_db::tasks::all(connection, &tasks)?.iter().map(|row| names::task(&row.id)));
    let rows = directives::named(connection, &named)?;
    rows.iter().map(|row| loaded(row.version, &row.body)).collect()
}

/// What has changed since a version, transaction by transaction; None when the log no longer (or not yet) covers it, and
/// when it is so much that everything is the shorter message.
pub fn since(connection: &mut AnyConnection, from: u64) -> Result<Option<Vec<Effect>>> {
    let current = version(connection)?;
    if from == current {
        return Ok(Some(Vec::new()));
    }
    let oldest = directives::oldest_change(connection)?.map(unsigned);
    if from > current || oldest.is_none_or(|oldest| oldest > from + 1) {
        return Ok(None);
    }
    let changes = directives::changes_after(connection, signed(from), KEPT_CHANGES + 1)?;
    if changes.len() > usize::try_from(KEPT_CHANGES).unwrap_or(usize::MAX) {
        return Ok(None);
    }
    let mut effects: Vec<Effect> = Vec::new();
    for change in changes {
        let version = unsigned(change.version);
        if effects.last().is_none_or(|effect| effect.version != version) {
            effects.push(Effect { version, ..Effect::default() });
        }
        let Some(effect) = effects.last_mut() else { continue };
        match &change.body {
            Some(body) => effect.upserts.push(loaded(change.version, body)?),
            None => effect.removed.push(change.name),
        }
    }
    for effect in &mut effects {
        effect.upserts.sort_by_key(|directive| names::order(&directive.name));
    }
    Ok(Some(effects))
}

/// Forgets what is too old to catch up by.
pub fn prune(connection: &mut AnyConnection) -> Result<usize> {
    let version = version(connection)?;
    directives::prune(connection, signed(version.saturating_sub(KEPT_VERSIONS)))
}

fn commit(connection: &mut AnyConnection, changes: Vec<(String, Option<Vec<u8>>)>, now: DateTime<Utc>) -> Result<u64> {
    if changes.is_empty() {
        return version(connection);
    }
    let version = directives::next_version(connection)?;
    let change = |(name, body)| Change { version, name, body, time: time::micros(now) };
    directives::apply_all(connection, &changes.into_iter().map(change).collect::<Vec<_>>())?;
    Ok(unsigned(version))
}

/// As kept in the database: the version has its own column, so that equal directives have equal bodies.
fn stored(directive: &Directive) -> Vec<u8> {
    Directive { version: 0, ..directive.clone() }.encode_to_vec()
}

fn loaded(version: i64, body: &[u8]) -> Result<Directive> {
    let directive =
        Directive::decode(body).map_err(|source| recorder_db::Error::Malformed { table: "directives", source })?;
    Ok(Directive { version: unsigned(version), ..directive })
}

fn unsigned(version: i64) -> u64 {
    u64::try_from(version).unwrap_or_default()
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use recorder_db::Kind;
    use recorder_db::scratch::Scratch;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_780_000_000, 0).unwrap()
    }

    fn compiled(names: &[(&str, u64)]) -> BTreeMap<String, Directive> {
        // The marker stands in for whatever may differ between two versions of a directive.
        let directive = |(name, marker): &(&str, u64)| {
            let policy = recorder_proto::pb::node::directive::DomainPolicy {
                external_url: marker.to_string(),
                ..Default::default()
            };
            let kind = recorder_proto::pb::node::directive::Directive::Domain(policy);
            ((*name).to_owned(), Directive { name: (*name).to_owned(), version: 0, directive: Some(kind) })
        };
        names.iter().map(directive).collect()
    }

    /// Runs against a database in one transaction, which is how the API calls it.
    fn with_database(test: impl FnOnce(&mut AnyConnection) -> Result<()> + Send + 'static) {
        let scratch = Scratch::new(Kind::Sqlite).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(scratch.db.write(test)).unwrap();
    }

    fn names(effect: &Effect) -> Vec<&str> {
        effect.upserts.iter().map(|directive| directive.name.as_str()).collect()
    }

    #[test]
    fn a_version_is_spent_on_a_change_only() {
        with_database(|db| {
            assert_eq!(record(db, &Scope::Everything, &compiled(&[]), now())?, 0);
            assert_eq!(record(db, &Scope::Everything, &compiled(&[("rule/a", 1)]), now())?, 1);
            assert_eq!(record(db, &Scope::Everything, &compiled(&[("rule/a", 1)]), now())?, 1);
            assert_eq!(record(db, &Scope::Everything, &compiled(&[("rule/a", 2), ("rule/b", 1)]), now())?, 2);
            assert_eq!(record(db, &Scope::Everything, &compiled(&[("rule/b", 1)]), now())?, 3);
            let effects = since(db, 1)?.unwrap();
            assert_eq!(effects.iter().map(|effect| effect.version).collect::<Vec<_>>(), [2, 3]);
            assert_eq!(names(&effects[0]), ["rule/a", "rule/b"]);
            assert_eq!((names(&effects[1]).len(), effects[1].removed.as_slice()), (0, &["rule/a".to_owned()][..]));
            assert!(effects[0].upserts.iter().all(|directive| directive.version == 2));
            Ok(())
        });
    }

    #[test]
    fn commands_survive_a_recompilation_and_come_last() {
        with_database(|db| {
            let command = super::super::command::stop("01JD", 1);
            assert_eq!(put(db, &command, now())?, 1);
            assert_eq!(put(db, &command, now())?, 1, "the same command again is no change");
            record(db, &Scope::Everything, &compiled(&[("domain/d", 1), ("rule/a", 1)]), now())?;
            assert_eq!(names(&snapshot(db)?), ["domain/d", "rule/a", command.name.as_str()]);
            assert_eq!(remove(db, &command.name, now())?, 3);
            assert_eq!(remove(db, &command.name, now())?, 3);
            Ok(())
        });
    }

    #[test]
    fn what_the_log_does_not_cover_needs_a_snapshot() {
        with_database(|db| {
            assert_eq!(since(db, 0)?, Some(Vec::new()), "nothing is covered by nothing");
            for marker in 1..=KEPT_VERSIONS + 10 {
                record(db, &Scope::Everything, &compiled(&[("rule/a", marker)]), now())?;
            }
            assert_eq!(since(db, 0)?.map(|effects| effects.len() as u64), Some(KEPT_VERSIONS + 10));
            assert_eq!(prune(db)?, 10);
            assert_eq!(since(db, 9)?, None);
            assert_eq!(since(db, 10)?.map(|effects| effects.len() as u64), Some(KEPT_VERSIONS));
            assert_eq!(since(db, KEPT_VERSIONS + 11)?, None, "from the future, that is from another database");
            assert_eq!(snapshot(db)?.upserts.len(), 1, "what is in force is not forgotten");
            Ok(())
        });
    }
}
