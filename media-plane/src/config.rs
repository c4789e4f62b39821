//! Settings of the media node.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use recorder_runtime::config::{Errors, Kind, Program, Setting, Settings, common};
use recorder_runtime::secret::Redacted;
use serde::Deserialize;

pub use crate::leaving::Mode;

const fn setting(section: &'static str, key: &'static str, kind: Kind) -> Setting {
    Setting::new(section, key, kind)
}

/// Everything that can be set, with what happens at the extremes.
pub const SETTINGS: &[Setting] = &[
    setting("node", "id", Kind::Text)
        .or("m1")
        .help("name of this node, unique in the installation")
        .extremes("two processes with one id: the older one stops"),
    setting("link", "control", Kind::List)
        .or("http://127.0.0.1:7081")
        .help("node-link addresses of the control plane, tried in turn; https where its link listener speaks TLS"),
    setting("link", "token", Kind::Text)
        .secret()
        .help("the token with role NODE that the control plane asks for; prefer the environment, flags show in ps"),
    setting("link", "token_file", Kind::Path)
        .help("a file that holds that token, read anew for every connection")
        .extremes("a revoked or wrong token: the node records by its last directives, and reports nothing"),
    setting("link", "ca", Kind::Path)
        .help("who signs the certificate of the control plane, PEM; unset: whom the system trusts"),
    setting("link", "certificate", Kind::Path).help(
        "certificate of this node, PEM, for link.tls_client_ca of the control plane; its DNS names name the node",
    ),
    setting("link", "key", Kind::Path).help("private key of link.certificate, PEM"),
    setting("rtmp", "listen", Kind::Socket).or("0.0.0.0:1935").help("where RTMP publishers connect"),
    setting("rtmp", "tls_listen", Kind::Socket)
        .help("where RTMPS publishers connect; needs tls_certificate and tls_key"),
    setting("rtmp", "tls_certificate", Kind::Path).help("certificate chain of the RTMPS listener, PEM; taken up again when it changes"),
    setting("rtmp", "tls_key", Kind::Path).help("private key of the RTMPS listener, PEM"),
    setting("rtmp", "idle_timeout", Kind::Duration)
        .or("30s")
        .help("a publisher that sends nothing for this long has ended")
        .extremes("too short: cuts stalled encoders; too long: recordings of dead connections end late"),
    setting("rtmp", "max_connections", Kind::Integer { min: 1, max: 1_000_000 })
        .or("2000")
        .help("connections at once, publishing or not")
        .extremes("too few: publishers are turned away; too many: file descriptors run out"),
    setting("http", "listen", Kind::Socket)
        .or("0.0.0.0:8080")
        .help("WHIP publishers, the page that publishes, and library files over HTTP"),
    setting("http", "tls_listen", Kind::Socket).help(
        "the same over HTTPS, which browsers ask for before they open a camera; needs tls_certificate and tls_key",
    ),
    setting("http", "tls_certificate", Kind::Path)
        .help("certificate chain of the HTTPS listener, PEM; taken up again when it changes"),
    setting("http", "tls_key", Kind::Path).help("private key of the HTTPS listener, PEM"),
    setting("whip", "udp", Kind::Socket)
        .or("0.0.0.0:8189")
        .help("the UDP socket of all WebRTC publishers; when the port is taken another one is used"),
    setting("whip", "tcp", Kind::Socket)
        .or("0.0.0.0:8189")
        .help("the TCP listener for WebRTC publishers on networks without UDP; likewise"),
    setting("whip", "advertise", Kind::List)
        .or("")
        .help("addresses under which publishers reach those two, told in every answer; none = those of this machine")
        .extremes("behind NAT or in a container without its public address: publishers cannot connect"),
    setting("whip", "ice_servers", Kind::List).or("").help(
        "STUN and TURN servers for publishers, told in Link headers: stun:host:port or `turn:host:port user password`",
    ),
    setting("whip", "idle_timeout", Kind::Duration)
        .or("30s")
        .help("a publisher whose media does not come for this long has ended")
        .extremes("too short: cuts muted publishers; too long: recordings of dead connections end late"),
    setting("whip", "key_frame_interval", Kind::Duration)
        .or("2s")
        .help("a publisher whose last key frame is older is asked for one: browsers send none unasked, and files begin with one")
        .extremes("too short: worse pictures for the same bits; too long: segments and files are cut late"),
    setting("whip", "max_sessions", Kind::Integer { min: 1, max: 1_000_000 })
        .or("1000")
        .help("WebRTC publishers at once; a quarter of them may be connecting")
        .extremes("too few: publishers are turned away; too many: memory runs out under a flood of offers"),
    setting("library", "root", Kind::Path)
        .or("recorder-data/library")
        .help("root of file-system storages; the default storage of the installation"),
    setting("library", "open", Kind::Bool)
        .or("true")
        .help("http.listen serves its files to whoever knows their key; false: only the control plane's playback URLs do")
        .extremes("true: a URL that has expired plays again without its signature"),
    setting("spool", "path", Kind::Path)
        .or("recorder-data/node")
        .help("local journal: every recorded byte is here before it is anywhere else"),
    setting("spool", "spares", Kind::List)
        .or("")
        .help("folders on other disks, tried in turn: recordings go on there when the disk before has failed")
        .extremes("none: a failed disk ends every recording on it; must be there again at the next start"),
    setting("spool", "limit", Kind::Size)
        .or("200GiB")
        .help("bytes the spool may hold")
        .extremes("too small: a long outage of the bucket stops recording; too large: the disk fills"),
    setting("spool", "high_water", Kind::Percent)
        .or("80%")
        .help("above this share of the limit no new publisher is taken")
        .extremes("too high: running recordings may meet the limit"),
    setting("spool", "flush_interval", Kind::Duration)
        .or("500ms")
        .help("how much media a power loss may cost")
        .extremes("too short: many fsyncs; too long: more is lost"),
    setting("backlog", "limit", Kind::Size)
        .or("256MiB")
        .help("memory for the newest media of all live streams, from which tasks begin; each has an equal part")
        .extremes("too small: tasks begin at the next key frame; too large: memory runs out with many streams"),
    setting("upload", "concurrency", Kind::Integer { min: 1, max: 1_000 })
        .or("16")
        .help("uploads at once")
        .extremes("too few: files arrive late; too many: providers throttle"),
    setting("upload", "storage_concurrency", Kind::Integer { min: 1, max: 1_000 })
        .or("12")
        .help("of those, uploads to one storage at once")
        .extremes("as many as concurrency: one storage that hangs holds up all others"),
    setting("upload", "bandwidth", Kind::Size)
        .or("unlimited")
        .help("bytes a second that uploads may take together")
        .extremes("below what is recorded: the spool fills"),
    setting("upload", "backup_after", Kind::Duration)
        .or("60s")
        .help("how long a storage may fail before whole files go to its backup storage")
        .extremes("too short: files move for every hiccup; too long: the spool fills first"),
    setting("upload", "stalled_after", Kind::Duration)
        .or("5m")
        .help("how long nothing of a file may move before upload.stalled is told")
        .extremes("too short: slow networks raise alarms"),
    common::admin_listen("127.0.0.1:7091"),
    common::tls_certificate("admin"),
    common::tls_key("admin"),
    common::tls_client_ca("admin"),
    common::DRAIN_DEADLINE,
    setting("drain", "mode", Kind::Choice(&["wait", "move"]))
        .or("wait")
        .help("what a stop does with publishers: wait lets them end, move sends them to another node")
        .extremes("wait: those still there near drain.deadline are closed; move: each is cut at a key frame"),
    common::LOG_FORMAT,
    common::LOG_FILTER,
    common::READY_FILE,
];

