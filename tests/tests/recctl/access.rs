//! TLS and tokens, by flag and by environment.

use std::path::Path;

use recorder_tests::process::Process;

use super::Recctl;
use crate::secured::certificates;

const ADMIN: &str = "recctl-test-admin-token-0123456789abcdef";

async fn start(folder: &Path) -> (Process, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    let any = || "127.0.0.1:0".to_owned();
    let settings = [
        ("RECORDER_DATABASE_URL", format!("sqlite://{}", path("control.db"))),
        ("RECORDER_API_LISTEN", any()),
        ("RECORDER_LINK_LISTEN", any()),
        ("RECORDER_ADMIN_LISTEN", any()),
        ("RECORDER_PLAYBACK_LISTEN", any()),
        ("RECORDER_LIBRARY_ROOT", path("library")),
        ("RECORDER_SEAL_KEY_FILE", path("seal.key")),
        ("RECORDER_ACCESS_TOKENS", "required".to_owned()),
        ("RECORDER_ACCESS_ADMIN_TOKEN", ADMIN.to_owned()),
        ("RECORDER_API_TLS_CERTIFICATE", path("localhost.pem")),
        ("RECORDER_API_TLS_KEY", path("localhost.key")),
        ("RECORDER_API_TLS_CLIENT_CA", path("ca.pem")),
    ];
    let control = Process::start("recorder-control", &folder.join("control"), &settings).await;
    let port = control.address("api").rsplit(':').next().unwrap().to_owned();
    (control, format!("https://localhost:{port}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_tokens_are_given_by_flag_or_environment() {
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates(folder.path(), &["localhost", "script"]).display().to_string();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (_control, server) = start(folder.path()).await;
    let (own, key) = (path("script.pem"), path("script.key"));
    let tls = [("RECCTL_CA", ca.as_str()), ("RECCTL_CERTIFICATE", &own), ("RECCTL_KEY", &key)];

    let trusted = Recctl::at(&server).with(&tls);
    let refused = trusted.run(&["list", "templates"]);
    assert!(refused.code == 77 && refused.error.contains("UNAUTHENTICATED"), "{refused:?}");
    assert!(refused.error.contains("RECCTL_TOKEN"), "says how: {refused:?}");
    let wrong = trusted.run(&["list", "templates", "--token", "wrong"]);
    assert_eq!(wrong.code, 77, "{wrong:?}");
    let names = trusted.ok(&["list", "templates", "--token", ADMIN]);
    assert!(names.contains("templates/default"), "{names}");
    let file = path("token");
    std::fs::write(&file, format!("{ADMIN}\n")).unwrap();
    let admin = Recctl::at(&server).with(&tls).with(&[("RECCTL_TOKEN_FILE", &file)]);
    let viewer = admin.json(&["create", "token", "display_name=viewer", "roles=viewer"]);
    let viewer = viewer["secret"].as_str().unwrap().to_owned();
    let viewer = Recctl::at(&server).with(&tls).with(&[("RECCTL_TOKEN", &viewer)]);
    assert!(viewer.ok(&["list", "templates"]).contains("templates/default"));
    let denied = viewer.run(&["create", "template", "x"]);
    assert!(denied.code == 77 && denied.error.contains("PERMISSION_DENIED"), "{denied:?}");

    // The doctor names each of the three ways to be kept out.
    let doctor = |recctl: &Recctl| {
        let outcome = recctl.run(&["doctor", "--no-probe"]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        outcome.out
    };
    assert!(doctor(&Recctl::at(&server)).contains("--ca"), "an unknown authority");
    assert!(doctor(&trusted).contains("give a token"), "no token");
    assert!(doctor(&viewer).contains("there is no media node"), "let in");
    let plain = Recctl::at(&server.replace("https", "http")).run(&["doctor"]);
    assert!(plain.code == 1 && plain.out.contains("https://"), "{plain:?}");
}
