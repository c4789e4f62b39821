//! Events told to receivers: at least once, in order for each subject, with one id, over restarts and replicas.
//!
//! Everything is in the database: how far each receiver has come, what is on its way to it, and how it went. The loop in
//! [`dispatch`] reads what is due, [`client`] makes the attempts, [`queue`] writes what came of them; the decisions are
//! made by [`schedule`] and [`flights`], without either.
pub mod address;
pub mod body;
pub mod client;
pub mod dispatch;
pub mod flights;
pub mod queue;
pub mod render;
pub mod schedule;
pub mod secret;
pub mod sign;
mod tls;
pub mod vendor;

use address::Networks;

/// What the operator allows receivers to be.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// `http://` as well as `https://`.
    pub http: bool,
    /// Networks that are not public and yet may be reached.
    pub networks: Networks,
    /// A file with certificates to trust beside those of the system.
    pub ca_file: Option<std::path::PathBuf>,
}
