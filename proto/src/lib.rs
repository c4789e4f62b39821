//! The wire contract and the shared vocabulary of both planes: no I/O, no async runtime.
pub mod pb;
mod redact;
