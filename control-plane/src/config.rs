//! Settings of `recorder-control`: the table that names them, and the struct they end up in.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recorder_runtime::config::{Errors, Kind, Program, Setting, Settings, common};
use recorder_runtime::secret::Redacted;
use serde::Deserialize;

use crate::webhooks::Policy;
use crate::webhooks::address::{Network, Networks};

/// Loopback only unless tokens and TLS are configured: the API can read and change everything.
const DEFAULT_API: &str = "127.0.0.1:7080";
const DEFAULT_LINK: &str = "127.0.0.1:7081";
const DEFAULT_ADMIN: &str = "127.0.0.1:7090";
const DEFAULT_PLAYBACK: &str = "127.0.0.1:7082";

/// File name of the seal key, beside the embedded database.
const SEAL_KEY_FILE: &str = "seal.key";

/// File name of the first administrator's token, beside the embedded database.
const ADMIN_TOKEN_FILE: &str = "admin.token";

/// Every setting.
pub const SETTINGS: &[Setting] = &[
    Setting::new("database", "url", Kind::Url)
        .or("sqlite://recorder-data/control.db")
        .help("sqlite://path (embedded, relative to the working directory) or postgres://user@host/name")
        .extremes("a wrong one stops the start with the reason"),
    Setting::new("database", "connections", Kind::Integer { min: 1, max: 256 })
        .or("8")
        .help("connections to the database")
        .extremes("too few: requests queue; too many: Postgres refuses them"),
    Setting::new("api", "listen", Kind::Socket)
        .or(DEFAULT_API)
        .help("address of the public gRPC API")
        .extremes("anything but loopback needs access.tokens = required and TLS"),
    Setting::new("api", "rate_limit", Kind::Integer { min: 1, max: 1_000_000 })
        .or("1000")
        .help("calls a second of one token, twice as many at once after a pause; counts where tokens are required")
        .extremes("too low: scripts are told to wait; too high: one caller can take the server from the others"),
    common::tls_certificate("api"),
    common::tls_key("api"),
    common::tls_client_ca("api"),
    Setting::new("link", "listen", Kind::Socket)
        .or(DEFAULT_LINK)
        .help("address that media nodes dial")
        .extremes("anything but loopback needs TLS, and access.tokens = required or link.tls_client_ca"),
    common::tls_certificate("link"),
    common::tls_key("link"),
    common::tls_client_ca("link"),
    Setting::new("link", "lease", Kind::Duration)
        .or("15s")
        .help("how long a node counts as alive after its last heartbeat")
        .extremes("too short: nodes flap to LOST on a slow network; too long: a dead node is noticed late"),
    common::admin_listen(DEFAULT_ADMIN),
    common::tls_certificate("admin"),
    common::tls_key("admin"),
    common::tls_client_ca("admin"),
    Setting::new("playback", "listen", Kind::Socket)
        .or(DEFAULT_PLAYBACK)
        .help("HTTP for players with a URL of GeneratePlaybackUrl: HLS playlists, and files of the library")
        .extremes("loopback: players elsewhere cannot fetch what the URLs name"),
    Setting::new("playback", "url", Kind::Url)
        .help("what those URLs begin with, such as https://play.example.com; unset, the address of the listener"),
    common::tls_certificate("playback"),
    common::tls_key("playback"),
    common::tls_client_ca("playback"),
    Setting::new("access", "tokens", Kind::Choice(&["none", "required"]))
        .or("none")
        .help("whether callers of api and link need a token; none is for loopback, or for clients with certificates")
        .extremes("none: whoever reaches a listener may do everything"),
    Setting::new("access", "admin_token", Kind::Text)
        .secret()
        .help("a token with role ADMIN that is not in the database, to create others with; prefer the environment"),
    Setting::new("access", "admin_token_file", Kind::Path)
        .help("a file with that token; unset, admin.token beside the embedded database, made on the first start"),
    Setting::new("access", "node_token", Kind::Text)
        .secret()
        .help("a token with role NODE for media nodes (their link.token), instead of one created by CreateToken"),
    Setting::new("access", "node_token_file", Kind::Path).help("a file with that token"),
    Setting::new("access", "trusted_network", Kind::Bool)
        .or("false")
        .help("listeners without TLS may be reached from elsewhere: a proxy or a mesh in front encrypts")
        .extremes("true where it is not so: tokens and keys cross the network for all to read"),
    common::SEAL_KEY_FILE,
    common::SEAL_KEY,
    Setting::new("library", "root", Kind::Path)
        .or("recorder-data/library")
        .help("folder of the embedded storage, the same as the media node's on one machine")
        .extremes("TestStorage on a file system storage fails where the media node's folder is not mounted"),
    Setting::new("events", "retention", Kind::Duration)
        .or("7d")
        .help("how long a watch token stays valid")
        .extremes("too short: watchers must list again after a pause; too long: the database grows"),
    Setting::new("watch", "bookmark_interval", Kind::Duration)
        .or("15s")
        .help("longest silence on a watch")
        .extremes("too short: idle traffic; too long: proxies cut idle watches and resume tokens age"),
    Setting::new("watch", "buffer", Kind::Integer { min: 1, max: 100_000 })
        .or("1024")
        .help("changes held for a watcher that does not read before it is cut off")
        .extremes("too small: bursts cut healthy watchers off; too large: memory per watcher"),
    Setting::new("webhooks", "allow_http", Kind::Bool)
        .or("false")
        .help("receivers may be http:// too")
        .extremes("true: whoever is in between reads and changes what is sent"),
    Setting::new("webhooks", "networks", Kind::List)
        .or("")
        .help("networks that receivers may be in although they are not public, like 10.1.0.0/16")
        .extremes("too wide: users of the API reach what is behind the firewall"),
    Setting::new("webhooks", "ca_file", Kind::Path)
        .help("PEM file with authorities that receivers' certificates may come from, beside those of the system"),
    common::DRAIN_DEADLINE,
    common::LOG_FORMAT,
    common::LOG_FILTER,
    common::READY_FILE,
];

