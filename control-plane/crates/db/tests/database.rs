//! The handle and the queries, on every database that is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use recorder_db::scratch::{Scratch, kinds};
use recorder_db::{
    AnyConnection, Db, Error, Kind, Options, Page, counters, domains, events, idempotency, node_acks, nodes, settings,
    storages, templates,
};

fn each(test: impl AsyncFn(&Scratch)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for kind in kinds() {
        let scratch = Scratch::new(kind).unwrap();
        runtime.block_on(test(&scratch));
    }
}

fn domain(id: &str, uid: &str) -> domains::Row {
    domains::Row { id: id.into(), uid: uid.into(), rev: 1, body: vec![], create_time: 1, update_time: 1 }
}

fn template(id: &str, storage: Option<&str>) -> templates::Row {
    templates::Row {
        id: id.into(),
        uid: id.into(),
        rev: 1,
        revision: 1,
        storage: storage.map(str::to_owned),
        body: vec![1],
        create_time: 1,
        update_time: 1,
    }
}

fn storage(id: &str, is_default: bool) -> storages::Row {
    storages::Row {
        id: id.into(),
        uid: id.into(),
        rev: 1,
        is_default,
        backup: None,
        credential_version: 1,
        body: vec![],
        state: 1,
        last_error: None,
        last_success_time: None,
        create_time: 1,
        update_time: 1,
    }
}

#[test]
fn commits_ring_the_bell_and_rollbacks_do_not() {
    each(async |scratch| {
        let mut bell = scratch.db.changed();
        bell.mark_unchanged();
        let failed: Result<(), Error> = scratch
            .db
            .write(|connection| {
                settings::put(connection, "a", b"1")?;
                Err(Error::Stale)
            })
            .await;
        assert!(matches!(failed, Err(Error::Stale)));
        assert!(!bell.has_changed().unwrap());
        let value = scratch.db.read(|connection| settings::get(connection, "a")).await.unwrap();
        assert_eq!(value, None, "rolled back");
        scratch.db.write(|connection| settings::put(connection, "a", b"2")).await.unwrap();
        assert!(bell.has_changed().unwrap());
        scratch.db.write(|connection| settings::put(connection, "a", b"3")).await.unwrap();
        let value = scratch.db.read(|connection| settings::get(connection, "a")).await.unwrap();
        assert_eq!(value.as_deref(), Some(b"3".as_slice()));
    });
}

#[test]
fn a_panic_is_an_error_and_leaves_the_database_usable() {
    each(async |scratch| {
        let outcome: Result<(), Error> = scratch
            .db
            .write(|connection| {
                settings::put(connection, "a", b"1")?;
                panic!("as a bug would")
            })
            .await;
        assert!(matches!(outcome, Err(Error::Panicked)));
        let value = scratch.db.write(|connection| settings::get(connection, "a")).await.unwrap();
        assert_eq!(value, None);
    });
}

#[test]
fn readers_cannot_write() {
    each(async |scratch| {
        let outcome = scratch.db.read(|connection| settings::put(connection, "a", b"1")).await;
        assert!(outcome.is_err(), "{outcome:?}");
        assert_eq!(scratch.db.read(|connection| settings::get(connection, "a")).await.unwrap(), None);
    });
}

#[test]
fn a_read_sees_one_moment() {
    each(async |scratch| {
        let (wrote, wait) = std::sync::mpsc::channel::<()>();
        let (started, begin) = tokio::sync::oneshot::channel::<()>();
        let reading = tokio::spawn({
            let db = scratch.db.clone();
            async move {
                db.read(move |connection| {
                    let before = settings::get(connection, "a")?;
                    started.send(()).unwrap();
                    wait.recv().unwrap();
                    Ok::<_, Error>((before, settings::get(connection, "a")?))
                })
                .await
            }
        });
        begin.await.unwrap();
        scratch.db.write(|connection| settings::put(connection, "a", b"1")).await.unwrap();
        wrote.send(()).unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), (None, None));
    });
}

