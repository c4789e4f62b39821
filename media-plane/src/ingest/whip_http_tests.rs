//! What HTTP says before a session is asked: who, what, with which proof, and in which words a refusal comes.

use axum::http::Request as HttpRequest;

use super::*;

fn parts(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = HttpRequest::builder().method(Method::POST).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn target(uri: &str, headers: &[(&str, &str)]) -> Result<Target, Refused> {
    let parts = parts(uri, headers);
    let path = parts.uri.path().strip_prefix("/whip/").unwrap_or_default().to_owned();
    Target::of(&parts, &path)
}

#[test]
fn the_domain_is_the_host_unless_the_query_names_another() {
    let of = |uri: &str, host: &str| target(uri, &[("host", host)]).unwrap().stream.to_string();
    assert_eq!(of("/whip/live/cam1", "Push.Example.com:8080"), "push.example.com/live/cam1");
    assert_eq!(of("/whip/live/cam1?domain=a.example", "h"), "a.example/live/cam1");
    assert_eq!(of("/whip/live/cam1?vhost=b.example", "h"), "b.example/live/cam1");
    assert_eq!(of("/whip/live/room/cam%201/", "h"), "h/live/room/cam 1", "an app with an instance");
    assert_eq!(of("/whip/live/%E7%94%BB%E9%9D%A2", "h"), "h/live/画面");
    assert!(target("/whip/live/c", &[("host", "127.0.0.1:8080")]).unwrap().is_local);
    assert!(target("/whip/live/c?domain=d.example", &[("host", "localhost:8080")]).unwrap().is_local);
    assert!(!target("/whip/live/c", &[("host", "push.example.com")]).unwrap().is_local);
}

#[test]
fn names_that_cannot_be_recorded_are_refused() {
    for (uri, status) in [
        ("/whip/cam1", 404),
        ("/whip/live/%2e%2e%2fcam", 400),
        ("/whip/live/..%2F..%2Fetc", 400),
        ("/whip/li%20ve/cam", 400),
        ("/whip/~/x/y", 400),
        ("/whip/live/a%00b", 400),
    ] {
        assert_eq!(target(uri, &[("host", "h")]).err().map(|refused| refused.status), Some(status), "{uri}");
    }
    assert_eq!(target("/whip/live/cam", &[]).err().map(|refused| refused.status), Some(400), "no domain at all");
    let long = format!("/whip/live/{}", "x".repeat(5_000));
    assert_eq!(target(&long, &[("host", "h")]).err().map(|refused| refused.status), Some(400));
}

#[test]
fn w6_the_proof_is_in_the_query_or_in_the_token() {
    let uri = "/whip/live/cam1?txSecret=abc&txTime=5f&key=k1";
    let signed = target(uri, &[("host", "h")]).unwrap();
    let proof = signed.credentials();
    assert_eq!((proof.secret, proof.time, proof.key), (Some("abc"), Some("5f"), Some("k1")));
    let header = [("host", "h"), ("authorization", "Bearer txSecret=abc&txTime=5f")];
    let in_token = target("/whip/live/cam1", &header).unwrap();
    assert_eq!((in_token.credentials().secret, in_token.credentials().time), (Some("abc"), Some("5f")));
    let key = target("/whip/live/cam1", &[("host", "h"), ("authorization", "bearer  s3cret")]).unwrap();
    assert_eq!(key.credentials().key, Some("s3cret"));
    let basic = target("/whip/live/cam1", &[("host", "h"), ("authorization", "Basic czpz")]).unwrap();
    assert_eq!(basic.credentials().key, None);
}

#[test]
fn w1_ice_servers_become_link_headers() {
    assert_eq!(link("stun:stun.example.com:3478").unwrap(), "<stun:stun.example.com:3478>; rel=\"ice-server\"");
    assert_eq!(
        link("turn:turn.example.com?transport=udp user pass\"word").unwrap(),
        "<turn:turn.example.com?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"password\"; \
         credential-type=\"password\""
    );
    assert_eq!(link("  "), None);
    assert_eq!(link("stun:x>;y"), None);
}

#[tokio::test]
async fn refusals_say_what_is_wrong_and_what_would_be_right() {
    let response = refuse(&Refused::busy("admission", "the node is being emptied", 5), "POST");
    assert_eq!(
        (response.status(), &response.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"5".parse().unwrap())
    );
    let response = refuse(&not_allowed(), "POST, OPTIONS");
    assert_eq!(response.headers()["allow"], "POST, OPTIONS");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let response = refuse(&Refused::new(401, "auth", "the stream key is wrong"), "POST");
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let body = to_bytes(response.into_body(), 1_000).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("\"detail\":\"the stream key is wrong\""));
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_time() {
    let announced = parts("/whip/live/c", &[("content-length", "70000")]);
    assert_eq!(read(&announced, Body::empty(), 65_536).await.unwrap_err().status, 413);
    let silent = parts("/whip/live/c", &[]);
    assert_eq!(read(&silent, Body::from(vec![b'a'; 65_537]), 65_536).await.unwrap_err().status, 413);
    assert_eq!(read(&silent, Body::from(vec![0xff]), 65_536).await.unwrap_err().status, 400);
    assert_eq!(read(&silent, Body::from("v=0"), 65_536).await.unwrap(), "v=0");
    tokio::time::pause();
    let never = Body::from_stream(futures_util::stream::pending::<Result<&'static [u8], std::io::Error>>());
    assert_eq!(read(&silent, never, 65_536).await.unwrap_err().status, 408);
}

#[test]
fn the_page_speaks_to_this_endpoint() {
    for needed in ["'/whip/'", "application/sdp", "DELETE", "Authorization", "video/H264", "max-bundle"] {
        assert!(PAGE.contains(needed), "{needed}");
    }
}
