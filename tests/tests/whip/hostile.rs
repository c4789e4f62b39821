//! Floods against a running node: memory bounded, others undisturbed.

use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Live, Source};
use recorder_tests::scene::{Clients, all_formats, library_path};
use recorder_tests::whip::{offer, request};
use recorder_tests::{probe, whip};
use v1::recording::State;

const DOMAIN: &str = "push.example.com";
const SDP: (&str, &str) = ("content-type", "application/sdp");
/// What a flood may cost the node, in KiB: 250 sessions that connect, and what allocators keep.
const MAX_GROWTH_KIB: u64 = 120 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_offers_and_ten_thousand_candidates_disturb_nobody() {
    let cluster = Cluster::start().await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("all", all_formats()).await;
    clients.bind("all", DOMAIN).await;
    let source = Source { seconds: 4, ..Default::default() }.generate(cluster.folder());
    let mut rtmp = Live::file(&source, &cluster.rtmp_url(DOMAIN, "rtmp"));
    let mut live = Live::spawn(whip::aiortc(&whip::url(&cluster, DOMAIN, "webrtc"), &["--seconds", "600"]));
    for stream in ["rtmp", "webrtc"] {
        clients.wait_for(DOMAIN, stream, 1, State::Recording).await;
    }
    let (node, address) = (&cluster.nodes[0], cluster.nodes[0].address("http").to_owned());
    let before = node.resident_kib();
    let candidates = "a=candidate:1 1 udp 2122260223 192.0.2.77 61764 typ host\r\n".repeat(900);
    let mut session = (String::new(), String::new());
    for index in 0..1_000 {
        let path = format!("/whip/live/flood{index}?domain={DOMAIN}");
        let more = if index % 10 == 0 { candidates.as_str() } else { "" };
        let reply = request(&address, "POST", &path, &[SDP], &format!("{}{more}", offer())).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        session = (reply.header("location").to_owned(), reply.header("etag").to_owned());
    }
    let fragment = "a=candidate:1 1 udp 2122260223 192.0.2.77 61764 typ host\r\n".repeat(100);
    let headers = [("content-type", "application/trickle-ice-sdpfrag"), ("if-match", session.1.as_str())];
    for _ in 0..100 {
        let reply = request(&address, "PATCH", &session.0, &headers, &fragment).await;
        assert!(matches!(reply.status, 204 | 422), "{reply:?}");
    }
    let growth = node.resident_kib().saturating_sub(before);
    println!("the flood cost {growth} KiB");
    assert!(growth < MAX_GROWTH_KIB, "{growth} KiB");
    assert!(live.is_running() && rtmp.is_running());
    rtmp.stop();
    live.kill();
    // What the killed one leaves is closed by its silence; the other one's end is enough to see that nothing is missing.
    let recording = clients.wait_for(DOMAIN, "rtmp", 1, State::Succeeded).await.remove(0);
    assert!(recording.gaps.is_empty(), "{:?}", recording.gaps);
    let files = clients.files(&recording).await;
    probe::decodes(&library_path(&cluster, &files["MP4"][0]));
}
