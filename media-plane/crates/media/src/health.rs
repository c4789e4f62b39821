//! What is abnormal in a publication's media: the raw material of the health report of every recording made of it.
//!
//! [`Detector`] looks at frames with the publisher's own timestamps, as they leave the stage that joins messages to access
//! units, whatever protocol they came by; it corrects nothing. Time is a parameter, memory is constant, and nothing is
//! allocated per frame: what is found is counted in a [`Tally`], which whoever tells of it empties.

mod detector;
mod kind;
mod rules;
mod tally;
#[cfg(test)]
mod tests;
mod track;

pub use detector::Detector;
pub use kind::Kind;
pub use tally::{Found, Tally};
