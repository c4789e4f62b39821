//! A full disk under SQLite: writers are told to come back, and nothing that was said to be written is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use recorder_db::scratch::Scratch;
use recorder_db::{AnyConnection, Error, Kind, Options, settings};
use recorder_proto::Problem;
use tonic::Code;

/// A transaction of several rows, of which one fills more than a page.
fn write(connection: &mut AnyConnection, number: usize) -> Result<(), Error> {
    settings::put(connection, &format!("first-{number}"), b"1")?;
    settings::put(connection, &format!("large-{number}"), &[7; 9_000])?;
    settings::put(connection, &format!("last-{number}"), b"1")
}

/// SQLITE_FULL, as from a file system without a free block, on the connection of the writers.
async fn allow_pages(db: &recorder_db::Db, pages: &'static str) {
    let limit = db.write(move |connection| Ok::<_, Error>(connection.batch_execute(pages)?));
    limit.await.unwrap();
}

#[test]
fn db_chaos_sqlite_full() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scratch = Scratch::new(Kind::Sqlite).unwrap();
    runtime.block_on(async {
        let db = &scratch.db;
        let (mut written, mut refused) = (Vec::new(), Vec::new());
        // Below what there is already: SQLite takes that for "no page more".
        allow_pages(db, "PRAGMA max_page_count = 1").await;
        for number in 0..40 {
            match db.write(move |connection| write(connection, number)).await {
                Ok(()) => written.push(number),
                Err(error) => {
                    assert!(error.is_transient(), "{error:?}");
                    let problem = Problem::from(error);
                    assert_eq!((problem.code, problem.reason.as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));
                    assert!(problem.details.retry_after.is_some(), "{problem:?}");
                    refused.push(number);
                    // The connection that met it may have been replaced by one without the limit.
                    if refused.len() < 5 {
                        allow_pages(db, "PRAGMA max_page_count = 1").await;
                    }
                }
            }
            db.ping().await.expect("what is there can be read");
        }
        assert!(refused.len() >= 5, "{written:?} {refused:?}");

        allow_pages(db, "PRAGMA max_page_count = 4294967294").await;
        let healed = Instant::now();
        db.write(|connection| write(connection, 1_000)).await.unwrap();
        assert!(healed.elapsed() < Duration::from_secs(2), "{:?}", healed.elapsed());
        written.push(1_000);
        // As a restarted process finds it.
        let again = recorder_db::Db::open_with(&scratch.url, &Options::default()).unwrap();
        again
            .read(move |connection| {
                for (numbers, there) in [(written, true), (refused, false)] {
                    for number in numbers {
                        for row in ["first", "large", "last"] {
                            let found = settings::get(connection, &format!("{row}-{number}"))?;
                            assert_eq!(found.is_some(), there, "{row}-{number}");
                        }
                    }
                }
                Ok::<_, Error>(())
            })
            .await
            .unwrap();
    });
}
