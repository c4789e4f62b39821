//! The command line: flags that may stand anywhere, each with an environment variable, and the words between them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::failure::Failure;

/// A flag: its name, its variable (empty = none), what it takes (empty = nothing), and what it is for.
pub struct Flag(pub &'static str, pub &'static str, pub &'static str, pub &'static str);

/// Every flag there is.
pub const FLAGS: &[Flag] = &[
    Flag("--server", "RECCTL_SERVER", "URL", "the API; https:// speaks TLS (default http://127.0.0.1:7080)"),
    Flag("--token", "RECCTL_TOKEN", "TOKEN", "bearer token; prefer the variable or a file, flags show in ps"),
    Flag("--token-file", "RECCTL_TOKEN_FILE", "FILE", "a file that holds the token"),
    Flag("--ca", "RECCTL_CA", "FILE", "who signs the server's certificate, PEM (default: the system's)"),
    Flag("--certificate", "RECCTL_CERTIFICATE", "FILE", "certificate to show to a server that asks for one, PEM"),
    Flag("--key", "RECCTL_KEY", "FILE", "its private key, PEM"),
    Flag("--output", "RECCTL_OUTPUT", "table|json", "what to print (default table); -o for short"),
    Flag("--timeout", "RECCTL_TIMEOUT", "SECONDS", "longest wait for an answer (default 30), not for streams"),
    Flag("--limit", "", "NUMBER", "at most so many entries of a list (default 1000)"),
    Flag("--file", "", "FILE", "JSON of the resource or request, - for standard input; -f for short"),
    Flag("--head", "", "", "verify: only ask for existence and size"),
    Flag("--no-probe", "", "", "doctor: write nothing into the storages"),
    Flag("--help", "", "", "this text; -h for short"),
    Flag("--version", "", "", "the release; -V for short"),
];

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Table,
    /// For scripts; one document, or one line for each message of a watch.
    Json,
}

/// A command line that has been understood.
#[derive(Debug)]
pub struct Arguments {
    /// Verb, resource, name, `field=value` ..., in their order.
    pub words: Vec<String>,
    given: BTreeMap<&'static str, String>,
}

impl Arguments {
    /// Reads the arguments (without the program's name); what they do not say, the environment may.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let mut parsed = Self { words: Vec::new(), given: BTreeMap::new() };
        for Flag(name, variable, ..) in FLAGS {
            if let Some(value) = environment.get(*variable).filter(|value| !value.is_empty()) {
                parsed.given.insert(name, value.clone());
            }
        }
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "-" || !argument.starts_with('-') {
                parsed.words.push(argument);
                continue;
            }
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument.clone(), None),
            };
            let long = match name.as_str() {
                "-o" => "--output",
                "-f" => "--file",
                "-h" => "--help",
                "-V" => "--version",
                long => long,
            };
            let Some(Flag(name, _, takes, _)) = FLAGS.iter().find(|Flag(name, ..)| *name == long) else {
                return Err(Failure::Usage(format!("there is no flag {name}; see recctl --help")));
            };
            let value = match (takes.is_empty(), attached) {
                (true, None) => String::new(),
                (true, Some(_)) => return Err(Failure::Usage(format!("{name} takes no value"))),
                (false, attached) => attached
                    .or_else(|| arguments.next())
                    .ok_or_else(|| Failure::Usage(format!("{name} needs a value ({takes})")))?,
            };
            parsed.given.insert(name, value);
        }
        parsed.output()?;
        parsed.timeout()?;
        parsed.limit()?;
        Ok(parsed)
    }

    /// A flag's value.
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.given.get(flag).map(String::as_str)
    }

    /// Whether a flag without a value was given.
    pub fn has(&self, flag: &str) -> bool {
        self.given.contains_key(flag)
    }

    /// How to print.
    pub fn output(&self) -> Result<Output, Failure> {
        match self.get("--output") {
            None | Some("table") => Ok(Output::Table),
            Some("json") => Ok(Output::Json),
            Some(other) => Err(Failure::Usage(format!("--output is table or json, not {other}"))),
        }
    }

    /// Longest wait for an answer.
    pub fn timeout(&self) -> Result<Duration, Failure> {
        let Some(text) = self.get("--timeout") else { return Ok(Duration::from_secs(30)) };
        let seconds = text.trim_end_matches('s').parse::<f64>().ok();
        seconds
            .filter(|seconds| (0.001..=86_400.0).contains(seconds))
            .map(Duration::from_secs_f64)
            .ok_or_else(|| Failure::Usage(format!("--timeout is a number of seconds up to 86400, not {text}")))
    }

    /// Most entries of a list.
    pub fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("--limit") else { return Ok(1_000) };
        let limit = text.parse().ok().filter(|limit| *limit > 0);
        limit.ok_or_else(|| Failure::Usage(format!("--limit is a number from 1, not {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, environment: &[(&str, &str)]) -> Result<Arguments, Failure> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Arguments::parse(line.split_whitespace().map(str::to_owned), &environment)
    }

    #[test]
    fn flags_stand_anywhere_and_win_over_the_environment() {
        let environment = [("RECCTL_SERVER", "http://a:1"), ("RECCTL_TOKEN", "t"), ("RECCTL_OUTPUT", "")];
        let arguments = parse("list -o json templates --server=http://b:2 x=1", &environment).unwrap();
        assert_eq!(arguments.words, ["list", "templates", "x=1"]);
        assert_eq!((arguments.get("--server"), arguments.get("--token")), (Some("http://b:2"), Some("t")));
        assert_eq!(arguments.output().unwrap(), Output::Json);
        assert_eq!(arguments.limit().unwrap(), 1_000);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, told) in [
            ("list --colour", "--colour"),
            ("list --token", "--token needs"),
            ("verify x --head=1", "--head takes no"),
            ("list -o yaml", "not yaml"),
            ("list --timeout never", "not never"),
            ("list --limit 0", "not 0"),
        ] {
            let failure = parse(line, &[]).unwrap_err();
            assert!(failure.to_string().contains(told), "{line}: {failure}");
            assert_eq!(failure.exit_code(), 64);
        }
    }
}
