//! doctor: asks the server about everything that recording needs, and says what to do where it is not so.

mod checks;
mod finding;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use recorder_proto::pb::v1;
use tonic::Code;

use crate::arguments::{Arguments, Output};
use crate::connection::{self, Connection};
use crate::contract;
use crate::failure::Failure;
use crate::print::{pretty, say};
use crate::table;
use finding::{Finding, Level};

/// Entries of one list that are looked at, and findings of one kind that are printed.
const MOST: (usize, usize) = (100_000, 20);

/// Entries asked for at a time.
const PAGE: i32 = 1_000;

/// `doctor [--no-probe]`.
pub async fn run(arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    if let Some(word) = words.first() {
        return Err(Failure::Usage(format!("doctor takes no {word}")));
    }
    arguments.output()?;
    let findings = examine(arguments).await?;
    match arguments.output()? {
        Output::Json => say(&pretty(&findings.iter().map(Finding::json).collect()))?,
        Output::Table => say(&shown(&findings))?,
    }
    let failures = findings.iter().filter(|finding| finding.level == Level::Failure).count();
    match failures {
        0 => Ok(()),
        count => Err(Failure::Found(format!("{count} of {} are failures", findings.len()))),
    }
}

fn shown(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let plain = |text: &str| table::plain(&text.into());
        vec![finding.level.name().to_owned(), plain(&finding.subject), plain(&finding.found)]
    };
    let text = table::rows(&["LEVEL", "WHAT", "FOUND"], &findings.iter().map(row).collect::<Vec<_>>());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // Below its finding, from the last to the first so that the places before stay.
    for (index, finding) in findings.iter().enumerate().rev().filter(|(_, finding)| !finding.advice.is_empty()) {
        lines.insert(index + 2, format!("         -> {}", finding.advice));
    }
    lines.join("\n")
}

async fn examine(arguments: &Arguments) -> Result<Vec<Finding>, Failure> {
    let server = connection::address(arguments);
    let connection = match Connection::open(arguments).await {
        Ok(connection) => connection,
        Err(Failure::Unreachable { why, .. }) => return Ok(vec![unreachable(&server, &why)]),
        Err(other) => return Err(other),
    };
    let before = Instant::now();
    let info = ask::<v1::ServerInfo>(&connection, "GetServerInfo", &v1::GetServerInfoRequest {}).await;
    let (took, own) = (before.elapsed(), wall_clock());
    let info = match info {
        Ok(info) => info,
        Err(failure) => return Ok(vec![unreachable(&server, &failure.text())]),
    };
    let now = info.now.unwrap_or_default();
    let mut findings = vec![Finding::ok("address", server), checks::version(&info, env!("CARGO_PKG_VERSION"))];
    findings.push(checks::clock(&now, own.as_secs_f64(), took));
    match look(&connection, arguments, &info).await {
        Ok(rest) => findings.extend(rest),
        Err(failure) => findings.push(refused(&failure)),
    }
    Ok(findings)
}

/// Everything that needs a token where tokens are asked for.
async fn look(connection: &Connection, arguments: &Arguments, info: &v1::ServerInfo) -> Result<Vec<Finding>, Failure> {
    let now = info.now.unwrap_or_default();
    let nodes = all(
        connection,
        "ListNodes",
        |page_token| v1::ListNodesRequest { page_size: PAGE, page_token, ..Default::default() },
        |reply: v1::ListNodesResponse| (reply.nodes, reply.next_page_token),
    )
    .await?;
    let mut findings = vec![Finding::ok("access", "the calls of this caller are let in")];
    findings.extend(few(checks::nodes(&nodes, &info.version)));
    let storages = all(
        connection,
        "ListStorages",
        |page_token| v1::ListStoragesRequest { page_size: PAGE, page_token },
        |reply: v1::ListStoragesResponse| (reply.storages, reply.next_page_token),
    )
    .await?;
    findings.extend(checks::default_storage(&storages));
    for storage in storages.iter().take(MOST.1) {
        findings.push(probed(connection, arguments, storage).await?);
    }
    let bindings = all(
        connection,
        "ListBindings",
        |page_token| v1::ListBindingsRequest { page_size: PAGE, page_token, ..Default::default() },
        |reply: v1::ListBindingsResponse| (reply.bindings, reply.next_page_token),
    )
    .await?;
    let one = v1::ListRulesRequest { page_size: 1, ..Default::default() };
    let rules: v1::ListRulesResponse = ask(connection, "ListRules", &one).await?;
    findings.extend(few(checks::bindings(&bindings, !rules.rules.is_empty(), &now)));
    let request = v1::ListWebhooksRequest { page_size: PAGE, ..Default::default() };
    let webhooks: v1::ListWebhooksResponse = ask(connection, "ListWebhooks", &request).await?;
    findings.extend(few(webhooks.webhooks.iter().map(checks::webhook).collect()));
    let states = vec![v1::recording::State::Failed.into()];
    let request = v1::ListRecordingsRequest { states, page_size: PAGE, ..Default::default() };
    let failed: v1::ListRecordingsResponse = ask(connection, "ListRecordings", &request).await?;
    findings.push(checks::failed(&failed.recordings));
    Ok(findings)
}

