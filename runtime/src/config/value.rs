//! One setting's value: read by kind, printed without its secrets, handed to serde.
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::setting::{Kind, Setting};
use crate::sizes;

/// What stands for a secret in every print.
pub(crate) const MASK: &str = "[REDACTED]";

/// Which layer decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The table of the binary.
    Default,
    /// The TOML file.
    File,
    /// `RECORDER_…`.
    Environment,
    /// `--…`.
    Flag,
}

impl Source {
    /// One word, for `--print-config`.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::File => "file",
            Source::Environment => "environment",
            Source::Flag => "flag",
        }
    }
}

/// A value that fits its [`Kind`].
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, Path, Url and Choice.
    Text(String),
    /// Socket.
    Socket(SocketAddr),
    /// Size, in bytes.
    Size(u64),
    /// Duration.
    Duration(Duration),
    /// Percent.
    Percent(u8),
    /// Bool.
    Bool(bool),
    /// Integer.
    Integer(i64),
    /// List.
    List(Vec<String>),
}

impl Value {
    /// Reads what an environment variable, a flag or a default says; `Err` completes the sentence "the value ...".
    /// The message never repeats the value, which may be a secret.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        match kind {
            Kind::Text => Ok(Value::Text(text.to_owned())),
            Kind::Path if trimmed.contains('\0') => Err("is not a path".to_owned()),
            Kind::Path => Ok(Value::Text(trimmed.to_owned())),
            Kind::Url => url(trimmed),
            Kind::Socket => trimmed
                .parse()
                .map(Value::Socket)
                .map_err(|_| "is not an address; write ip:port, like 127.0.0.1:7080 or [::1]:7080".to_owned()),
            Kind::Size => sizes::parse_size(trimmed).map(Value::Size).map_err(|error| error.to_string()),
            Kind::Duration => sizes::parse_duration(trimmed).map(Value::Duration).map_err(|error| error.to_string()),
            Kind::Percent => sizes::parse_percent(trimmed).map(Value::Percent).map_err(|error| error.to_string()),
            Kind::Bool => match trimmed {
                "true" | "1" | "yes" | "on" => Ok(Value::Bool(true)),
                "false" | "0" | "no" | "off" => Ok(Value::Bool(false)),
                _ => Err("is not a switch; write true or false".to_owned()),
            },
            Kind::Integer { min, max } => {
                let number = trimmed.parse().map_err(|_| format!("must be a whole number from {min} to {max}"))?;
                integer(number, min, max)
            }
            Kind::List => Ok(Value::List(
                trimmed.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
            )),
            Kind::Choice(words) if words.contains(&trimmed) => Ok(Value::Text(trimmed.to_owned())),
            Kind::Choice(words) => Err(format!("must be one of {}", words.join(", "))),
        }
    }

    /// Reads what the TOML file says: native types where TOML has them, texts with units otherwise.
    pub(crate) fn from_toml(kind: Kind, value: &toml::Value) -> Result<Value, String> {
        match (kind, value) {
            (Kind::Bool, toml::Value::Boolean(flag)) => Ok(Value::Bool(*flag)),
            (Kind::Integer { min, max }, toml::Value::Integer(number)) => {
                integer(*number, min, max).map_err(|message| format!("{message}, got {number}"))
            }
            (Kind::Size, toml::Value::Integer(bytes)) => {
                u64::try_from(*bytes).map(Value::Size).map_err(|_| sizes::UnitError::Size.to_string())
            }
            (Kind::List, toml::Value::Array(items)) => {
                let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>().map(Value::List).ok_or("must be a list of strings".to_owned())
            }
            (Kind::Bool | Kind::Integer { .. }, _) => {
                Err(format!("must be {} without quotes, not {}", kind.label(), value.type_str()))
            }
            (_, toml::Value::String(text)) => Value::parse(kind, text),
            (_, other) => Err(format!("must be a string ({}), not {}", kind.label(), other.type_str())),
        }
    }

    /// For serde: see [`Kind`] for the types that take it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Text(text) => json!(text),
            Value::Socket(address) => json!(address),
            Value::Size(bytes) => json!(bytes),
            Value::Duration(duration) => json!(duration),
            Value::Percent(percent) => json!(percent),
            Value::Bool(flag) => json!(flag),
            Value::Integer(number) => json!(number),
            Value::List(items) => json!(items),
        }
    }

    /// As TOML would have it, with secrets and passwords in URLs masked.
    pub(crate) fn masked(&self, setting: &Setting) -> String {
        match self {
            _ if setting.secret => quoted(MASK),
            Value::Text(text) if setting.kind == Kind::Url => quoted(&mask_url(text)),
            Value::Text(text) => quoted(text),
            Value::Socket(address) => quoted(&address.to_string()),
            Value::Size(bytes) => quoted(&sizes::format_size(*bytes)),
            Value::Duration(duration) => quoted(&sizes::format_duration(*duration)),
            Value::Percent(percent) => quoted(&format!("{percent}%")),
            Value::Bool(flag) => flag.to_string(),
            Value::Integer(number) => number.to_string(),
            // An item may be a URL with a password as well (several control planes, say).
            Value::List(items) => {
                format!("[{}]", items.iter().map(|item| quoted(&mask_url(item))).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl std::fmt::Debug for Value {
    // The value does not know whether its setting is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Value(..)")
    }
}

fn integer(number: i64, min: i64, max: i64) -> Result<Value, String> {
    if (min..=max).contains(&number) { Ok(Value::Integer(number)) } else { Err(format!("must be {min} to {max}")) }
}

fn url(text: &str) -> Result<Value, String> {
    let scheme = text.split_once(':').map(|(scheme, rest)| (scheme, !rest.is_empty()));
    let fits = |scheme: &str| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match scheme {
        Some((scheme, true)) if fits(scheme) => Ok(Value::Text(text.to_owned())),
        _ => Err("is not a URL; write scheme://rest".to_owned()),
    }
}

/// Replaces the password of `scheme://user:password@host` and of a `password=` parameter.
pub(crate) fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The last @ ends the user part: a password with an unescaped @, / or ? must not leak either.
    let user = authority.rsplit_once('@').map(|(user, host)| (user, format!("{host}{tail}")));
    let user = user.or_else(|| rest.rsplit_once('@').map(|(user, host)| (user, host.to_owned())));
    let (prefix, rest) = match user {
        Some((user, host)) if user.contains(':') => {
            (format!("{}:{MASK}@", user.split(':').next().unwrap_or_default()), host)
        }
        Some((user, host)) => (format!("{user}@"), host),
        None => (String::new(), rest.to_owned()),
    };
    let Some((path, query)) = rest.split_once('?') else { return format!("{scheme}://{prefix}{rest}") };
    let masked = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if ["password", "sslpassword", "token", "secret"].contains(&name) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    format!("{scheme}://{prefix}{path}?{}", masked.collect::<Vec<_>>().join("&"))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
