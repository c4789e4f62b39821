//! One type per resource name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NameError, check_app, check_domain, check_id, quoted};
use crate::format::Format;
use crate::ids::{FileIndex, RecordingId, SessionId, TokenId};

/// Takes `collection/` off, so that `x` and `templates/x` mean the same; another collection's prefix stays and fails.
fn strip<'a>(collection: &str, text: &'a str) -> &'a str {
    text.strip_prefix(collection).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text)
}

macro_rules! as_text {
    ($($name:ident),+ $(,)?) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

macro_rules! flat_name {
    ($(#[$doc:meta] $name:ident($collection:literal)),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The collection, as in `collection/{id}`.
            pub const COLLECTION: &'static str = $collection;

            /// The id without its collection.
            pub fn id(&self) -> &str {
                &self.0
            }

            /// Consumes the name for its id.
            pub fn into_id(self) -> String {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let id = strip($collection, text);
                check_id(id)?;
                Ok(Self(id.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", $collection, self.0)
            }
        }

        as_text!($name);
    )+};
}

flat_name! {
    /// `storages/{storage}`
    StorageName("storages"),
    /// `templates/{template}`
    TemplateName("templates"),
    /// `rules/{rule}`
    RuleName("rules"),
    /// `tasks/{task}`
    TaskName("tasks"),
    /// `nodes/{node}`
    NodeName("nodes"),
    /// `watermarks/{watermark}`
    WatermarkName("watermarks"),
    /// `transcodings/{transcoding}`
    TranscodingName("transcodings"),
    /// `standbys/{standby}`
    StandbyName("standbys"),
    /// `webhooks/{webhook}`
    WebhookName("webhooks"),
}

/// `domains/{domain}`, the id being the DNS name; upper case is accepted and lowered, because DNS does not care.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainName(String);

impl DomainName {
    /// The collection, as in `collection/{id}`.
    pub const COLLECTION: &'static str = "domains";

    /// The DNS name.
    pub fn id(&self) -> &str {
        &self.0
    }

    /// Consumes the name for the DNS name.
    pub fn into_id(self) -> String {
        self.0
    }
}

impl FromStr for DomainName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let id = strip(Self::COLLECTION, text).to_ascii_lowercase();
        check_domain(&id)?;
        Ok(Self(id))
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domains/{}", self.0)
    }
}

/// `domains/{domain}/bindings/{template}` or `domains/{domain}/bindings/{template}~{app}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingName {
    /// The domain that is bound.
    pub domain: DomainName,
    /// The template it is bound to.
    pub template: TemplateName,
    /// The only app it counts for; `None` = every app. Checked by [`BindingName::new`].
    app: Option<String>,
}

impl BindingName {
    /// Puts a name together; an empty app means every app.
    pub fn new(domain: DomainName, template: TemplateName, app: &str) -> Result<Self, NameError> {
        if app.is_empty() {
            return Ok(Self { domain, template, app: None });
        }
        check_app(app)?;
        Ok(Self { domain, template, app: Some(app.to_owned()) })
    }

    /// The only app the binding counts for; `None` = every app.
    pub fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }
}

impl FromStr for BindingName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let shape = || {
            NameError::new(format!(
                "must be domains/{{domain}}/bindings/{{template}} with an optional ~{{app}}, got {}",
                quoted(text)
            ))
        };
        let (domain, rest) =
            text.strip_prefix("domains/").and_then(|t| t.split_once("/bindings/")).ok_or_else(shape)?;
        // Neither ids nor apps can contain '~', so the first one always separates.
        let (template, app) = match rest.split_once('~') {
            Some((_, "")) => return Err(shape()),
            Some((template, app)) => (template, app),
            None => (rest, ""),
        };
        Self::new(domain.parse()?, template.parse()?, app)
    }
}

impl fmt::Display for BindingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/bindings/{}", self.domain, self.template.id())?;
        self.app.as_ref().map_or(Ok(()), |app| write!(f, "~{app}"))
    }
}

