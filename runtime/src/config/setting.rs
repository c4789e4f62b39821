//! The declaration of one setting, and the names it is known by.

/// What a setting holds; decides how its text is read and what [`crate::config::Settings::deserialize`] hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text; a `String`.
    Text,
    /// A file or directory; a `PathBuf`.
    Path,
    /// `scheme:rest`; a `String`. A password in it is masked when printed.
    Url,
    /// `ip:port`; a `SocketAddr`.
    Socket,
    /// Bytes, like `200GiB` or `unlimited`; a `u64`.
    Size,
    /// Like `30s` or `1h30m`; a `std::time::Duration`.
    Duration,
    /// Like `80%`; a `u8` of 0 to 100.
    Percent,
    /// `true` or `false`; a `bool`.
    Bool,
    /// A whole number within the bounds, both included; any integer type that holds them.
    Integer {
        /// Smallest accepted value.
        min: i64,
        /// Largest accepted value.
        max: i64,
    },
    /// Texts: an array in TOML, separated by commas elsewhere; a `Vec` of what the texts parse to.
    List,
    /// One of a few words; a `String` or an enum.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// How `--help` names it.
    pub(crate) fn label(self) -> String {
        match self {
            Kind::Text => "text".to_owned(),
            Kind::Path => "path".to_owned(),
            Kind::Url => "url".to_owned(),
            Kind::Socket => "ip:port".to_owned(),
            Kind::Size => "size".to_owned(),
            Kind::Duration => "duration".to_owned(),
            Kind::Percent => "percent".to_owned(),
            Kind::Bool => "true|false".to_owned(),
            Kind::Integer { min, max } => format!("{min}..{max}"),
            Kind::List => "list".to_owned(),
            Kind::Choice(words) => words.join("|"),
        }
    }
}

/// One setting of a binary. Build it as a constant:
/// `Setting::new("spool", "limit", Kind::Size).or("200GiB").help("disk the spool may use").extremes("…")`.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// TOML table, lower-case, without underscore.
    pub section: &'static str,
    /// Key in the table, `snake_case`.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Used when nothing sets it; None leaves it unset (an `Option` in the struct).
    pub default: Option<&'static str>,
    /// One line: what it is for.
    pub help: &'static str,
    /// One line: what happens when it is too small and when it is too large.
    pub extremes: &'static str,
    /// Never printed.
    pub secret: bool,
}

impl Setting {
    /// A setting without default, help and secrecy.
    pub const fn new(section: &'static str, key: &'static str, kind: Kind) -> Self {
        Self { section, key, kind, default: None, help: "", extremes: "", secret: false }
    }

    /// Gives the default, written as a user would.
    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    /// Says what it is for.
    pub const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    /// Says what happens when it is too small and when it is too large (or wrong, where it has no size).
    pub const fn extremes(self, extremes: &'static str) -> Self {
        Self { extremes, ..self }
    }

    /// Keeps the value out of every print.
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// `section.key`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// `RECORDER_SECTION_KEY`.
    pub fn env(&self) -> String {
        format!("RECORDER_{}_{}", self.section, self.key).to_ascii_uppercase()
    }

    /// `--section-key`.
    pub fn flag(&self) -> String {
        format!("--{}-{}", self.section, self.key).replace('_', "-")
    }
}
