//! Receivers that speak TLS: whom the system vouches for, or the operator.
use std::sync::Arc;

use recorder_proto::pb::v1::delivery::State as Of;
use recorder_proto::pb::v1::{TestWebhookRequest, Webhook};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::{LOCAL, client, create, of_templates};
use crate::link::control::{Control, on_each_with};
use crate::support::seconds;

/// A server with a certificate of its own making for `localhost`; its port, and the certificate in PEM.
async fn serve() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            // The whole request is in the first record or two; what it says is tested elsewhere.
            let mut request = vec![0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    (port, made.cert.pem())
}

async fn tried(control: &Control, url: String) -> (Of, String) {
    create(control, "tls", Webhook { timeout: seconds(5), ..of_templates(url) }).await;
    let request = TestWebhookRequest { name: "tls".into() };
    let delivery = client(control).test_webhook(request).await.unwrap().into_inner();
    (delivery.state(), delivery.error)
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_no_receiver() {
    on_each_with(LOCAL, async |control| {
        let (port, _) = serve().await;
        let (state, error) = tried(&control, format!("https://localhost:{port}/")).await;
        assert_eq!(state, Of::Failed);
        assert!(error.starts_with("TLS: ") && error.contains("UnknownIssuer"), "{error}");
    });
}

#[test]
fn an_authority_of_the_operator_vouches_for_its_receivers_and_their_names_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (port, certificate) = runtime.block_on(serve());
    std::fs::write(&file, certificate).unwrap();
    // Settings of a test are static.
    let file: &'static str = Box::leak(file.display().to_string().into_boxed_str());
    let networks = ["--webhooks-networks", "127.0.0.0/8", "--webhooks-ca-file", file];
    on_each_with(&networks, async |control| {
        let (state, error) = tried(&control, format!("https://localhost:{port}/")).await;
        assert_eq!((state, error.as_str()), (Of::Delivered, ""));
        let elsewhere = Webhook { timeout: seconds(5), ..of_templates(format!("https://127.0.0.1:{port}/")) };
        create(&control, "elsewhere", elsewhere).await;
        let request = TestWebhookRequest { name: "elsewhere".into() };
        let other = client(&control).test_webhook(request).await.unwrap().into_inner();
        assert!(other.error.starts_with("TLS: ") && other.error.contains("not valid for name"), "{}", other.error);
    });
}
