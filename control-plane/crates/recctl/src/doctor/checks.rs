//! What the doctor thinks of what the server tells: pure judgements, one function a subject.

use std::time::Duration;

use prost_types::Timestamp;
use recorder_proto::pb::v1;
use v1::{binding, node, storage, webhook};

use super::finding::Finding;
use crate::table;

/// Clocks that differ by more make signed URLs and schedules wrong.
const SKEW: f64 = 2.0;

/// Bytes that wait longer than this are not on their way.
const LAG: f64 = 300.0;

/// A binding that the nodes have not taken up by then is stuck.
const PENDING: f64 = 10.0;

/// Share of a node's spool above which new publishers are refused soon.
const SPOOL: f64 = 0.8;

/// Release of server and client.
pub fn version(info: &v1::ServerInfo, own: &str) -> Finding {
    let found = format!("recorder-control {} on {}", info.version, info.database);
    if info.version == own {
        return Finding::ok("server", found);
    }
    let found = format!("{found}, recctl {own}");
    Finding::warning("server", found, "use the recctl of the server's release: newer fields are not shown otherwise")
}

/// The server's clock against this machine's, both in seconds, and how long the answer took.
pub fn clock(server: &Timestamp, own: f64, took: Duration) -> Finding {
    let difference = seconds(server) - (own - took.as_secs_f64() / 2.0);
    let found = format!("{difference:+.1} s from this machine's");
    if difference.abs() <= SKEW + took.as_secs_f64() {
        return Finding::ok("clock", found);
    }
    let advice = "let chrony or systemd-timesyncd set both clocks; signed URLs and tasks go by the server's";
    Finding::warning("clock", found, advice)
}

/// Every node, or that there is none.
pub fn nodes(nodes: &[v1::Node], server: &str) -> Vec<Finding> {
    if nodes.is_empty() {
        let advice = "start recorder-media with link.control at the control plane's link listener (port 7081)";
        return vec![Finding::failure("nodes", "there is no media node, so nothing can be recorded", advice)];
    }
    nodes.iter().map(|node| one_node(node, server)).collect()
}

fn one_node(node: &v1::Node, server: &str) -> Finding {
    let name = node.name.clone();
    let (spool, limit) = (node.spool_bytes as f64, node.spool_limit_bytes as f64);
    let disk = format!("spool {} of {}", table::bytes(spool), table::bytes(limit));
    match node.state() {
        node::State::Lost => {
            let advice = "start it again with its spool: what it recorded is there; \
                          recctl delete nodes/... only when its disk is gone";
            return Finding::failure(name, "LOST: its lease ran out", advice);
        }
        node::State::Draining | node::State::Drained => {
            let found = format!("{}, takes no new streams; {disk}", node.state().as_str_name());
            return Finding::warning(name, found, "recctl call ResumeNode name=nodes/... takes it back in");
        }
        _ => {}
    }
    if !node.rejected_directives.is_empty() {
        let found = format!("refuses {}", some(&node.rejected_directives));
        return Finding::failure(name, found, "bring the node to the server's release, or change what it refuses");
    }
    if limit > 0.0 && spool / limit > SPOOL {
        let advice = "see why uploads are slow (storages below), or give spool.limit more disk";
        return Finding::failure(name, format!("{disk}: new publishers are refused"), advice);
    }
    if span(node.upload_lag.as_ref()) > LAG {
        let found = format!("the oldest byte has waited {:.0} s; {disk}", span(node.upload_lag.as_ref()));
        return Finding::warning(name, found, "see the storages below, and upload.bandwidth of the node");
    }
    if node.directives_version < node.directives_version_wanted {
        let found = format!("at directives {} of {}", node.directives_version, node.directives_version_wanted);
        return Finding::warning(name, found, "once more in a few seconds; then look at the node's log");
    }
    if span(node.clock_skew.as_ref()).abs() > SKEW {
        let found = format!("its clock is {:+.1} s from the server's", span(node.clock_skew.as_ref()));
        return Finding::warning(name, found, "let chrony or systemd-timesyncd set its clock: file times go by it");
    }
    if node.version != server {
        let found = format!("release {}, the server's is {server}", node.version);
        return Finding::warning(name, found, "update the older of the two; one release apart is meant to work");
    }
    Finding::ok(name, format!("{} streams, {} recordings, {disk}", node.streams, node.recordings))
}

