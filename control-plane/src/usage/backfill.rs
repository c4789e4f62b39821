//! What releases without accounts recorded, entered once after the upgrade.
//!
//! How long they waited for a publisher before they ended is not known any more: such a channel counts to its last frame.
use std::time::Duration;

use recorder_db::recordings::{self, Filter};
use recorder_db::{AnyConnection, Db, Page, files, settings};
use recorder_proto::{Problem, time};
use recorder_runtime::drain::Signal;

use super::ledger;

/// Set once everything was entered.
const SETTING: &str = "usage_backfilled";

/// Recordings in one transaction, which must not keep other writers waiting for long.
const PAGE: i64 = 100;

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Enters everything once, and tries until it has; ends with the drain.
pub async fn run(db: Db, drain: Signal) {
    let mut before = None;
    loop {
        let page = Page { before: before.clone(), limit: PAGE };
        tokio::select! {
            () = drain.draining() => return,
            entered = db.write(move |db| enter(db, &page)) => match entered {
                Ok(None) => return,
                Ok(Some(last)) => before = Some(last),
                Err(problem) => {
                    tracing::debug!(%problem, "earlier recordings cannot be entered into the accounts now");
                    tokio::select! {
                        () = drain.draining() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
            }
        }
    }
}

/// Enters one page, unless everything was entered before; the last recording of it, or None when nothing is left.
///
/// # Errors
/// When the database fails.
pub fn enter(db: &mut AnyConnection, page: &Page) -> Result<Option<String>, Problem> {
    if settings::get(db, SETTING)?.is_some() {
        return Ok(None);
    }
    let last = enter_page(db, page)?;
    if last.is_none() {
        settings::put(db, SETTING, b"1")?;
    }
    Ok(last)
}

/// Enters the recordings of a page and their files; the last of them.
///
/// # Errors
/// When the database fails.
pub fn enter_page(db: &mut AnyConnection, page: &Page) -> Result<Option<String>, Problem> {
    let rows = recordings::page(db, &Filter::default(), page)?;
    for row in &rows {
        ledger::recording(db, row, &row.recording()?, time::from_micros(row.update_time))?;
        for file in files::of_recording(db, &row.id)? {
            let called = file.epoch_index.unwrap_or(file.file_index);
            ledger::file(db, row, (file.epoch, called), &file.file()?)?;
        }
    }
    Ok(rows.last().map(|last| last.id.clone()))
}