async fn probed(connection: &Connection, arguments: &Arguments, storage: &v1::Storage) -> Result<Finding, Failure> {
    if arguments.has("--no-probe") {
        return Ok(checks::storage(storage, None));
    }
    let request = v1::TestStorageRequest { name: storage.name.clone() };
    match ask::<v1::TestStorageResponse>(connection, "TestStorage", &request).await {
        Ok(probe) => Ok(checks::storage(storage, Some(&probe))),
        // A viewer may look, but not write into the bucket.
        Err(Failure::Refused(problem)) if problem.code == Code::PermissionDenied => Ok(checks::storage(storage, None)),
        Err(failure) => Ok(Finding::failure(&storage.name, failure.text(), "see the server's log")),
    }
}

async fn ask<T: Message + Default>(
    connection: &Connection,
    method: &str,
    request: &impl Message,
) -> Result<T, Failure> {
    connection.call(&contract::path(&contract::method(method)?), request).await
}

/// Every page of a list, within bounds.
async fn all<T, R: Message, L: Message + Default>(
    connection: &Connection,
    method: &str,
    request: impl Fn(String) -> R,
    taken: impl Fn(L) -> (Vec<T>, String),
) -> Result<Vec<T>, Failure> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = taken(ask(connection, method, &request(token)).await?);
        found.extend(page);
        if next.is_empty() || found.len() >= MOST.0 {
            return Ok(found);
        }
        token = next;
    }
}

/// The worst ones, so that ten thousand bindings behind one lost node do not hide the node.
fn few(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    if let Some(more) = findings.len().checked_sub(MOST.1).filter(|more| *more > 0) {
        findings.truncate(MOST.1);
        let worst = findings.last().map_or(Level::Ok, |finding| finding.level);
        findings.push(Finding { level: worst, ..Finding::ok("...", format!("{more} more of the kind")) });
    }
    findings
}

fn unreachable(server: &str, why: &str) -> Finding {
    let lower = why.to_lowercase();
    let advice = if lower.contains("certificate") || lower.contains("unknownissuer") {
        "give --ca the authority that signed the server's certificate, and use the name that is in it"
    } else if lower.contains("refused") {
        "start recorder-control, or give --server its api.listen"
    } else if lower.contains("dns") || lower.contains("lookup") {
        "the name does not resolve: give --server another one"
    } else {
        "give --server its api.listen; https:// where api.tls_certificate is set, http:// where not"
    };
    Finding::failure(server, why, advice)
}

fn refused(failure: &Failure) -> Finding {
    let advice = match failure {
        Failure::Refused(problem) if problem.code == Code::Unauthenticated => {
            "give a token: RECCTL_TOKEN or --token-file; the first one is in admin.token beside the database"
        }
        Failure::Refused(problem) if problem.code == Code::PermissionDenied => {
            "a token with role VIEWER for all domains sees everything that the doctor looks at"
        }
        _ => "see the server's log",
    };
    Finding::failure("access", failure.to_string(), advice)
}

/// This machine's clock, since 1970: to be compared with the server's is what it is for.
#[allow(clippy::disallowed_methods, reason = "the clock itself is what is looked at")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_its_finding() {
        let findings =
            [Finding::ok("a", "fine"), Finding::warning("b", "odd", "look"), Finding::failure("c", "bad", "mend")];
        let text = shown(&findings);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "LEVEL    WHAT  FOUND",
                "OK       a     fine",
                "WARNING  b     odd",
                "-> look",
                "FAILURE  c     bad",
                "-> mend"
            ]
        );
    }

    #[test]
    fn many_of_a_kind_are_counted() {
        let mut findings = vec![Finding::warning("x", "y", "z"); 50];
        findings.push(Finding::failure("bad", "y", "z"));
        let shown = few(findings);
        assert_eq!((shown.len(), shown[0].subject.as_str()), (MOST.1 + 1, "bad"));
        assert_eq!(shown[MOST.1].found, "31 more of the kind");
    }

    #[test]
    fn what_does_not_connect_gets_fitting_advice() {
        for (why, told) in [
            ("tcp connect error: Connection refused (os error 111)", "start recorder-control"),
            ("invalid peer certificate: UnknownIssuer", "--ca"),
            ("dns error: failed to lookup address", "does not resolve"),
            ("broken pipe", "https://"),
        ] {
            assert!(unreachable("http://x", why).advice.contains(told), "{why}");
        }
    }
}