/// The binary as its configuration sees it.
pub const PROGRAM: Program =
    Program::new("recorder-control", "Control plane of the recorder: templates, rules and what was recorded", SETTINGS)
        .check(check)
        .beside(MEDIA_NODE);

/// Variables of `recorder-media`, which often shares the environment.
const MEDIA_NODE: &[&str] = &[
    "RECORDER_NODE_ID",
    "RECORDER_LINK_CONTROL",
    "RECORDER_RTMP_LISTEN",
    "RECORDER_RTMP_TLS_LISTEN",
    "RECORDER_RTMP_TLS_CERTIFICATE",
    "RECORDER_RTMP_TLS_KEY",
    "RECORDER_RTMP_IDLE_TIMEOUT",
    "RECORDER_RTMP_MAX_CONNECTIONS",
    "RECORDER_LINK_TOKEN",
    "RECORDER_LINK_TOKEN_FILE",
    "RECORDER_LINK_CA",
    "RECORDER_LINK_CERTIFICATE",
    "RECORDER_LINK_KEY",
    "RECORDER_HTTP_LISTEN",
    "RECORDER_HTTP_TLS_LISTEN",
    "RECORDER_HTTP_TLS_CERTIFICATE",
    "RECORDER_HTTP_TLS_KEY",
    "RECORDER_WHIP_UDP",
    "RECORDER_WHIP_TCP",
    "RECORDER_WHIP_ADVERTISE",
    "RECORDER_WHIP_ICE_SERVERS",
    "RECORDER_WHIP_IDLE_TIMEOUT",
    "RECORDER_WHIP_KEY_FRAME_INTERVAL",
    "RECORDER_WHIP_MAX_SESSIONS",
    "RECORDER_LIBRARY_OPEN",
    "RECORDER_SPOOL_PATH",
    "RECORDER_SPOOL_SPARES",
    "RECORDER_SPOOL_LIMIT",
    "RECORDER_SPOOL_HIGH_WATER",
    "RECORDER_SPOOL_FLUSH_INTERVAL",
    "RECORDER_UPLOAD_CONCURRENCY",
    "RECORDER_UPLOAD_STORAGE_CONCURRENCY",
    "RECORDER_UPLOAD_BANDWIDTH",
    "RECORDER_UPLOAD_BACKUP_AFTER",
    "RECORDER_UPLOAD_STALLED_AFTER",
    "RECORDER_BACKLOG_LIMIT",
    "RECORDER_DRAIN_MODE",
];

/// The settings, typed.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Config {
    pub database: Database,
    pub api: Listener,
    pub link: Link,
    pub admin: common::Admin,
    pub playback: Playback,
    pub access: Access,
    pub seal: common::Seal,
    pub library: Library,
    pub events: Events,
    pub watch: Watch,
    pub webhooks: Webhooks,
    pub drain: common::Drain,
    pub log: common::Log,
    pub ready: common::Ready,
}

