//! Brings directives in line that an older release compiled: a change only touches what it concerns, so that without
//! this the others would wait for a change of their own for ever.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use recorder_db::{AnyConnection, Db, Page, Result, bindings, directives, domains, rules};
use recorder_runtime::clock::Clock;
use recorder_runtime::drain::{Signal, Stage};
use tokio::time::Instant;

use super::compile;
use super::source::Source;

/// Rows looked at in one transaction: others want to read and write, too.
const AT_ONCE: i64 = 500;

/// Pause before it is tried again after the database was away.
const AGAIN: Duration = Duration::from_secs(5);

/// Where the next page begins.
#[derive(Debug, Clone, Default)]
enum Place {
    /// The templates' backlog.
    #[default]
    Backlog,
    /// Directives in force, after this name: some may be of rows that are gone.
    Directives(String),
    /// Domains after this id.
    Domains(String),
    /// Bindings before this uid.
    Bindings(Option<String>),
    /// Rules after this id.
    Rules(String),
}

/// Looks at everything once, page by page; ends early with the drain.
pub async fn run(db: Db, clock: Arc<dyn Clock>, drain: Signal) {
    let mut place = Some(Place::default());
    while let Some(at) = place.take() {
        if drain.stage() != Stage::Accepting {
            return;
        }
        let began = Instant::now();
        place = match page(&db, &*clock, at.clone()).await {
            Ok(next) => {
                // Half of the time belongs to whoever is waiting for the first directives after the start.
                tokio::time::sleep(began.elapsed()).await;
                next
            }
            Err(error) => {
                tracing::debug!(%error, "directives cannot be compared");
                tokio::select! {
                    () = drain.draining() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
                Some(at)
            }
        };
    }
}

/// Of the sources of a page, those that have no directive: the others were looked at by theirs.
fn untold(db: &mut AnyConnection, sources: BTreeSet<Source>) -> Result<BTreeSet<Source>> {
    let names: Vec<String> = sources.iter().filter_map(Source::directive).collect();
    let told: BTreeSet<Source> =
        directives::in_force(db, &names)?.iter().filter_map(|name| Source::of_directive(name)).collect();
    Ok(sources.into_iter().filter(|source| !told.contains(source)).collect())
}

/// Brings one page in line; gives the place of the next one.
async fn page(db: &Db, clock: &dyn Clock, at: Place) -> Result<Option<Place>> {
    let looked = db.read(move |db| {
        let by_directive = matches!(at, Place::Backlog | Place::Directives(_));
        let (sources, next) = sources(db, at)?;
        let sources = if by_directive { sources } else { untold(db, sources)? };
        Ok::<_, recorder_db::Error>((compile::is_behind(db, &sources)?, sources, next))
    });
    let (behind, sources, next) = looked.await?;
    if behind {
        let now = clock.now();
        tracing::info!(first = ?sources.first(), "directives of another release are compiled anew");
        db.write(move |db| compile::follow(db, &sources, now)).await?;
    }
    Ok(next)
}

fn sources(db: &mut AnyConnection, at: Place) -> Result<(BTreeSet<Source>, Option<Place>)> {
    Ok(match at {
        Place::Backlog => ([Source::Backlog].into(), Some(Place::Directives(String::new()))),
        Place::Directives(after) => {
            let rows = directives::page(db, &after, AT_ONCE)?;
            let next = rows.last().map_or(Place::Domains(String::new()), |row| Place::Directives(row.name.clone()));
            (rows.iter().filter_map(|row| Source::of_directive(&row.name)).collect(), Some(next))
        }
        Place::Domains(after) => {
            let ids = domains::ids(db, &after, AT_ONCE)?;
            let next = ids.last().map_or(Place::Bindings(None), |id| Place::Domains(id.clone()));
            (ids.into_iter().map(Source::Domain).collect(), Some(next))
        }
        Place::Bindings(before) => {
            let rows = bindings::page(db, &bindings::Filter::default(), &Page { before, limit: AT_ONCE })?;
            let next = rows.last().map_or(Place::Rules(String::new()), |row| Place::Bindings(Some(row.uid.clone())));
            (rows.into_iter().map(|row| Source::Binding(row.domain, row.app, row.template)).collect(), Some(next))
        }
        Place::Rules(after) => {
            let ids = rules::ids(db, &after, AT_ONCE)?;
            let next = ids.last().map(|id| Place::Rules(id.clone()));
            (ids.into_iter().map(Source::Rule).collect(), next)
        }
    })
}
