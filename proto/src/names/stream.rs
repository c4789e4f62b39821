//! A stream reference that has been checked: the key under which publications, directives and recordings meet.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{NameError, check_app, check_domain, check_stream};
use crate::limits;
use crate::pb::v1;

/// Domain, app and stream of one publication, each within its alphabet and bounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct StreamKey {
    domain: String,
    app: String,
    stream: String,
}

/// The JSON shape of a [`StreamKey`], before it is checked.
#[derive(Clone, Serialize, Deserialize)]
struct Parts {
    domain: String,
    app: String,
    stream: String,
}

impl StreamKey {
    /// Checks and normalises: the domain is lowered, an empty app becomes `live`.
    pub fn new(domain: &str, app: &str, stream: &str) -> Result<Self, NameError> {
        let domain = domain.strip_prefix("domains/").unwrap_or(domain).to_ascii_lowercase();
        let app = if app.is_empty() { limits::APP_DEFAULT } else { app };
        check_domain(&domain).map_err(|e| NameError::new(format!("domain {e}")))?;
        check_app(app).map_err(|e| NameError::new(format!("app {e}")))?;
        check_stream(stream).map_err(|e| NameError::new(format!("stream {e}")))?;
        Ok(Self { domain, app: app.to_owned(), stream: stream.to_owned() })
    }

    /// Push domain, lower case.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Push path.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// Stream id.
    pub fn stream(&self) -> &str {
        &self.stream
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.domain, self.app, self.stream)
    }
}

impl TryFrom<&v1::StreamRef> for StreamKey {
    type Error = NameError;
    fn try_from(wire: &v1::StreamRef) -> Result<Self, NameError> {
        Self::new(&wire.domain, &wire.app, &wire.stream)
    }
}

impl From<&StreamKey> for v1::StreamRef {
    fn from(key: &StreamKey) -> Self {
        Self { domain: key.domain.clone(), app: key.app.clone(), stream: key.stream.clone() }
    }
}

impl TryFrom<Parts> for StreamKey {
    type Error = NameError;
    fn try_from(parts: Parts) -> Result<Self, NameError> {
        Self::new(&parts.domain, &parts.app, &parts.stream)
    }
}

impl From<StreamKey> for Parts {
    fn from(key: StreamKey) -> Self {
        Self { domain: key.domain, app: key.app, stream: key.stream }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_case() {
        let key = StreamKey::new("domains/Push.Example.com", "", "cam1").unwrap();
        assert_eq!(key.to_string(), "push.example.com/live/cam1");
        let wire = v1::StreamRef::from(&key);
        assert_eq!(StreamKey::try_from(&wire).unwrap(), key);
    }

    #[test]
    fn each_part_is_named_in_its_error() {
        let error = |d, a, s| StreamKey::new(d, a, s).unwrap_err().to_string();
        assert!(error("a b", "live", "x").starts_with("domain must be"));
        assert!(error("d", "../x", "x").starts_with("app must be"));
        assert!(error("d", "live", "a/b").starts_with("stream must be"));
    }

    #[test]
    fn json_is_checked_too() {
        assert!(serde_json::from_str::<StreamKey>(r#"{"domain":"d","app":"live","stream":"a/b"}"#).is_err());
        let key: StreamKey = serde_json::from_str(r#"{"domain":"d","app":"live","stream":"ab"}"#).unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), r#"{"domain":"d","app":"live","stream":"ab"}"#);
    }
}
