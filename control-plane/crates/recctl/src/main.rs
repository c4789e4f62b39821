//! recctl: the API from a shell. Every verb is led by the contract's descriptors, so that a new field needs no code.

mod arguments;
mod columns;
mod connection;
mod contract;
mod doctor;
mod failure;
mod fields;
mod help;
mod print;
mod table;
mod verbs;
mod verify;
mod watch;

use std::collections::BTreeMap;
use std::process::ExitCode;

use arguments::{Arguments, Output};
use connection::Connection;
use failure::Failure;

fn main() -> ExitCode {
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let arguments = match Arguments::parse(words, &environment) {
        Ok(arguments) => arguments,
        Err(failure) => return ended(&failure, Output::Table),
    };
    let output = arguments.output().unwrap_or(Output::Table);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments)),
        Err(error) => Err(Failure::Io { what: "the async runtime cannot start".to_owned(), error }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ended(&failure, output),
    }
}

/// Tells why, on standard error and in the form that was asked for, and says it with the exit code.
fn ended(failure: &Failure, output: Output) -> ExitCode {
    match output {
        Output::Table => eprintln!("recctl: {}", failure.text()),
        Output::Json => eprintln!("{}", failure.json()),
    }
    ExitCode::from(failure.exit_code())
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.has("--version") {
        return print::say(&format!("recctl {}", env!("CARGO_PKG_VERSION")));
    }
    let Some((verb, words)) = arguments.words.split_first().filter(|_| !arguments.has("--help")) else {
        return print::say(&help::text());
    };
    if verb == "help" {
        return print::say(&help::text());
    }
    if verb == "doctor" {
        return doctor::run(arguments, words).await;
    }
    if !help::VERBS.iter().any(|(usage, _)| usage.split(' ').next() == Some(verb)) {
        return Err(Failure::Usage(format!("there is no verb {verb}; see recctl --help")));
    }
    let connection = Connection::open(arguments).await?;
    match verb.as_str() {
        "list" => verbs::list(&connection, arguments, words).await,
        "get" => verbs::get(&connection, arguments, words).await,
        "create" => verbs::create(&connection, arguments, words).await,
        "update" => verbs::update(&connection, arguments, words).await,
        "delete" => verbs::delete(&connection, arguments, words).await,
        "watch" => watch::run(&connection, arguments, words).await,
        "verify" => verify::run(&connection, arguments, words).await,
        _ => verbs::any(&connection, arguments, words).await,
    }
}
