//! The entry points: what a binary declares, and what it gets back.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;

use serde::de::DeserializeOwned;

use super::setting::Setting;
use super::value::{Source, Value};
use super::{EX_USAGE, Errors, print};
use crate::build_info;

/// One binary as its configuration sees it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the binary.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Every setting it has.
    pub settings: &'static [Setting],
    /// Rules between settings; also runs when single settings are wrong (those then hold their default), so that one
    /// round shows everything.
    pub check: fn(&Settings, &mut Errors),
    /// Variables of the other binary, which may stand in the same environment and are passed over in silence.
    pub neighbours: &'static [&'static str],
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Run with these settings.
    Run(Settings),
    /// Print this to standard output and leave with success (`--help`, `--version`, `--print-config`, `--check`).
    Print(String),
}

impl Program {
    /// A program without rules between its settings.
    pub const fn new(name: &'static str, about: &'static str, settings: &'static [Setting]) -> Self {
        Self { name, about, settings, check: |_, _| {}, neighbours: &[] }
    }

    /// Adds the rules between settings.
    pub const fn check(self, check: fn(&Settings, &mut Errors)) -> Self {
        Self { check, ..self }
    }

    /// Names the variables of the other binary.
    pub const fn beside(self, neighbours: &'static [&'static str]) -> Self {
        Self { neighbours, ..self }
    }

    /// Reads file, environment and flags. `arguments` come without the program's own name.
    pub fn load(
        &self,
        arguments: impl IntoIterator<Item = String>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Invocation, Errors> {
        super::load::load(self, arguments.into_iter().collect(), environment)
    }

    /// [`Program::load`] with the arguments and environment of this process; prints and exits where that is asked for
    /// (code 0) or unavoidable (code 64, every error on standard error).
    pub fn start(&self) -> Settings {
        let lossy = |text: OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        match self.load(std::env::args_os().skip(1).map(lossy), &environment) {
            Ok(Invocation::Run(settings)) => settings,
            Ok(Invocation::Print(text)) => {
                // A closed pipe (`--help | head -1`) is not worth a message.
                let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
                std::process::exit(0)
            }
            Err(errors) => {
                let _ = write!(std::io::stderr(), "{}: {errors}", self.name);
                std::process::exit(EX_USAGE)
            }
        }
    }

    /// The text of `--help`.
    pub fn help(&self) -> String {
        print::help(self)
    }

    /// The text of `--version`.
    pub fn version(&self) -> String {
        format!("{} {} ({})", self.name, build_info::VERSION, build_info::SHA)
    }
}

/// The settings in effect.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) table: &'static [Setting],
    pub(super) values: BTreeMap<(&'static str, &'static str), (Value, Source)>,
    pub(super) warnings: Vec<String>,
}

impl Settings {
    /// One value; None when it is unset (or when there is no such setting).
    pub fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.entry(section, key).map(|(value, _)| value)
    }

    /// Which layer decided; None when unset.
    pub fn source(&self, section: &str, key: &str) -> Option<Source> {
        self.entry(section, key).map(|(_, source)| *source)
    }

    /// Fills a struct of one struct per section; unset settings need an `Option`. See [`super::Kind`] for the types.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, Errors> {
        let mut tree = serde_json::Map::new();
        for setting in self.table {
            let section = tree.entry(setting.section).or_insert_with(|| serde_json::Value::Object(Default::default()));
            if let (Some(section), Some(value)) = (section.as_object_mut(), self.get(setting.section, setting.key)) {
                section.insert(setting.key.to_owned(), value.to_json());
            }
        }
        serde_json::from_value(serde_json::Value::Object(tree)).map_err(|error| {
            let mut errors = Errors::default();
            errors.push("settings", error.to_string());
            errors
        })
    }

    /// The settings in effect as TOML, each with the layer it came from; secrets masked. For `--print-config` and the
    /// admin listener's `/config`.
    pub fn print(&self) -> String {
        print::effective(self)
    }

    /// What is odd but not wrong, such as a variable `RECORDER_…` that means nothing here; for the log at start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn entry(&self, section: &str, key: &str) -> Option<&(Value, Source)> {
        self.table
            .iter()
            .find(|setting| setting.section == section && setting.key == key)
            .and_then(|setting| self.values.get(&(setting.section, setting.key)))
    }
}
