//! TLS of a media node, as an installation on several machines has it: towards the control plane, and for publishers.

use std::path::{Path, PathBuf};
use std::process::Command;

use recorder_proto::pb::v1::recording::State;
use recorder_tests::cluster::Cluster;
use recorder_tests::publisher::{Source, push_file};
use recorder_tests::scene::{Clients, all_formats};
use recorder_tests::wait;
use recorder_tests::whip::offer;

const DOMAIN: &str = "push.example.com";

fn openssl(arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A CA and, signed by it, one certificate for each name.
pub fn certificates(folder: &Path, names: &[&str]) -> PathBuf {
    let path = |name: &str| folder.join(name).display().to_string();
    let (ca, key) = (path("ca.pem"), path("ca.key"));
    openssl(&["-subj", "/CN=ca", "-keyout", &key, "-out", &ca]);
    for name in names {
        let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
        let (own, out) = (path(&format!("{name}.key")), path(&format!("{name}.pem")));
        let signed = ["-CA", &ca, "-CAkey", &key, "-subj", &subject, "-addext", &names];
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &own, "-out", &out];
        openssl(&[&signed[..], &leaf].concat());
    }
    folder.join("ca.pem")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_of_its_own_records_over_mutual_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates(folder.path(), &["localhost", "m1"]).display().to_string();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // Given back before it is taken: nothing else here asks for a certain port.
    let link = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (listen, control) = (link.to_string(), format!("https://localhost:{}", link.port()));
    let (server, server_key, own, own_key) =
        (path("localhost.pem"), path("localhost.key"), path("m1.pem"), path("m1.key"));
    let node = [
        ("RECORDER_LINK_CONTROL", control.as_str()),
        ("RECORDER_LINK_CA", &ca),
        ("RECORDER_LINK_CERTIFICATE", &own),
        ("RECORDER_LINK_KEY", &own_key),
    ];
    let control = [
        ("RECORDER_LINK_LISTEN", listen.as_str()),
        ("RECORDER_LINK_TLS_CERTIFICATE", &server),
        ("RECORDER_LINK_TLS_KEY", &server_key),
        ("RECORDER_LINK_TLS_CLIENT_CA", &ca),
    ];
    let cluster = Cluster::with_all_settings(&node, &control).await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("show", all_formats()).await;
    clients.bind("show", DOMAIN).await;
    push_file(
        &Source { seconds: 2, ..Default::default() }.generate(cluster.folder()),
        &cluster.rtmp_url(DOMAIN, "cam1"),
    );
    let recording = clients.wait_for(DOMAIN, "cam1", 1, State::Succeeded).await.remove(0);
    assert_eq!(recording.node, "nodes/m1");
}

/// Status of an offer that is posted over HTTPS to whom `ca` vouches for; 0 when there is no trust.
fn offered(address: &str, ca: &Path) -> u16 {
    let port = address.rsplit_once(':').unwrap().1;
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "--cacert"]).arg(ca);
    command.args(["-H", "Content-Type: application/sdp", "--data-binary", &offer()]);
    command.arg(format!("https://localhost:{port}/whip/live/cam1?domain={DOMAIN}"));
    String::from_utf8(command.output().unwrap().stdout).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whip_over_https_takes_up_a_new_certificate() {
    let (folder, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [old, new] = [folder.path(), next.path()].map(|folder| certificates(folder, &["localhost"]));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let node = [
        ("RECORDER_HTTP_TLS_LISTEN", "127.0.0.1:0"),
        ("RECORDER_HTTP_TLS_CERTIFICATE", &path("localhost.pem")),
        ("RECORDER_HTTP_TLS_KEY", &path("localhost.key")),
    ];
    let cluster = Cluster::with_settings(&node).await;
    let mut clients = Clients::of(&cluster).await;
    clients.template("show", all_formats()).await;
    clients.bind("show", DOMAIN).await;
    let address = cluster.nodes[0].address("https");
    wait::until("an answer", async || (offered(address, &old) == 201).then_some(())).await;
    assert_eq!(offered(address, &new), 0);
    for name in ["localhost.pem", "localhost.key"] {
        std::fs::copy(next.path().join(name), folder.path().join(name)).unwrap();
    }
    wait::until("the new certificate", async || (offered(address, &new) != 0).then_some(())).await;
    assert_eq!(offered(address, &old), 0);
}
