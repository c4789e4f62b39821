//! The texts of `--help` and `--print-config`.
use std::fmt::Write;

use super::program::{Program, Settings};
use super::setting::Setting;
use super::value::MASK;

pub(super) fn help(program: &Program) -> String {
    let mut text = format!("{}\n{}\n\n", program.version(), program.about);
    let _ = writeln!(text, "usage: {} [--config FILE] [--section-key VALUE]... [SWITCH]\n", program.name);
    text.push_str(
        "A setting is taken from, later wins: its default, the TOML file (--config or RECORDER_CONFIG;\n\
         `key = \"value\"` under `[section]`), its environment variable, its flag.\n\n\
         switches:\n  \
         --check          say whether the configuration is valid, do not run\n  \
         --print-config   print the settings in effect and where each comes from, secrets masked\n  \
         --help, -h       this text\n  \
         --version, -V    version and commit\n",
    );
    let mut section = "";
    for setting in program.settings {
        if setting.section != section {
            section = setting.section;
            let _ = writeln!(text, "\n[{section}]");
        }
        describe(&mut text, setting);
    }
    text
}

fn describe(text: &mut String, setting: &Setting) {
    let default = match setting.default {
        Some(_) if setting.secret => MASK.to_owned(),
        Some("") => "empty".to_owned(),
        Some(default) => default.to_owned(),
        None => "unset".to_owned(),
    };
    let _ =
        writeln!(text, "  {} <{}>   env {}   default {default}", setting.flag(), setting.kind.label(), setting.env());
    for line in [setting.help, setting.extremes].iter().filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "      {line}");
    }
}

pub(super) fn effective(settings: &Settings) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in settings.table {
        if setting.section != section {
            section = setting.section;
            let _ = writeln!(text, "{}[{section}]", if text.is_empty() { "" } else { "\n" });
        }
        let _ = match settings.entry(setting.section, setting.key) {
            Some((value, source)) => {
                writeln!(text, "{} = {}  # {}", setting.key, value.masked(setting), source.as_str())
            }
            None => writeln!(text, "# {} is unset", setting.key),
        };
    }
    text
}