/// The program as `--help` presents it.
pub const PROGRAM: Program = Program::new(
    "recorder-media",
    "Media node of Recorder: takes live streams in, writes them to your storage.",
    SETTINGS,
)
.check(check)
.beside(CONTROL_PLANE);

/// Variables of `recorder-control`, which often shares the environment.
const CONTROL_PLANE: &[&str] = &[
    "RECORDER_DATABASE_URL",
    "RECORDER_DATABASE_CONNECTIONS",
    "RECORDER_API_LISTEN",
    "RECORDER_LINK_LISTEN",
    "RECORDER_LINK_LEASE",
    "RECORDER_API_RATE_LIMIT",
    "RECORDER_API_TLS_CERTIFICATE",
    "RECORDER_API_TLS_KEY",
    "RECORDER_API_TLS_CLIENT_CA",
    "RECORDER_LINK_TLS_CERTIFICATE",
    "RECORDER_LINK_TLS_KEY",
    "RECORDER_LINK_TLS_CLIENT_CA",
    "RECORDER_ACCESS_TOKENS",
    "RECORDER_ACCESS_ADMIN_TOKEN",
    "RECORDER_ACCESS_ADMIN_TOKEN_FILE",
    "RECORDER_ACCESS_NODE_TOKEN",
    "RECORDER_ACCESS_NODE_TOKEN_FILE",
    "RECORDER_ACCESS_TRUSTED_NETWORK",
    "RECORDER_SEAL_KEY_FILE",
    "RECORDER_SEAL_KEY",
    "RECORDER_EVENTS_RETENTION",
    "RECORDER_PLAYBACK_LISTEN",
    "RECORDER_PLAYBACK_URL",
    "RECORDER_PLAYBACK_TLS_CERTIFICATE",
    "RECORDER_PLAYBACK_TLS_KEY",
    "RECORDER_PLAYBACK_TLS_CLIENT_CA",
    "RECORDER_WATCH_BOOKMARK_INTERVAL",
    "RECORDER_WATCH_BUFFER",
    "RECORDER_WEBHOOKS_ALLOW_HTTP",
    "RECORDER_WEBHOOKS_CA_FILE",
    "RECORDER_WEBHOOKS_NETWORKS",
];

