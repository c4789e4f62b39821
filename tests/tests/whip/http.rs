//! The WHIP checklist's lines about HTTP, against a running node.

use md5::{Digest, Md5};
use recorder_proto::pb::v1;
use recorder_tests::cluster::Cluster;
use recorder_tests::scene::{Clients, all_formats, recorded};
use recorder_tests::whip::{Reply, offer, request};
use recorder_tests::{wait, whip};
use v1::domain::publish_auth::Mode;

const DOMAIN: &str = "push.example.com";
const SDP: (&str, &str) = ("content-type", "application/sdp");
const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");

async fn scene(settings: &[(&str, &str)]) -> (Cluster, Clients, String) {
    let (cluster, clients) = recorded(DOMAIN, all_formats(), settings).await;
    let address = cluster.nodes[0].address("http").to_owned();
    (cluster, clients, address)
}

fn path(stream: &str) -> String {
    format!("/whip/live/{stream}?domain={DOMAIN}")
}

async fn post(address: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let headers: Vec<_> = [SDP].iter().chain(headers).copied().collect();
    request(address, "POST", path, &headers, &offer()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_an_offer_is_answered_with_everything_a_client_needs() {
    let servers = "stun:stun.example.com:3478,turn:turn.example.com user secret";
    let (_cluster, _, address) = scene(&[("RECORDER_WHIP_ICE_SERVERS", servers)]).await;
    let reply = post(&address, &path("cam1"), &[]).await;
    assert_eq!((reply.status, reply.header("content-type")), (201, "application/sdp"), "{reply:?}");
    assert!(reply.header("location").starts_with("/whip/~/"));
    let tag = reply.header("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
    let links: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "link").map(|(_, value)| value).collect();
    assert_eq!(links[0], "<stun:stun.example.com:3478>; rel=\"ice-server\"");
    assert!(links[1].contains("username=\"user\"; credential=\"secret\"; credential-type=\"password\""));
    for line in [
        "a=ice-lite",
        "a=setup:passive",
        "a=recvonly",
        "a=rtcp-mux",
        "a=rtpmap:96 H264/90000",
        "a=rtpmap:111 opus/48000/2",
    ] {
        assert!(reply.body.contains(line), "{line} in {}", reply.body);
    }
    assert!(reply.body.contains(" udp ") && reply.body.contains(" tcptype passive"), "{}", reply.body);
    assert!(!reply.body.contains("192.0.2."), "nothing of the inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn w1_w5_every_wrong_request_has_its_answer() {
    let (_cluster, _, address) = scene(&[]).await;
    let cam = path("cam1");
    let status = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let reply = request(&address, method, path, headers, body).await;
        if reply.status >= 400 {
            assert_eq!(reply.header("content-type"), "application/problem+json", "{reply:?}");
            assert!(reply.body.contains("\"detail\":\""), "{reply:?}");
        }
        reply.status
    };
    assert_eq!(status("POST", &cam, &[("content-type", "text/plain")], &offer()).await, 415);
    assert_eq!(status("POST", &cam, &[], &offer()).await, 415);
    assert_eq!(status("POST", &cam, &[SDP], "").await, 400);
    assert_eq!(status("POST", &cam, &[SDP], "{}").await, 400);
    assert_eq!(status("POST", &cam, &[SDP], &offer().replace("sendonly", "recvonly")).await, 422);
    assert_eq!(status("POST", &cam, &[SDP], &offer().replace("H264", "VP8")).await, 422);
    assert_eq!(status("POST", &cam, &[SDP], &"a=x:1\r\n".repeat(20_000)).await, 413, "a huge offer");
    assert_eq!(status("POST", "/whip/live/cam1?domain=unknown.example", &[SDP], &offer()).await, 404);
    assert_eq!(status("POST", "/whip/cam1", &[SDP], &offer()).await, 404);
    assert_eq!(status("POST", "/whip/live/..%2f..", &[SDP], &offer()).await, 400);
    for method in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(status(method, &cam, &[], "").await, 405, "{method}");
    }
    assert_eq!(status("GET", &cam, &[], "").await, 204);
    let session = post(&address, &cam, &[]).await.header("location").to_owned();
    assert_eq!(status("GET", &session, &[], "").await, 204);
    assert_eq!(status("POST", &session, &[SDP], &offer()).await, 405);
    assert_eq!(status("GET", "/whip/~/nobody", &[], "").await, 404);
    assert_eq!(status("PATCH", "/whip/~/nobody", &[FRAGMENT], "").await, 404);
    assert_eq!(status("DELETE", "/whip/~/nobody", &[], "").await, 404);
    assert_eq!(status("GET", "/publish", &[], "").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn w3_w4_trickle_restart_and_delete() {
    let (_cluster, _, address) = scene(&[]).await;
    let created = post(&address, &path("cam1"), &[]).await;
    let (session, tag) = (created.header("location").to_owned(), created.header("etag").to_owned());
    let trickle = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
                   a=candidate:1 1 udp 2122260223 192.0.2.77 61764 typ host\r\n";
    let patch = async |headers: &[(&str, &str)], body: &str| {
        let headers: Vec<_> = [FRAGMENT].iter().chain(headers).copied().collect();
        request(&address, "PATCH", &session, &headers, body).await
    };
    let trickled = patch(&[("if-match", &tag)], trickle).await;
    assert_eq!((trickled.status, trickled.header("etag")), (204, ""));
    assert_eq!(patch(&[], trickle).await.status, 428);
    assert_eq!(patch(&[("if-match", "\"stale\"")], trickle).await.status, 412);
    assert_eq!(patch(&[("if-match", &tag)], &trickle.repeat(300)).await.status, 413);
    assert_eq!(patch(&[("if-match", "*")], trickle).await.status, 422, "the same credentials");
    let restarted = patch(&[("if-match", "*")], "a=ice-ufrag:efgh\r\na=ice-pwd:another0password0of022\r\n").await;
    assert_eq!((restarted.status, restarted.header("content-type")), (200, FRAGMENT.1), "{restarted:?}");
    assert!(restarted.body.contains("a=ice-pwd:") && restarted.header("etag") != tag);
    assert_eq!(patch(&[("if-match", &tag)], trickle).await.status, 412);
    let wrong_type = request(&address, "PATCH", &session, &[SDP, ("if-match", &tag)], trickle).await;
    assert_eq!(wrong_type.status, 415);
    assert_eq!(request(&address, "DELETE", &session, &[("if-match", "\"whatever\"")], "").await.status, 200);
    assert_eq!(request(&address, "DELETE", &session, &[], "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn w5_browsers_of_other_origins_may_ask() {
    let (_cluster, _, address) = scene(&[]).await;
    let asked = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
    let reply = request(&address, "OPTIONS", &path("cam1"), &asked, "").await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, "*"));
    assert_eq!(reply.header("accept-post"), "application/sdp");
    assert!(reply.header("access-control-allow-methods").contains("POST"));
    assert!(reply.header("access-control-allow-headers").contains("Authorization"));
    assert_eq!(reply.header("link"), "", "no credentials before the proof");
    let created = post(&address, &path("cam1"), &[("origin", "https://app.example")]).await;
    for header in ["Location", "ETag", "Link"] {
        assert!(created.header("access-control-expose-headers").contains(header));
    }
    let reply = request(&address, "OPTIONS", created.header("location"), &asked, "").await;
    assert!(reply.status == 204 && reply.header("access-control-allow-methods").contains("PATCH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn w6_signatures_and_stream_keys_open_their_domain_only() {
    let (cluster, mut clients, address) = scene(&[]).await;
    for (domain, mode, key) in [("signed.example", Mode::SignedUrl, "k1"), ("keyed.example", Mode::StreamKey, "s3cret")]
    {
        let auth = v1::domain::PublishAuth { mode: mode.into(), primary_key: key.into(), ..Default::default() };
        let domain_ = v1::Domain { publish_auth: Some(auth), ..Default::default() };
        let request = v1::CreateDomainRequest { domain_id: domain.into(), domain: Some(domain_), ..Default::default() };
        clients.domains.create_domain(request).await.unwrap();
        clients.bind("all", domain).await;
    }
    let secret = hex::encode(Md5::digest(format!("k1{}{}", "cam1", "7FFFFFFF")));
    let signed = format!("/whip/live/cam1?domain=signed.example&txSecret={secret}&txTime=7FFFFFFF");
    wait::until("the domains to be known", async || (post(&address, &signed, &[]).await.status == 201).then_some(()))
        .await;
    let plain = "/whip/live/cam1?domain=signed.example";
    let token = format!("Bearer txSecret={secret}&txTime=7FFFFFFF");
    assert_eq!(post(&address, plain, &[("authorization", &token)]).await.status, 201);
    let unsigned = post(&address, plain, &[]).await;
    assert_eq!((unsigned.status, unsigned.header("www-authenticate")), (401, "Bearer"));
    assert_eq!(post(&address, &signed.replace("cam1", "cam2"), &[]).await.status, 401, "another stream");
    let keyed = "/whip/live/cam1?domain=keyed.example";
    let created = post(&address, keyed, &[("authorization", "Bearer s3cret")]).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(post(&address, keyed, &[("authorization", "Bearer wrong")]).await.status, 401);
    assert_eq!(post(&address, &format!("{keyed}&key=s3cret"), &[]).await.status, 201);
    let second = post(&address, keyed, &[("authorization", "Bearer s3cret")]).await;
    let session = second.header("location");
    assert_eq!(request(&address, "DELETE", session, &[], "").await.status, 401);
    let shown = [("authorization", "Bearer s3cret")];
    assert_eq!(request(&address, "DELETE", session, &shown, "").await.status, 200);
    let log = cluster.nodes[0].log_text();
    for hidden in ["s3cret", &secret] {
        assert!(!log.contains(hidden), "{hidden} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn w5_a_node_that_is_emptied_sends_publishers_away() {
    let (mut cluster, mut clients, address) =
        scene(&[("RECORDER_DRAIN_MODE", "wait"), ("RECORDER_DRAIN_DEADLINE", "8s")]).await;
    let url = whip::url(&cluster, DOMAIN, "cam1");
    let mut live = recorder_tests::publisher::Live::spawn(whip::aiortc(&url, &["--seconds", "60"]));
    clients.wait_for(DOMAIN, "cam1", 1, v1::recording::State::Recording).await;
    let pid = cluster.nodes[0].pid().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let refused = wait::until("offers to be refused", async || {
        let reply = post(&address, &path("cam2"), &[]).await;
        (reply.status != 201).then_some(reply)
    })
    .await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"), "{refused:?}");
    live.kill();
    assert_eq!(cluster.nodes[0].terminate().await, Some(0));
}