/// A storage by what was told of it before, and by what a probe found now; None = it was not probed.
pub fn storage(storage: &v1::Storage, probe: Option<&v1::TestStorageResponse>) -> Finding {
    let name = storage.name.clone();
    let advice = "correct bucket, region or credential with recctl update; the provider's own words are above";
    let bad = probe.and_then(|probe| probe.steps.iter().find(|step| !step.ok));
    if let Some(step) = bad {
        let why = step.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
        return Finding::failure(name, format!("{} fails: {why}", step.step), advice);
    }
    if storage.state() == storage::State::Failing {
        let why = storage.last_error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
        return Finding::failure(name, format!("uploads of nodes fail: {why}"), advice);
    }
    match probe {
        Some(probe) => {
            let seconds: f64 = probe.steps.iter().map(|step| step.seconds).sum();
            Finding::ok(name, format!("{} steps of the probe worked in {seconds:.1} s", probe.steps.len()))
        }
        None => Finding::ok(name, "not probed; the last upload worked, or none was tried"),
    }
}

/// That templates without a storage have one.
pub fn default_storage(storages: &[v1::Storage]) -> Option<Finding> {
    let none = !storages.iter().any(|storage| storage.is_default);
    let advice = "recctl update storages/... is_default=true";
    none.then(|| Finding::warning("storages", "none is the default, templates have to name one", advice))
}

/// Every binding that is not applied, or that there is none. `now` is the server's.
pub fn bindings(bindings: &[v1::Binding], rules: bool, now: &Timestamp) -> Vec<Finding> {
    if bindings.is_empty() && !rules {
        let advice = "recctl create binding default domains=push.example.com create_domains=true";
        let found = "no template is bound and there is no rule: streams are let in, but not recorded";
        return vec![Finding::warning("bindings", found, advice)];
    }
    let mut findings: Vec<Finding> = bindings.iter().filter_map(|binding| one_binding(binding, now)).collect();
    if findings.is_empty() {
        findings.push(Finding::ok("bindings", format!("{} bindings, each applied on every node", bindings.len())));
    }
    findings
}

fn one_binding(binding: &v1::Binding, now: &Timestamp) -> Option<Finding> {
    let name = binding.name.clone();
    let age = binding.create_time.as_ref().map_or(f64::MAX, |created| seconds(now) - seconds(created));
    let applied = format!("applied on {} of {} nodes", binding.nodes_applied, binding.nodes_total);
    match binding.state() {
        binding::State::Rejected => {
            let why = binding.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
            let advice = "change the template, or bring the node to the server's release";
            Some(Finding::failure(name, format!("a node refuses it: {why}"), advice))
        }
        binding::State::Active => None,
        _ if age < PENDING => None,
        _ => Some(Finding::warning(name, applied, "look at the nodes above that are LOST or behind")),
    }
}

/// Receivers that are not told what they should be.
pub fn webhook(webhook: &v1::Webhook) -> Finding {
    let name = webhook.name.clone();
    let advice = "recctl list deliveries webhooks/... shows the answers; recctl update tries again";
    match webhook.state() {
        _ if webhook.disabled => Finding::ok(name, "disabled"),
        webhook::State::Suspended => Finding::failure(name, "SUSPENDED: nothing is sent any more", advice),
        webhook::State::Failing => Finding::warning(name, "deliveries fail and are tried again", advice),
        _ => Finding::ok(name, webhook.url.clone()),
    }
}

/// Recordings that have failed.
pub fn failed(recordings: &[v1::Recording]) -> Finding {
    let names: Vec<String> = recordings.iter().map(|recording| recording.name.clone()).collect();
    if names.is_empty() {
        return Finding::ok("recordings", "none has failed");
    }
    let advice = "recctl get recordings/... says why; recctl call RetryUploads name=recordings/... sends files again";
    Finding::warning("recordings", format!("FAILED: {}", some(&names)), advice)
}

/// A few names, and how many more there are.
fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &rest
}

