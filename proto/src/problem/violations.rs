//! Collecting every bad field before answering, so that a caller fixes a request in one round.

use std::fmt;

use super::{FieldViolation, Problem};

/// The bad fields of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Enough to fix a request by; a hostile one could have a million.
    const SHOWN: usize = 100;

    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a bad field.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.0.len() < Self::SHOWN {
            self.0.push(FieldViolation { field: field.into(), description: description.into() });
        }
    }

    /// Notes a bad field unless `sound`; gives `sound` back.
    pub fn check(&mut self, sound: bool, field: &str, description: impl Into<String>) -> bool {
        if !sound {
            self.add(field, description);
        }
        sound
    }

    /// Notes the error of a result; gives the value of a sound one.
    pub fn take<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Notes every error of a result that can have several.
    pub fn take_all<T, E: fmt::Display>(&mut self, field: &str, result: Result<T, Vec<E>>) -> Option<T> {
        result.map_err(|errors| errors.iter().for_each(|error| self.add(field, error.to_string()))).ok()
    }

    /// Whether nothing was bad.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many fields were bad.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// `INVALID_ARGUMENT` with all of them, if there are any.
    ///
    /// # Errors
    /// One problem with one violation per bad field.
    pub fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::invalid(self)) }
    }

    pub(super) fn into_vec(self) -> Vec<FieldViolation> {
        self.0
    }
}