#[derive(Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Database {
    pub url: String,
    pub connections: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Listener {
    pub listen: SocketAddr,
    pub rate_limit: u32,
    #[serde(flatten)]
    pub tls: common::ListenerTls,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Access {
    pub tokens: Tokens,
    pub admin_token: Option<Redacted<String>>,
    pub admin_token_file: Option<PathBuf>,
    pub node_token: Option<Redacted<String>>,
    pub node_token_file: Option<PathBuf>,
    pub trusted_network: bool,
}

/// Whether callers need a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokens {
    /// Whoever reaches a listener may do everything.
    None,
    /// They do.
    Required,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Link {
    pub listen: SocketAddr,
    pub lease: Duration,
    #[serde(flatten)]
    pub tls: common::ListenerTls,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Playback {
    pub listen: SocketAddr,
    pub url: Option<String>,
    #[serde(flatten)]
    pub tls: common::ListenerTls,
}

impl Playback {
    /// What URLs begin with, without a slash at the end; `bound` is where the listener is.
    pub fn base(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls.tls_certificate.is_some() { "https" } else { "http" };
        // Every address is none to go to.
        let host = match bound.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            std::net::IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        format!("{scheme}://{host}:{}", bound.port())
    }
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Library {
    pub root: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Events {
    pub retention: Duration,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Watch {
    pub bookmark_interval: Duration,
    pub buffer: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "SETTINGS says what each one is for")]
pub struct Webhooks {
    pub allow_http: bool,
    pub networks: Vec<Network>,
    pub ca_file: Option<PathBuf>,
}

impl Webhooks {
    /// What receivers may be.
    pub fn policy(&self) -> Policy {
        Policy { http: self.allow_http, networks: Networks(self.networks.clone()), ca_file: self.ca_file.clone() }
    }
}

impl std::fmt::Debug for Database {
    // The URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl Database {
    /// The embedded database's file; None with Postgres or in memory.
    pub fn file(&self) -> Option<&Path> {
        self.url.strip_prefix("sqlite://").filter(|path| !path.starts_with(':')).map(Path::new)
    }
}

impl Config {
    /// Where the seal key is, and is made on the first start: as configured, or beside the embedded database. A database
    /// that was sealed with another key is noticed at the start, so that a key made in place of a lost one does no harm.
    pub fn seal_key_file(&self) -> PathBuf {
        let beside = || self.database.file().map(|file| file.with_file_name(SEAL_KEY_FILE));
        self.seal.key_file.clone().or_else(beside).unwrap_or_else(|| SEAL_KEY_FILE.into())
    }

    /// Where the first administrator's token is made when none is set: beside the embedded database.
    pub fn admin_token_file(&self) -> PathBuf {
        let beside = self.database.file().map(|file| file.with_file_name(ADMIN_TOKEN_FILE));
        beside.unwrap_or_else(|| ADMIN_TOKEN_FILE.into())
    }
}

/// Rules between settings.
fn check(settings: &Settings, errors: &mut Errors) {
    let Ok(config) = settings.deserialize::<Config>() else { return };
    let url = &config.database.url;
    if !["sqlite://", "postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        errors.push("database.url", "must begin with sqlite:// or postgres://");
    }
    let embedded = config.database.file().is_some();
    if config.seal.key.is_none() && config.seal.key_file.is_none() && !embedded {
        errors.push("seal.key_file", "is needed with this database.url, or seal.key: it seals the stored secrets");
    }
    if config.link.lease < Duration::from_secs(1) || config.link.lease > Duration::from_secs(3600) {
        errors.push("link.lease", "must be 1s to 1h");
    }
    if config.watch.bookmark_interval < Duration::from_millis(10) {
        errors.push("watch.bookmark_interval", "must be 10ms or more");
    }
    check_listeners(&config, errors);
    if config.events.retention < Duration::from_secs(60) {
        errors.push("events.retention", "must be 1m or more");
    }
}

/// A listener that others can reach must ask who they are, and must not let the network read the answer.
fn check_listeners(config: &Config, errors: &mut Errors) {
    let listeners = [
        ("api", config.api.listen, &config.api.tls),
        ("link", config.link.listen, &config.link.tls),
        ("admin", config.admin.listen, &config.admin.tls),
    ];
    common::check_tls("playback", &config.playback.tls, errors);
    let is_http = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if config.playback.url.as_ref().is_some_and(|url| !is_http(url) || url.contains(['?', '#'])) {
        errors.push("playback.url", "must begin with http:// or https://, and have no query");
    }
    for (section, address, tls) in listeners {
        common::check_tls(section, tls, errors);
        if address.ip().is_loopback() {
            continue;
        }
        let at = format!("{section}.listen");
        let asks = tls.tls_client_ca.is_some() || config.access.tokens == Tokens::Required;
        // The operators' port knows no tokens.
        if section != "admin" && !asks {
            let message = format!(
                "{address} can be reached by others, who would not be asked for a token: set access.tokens = required, \
                 or {section}.tls_client_ca for clients with certificates"
            );
            errors.push(&at, message);
        }
        if tls.tls_certificate.is_none() && !config.access.trusted_network {
            let message = format!(
                "{address} can be reached by others, and speaks plaintext: set {section}.tls_certificate and \
                 {section}.tls_key, or access.trusted_network = true where a proxy or a mesh encrypts"
            );
            errors.push(&at, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use recorder_runtime::config::Invocation;

    use super::*;

    fn load(arguments: &[&str]) -> Result<Config, Errors> {
        match PROGRAM.load(arguments.iter().map(|text| (*text).to_owned()), &BTreeMap::new())? {
            Invocation::Run(settings) => settings.deserialize(),
            Invocation::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn defaults_are_the_fixed_names() {
        let config = load(&[]).unwrap();
        assert_eq!(config.api.listen.to_string(), DEFAULT_API);
        assert_eq!(config.link.listen.to_string(), DEFAULT_LINK);
        assert_eq!(config.admin.listen.to_string(), DEFAULT_ADMIN);
        assert_eq!(config.link.lease, Duration::from_secs(15));
        assert_eq!(config.database.file(), Some(Path::new("recorder-data/control.db")));
        assert_eq!(config.seal_key_file(), PathBuf::from("recorder-data/seal.key"));
    }

    #[test]
    fn postgres_needs_a_key_and_every_mistake_is_told_at_once() {
        let arguments = ["--database-url", "postgres://db/x", "--link-lease", "10ms", "--events-retention", "1s"];
        let errors = load(&arguments).unwrap_err().to_string();
        for setting in ["seal.key_file", "link.lease", "events.retention"] {
            assert!(errors.contains(setting), "{errors}");
        }
        assert!(load(&["--database-url", "mysql://db/x"]).unwrap_err().to_string().contains("database.url"));
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        let key = "ab".repeat(32);
        let arguments =
            ["--database-url", "postgres://u:hunter2@db/x", "--seal-key", &key, "--access-admin-token", &key];
        let config = load(&[&arguments[..], &["--access-node-token", &key]].concat()).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("abab"), "{shown}");
    }

    #[test]
    fn a_listener_that_others_reach_asks_for_tokens_and_speaks_tls_or_is_refused_with_a_sentence() {
        let told = |arguments: &[&str]| load(arguments).map_or_else(|errors| errors.to_string(), |_| String::new());
        let open = ["--api-listen", "0.0.0.0:7080"];
        let both = told(&open);
        assert!(both.contains("would not be asked for a token: set access.tokens = required"), "{both}");
        assert!(both.contains("speaks plaintext: set api.tls_certificate"), "{both}");
        let tokens = told(&[&open[..], &["--access-tokens", "required"]].concat());
        assert!(!tokens.contains("asked for a token") && tokens.contains("speaks plaintext"), "{tokens}");
        let tls = ["--api-tls-certificate", "c.pem", "--api-tls-key", "k.pem"];
        let encrypted = told(&[&open[..], &tls].concat());
        assert!(encrypted.contains("asked for a token") && !encrypted.contains("plaintext"), "{encrypted}");
        for sound in [
            [&open[..], &tls, &["--access-tokens", "required"]].concat(),
            [&open[..], &tls, &["--api-tls-client-ca", "ca.pem"]].concat(),
            [&open[..], &["--access-tokens", "required", "--access-trusted-network", "true"]].concat(),
            vec!["--api-listen", "[::1]:7080", "--link-listen", "127.0.0.2:7081"],
        ] {
            assert_eq!(told(&sound), "", "{sound:?}");
        }
        assert!(told(&["--link-listen", "10.0.0.7:7081"]).contains("link.listen"));
        let admin = told(&["--admin-listen", "0.0.0.0:7090"]);
        assert!(admin.contains("admin.listen") && !admin.contains("asked for a token"), "{admin}");
        let half = told(&["--api-tls-key", "k.pem", "--link-tls-client-ca", "ca.pem"]);
        assert!(half.contains("api.tls_certificate") && half.contains("link.tls_client_ca"), "{half}");
    }
}
