//! Reads the layers in order and collects every error on the way.
use std::collections::BTreeMap;

use super::Errors;
use super::nearest::nearest;
use super::program::{Invocation, Program, Settings};
use super::setting::{Kind, Setting};
use super::value::{Source, Value};

/// Names the TOML file in the environment.
const CONFIG_VARIABLE: &str = "RECORDER_CONFIG";

/// Flags that are not settings.
const CONFIG_FLAG: &str = "--config";
const SWITCHES: [&str; 6] = ["--check", "--print-config", "--help", "-h", "--version", "-V"];

pub(super) fn load(
    program: &Program,
    arguments: Vec<String>,
    environment: &BTreeMap<String, String>,
) -> Result<Invocation, Errors> {
    let mut flag_errors = Errors::default();
    let flags = Flags::parse(program, arguments, &mut flag_errors);
    // Someone who asks for help gets it, whatever else is wrong.
    if flags.has(&["--help", "-h"]) {
        return Ok(Invocation::Print(program.help()));
    }
    if flags.has(&["--version", "-V"]) {
        return Ok(Invocation::Print(program.version()));
    }
    let mut loader = Loader {
        program,
        settings: Settings { table: program.settings, values: BTreeMap::new(), warnings: Vec::new() },
        errors: Errors::default(),
    };
    loader.defaults();
    let from_environment = environment.get(CONFIG_VARIABLE).filter(|path| !path.trim().is_empty());
    if let Some(path) = flags.config.as_ref().or(from_environment) {
        loader.file(path);
    }
    loader.environment(environment);
    loader.errors.0.append(&mut flag_errors.0);
    for (setting, text) in &flags.values {
        loader.text(setting, Source::Flag, &format!("{} ({})", setting.name(), setting.flag()), text);
    }
    (program.check)(&loader.settings, &mut loader.errors);
    let Loader { settings, errors, .. } = loader;
    match errors.is_empty() {
        false => Err(errors),
        true if flags.has(&["--print-config"]) => Ok(Invocation::Print(settings.print())),
        true if flags.has(&["--check"]) => Ok(Invocation::Print("the configuration is valid".to_owned())),
        true => Ok(Invocation::Run(settings)),
    }
}

struct Loader<'a> {
    program: &'a Program,
    settings: Settings,
    errors: Errors,
}

impl Loader<'_> {
    fn defaults(&mut self) {
        for setting in self.program.settings {
            if let Some(text) = setting.default {
                self.text(setting, Source::Default, &format!("{} (default)", setting.name()), text);
            }
        }
    }

    fn file(&mut self, path: &str) {
        let table = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot be read: {error}"))
            .and_then(|text| text.parse::<toml::Table>().map_err(|error| format!("is not TOML: {error}")));
        let table = match table {
            Ok(table) => table,
            Err(message) => return self.errors.push(path, message.trim_end()),
        };
        for (section, value) in &table {
            match value {
                toml::Value::Table(keys) => {
                    for (key, value) in keys {
                        self.file_entry(path, section, key, value);
                    }
                }
                // `node = "m1"` is what people write first; it means `node.id`.
                value => self.file_entry(path, section, "id", value),
            }
        }
    }

    fn file_entry(&mut self, path: &str, section: &str, key: &str, value: &toml::Value) {
        let found = self.program.settings.iter().find(|setting| setting.section == section && setting.key == key);
        let Some(setting) = found else {
            let written = format!("{section}.{key}");
            let names: Vec<String> = self.program.settings.iter().map(Setting::name).collect();
            return self.unknown(format!("{written} ({path})"), &written, &names);
        };
        match Value::from_toml(setting.kind, value) {
            Ok(value) => self.set(setting, value, Source::File),
            Err(message) => self.errors.push(format!("{} ({path})", setting.name()), message),
        }
    }

    /// The environment is shared: with the other binary, with wrappers, with Kubernetes, which adds
    /// `RECORDER_CONTROL_SERVICE_HOST` for a service named recorder-control. A variable is therefore an error only if
    /// it speaks to one of our sections or resembles one of our names; any other one is worth a warning.
    fn environment(&mut self, environment: &BTreeMap<String, String>) {
        let names: Vec<String> = self.program.settings.iter().map(Setting::env).collect();
        for (variable, text) in environment.iter().filter(|(name, _)| name.starts_with("RECORDER_")) {
            // Compose files and unit files pass optional variables on as empty ones.
            if variable == CONFIG_VARIABLE || text.trim().is_empty() {
                continue;
            }
            let is_setting = names.contains(variable);
            if !is_setting && self.program.neighbours.contains(&variable.as_str()) {
                continue;
            }
            if let Some(setting) = self.program.settings.iter().find(|setting| setting.env() == *variable) {
                self.text(setting, Source::Environment, &format!("{} (env {variable})", setting.name()), text);
            } else if self.is_ours(variable) || nearest(variable, names.iter().map(String::as_str)).is_some() {
                self.unknown(format!("env {variable}"), variable, &names);
            } else {
                self.settings
                    .warnings
                    .push(format!("environment variable {variable} means nothing to {}", self.program.name));
            }
        }
    }

    fn is_ours(&self, variable: &str) -> bool {
        let injected = ["_SERVICE_HOST", "_SERVICE_PORT"].iter().any(|suffix| variable.contains(suffix))
            || variable.contains("_PORT_") && variable.ends_with("_TCP");
        let of =
            |setting: &Setting| variable.starts_with(&format!("RECORDER_{}_", setting.section.to_ascii_uppercase()));
        !injected && self.program.settings.iter().any(of)
    }

    fn text(&mut self, setting: &'static Setting, source: Source, at: &str, text: &str) {
        match Value::parse(setting.kind, text) {
            Ok(value) => self.set(setting, value, source),
            // Repeating the value helps, unless it may hold a secret.
            Err(message) if setting.secret || setting.kind == Kind::Url => {
                self.errors.push(at, format!("the value {message}"));
            }
            Err(message) => self.errors.push(at, format!("{text:?} {message}")),
        }
    }

    fn set(&mut self, setting: &'static Setting, value: Value, source: Source) {
        self.settings.values.insert((setting.section, setting.key), (value, source));
    }

    fn unknown(&mut self, at: String, written: &str, names: &[String]) {
        self.errors.push(at, unknown_message(written, names));
    }
}

