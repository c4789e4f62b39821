//! A large installation, written into the database in one transaction, as if it had grown through the API.

use std::time::{Duration, Instant};

use prost::Message;
use recorder_control::directives::compile;
use recorder_db::{Db, Options, directives, domains, rules};
use recorder_proto::ids::EventId;
use recorder_proto::pb::v1;
use recorder_proto::time;
use recorder_runtime::clock::{Clock, SystemClock};

/// What the installation has.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Media nodes.
    pub nodes: usize,
    /// Push domains.
    pub domains: usize,
    /// Rules, spread evenly over them.
    pub rules: usize,
}

/// Writes domains and rules, and compiles them; returns how long the compilation took.
pub async fn seed(url: &str, size: Size) -> Duration {
    let options = Options { answer_timeout: Duration::from_secs(1_800), ..Options::default() };
    let db = Db::open_with(url, &options).expect("database");
    let now = SystemClock::new().now();
    db.write(move |connection| {
        let at = time::micros(now);
        for number in 0..size.domains {
            let body = v1::Domain::default().encode_to_vec();
            let id = domain(number);
            let row = domains::Row { id, uid: uid(number), rev: 1, body, create_time: at, update_time: at };
            domains::insert(connection, &row)?;
        }
        for number in 0..size.rules {
            let row = rules::Row {
                id: format!("rule-{number}"),
                uid: uid(size.domains + number),
                rev: 1,
                domain: domain(number % size.domains),
                app: "live".to_owned(),
                stream: format!("cam-{number}"),
                template: Some("default".to_owned()),
                body: v1::Rule { action: v1::rule::Action::Record.into(), ..Default::default() }.encode_to_vec(),
                create_time: at,
                update_time: at,
            };
            rules::insert(connection, &row)?;
        }
        Ok::<_, recorder_db::Error>(())
    })
    .await
    .expect("rows");
    let started = Instant::now();
    let version = db.write(move |connection| compile::recompile(connection, now)).await.expect("directives");
    let took = started.elapsed();
    assert!(version > 0 && db.read(directives::version).await.expect("version") > 0);
    took
}

/// The name of a push domain.
pub fn domain(number: usize) -> String {
    format!("push-{number}.example.com")
}

/// In the order of making, as ULIDs are.
fn uid(number: usize) -> String {
    let id = EventId::new(SystemClock::new().now(), rand::random()).to_string();
    format!("{}{number:016}", id.get(..10).unwrap_or_default())
}