/// Rules between settings.
fn check(settings: &Settings, errors: &mut Errors) {
    let Ok(config) = settings.deserialize::<Config>() else { return };
    common::check_tls("http", &config.http.tls, errors);
    if config.http.tls_listen.is_some() && config.http.tls.tls_certificate.is_none() {
        errors.push("http.tls_listen", "needs http.tls_certificate and http.tls_key");
    }
    common::check_tls("admin", &config.admin.tls, errors);
    if config.link.certificate.is_some() != config.link.key.is_some() {
        errors.push("link.certificate", "must be set together with link.key");
    }
}

/// All settings, typed.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs)]
pub struct Config {
    pub node: Node,
    pub link: Link,
    pub rtmp: Rtmp,
    pub http: Http,
    pub whip: Whip,
    pub library: Library,
    pub spool: Spool,
    /// What live streams keep in memory.
    pub backlog: Backlog,
    pub upload: Upload,
    pub drain: Drain,
    pub admin: common::Admin,
    pub log: common::Log,
    pub ready: common::Ready,
}

/// Section `node`.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    /// Node id.
    pub id: String,
}

/// Section `link`.
#[derive(Clone, Debug, Deserialize)]
pub struct Link {
    /// URLs of the control plane's link listener.
    pub control: Vec<String>,
    /// Token with role NODE.
    pub token: Option<Redacted<String>>,
    /// A file that holds it.
    pub token_file: Option<PathBuf>,
    /// Whom to trust to be the control plane.
    pub ca: Option<PathBuf>,
    /// Certificate of this node.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Section `rtmp`.
#[derive(Clone, Debug, Deserialize)]
pub struct Rtmp {
    /// Plain listener.
    pub listen: SocketAddr,
    /// RTMPS listener.
    pub tls_listen: Option<SocketAddr>,
    /// Its certificate chain.
    pub tls_certificate: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// Silence that ends a publisher.
    pub idle_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
}

/// Section `http`.
#[derive(Clone, Debug, Deserialize)]
pub struct Http {
    /// Listener.
    pub listen: SocketAddr,
    /// HTTPS listener.
    pub tls_listen: Option<SocketAddr>,
    /// The TLS of that one.
    #[serde(flatten)]
    pub tls: common::ListenerTls,
}

/// Section `whip`.
#[derive(Clone, Debug, Deserialize)]
pub struct Whip {
    /// UDP socket of all sessions.
    pub udp: SocketAddr,
    /// TCP listener of all sessions.
    pub tcp: SocketAddr,
    /// Addresses told to publishers.
    pub advertise: Vec<IpAddr>,
    /// STUN and TURN servers told to publishers.
    pub ice_servers: Vec<String>,
    /// Media that does not come for this long ends a publisher.
    pub idle_timeout: Duration,
    /// Age of the last key frame at which another one is asked for.
    pub key_frame_interval: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
}

/// Section `library`.
#[derive(Clone, Debug, Deserialize)]
pub struct Library {
    /// Root folder.
    pub root: PathBuf,
    /// Served to whoever knows a key.
    pub open: bool,
}

/// Section `spool`.
#[derive(Clone, Debug, Deserialize)]
pub struct Spool {
    /// Folder.
    pub path: PathBuf,
    /// Folders on other disks.
    pub spares: Vec<PathBuf>,
    /// Bytes.
    pub limit: u64,
    /// Percent of the limit.
    pub high_water: u8,
    /// Between fsyncs.
    pub flush_interval: Duration,
}

/// Section `backlog`.
#[derive(Clone, Debug, Deserialize)]
pub struct Backlog {
    /// Bytes.
    pub limit: u64,
}

/// Section `drain`.
#[derive(Clone, Debug, Deserialize)]
pub struct Drain {
    /// See [`common::DRAIN_DEADLINE`].
    pub deadline: Duration,
    /// What a stop does with publishers.
    pub mode: Mode,
}

/// Section `upload`.
#[derive(Clone, Debug, Deserialize)]
pub struct Upload {
    /// Uploads at once.
    pub concurrency: usize,
    /// Of those, to one storage.
    pub storage_concurrency: usize,
    /// Bytes a second; `u64::MAX` and 0 = no limit.
    pub bandwidth: u64,
    /// Trouble after which a backup storage is used.
    pub backup_after: Duration,
    /// Standstill that is told.
    pub stalled_after: Duration,
}
