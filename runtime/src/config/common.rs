//! Settings that both binaries have, declared once so that they read the same in both.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::{Errors, Kind, Setting};
use crate::Error;
use crate::secret::{Keys, Origin, Redacted};
use crate::telemetry::Format;
use crate::tls::{Files, Protocol, Tls};

/// `log.format`
pub const LOG_FORMAT: Setting = Setting::new("log", "format", Kind::Choice(&["json", "pretty"]))
    .or("pretty")
    .help("json for machines (containers), pretty for a terminal");

/// `log.filter`
pub const LOG_FILTER: Setting = Setting::new("log", "filter", Kind::Text)
    .or("info")
    .help("what is logged, like info or info,rtmp=debug; the admin port's /log-level changes it while running")
    .extremes("too little (error): nobody sees a failing bucket; too much (trace): logging costs more than recording");

/// `drain.deadline`
pub const DRAIN_DEADLINE: Setting = Setting::new("drain", "deadline", Kind::Duration)
    .or("10m")
    .help("time a stop may take; the service manager must wait longer (TimeoutStopSec, terminationGracePeriodSeconds)")
    .extremes("too small: what is unfinished waits for the next start; too large: a stop takes long");

/// `admin.listen`, whose port differs per binary (7090 control plane, 7091 media node).
pub const fn admin_listen(default: &'static str) -> Setting {
    Setting::new("admin", "listen", Kind::Socket)
        .or(default)
        .help("HTTP for operators: /livez /readyz /healthz /metrics /log-level /config; has no authentication")
        .extremes("an address that others can reach lets them read the settings and change the log level")
}

/// `tls_certificate` of a listener's section.
pub const fn tls_certificate(section: &'static str) -> Setting {
    Setting::new(section, "tls_certificate", Kind::Path).help(
        "certificate chain of this listener, PEM; with tls_key it speaks TLS only. Taken up again when it changes",
    )
}

/// `tls_key` of a listener's section.
pub const fn tls_key(section: &'static str) -> Setting {
    Setting::new(section, "tls_key", Kind::Path).help("private key of tls_certificate, PEM")
}

/// `tls_client_ca` of a listener's section.
pub const fn tls_client_ca(section: &'static str) -> Setting {
    Setting::new(section, "tls_client_ca", Kind::Path)
        .help("who signs the certificates of clients, PEM; with it a client without one is refused (mTLS)")
}

/// What must be true of the TLS settings of one section.
pub fn check_tls(section: &str, tls: &ListenerTls, errors: &mut Errors) {
    if tls.tls_certificate.is_some() != tls.tls_key.is_some() {
        errors.push(format!("{section}.tls_certificate"), "must be set together with tls_key");
    }
    if tls.tls_client_ca.is_some() && tls.tls_certificate.is_none() {
        errors.push(format!("{section}.tls_client_ca"), "needs tls_certificate and tls_key");
    }
}

/// The TLS settings of one section.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ListenerTls {
    /// See [`tls_certificate`].
    pub tls_certificate: Option<PathBuf>,
    /// See [`tls_key`].
    pub tls_key: Option<PathBuf>,
    /// See [`tls_client_ca`].
    pub tls_client_ca: Option<PathBuf>,
}

impl ListenerTls {
    /// The TLS of the listener; None when it speaks plaintext.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(&self, protocol: Protocol) -> Result<Option<Tls>, Error> {
        let files = Files::of(self.tls_certificate.as_ref(), self.tls_key.as_ref(), self.tls_client_ca.as_ref());
        files.map(|files| Tls::load(files, protocol)).transpose()
    }
}

/// `seal.key_file`; give it the default that suits the binary with [`Setting::or`].
pub const SEAL_KEY_FILE: Setting = Setting::new("seal", "key_file", Kind::Path)
    .help("keys that secrets are sealed with: 32 bytes as hexadecimal or base64 a line, newest first, mode 0600")
    .extremes("a lost key cannot be replaced: every stored credential has to be entered again");

/// `seal.key`
pub const SEAL_KEY: Setting = Setting::new("seal", "key", Kind::Text)
    .secret()
    .help("the same keys, separated by commas, instead of a file; prefer the environment, flags show in ps");

/// `ready.file`
pub const READY_FILE: Setting = Setting::new("ready", "file", Kind::Path)
    .help("written once everything listens: the bound addresses as JSON, for scripts that let the system choose ports");

/// Section `ready`.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// See [`READY_FILE`].
    pub file: Option<PathBuf>,
}

/// Section `log`.
#[derive(Debug, Clone, Deserialize)]
pub struct Log {
    /// See [`LOG_FORMAT`].
    pub format: Format,
    /// See [`LOG_FILTER`].
    pub filter: String,
}

/// Section `admin`.
#[derive(Debug, Clone, Deserialize)]
pub struct Admin {
    /// See [`admin_listen`].
    pub listen: SocketAddr,
    /// TLS, where the binary offers it.
    #[serde(flatten)]
    pub tls: ListenerTls,
}

/// Section `drain`, as far as both have it.
#[derive(Debug, Clone, Deserialize)]
pub struct Drain {
    /// See [`DRAIN_DEADLINE`].
    pub deadline: Duration,
}

/// Section `seal`.
#[derive(Debug, Clone, Deserialize)]
pub struct Seal {
    /// See [`SEAL_KEY_FILE`].
    pub key_file: Option<PathBuf>,
    /// See [`SEAL_KEY`].
    pub key: Option<Redacted<String>>,
}

impl Seal {
    /// The keys: `seal.key` if it is set, else those of `seal.key_file`, else those of the `default` file. Only the
    /// default file is made when it is missing: a file that somebody named and that is not there is a mistake, and a
    /// new key in its place would make every sealed secret unreadable.
    pub fn keys(&self, default: &Path) -> Result<(Keys, Origin), Error> {
        match (&self.key, &self.key_file) {
            (Some(key), _) => Ok((Keys::parse(key.expose())?, Origin::Loaded)),
            (None, Some(file)) if file != default => Ok((Keys::load(file)?, Origin::Loaded)),
            (None, _) => Keys::load_or_generate(default),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_comes_from_the_setting_then_the_named_file_then_the_default_file() {
        let directory = tempfile::tempdir().unwrap();
        let (default, named) = (directory.path().join("default.key"), directory.path().join("named.key"));
        let seal = Seal { key_file: Some(named.clone()), key: None };
        let error = seal.keys(&default).unwrap_err();
        assert!(matches!(&error, Error::KeyFile { path, .. } if *path == named), "{error}");
        assert!(!named.exists() && !default.exists(), "a named file that is missing is not made up");
        let seal = Seal { key_file: None, key: None };
        assert_eq!(seal.keys(&default).unwrap().1, Origin::Generated);
        assert_eq!(seal.keys(&default).unwrap().1, Origin::Loaded);
        let seal = Seal { key_file: Some(named), key: Some(Redacted::new("0f".repeat(32))) };
        assert_eq!(seal.keys(&default).unwrap().1, Origin::Loaded);
        assert!(!format!("{seal:?}").contains("0f0f"));
    }
}