fn seconds(time: &Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

fn span(duration: Option<&prost_types::Duration>) -> f64 {
    duration.map_or(0.0, |duration| duration.seconds as f64 + f64::from(duration.nanos) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 0 }
    }

    fn node() -> v1::Node {
        v1::Node {
            name: "nodes/m1".into(),
            state: node::State::Active.into(),
            version: "1".into(),
            spool_limit_bytes: 1 << 30,
            ..Default::default()
        }
    }

    #[test]
    fn every_ailment_of_a_node_is_told_with_a_remedy() {
        assert_eq!(nodes(&[node()], "1")[0].level, Level::Ok);
        let long = Some(prost_types::Duration { seconds: 301, nanos: 0 });
        let ill = [
            (v1::Node { state: node::State::Lost.into(), ..node() }, Level::Failure, "LOST"),
            (v1::Node { state: node::State::Draining.into(), ..node() }, Level::Warning, "DRAINING"),
            (v1::Node { rejected_directives: vec!["rule/a".into(); 5], ..node() }, Level::Failure, "and 2 more"),
            (v1::Node { spool_bytes: 900 << 20, ..node() }, Level::Failure, "spool 900.0 MiB of 1.0 GiB"),
            (v1::Node { upload_lag: long, ..node() }, Level::Warning, "301 s"),
            (v1::Node { directives_version_wanted: 7, ..node() }, Level::Warning, "0 of 7"),
            (v1::Node { clock_skew: long, ..node() }, Level::Warning, "+301.0 s"),
            (v1::Node { version: "2".into(), ..node() }, Level::Warning, "release 2"),
        ];
        for (node, level, told) in ill {
            let finding = nodes(&[node], "1").remove(0);
            assert!(finding.level == level && finding.found.contains(told), "{told}: {finding:?}");
            assert!(!finding.advice.is_empty());
        }
        assert_eq!(nodes(&[], "1")[0].level, Level::Failure);
    }

    #[test]
    fn clocks_may_differ_by_what_the_answer_took() {
        assert_eq!(clock(&at(100), 100.5, Duration::from_secs(1)).level, Level::Ok);
        assert_eq!(clock(&at(100), 90.0, Duration::from_millis(10)).level, Level::Warning);
        assert!(clock(&at(100), 90.0, Duration::ZERO).found.starts_with("+10.0 s"));
    }

    #[test]
    fn a_binding_is_given_time_to_be_applied() {
        let binding = |state: binding::State, created| v1::Binding {
            name: "domains/d/bindings/t".into(),
            state: state.into(),
            create_time: Some(at(created)),
            nodes_total: 2,
            ..Default::default()
        };
        let of = |state, created| bindings(&[binding(state, created)], false, &at(1_000)).remove(0);
        assert_eq!(of(binding::State::Active, 0).level, Level::Ok);
        assert_eq!(of(binding::State::Pending, 995).level, Level::Ok);
        let stuck = of(binding::State::Pending, 900);
        assert!(stuck.level == Level::Warning && stuck.found == "applied on 0 of 2 nodes", "{stuck:?}");
        assert_eq!(of(binding::State::Rejected, 0).level, Level::Failure);
        assert_eq!(bindings(&[], false, &at(0))[0].level, Level::Warning);
        assert_eq!(bindings(&[], true, &at(0))[0].level, Level::Ok);
    }

    #[test]
    fn a_probe_counts_more_than_what_was_told_before() {
        let step = |ok| v1::test_storage_response::Step { step: "put".into(), ok, ..Default::default() };
        let probe = |ok| v1::TestStorageResponse { steps: vec![step(ok)] };
        let active = v1::Storage { name: "storages/s".into(), ..Default::default() };
        let failing = v1::Storage { state: storage::State::Failing.into(), ..active.clone() };
        assert_eq!(storage(&active, Some(&probe(true))).level, Level::Ok);
        assert_eq!(storage(&active, Some(&probe(false))).level, Level::Failure);
        assert_eq!(storage(&failing, Some(&probe(true))).level, Level::Failure);
        assert_eq!(storage(&active, None).level, Level::Ok);
        assert!(default_storage(std::slice::from_ref(&active)).is_some());
        assert!(default_storage(&[v1::Storage { is_default: true, ..active }]).is_none());
    }
}