#[test]
fn event_sequences_are_dense_and_in_commit_order() {
    each(async |scratch| {
        let mut tasks = Vec::new();
        for writer in 0..8 {
            let db = scratch.db.clone();
            tasks.push(tokio::spawn(async move {
                for number in 0..10 {
                    let id = format!("{writer}-{number}");
                    let outcome: Result<i64, Error> = db
                        .write(move |connection| {
                            let last = events::last(connection)?;
                            let seq = events::append(connection, &id, "recording.started", "recordings/x", 7, vec![])?;
                            assert_eq!(seq, last + 1, "an earlier writer was not visible");
                            if number == 5 { Err(Error::Stale) } else { Ok(seq) }
                        })
                        .await;
                    assert_eq!(outcome.is_err(), number == 5);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let rows = scratch.db.read(|connection| events::after(connection, 0, 1000)).await.unwrap();
        let sequences: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(sequences, (1..=72).collect::<Vec<i64>>());
        let rows = scratch.db.read(|connection| events::after(connection, 70, 1000)).await.unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(scratch.db.write(|connection| events::prune(connection, 8)).await.unwrap(), 72);
        assert_eq!(scratch.db.read(events::last).await.unwrap(), 72, "pruning does not give numbers out again");
        assert_eq!(scratch.db.read(events::oldest).await.unwrap(), None);
    });
}

#[test]
fn keys_taken_missing_and_referenced_are_told_apart() {
    each(async |scratch| {
        let db = &scratch.db;
        db.write(|connection| domains::insert(connection, &domain("d", "1"))).await.unwrap();
        let again = db.write(|connection| domains::insert(connection, &domain("d", "2"))).await;
        assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");
        let dangling = db.write(|connection| templates::insert(connection, &template("t", Some("nowhere")))).await;
        assert!(matches!(dangling, Err(Error::Referenced(_))), "{dangling:?}");
        db.write(|connection| storages::insert(connection, &storage("s", true))).await.unwrap();
        db.write(|connection| templates::insert(connection, &template("t", Some("s")))).await.unwrap();
        let used = db.write(|connection| storages::delete(connection, "s")).await;
        assert!(matches!(used, Err(Error::Referenced(_))), "{used:?}");
        let second = db.write(|connection| storages::insert(connection, &storage("s2", true))).await;
        assert!(matches!(second, Err(Error::Exists(_))), "two defaults: {second:?}");
        db.write(|connection| storages::insert(connection, &storage("s3", false))).await.unwrap();
        db.write(|connection| storages::insert(connection, &storage("s4", false))).await.unwrap();
    });
}

#[test]
fn updates_compare_and_set() {
    each(async |scratch| {
        let db = &scratch.db;
        db.write(|connection| domains::insert(connection, &domain("d", "1"))).await.unwrap();
        let mut row = domain("d", "1");
        row.body = vec![9];
        let changed = row.clone();
        db.write(move |connection| domains::update(connection, &changed)).await.unwrap();
        let stale = db.write(move |connection| domains::update(connection, &row)).await;
        assert!(matches!(stale, Err(Error::Stale)), "{stale:?}");
        let row = db.read(|connection| domains::get(connection, "d")).await.unwrap().unwrap();
        assert_eq!((row.rev, row.body), (2, vec![9]));
        let mut absent = domain("e", "2");
        absent.rev = 5;
        let gone = db.write(move |connection| domains::update(connection, &absent)).await;
        assert!(matches!(gone, Err(Error::Stale)), "{gone:?}");
    });
}

#[test]
fn pages_follow_each_other_newest_first() {
    each(async |scratch| {
        let db = &scratch.db;
        db.write(|connection| {
            for number in 0..7 {
                domains::insert(connection, &domain(&format!("d{number}"), &format!("0{number}")))?;
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
        let mut seen = Vec::new();
        let mut page = Page { before: None, limit: 3 };
        loop {
            let wanted = page.clone();
            let rows = db.read(move |connection| domains::page(connection, &wanted)).await.unwrap();
            let Some(last) = rows.last() else { break };
            page.before = Some(last.uid.clone());
            seen.extend(rows.iter().map(|row| row.id.clone()));
        }
        assert_eq!(seen, ["d6", "d5", "d4", "d3", "d2", "d1", "d0"]);
    });
}

#[test]
fn kept_replies_expire() {
    each(async |scratch| {
        let db = &scratch.db;
        let row = |until| idempotency::Row {
            request_id: "r".into(),
            method: "m".into(),
            body_hash: vec![1],
            reply: vec![2],
            expire_time: until,
        };
        db.write(move |connection| idempotency::put(connection, &row(100), 1)).await.unwrap();
        assert!(db.read(|connection| idempotency::get(connection, "r", 99)).await.unwrap().is_some());
        assert!(db.read(|connection| idempotency::get(connection, "r", 100)).await.unwrap().is_none());
        let reused = db.write(move |connection| idempotency::put(connection, &row(200), 50)).await;
        assert!(matches!(reused, Err(Error::Exists(_))), "{reused:?}");
        db.write(move |connection| idempotency::put(connection, &row(200), 100)).await.unwrap();
    });
}

#[test]
fn progress_counts_nodes_with_a_lease() {
    fn node(id: &str, lease_until: i64, applied_version: i64) -> nodes::Row {
        nodes::Row {
            id: id.into(),
            rev: 1,
            epoch: 1,
            boot_id: "b".into(),
            lease_until,
            applied_version,
            state: 1,
            body: vec![],
            create_time: 1,
            update_time: 1,
            drain: None,
        }
    }
    fn setup(connection: &mut AnyConnection) -> Result<(), Error> {
        for row in [node("m1", 100, 2), node("m2", 100, 1), node("lost", 10, 2)] {
            nodes::insert(connection, &row)?;
        }
        for (version, name) in [(1, "a"), (2, "b")] {
            assert_eq!(recorder_db::directives::next_version(connection)?, version);
            let change = recorder_db::directives::Change { version, name: name.into(), body: Some(vec![1]), time: 1 };
            recorder_db::directives::apply(connection, &change)?;
        }
        let refusal = node_acks::Row { node: "m1".into(), directive: "b".into(), version: 2, error: vec![5] };
        node_acks::put(connection, &refusal)
    }
    each(async |scratch| {
        scratch.db.write(setup).await.unwrap();
        let names: Vec<String> = ["a", "b", "gone"].map(str::to_owned).into();
        let progress = scratch.db.read(move |c| node_acks::progress(c, &names, 50)).await.unwrap();
        let expected = |applied, error| Some(node_acks::Progress { applied, total: 2, error });
        assert_eq!(progress, [expected(2, None), expected(0, Some(vec![5])), None]);
    });
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    each(async |scratch| {
        scratch.db.write(|connection| counters::next(connection, "x").map(drop)).await.unwrap();
        let url = scratch.url.clone();
        let again = tokio::task::spawn_blocking(move || Db::open(&url)).await.unwrap().unwrap();
        assert_eq!(again.write(|connection| counters::next(connection, "x")).await.unwrap(), 2);
        again.ping().await.unwrap();
    });
}

#[test]
fn an_embedded_database_in_memory_is_one_database() {
    let db = Db::open("sqlite://:memory:").unwrap();
    assert_eq!(db.kind(), Kind::Sqlite);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        db.write(|connection| settings::put(connection, "a", b"1")).await.unwrap();
        let value = db.read(|connection| settings::get(connection, "a")).await.unwrap();
        assert_eq!(value.as_deref(), Some(b"1".as_slice()));
    });
}

#[test]
fn a_database_that_is_not_there_is_unavailable_and_a_wrong_url_is_not() {
    let options = Options { connections: 1, acquire_timeout: Duration::from_millis(500), ..Options::default() };
    let away = Db::open_with("postgres://nobody@127.0.0.1:9/none", &options).unwrap_err();
    assert!(away.is_transient(), "{away:?}");
    let missing = Db::open_with("sqlite:///nonexistent/folder/control.db", &options).unwrap_err();
    assert!(missing.is_transient(), "{missing:?}");
    for url in ["", "sqlite://", "mysql://x", "control.db"] {
        assert!(matches!(Db::open(url), Err(Error::Url)), "{url}");
    }
    let shown = format!("{:?}", Db::open("sqlite://:memory:").unwrap());
    assert_eq!(shown, "Db { kind: Sqlite, .. }");
}

#[test]
fn callers_beyond_the_pool_are_told_to_come_back() {
    let scratch = Scratch::new(Kind::Sqlite).unwrap();
    let options = Options { connections: 1, acquire_timeout: Duration::from_millis(50), ..Options::default() };
    let db = Db::open_with(&scratch.url, &options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (release, hold) = std::sync::mpsc::channel::<()>();
        let (started, begin) = tokio::sync::oneshot::channel::<()>();
        let holding = tokio::spawn({
            let db = db.clone();
            async move {
                db.write(move |_| {
                    started.send(()).unwrap();
                    hold.recv().unwrap();
                    Ok::<_, Error>(())
                })
                .await
            }
        });
        begin.await.unwrap();
        let refused = db.write(|connection| settings::put(connection, "a", b"1")).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        release.send(()).unwrap();
        holding.await.unwrap().unwrap();
    });
}

/// Hands bytes to a server and back, until it is frozen: then it holds them, as a network does that swallows packets.
struct Proxy {
    address: std::net::SocketAddr,
    frozen: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, frozen) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let held = Arc::clone(&frozen);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), std::net::TcpStream::connect(&server).unwrap());
                pass(client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&held));
                pass(server, client, Arc::clone(&held));
            }
        });
        Self { address, frozen }
    }
}