fn unknown_message(written: &str, names: &[String]) -> String {
    match nearest(written, names.iter().map(String::as_str)) {
        Some(meant) => format!("unknown setting; did you mean {meant}?"),
        None => "unknown setting; --help lists them all".to_owned(),
    }
}

/// The command line, split but not yet judged by kind.
#[derive(Default)]
struct Flags {
    config: Option<String>,
    switches: Vec<String>,
    values: Vec<(&'static Setting, String)>,
}

impl Flags {
    fn has(&self, names: &[&str]) -> bool {
        self.switches.iter().any(|switch| names.contains(&switch.as_str()))
    }

    fn parse(program: &Program, arguments: Vec<String>, errors: &mut Errors) -> Flags {
        let mut flags = Flags::default();
        let mut arguments = arguments.into_iter().peekable();
        while let Some(argument) = arguments.next() {
            if SWITCHES.contains(&argument.as_str()) {
                flags.switches.push(argument);
                continue;
            }
            if !argument.starts_with("--") {
                errors.push(argument, "unexpected argument; settings are written --section-key value");
                continue;
            }
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let setting = program.settings.iter().find(|setting| setting.flag() == name);
            if setting.is_none() && name != CONFIG_FLAG {
                // The word after an unknown flag is most likely its value, not another mistake.
                let _ = inline.is_none().then(|| arguments.next_if(|next| !next.starts_with("--")));
                let names = program.settings.iter().map(Setting::flag).chain(SWITCHES.map(str::to_owned));
                let names: Vec<String> = names.chain([CONFIG_FLAG.to_owned()]).collect();
                let message = unknown_message(&name, &names);
                errors.push(name, message);
                continue;
            }
            // A switch may stand alone: `--spool-sync` is `--spool-sync true`.
            let alone = setting.is_some_and(|setting| setting.kind == Kind::Bool)
                && arguments.peek().is_none_or(|next| Value::parse(Kind::Bool, next).is_err());
            let value = inline
                .or_else(|| alone.then(|| "true".to_owned()))
                .or_else(|| arguments.next_if(|next| !next.starts_with("--")));
            match (value, setting) {
                (Some(value), Some(setting)) => flags.values.push((setting, value)),
                (Some(value), None) => flags.config = Some(value),
                (None, _) => errors.push(name, "needs a value"),
            }
        }
        flags
    }
}
