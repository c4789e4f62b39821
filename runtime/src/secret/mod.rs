//! Secrets: kept out of every print ([`Redacted`]) and sealed at rest ([`Sealer`]).
mod keys;
mod redacted;
mod sealer;
#[cfg(test)]
mod tests;

pub use keys::{Keys, Origin};
pub use redacted::Redacted;
pub use sealer::Sealer;
