//! The control link and what it keeps on disk: the last good directives and the facts not yet delivered.

mod claims;
mod client;
mod credentials;
mod directives;
mod facts;
pub mod persist;

pub use claims::resume as resume_claim;
pub use client::{Dial, Link, Report};
pub use credentials::Credentials;
pub use directives::Directives;
#[cfg(feature = "sim")]
pub use facts::FactStepper;
pub use facts::{FactError, FactLog, Fate};
