//! The wire contract and the shared vocabulary of both planes: no I/O, no async runtime.

pub mod facts;
pub mod format;
pub mod health;
pub mod ids;
pub mod invariants;
pub mod key;
pub mod limits;
pub mod matching;
pub mod names;
pub mod pb;
pub mod problem;
mod redact;
pub mod time;

pub use format::Format;
pub use problem::Problem;
