//! Reading a key template, with every fault found at once.

use std::fmt;

use super::{BASE_MAX_BYTES, VALUE_MIN_BYTES, VARIABLES, Variable, sanitize};
use crate::limits;

/// A key template that is known to be sound: its expansion cannot fail, and no two files get one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate {
    pub(super) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Variable(Variable),
}

/// One fault of a key template or prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A variable nobody knows.
    #[error("{{{0}}} is not a variable; allowed are {allowed}", allowed = allowed())]
    Unknown(String),
    /// One of the vendor's variables for the end of a file.
    #[error("{{{0}}} cannot be used: the key is fixed when the upload starts, before the end is known; allowed are {allowed}", allowed = allowed())]
    End(String),
    /// A label variable whose label could not exist.
    #[error("{{label.{0}}} must name a label: a lower-case letter and then lower-case letters, digits, `_`, `.`, `-`")]
    BadLabel(String),
    /// A brace without its partner.
    #[error("every `{{` needs its `}}` and the name of a variable between them, at byte {0}")]
    Brace(usize),
    /// A character that means something to file systems, URLs or the signature of a request.
    #[error("must not contain {0:?}")]
    Forbidden(char),
    /// An empty folder name, or nothing where the file's name should be.
    #[error("must not be empty, contain `//` or end with `/`: the last part is the name of the file")]
    EmptySegment,
    /// A folder that hides itself or leads upwards.
    #[error("no part may start with a dot or contain `..`")]
    Dots,
    /// Longer than can ever fit.
    #[error("is too long: {0}")]
    TooLong(String),
}

fn allowed() -> String {
    let names: Vec<String> = VARIABLES.iter().map(|(name, _)| format!("{{{name}}}")).collect();
    format!("{} {{label.x}}", names.join(" "))
}

impl Default for KeyTemplate {
    fn default() -> Self {
        // The fallback is unreachable (a test parses the default) and still sound.
        Self::parse(limits::PATH_DEFAULT).unwrap_or_else(|_| Self { pieces: vec![Piece::Variable(Variable::RecordId)] })
    }
}

impl KeyTemplate {
    /// Reads a template; empty = the default one. One leading `/` is dropped, because the vendor's paths have it.
    /// Without `{RecordId}` or `{RandomID}`, `/{RecordId}` is appended (R40); [`fmt::Display`] shows the result.
    ///
    /// # Errors
    /// Every fault found, each with its reason.
    pub fn parse(text: &str) -> Result<Self, Vec<KeyError>> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > limits::PATH_MAX_BYTES {
            return Err(vec![KeyError::TooLong(format!("{} bytes of at most {}", text.len(), limits::PATH_MAX_BYTES))]);
        }
        let mut errors = Vec::new();
        let mut pieces = pieces(text.strip_prefix('/').unwrap_or(text), &mut errors);
        let unique = |p: &Piece| matches!(p, Piece::Variable(Variable::RecordId | Variable::RandomId));
        if !pieces.iter().any(unique) {
            match pieces.last_mut() {
                Some(Piece::Literal(text)) => text.push('/'),
                _ => pieces.push(Piece::Literal("/".to_owned())),
            }
            pieces.push(Piece::Variable(Variable::RecordId));
        }
        let template = Self { pieces };
        template.check_shape(&mut errors);
        if errors.is_empty() { Ok(template) } else { Err(errors) }
    }

    /// Whether the key alone differs between interruptions even when the recording stays the same.
    pub fn uses_random(&self) -> bool {
        self.has(&Variable::RandomId)
    }

    pub(super) fn has(&self, variable: &Variable) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Variable(v) if v == variable))
    }

    /// Folder names and lengths, with each variable standing for the least it can be cut to.
    fn check_shape(&self, errors: &mut Vec<KeyError>) {
        let mut skeleton = String::new();
        let mut lengths = vec![0_usize];
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => {
                    skeleton.push_str(text);
                    let mut parts = text.split('/').map(str::len);
                    if let (Some(length), Some(first)) = (lengths.last_mut(), parts.next()) {
                        *length += first;
                    }
                    lengths.extend(parts);
                }
                Piece::Variable(variable) => {
                    skeleton.push('x');
                    if let Some(length) = lengths.last_mut() {
                        *length += least(variable);
                    }
                }
            }
        }
        if skeleton.split('/').any(str::is_empty) {
            errors.push(KeyError::EmptySegment);
        }
        if skeleton.contains("..") || skeleton.split('/').any(|part| part.starts_with('.')) {
            errors.push(KeyError::Dots);
        }
        let total = lengths.iter().sum::<usize>() + lengths.len() - 1;
        if total > BASE_MAX_BYTES {
            errors.push(KeyError::TooLong(format!(
                "with its variables cut as short as possible it takes {total} bytes of at most {BASE_MAX_BYTES}"
            )));
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest > limits::KEY_SEGMENT_MAX_BYTES {
            errors.push(KeyError::TooLong(format!(
                "one part takes {longest} bytes of at most {}",
                limits::KEY_SEGMENT_MAX_BYTES
            )));
        }
    }
}