macro_rules! ulid_name {
    ($(#[$doc:meta] $name:ident($collection:literal, $id:ident)),+ $(,)?) => {$(
        #[$doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $id);

        impl $name {
            /// The collection, as in `collection/{id}`.
            pub const COLLECTION: &'static str = $collection;
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let id = strip($collection, text);
                id.parse().map(Self).map_err(|_| {
                    NameError::new(format!(concat!("must be ", $collection, "/ and a ULID, got {}"), quoted(text)))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", $collection, self.0)
            }
        }

        impl From<$id> for $name {
            fn from(id: $id) -> Self {
                Self(id)
            }
        }
    )+};
}

ulid_name! {
    /// `recordings/{ulid}`
    RecordingName("recordings", RecordingId),
    /// `streams/{session}`
    StreamName("streams", SessionId),
    /// `tokens/{token}`
    TokenName("tokens", TokenId),
}

/// `recordings/{ulid}/files/{format}-{index}`
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The recording it belongs to.
    pub recording: RecordingId,
    /// Its container.
    pub format: Format,
    /// Its position within recording and format.
    pub index: FileIndex,
}

impl FromStr for FileName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let shape =
            || NameError::new(format!("must be recordings/{{ulid}}/files/{{format}}-{{index}}, got {}", quoted(text)));
        let (recording, file) = text.split_once("/files/").ok_or_else(shape)?;
        let (format, index) = file.split_once('-').ok_or_else(shape)?;
        let name = Self {
            recording: recording.parse::<RecordingName>()?.0,
            format: format.parse().map_err(|_| shape())?,
            index: FileIndex(index.parse().map_err(|_| shape())?),
        };
        // `+1` and `01` parse as numbers too; one file has one name.
        if name.index.to_string() == index { Ok(name) } else { Err(shape()) }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "recordings/{}/files/{}-{}", self.recording, self.format, self.index)
    }
}

as_text!(DomainName, BindingName, RecordingName, StreamName, TokenName, FileName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn input_is_lenient_and_output_full() {
        let name: TemplateName = "show".parse().unwrap();
        assert_eq!(name, "templates/show".parse().unwrap());
        assert_eq!((name.to_string().as_str(), name.id()), ("templates/show", "show"));
        assert_eq!("Push.Example.COM".parse::<DomainName>().unwrap().to_string(), "domains/push.example.com");
        assert!("storages/show".parse::<TemplateName>().is_err(), "another collection is not ignored");
        assert!("templates/templates/show".parse::<TemplateName>().is_err());
    }

    #[test]
    fn bindings_with_and_without_app() {
        let text = "domains/push.example.com/bindings/show~a/b";
        let name: BindingName = text.parse().unwrap();
        assert_eq!((name.app(), name.to_string().as_str()), (Some("a/b"), text));
        let every: BindingName = "domains/push.example.com/bindings/show".parse().unwrap();
        assert_eq!(every.app(), None);
        for wrong in
            ["show", "domains/x/bindings/", "domains/x/bindings/a~", "domains/x/bindings/a~..", "domains//bindings/a"]
        {
            assert!(wrong.parse::<BindingName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn files() {
        let text = "recordings/01ARZ3NDEKTSV4RRFFQ69G5FAV/files/mp4-12";
        let name: FileName = text.parse().unwrap();
        assert_eq!((name.format, name.index, name.to_string().as_str()), (Format::Mp4, FileIndex(12), text));
        assert_eq!(text.trim_start_matches("recordings/").parse::<FileName>().unwrap(), name);
        for wrong in [
            "mp4-0",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV/files/mp4",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV/files/mp4-01",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV/files/mp4-+1",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV/files/avi-0",
            "x/files/mp4-0",
        ] {
            assert!(wrong.parse::<FileName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_json_strings() {
        let name: StorageName = "s3".parse().unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"storages/s3\"");
        assert_eq!(serde_json::from_str::<StorageName>("\"s3\"").unwrap(), name);
        assert!(serde_json::from_str::<StorageName>("\"S 3\"").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_round_trips(text in "(recordings/|templates/|domains/|streams/)?[a-zA-Z0-9~./-]{0,40}(/bindings/|/files/)?[a-z0-9~/-]{0,20}") {
            if let Ok(name) = text.parse::<TemplateName>() { prop_assert_eq!(name.to_string().parse::<TemplateName>(), Ok(name)); }
            if let Ok(name) = text.parse::<DomainName>() { prop_assert_eq!(name.to_string().parse::<DomainName>(), Ok(name)); }
            if let Ok(name) = text.parse::<BindingName>() { prop_assert_eq!(name.to_string().parse::<BindingName>(), Ok(name)); }
            if let Ok(name) = text.parse::<FileName>() { prop_assert_eq!(name.to_string().parse::<FileName>(), Ok(name)); }
            if let Ok(name) = text.parse::<StreamName>() { prop_assert_eq!(name.to_string().parse::<StreamName>(), Ok(name)); }
        }
    }
}