fn pass(mut from: std::net::TcpStream, mut to: std::net::TcpStream, frozen: Arc<AtomicBool>) {
    use std::io::{Read, Write};
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            while frozen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if to.write_all(&piece[..length]).is_err() {
                return;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}

/// Regression: calls waited for a frozen Postgres for ever, and readiness with them.
#[test]
fn a_database_that_froze_held_its_callers_for_ever() {
    if !kinds().contains(&Kind::Postgres) {
        return;
    }
    let scratch = Scratch::new(Kind::Postgres).unwrap();
    let (user, rest) = scratch.url.split_once('@').unwrap();
    let (server, name) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(server.to_owned());
    let url = format!("{user}@{}/{name}", proxy.address);
    let options = Options {
        connections: 2,
        acquire_timeout: Duration::from_millis(300),
        answer_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let db = Db::open_with(&url, &options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        db.write(|connection| settings::put(connection, "a", b"1")).await.unwrap();
        proxy.frozen.store(true, Ordering::Relaxed);
        for call in 0..4 {
            let began = std::time::Instant::now();
            let refused = db.read(|connection| settings::get(connection, "a")).await;
            assert!(matches!(refused, Err(Error::Unavailable(_))), "call {call}: {refused:?}");
            assert!(began.elapsed() < Duration::from_secs(2), "call {call} took {:?}", began.elapsed());
        }
        proxy.frozen.store(false, Ordering::Relaxed);
        let healed = async { while db.read(|connection| settings::get(connection, "a")).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(2), healed).await.expect("it heals by itself, and soon");
    });
}

/// What reliability test 24 is about, with the sequence that databases hand out themselves: the number is taken before
/// the commit, so that a watcher who has seen a later one never looks for it again. Ours is taken behind a lock that is
/// held until the commit; the control plane's `watch_no_skip_postgres` shows that.
#[test]
fn a_naive_sequence_skips_what_commits_late() {
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use diesel::sql_types::BigInt;
    #[derive(QueryableByName)]
    struct Seq {
        #[diesel(sql_type = BigInt)]
        seq: i64,
    }
    if !kinds().contains(&Kind::Postgres) {
        return;
    }
    let scratch = Scratch::new(Kind::Postgres).unwrap();
    let connect = || PgConnection::establish(&scratch.url).unwrap();
    let (mut slow, mut fast, mut watcher) = (connect(), connect(), connect());
    watcher.batch_execute("CREATE TABLE naive (seq BIGSERIAL PRIMARY KEY, what TEXT)").unwrap();
    slow.batch_execute("BEGIN; INSERT INTO naive (what) VALUES ('slow')").unwrap();
    fast.batch_execute("INSERT INTO naive (what) VALUES ('fast')").unwrap();
    let mut after = |seq: i64| -> Vec<i64> {
        let query = diesel::sql_query("SELECT seq FROM naive WHERE seq > $1 ORDER BY seq").bind::<BigInt, _>(seq);
        query.load::<Seq>(&mut watcher).unwrap().into_iter().map(|row| row.seq).collect()
    };
    let seen = after(0);
    assert_eq!(seen, [2], "the later number is there first");
    slow.batch_execute("COMMIT").unwrap();
    assert_eq!(after(2), Vec::<i64>::new(), "number 1 is skipped for good");
}
