//! The one error type of this crate (configuration errors come as a list: [`crate::config::Errors`]).
use std::net::SocketAddr;
use std::path::PathBuf;

/// What can go wrong while a process is put together or runs its listeners.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, not ours, or needs a privilege.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A socket could not be prepared or read.
    #[error("socket failed")]
    Socket(#[from] std::io::Error),
    /// The descriptors given to reflection do not decode: a bug in the build.
    #[error("reflection descriptors are unusable")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The gRPC server stopped by itself.
    #[error("gRPC server failed")]
    Serve(#[from] tonic::transport::Error),
    /// A file that TLS needs cannot be read.
    #[error("TLS file {path}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file that TLS needs is of no use. Carries nothing of its content.
    #[error("TLS file {path} cannot be used: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// `log.filter` does not parse.
    #[error("log filter {filter:?} is not understood")]
    LogFilter {
        /// The text that was given.
        filter: String,
        /// What the parser said.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Telemetry was initialised twice, or a metrics recorder exists already.
    #[error("telemetry is already installed: {0}")]
    TelemetryInstalled(String),
    /// A key file cannot be read or written.
    #[error("seal key file {path}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file may be read by others than its owner.
    #[error("seal key file {path} has mode {mode:03o}; it must not be readable by group or others (chmod 600)")]
    KeyFileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is not 32 bytes in hexadecimal or base64. Carries no part of the key.
    #[error("seal key must be 32 bytes as 64 hexadecimal digits or as base64")]
    KeyFormat,
    /// No key was given.
    #[error("a sealer needs at least one key")]
    NoKey,
    /// The cipher refused; happens for a plaintext of more than 64 GiB only.
    #[error("value cannot be sealed")]
    Seal,
    /// The blob is shorter than its header, or of an unknown version.
    #[error("sealed value is malformed")]
    SealedFormat,
    /// The blob was sealed with a key that was not given.
    #[error("sealed value needs the key with id {0}, which was not given")]
    UnknownKey(String),
    /// Tampered with, or moved here from another row.
    #[error("sealed value does not belong here or was changed")]
    SealedContent,
}

/// The error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
