//! Hostile RTMP against a whole node that records for others meanwhile: only the hostile connection ends.

mod commands;
mod crowds;
mod framing;
mod media;
mod names;
mod vitals;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use recorder_proto::pb::v1;
use recorder_tests::attack::{After, Case, Outcome};
use recorder_tests::cluster::Cluster;
use recorder_tests::process::Process;
use recorder_tests::publisher::{Live, Source, push_file};
use recorder_tests::scene::{Clients, all_formats, library_path, tree};
use recorder_tests::{probe, wait};
use v1::recording::State;
use vitals::Vitals;

const DOMAIN: &str = "push.example.com";
/// The largest media message the node takes, in bytes.
const LARGEST: u32 = 8 * 1024 * 1024;
/// Attacks at once.
const AT_ONCE: usize = 16;
/// CPU time of an idle node in a second, in milliseconds.
const IDLE_CPU: u64 = 100;

fn cases() -> Vec<Case> {
    let tables = [
        framing::handshakes(),
        framing::controls(),
        framing::chunks(),
        commands::amf(),
        commands::order(),
        media::codecs(),
        media::times(),
        names::streams(),
        names::places(),
    ];
    tables.into_iter().flatten().collect()
}

#[test]
fn the_table_is_large_and_every_case_has_its_name() {
    let cases = [cases(), media::amounts()].concat();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases with one name");
    assert!(cases.len() >= 50, "{}", cases.len());
}

/// Issue 2, shown by 6.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_hostile_connection_ends() {
    // This process holds the other end of 2,000 connections; the node raises its own limit.
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, "--nofile=8192:"]).status();
    assert!(raised.is_ok_and(|status| status.success()), "prlimit");
    let mut cluster = Cluster::with_settings(&[("RECORDER_RTMP_MAX_CONNECTIONS", "4000")]).await;
    let mut clients = scene(&cluster).await;
    let address = cluster.nodes[0].address("rtmp").to_owned();

    // One recording before everything else, so that what is opened once is open.
    let warm_up = Source { seconds: 2, ..Default::default() }.generate(cluster.folder());
    push_file(&warm_up, &cluster.rtmp_url(DOMAIN, "warm-up"));
    clients.wait_for(DOMAIN, "warm-up", 1, State::Succeeded).await;
    let descriptors = Vitals::watch(cluster.nodes[0].pid()).descriptors();

    let source = Source { seconds: 50, ..Default::default() }.generate(cluster.folder());
    let mut exact = Live::once(&source, &cluster.rtmp_url(DOMAIN, "exact"));
    let mut endless = Live::file(&warm_up, &cluster.rtmp_url(DOMAIN, "endless"));
    for stream in ["exact", "endless"] {
        clients.wait_for(DOMAIN, stream, 1, State::Recording).await;
    }
    let files_before: BTreeSet<_> = tree(cluster.folder()).into_iter().collect();
    let vitals = Vitals::watch(cluster.nodes[0].pid());

    attack(&address, &vitals).await;

    assert!(cluster.nodes[0].is_running() && endless.is_running());
    assert!(exact.wait(), "the well-behaved publisher was cut off");
    endless.stop();
    all_streams_end(&mut clients).await;
    vitals.check("to the end");
    eprintln!("at most {} KiB more, {} descriptors", vitals.grown_kib(), vitals.peak_descriptors());

    well_behaved_recordings_are_whole(&cluster, &mut clients, &source, &warm_up).await;
    files_stay_in_their_folders(&cluster, &files_before);
    wait::until("the descriptors to be closed", async || (vitals.descriptors() <= descriptors).then_some(())).await;
    is_quiet(&cluster.nodes[0]).await;

    push_file(&warm_up, &cluster.rtmp_url(DOMAIN, "afterwards"));
    let afterwards = clients.wait_for(DOMAIN, "afterwards", 1, State::Succeeded).await.remove(0);
    holds(&cluster, &mut clients, &afterwards, &probe::packets(&warm_up)).await;
    let log = cluster.nodes[0].log_text();
    assert!(!log.contains("panicked"), "{log}");
}

/// Answers wait while media comes fast, and a flood of pings is never calm: they once waited without bound.
#[tokio::test(flavor = "multi_thread")]
async fn answers_to_a_publisher_that_never_reads_are_bounded() {
    let cluster = Cluster::start().await;
    let _clients = scene(&cluster).await;
    let vitals = Vitals::watch(cluster.nodes[0].pid());
    crowds::deaf(cluster.nodes[0].address("rtmp"), After::Publish).await;
    vitals.check("a flood of pings");
}

