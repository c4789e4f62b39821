//! The control link and what it keeps on disk: the last good directives and the facts not yet delivered.

mod claims;
mod client;
mod directives;
mod facts;
mod persist;

pub use client::{Link, Report};
pub use directives::Directives;
pub use facts::{FactError, FactLog};