/// Most bytes a variable takes once values are cut as short as [`VALUE_MIN_BYTES`].
fn least(variable: &Variable) -> usize {
    match variable {
        Variable::RecordId => 26 + 2 + 20,
        Variable::RandomId => 20 + 2 + 20,
        Variable::Format => 3,
        Variable::FileIndex => 10,
        // A year beyond 9999 cannot come from a sane clock, but the room for one costs nothing.
        Variable::StartYear => 7,
        Variable::StartMonth
        | Variable::StartDay
        | Variable::StartHour
        | Variable::StartMinute
        | Variable::StartSecond => 2,
        Variable::StartMillisecond => 3,
        Variable::RecordSource
        | Variable::Domain
        | Variable::AppName
        | Variable::StreamId
        | Variable::TemplateId
        | Variable::Label(_) => VALUE_MIN_BYTES,
    }
}

/// Splits a template into literal text and variables; what is wrong goes to `errors` and is left out.
fn pieces(text: &str, errors: &mut Vec<KeyError>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        if let Some(inner) = rest.strip_prefix('{') {
            let Some((name, after)) = inner.split_once('}').filter(|(name, _)| !name.is_empty() && !name.contains('{'))
            else {
                errors.push(KeyError::Brace(at));
                return pieces;
            };
            match variable(name) {
                Ok(variable) => pieces.push(Piece::Variable(variable)),
                Err(error) => {
                    errors.push(error);
                    // Something must stand there, or the gap would be reported as an empty folder too.
                    pieces.push(Piece::Variable(Variable::Format));
                }
            }
            rest = after;
            continue;
        }
        let end = rest.find('{').unwrap_or(rest.len());
        let (literal, after) = rest.split_at(end);
        check_literal(literal, at, errors);
        pieces.push(Piece::Literal(literal.to_owned()));
        rest = after;
    }
    pieces
}

fn variable(name: &str) -> Result<Variable, KeyError> {
    if let Some((_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Ok(variable.clone());
    }
    if let Some(label) = name.strip_prefix("label.") {
        return if is_label_key(label) {
            Ok(Variable::Label(label.to_owned()))
        } else {
            Err(KeyError::BadLabel(label.chars().take(64).collect()))
        };
    }
    let shown: String = name.chars().take(64).collect();
    if name.starts_with("End") { Err(KeyError::End(shown)) } else { Err(KeyError::Unknown(shown)) }
}

/// Whether a text may be the key of a label: `[a-z]([a-z0-9_.-]{0,62})`.
fn is_label_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.len() <= limits::LABEL_KEY_MAX_CHARACTERS
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
}

fn check_literal(literal: &str, at: usize, errors: &mut Vec<KeyError>) {
    if let Some(offset) = literal.find('}') {
        errors.push(KeyError::Brace(at + offset));
    }
    if let Some(bad) = literal.chars().find(|c| *c != '/' && *c != '}' && sanitize::is_unsafe(*c)) {
        errors.push(KeyError::Forbidden(bad));
    }
}

/// Checks a storage's prefix (R41): at most 256 bytes, no leading or double `/`, no dots at the front of a part, no
/// `..`, none of the characters a key must not contain. One trailing `/` is allowed and means nothing.
///
/// # Errors
/// The first fault found.
pub fn check_prefix(prefix: &str) -> Result<(), KeyError> {
    if prefix.is_empty() {
        return Ok(());
    }
    if prefix.len() > limits::PREFIX_MAX_BYTES {
        return Err(KeyError::TooLong(format!("{} bytes of at most {}", prefix.len(), limits::PREFIX_MAX_BYTES)));
    }
    if let Some(bad) = prefix.chars().find(|c| *c != '/' && (sanitize::is_unsafe(*c) || matches!(c, '{' | '}'))) {
        return Err(KeyError::Forbidden(bad));
    }
    let parts = prefix.strip_suffix('/').unwrap_or(prefix);
    if parts.split('/').any(str::is_empty) {
        return Err(KeyError::EmptySegment);
    }
    if parts.contains("..") || parts.split('/').any(|part| part.starts_with('.')) {
        return Err(KeyError::Dots);
    }
    match parts.split('/').map(str::len).max() {
        Some(length) if length > limits::KEY_SEGMENT_MAX_BYTES => Err(KeyError::TooLong(format!(
            "one part takes {length} bytes of at most {}",
            limits::KEY_SEGMENT_MAX_BYTES
        ))),
        _ => Ok(()),
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(text)?,
                Piece::Variable(Variable::Label(label)) => write!(f, "{{label.{label}}}")?,
                Piece::Variable(variable) => {
                    let name = VARIABLES.iter().find(|(_, v)| v == variable).map_or("", |(name, _)| *name);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}