async fn scene(cluster: &Cluster) -> Clients {
    let mut clients = Clients::of(cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    clients.bind("all", names::SIGNED).await;
    let auth = v1::domain::PublishAuth {
        mode: v1::domain::publish_auth::Mode::SignedUrl.into(),
        primary_key: "first".into(),
        ..Default::default()
    };
    let name = format!("domains/{}", names::SIGNED);
    let domain = v1::Domain { name, publish_auth: Some(auth), ..Default::default() };
    let request = v1::UpdateDomainRequest { domain: Some(domain), ..Default::default() };
    clients.domains.update_domain(request).await.expect("signed domain");
    let request = v1::ListBindingsRequest { domain: names::SIGNED.into(), ..Default::default() };
    wait::until("the signed domain to be applied", async || {
        let bindings = clients.domains.list_bindings(request.clone()).await.ok()?.into_inner().bindings;
        bindings.iter().all(|binding| binding.state() == v1::binding::State::Active).then_some(())
    })
    .await;
    clients
}

/// The table, a few at a time and those that wait for the node's patience beside it; then the crowds.
async fn attack(address: &str, vitals: &Vitals) {
    let (patient, quick): (Vec<_>, Vec<_>) = cases().into_iter().partition(|case| case.outcome == Outcome::TimesOut);
    let play = |number: usize, case: Case| async move {
        let outcome = case.play(address, DOMAIN, &format!("hostile-{number}")).await;
        vitals.check(&case.name);
        outcome.err().map(|problem| format!("{}: {problem}", case.name))
    };
    let beside = patient.len();
    let quick = async {
        let count = quick.len();
        let cases = stream::iter(quick.into_iter().zip(beside..).map(|(case, number)| play(number, case)));
        let mut wrong: Vec<_> = cases.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        // One by one: each of these alone is what a connection may cost.
        for (case, number) in media::amounts().into_iter().zip(beside + count..) {
            wrong.extend(play(number, case).await);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        crowds::newest_wins(address).await;
        crowds::announcers(address, vitals).await;
    };
    let patient = async {
        let cases = patient.into_iter().zip(0..).map(|(case, number)| play(number, case));
        let wrong: Vec<_> = futures_util::future::join_all(cases).await.into_iter().flatten().collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    };
    let deaf = async { tokio::join!(crowds::deaf(address, After::Connect), crowds::deaf(address, After::Publish)) };
    tokio::join!(quick, patient, deaf);
    crowds::idle_and_dripping(address, vitals).await;
}

async fn all_streams_end(clients: &mut Clients) {
    wait::until("every stream and recording to be over", async || {
        let streams = clients.streams.list_streams(v1::ListStreamsRequest::default()).await.ok()?.into_inner().streams;
        let request = v1::ListRecordingsRequest { page_size: 1_000, ..Default::default() };
        let recordings = clients.recordings.list_recordings(request).await.ok()?.into_inner().recordings;
        let over = |recording: &v1::Recording| {
            matches!(recording.state(), State::Succeeded | State::Incomplete | State::Failed)
        };
        (streams.is_empty() && recordings.iter().all(over)).then_some(())
    })
    .await;
}

async fn holds(cluster: &Cluster, clients: &mut Clients, recording: &v1::Recording, sent: &probe::Packets) {
    let files = clients.files(recording).await;
    assert_eq!(files.len(), 4, "every format");
    for (format, files) in files {
        assert_eq!(files.len(), 1, "{format}");
        let path = library_path(cluster, &files[0]);
        let mut expected = sent.clone();
        if format == "AAC" {
            expected.video.clear();
        }
        probe::assert_same_media(&expected, &probe::packets(&path), format);
    }
}

/// The finite one frame by frame; the endless one is the same media over and over, with nothing missing between.
async fn well_behaved_recordings_are_whole(
    cluster: &Cluster,
    clients: &mut Clients,
    source: &std::path::Path,
    round: &std::path::Path,
) {
    let recording = clients.wait_for(DOMAIN, "exact", 1, State::Succeeded).await.remove(0);
    holds(cluster, clients, &recording, &probe::packets(source)).await;
    let recording = clients.wait_for(DOMAIN, "endless", 1, State::Succeeded).await.remove(0);
    let round = probe::packets(round);
    let files = clients.files(&recording).await;
    let recorded = probe::packets(&library_path(cluster, &files["FLV"][0]));
    for (sent, recorded) in [(&round.video, &recorded.video), (&round.audio, &recorded.audio)] {
        assert!(recorded.len() > 10 * sent.len(), "{} frames", recorded.len());
        let expected = sent.iter().cycle().take(recorded.len()).map(|packet| &packet.hash);
        assert!(expected.eq(recorded.iter().map(|packet| &packet.hash)), "a frame of the endless stream is missing");
    }
}

/// Nothing but the node's spool and state, and the library below the place of each stream.
fn files_stay_in_their_folders(cluster: &Cluster, before: &BTreeSet<String>) {
    let place = format!("library/origin/{DOMAIN}/live/");
    let mut streams = BTreeSet::new();
    for path in tree(cluster.folder()).into_iter().filter(|path| !before.contains(path)) {
        if ["m1/spool/", "control/", "control.db"].iter().any(|own| path.starts_with(own)) {
            continue;
        }
        let inside = path.strip_prefix(&place).unwrap_or_else(|| panic!("{path} is not in {place}"));
        let steps: Vec<&str> = inside.split('/').collect();
        assert!(steps.len() >= 3, "{path}: stream, recording, file");
        for step in &steps {
            assert!(!step.starts_with('.') && !step.contains("..") && step.len() <= 255, "{path}");
            assert!(
                step.chars().all(|letter| !letter.is_control() && !"\\%?#{}\u{202e}\u{200b}".contains(letter)),
                "{path}"
            );
        }
        streams.insert(steps[0].to_owned());
    }
    assert!(streams.len() >= names::taken().len(), "names were recorded: {streams:?}");
    for folder in ["/tmp", "/"] {
        let escaped = tree_top(folder).into_iter().find(|name| name.contains("recorder-escaped"));
        assert_eq!(escaped, None, "in {folder}");
    }
}

fn tree_top(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Nothing spins on a connection that is gone.
async fn is_quiet(node: &Process) {
    let mut since = (Instant::now(), node.cpu_millis());
    wait::until("a quiet second", async || {
        if since.0.elapsed() < Duration::from_secs(1) {
            return None;
        }
        let spent = node.cpu_millis() - since.1;
        since = (Instant::now(), node.cpu_millis());
        (spent <= IDLE_CPU).then_some(())
    })
    .await;
}
