//! watch: what changes, as it changes; a lost connection goes on where it broke off.

mod board;
mod pump;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use prost_types::Timestamp;
use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::arguments::{Arguments, Output};
use crate::connection::{Connection, read};
use crate::failure::Failure;
use crate::print::{put, say};
use crate::{columns, contract, table, verbs};
use board::{Board, is_over};
use pump::Pump;

/// How often what grows by itself is shown anew: on a terminal, and in a file or pipe.
const TICKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// Changes that wait to be shown.
const QUEUE: usize = 256;

/// What the board is told.
enum Change {
    Recording(Box<v1::WatchRecordingsResponse>),
    Stream(Box<v1::WatchStreamsResponse>),
    Failed(Failure),
}

/// `watch [recordings|streams|nodes|events|recordings/ID] [field=value ...]`.
pub async fn run(connection: &Connection, arguments: &Arguments, words: &[String]) -> Result<(), Failure> {
    let (what, words) = match words.split_first() {
        Some((what, words)) if !what.contains('=') => (what.as_str(), words),
        _ => ("recordings", words),
    };
    if what.starts_with("recordings/") {
        return follow(connection, arguments, what).await;
    }
    let resource = contract::resource_called(what)?;
    let method = match resource.plural {
        "recordings" => "WatchRecordings",
        "streams" => "WatchStreams",
        "nodes" => "WatchNodes",
        "events" => "WatchEvents",
        other => return Err(Failure::Usage(format!("{other} cannot be watched; recctl watch events tells of them"))),
    };
    let mut request = Map::new();
    verbs::fill(&mut request, &contract::method(method)?.input(), words)?;
    match arguments.output()? {
        Output::Json => lines(connection, method, request, false, |message| Some(message.to_string())).await,
        Output::Table if resource.plural == "recordings" => progress(connection, request, None).await.map(drop),
        Output::Table => {
            let singular = resource.singular;
            say(&columns::of(singular).iter().map(|(head, _)| *head).collect::<Vec<_>>().join("  "))?;
            lines(connection, method, request, true, |message| line(singular, message)).await
        }
    }
}

/// One recording until it is over; then its files.
async fn follow(connection: &Connection, arguments: &Arguments, name: &str) -> Result<(), Failure> {
    let asked = v1::GetRecordingRequest { name: name.to_owned() };
    let path = contract::path(&contract::method("GetRecording")?);
    let mut recording: v1::Recording = connection.call(&path, &asked).await?;
    let stream = recording.stream.clone().unwrap_or_default();
    let of_stream = json!({"domain": stream.domain, "app": stream.app, "stream": stream.stream});
    let request = Map::from_iter([("stream".to_owned(), of_stream)]);
    match arguments.output()? {
        Output::Table => {
            if let Some(last) = progress(connection, request, Some(name)).await? {
                recording = last;
            }
            let parent = [String::from("files"), name.to_owned()];
            verbs::list(connection, arguments, &parent).await?;
        }
        Output::Json => {
            let mut pump = Pump::new(connection.clone(), "WatchRecordings", request)?;
            while !is_over(recording.state()) {
                let bytes = pump.next().await?;
                let message: v1::WatchRecordingsResponse = read(&bytes)?;
                if let Some(current) = message.recording.filter(|recording| recording.name == name) {
                    say(&contract::to_json(pump.output(), &bytes, false)?.to_string())?;
                    recording = current;
                }
            }
        }
    }
    if recording.state() == State::Failed {
        let why = recording.error.map(|error| error.message).unwrap_or_default();
        return Err(Failure::Found(format!("{name} has failed: {why}")));
    }
    Ok(())
}

/// Every message as a line. Columns go by the contract's names of fields, programs by those of JSON.
async fn lines(
    connection: &Connection,
    method: &str,
    request: Map<String, Value>,
    contract_names: bool,
    shown: impl Fn(&Value) -> Option<String>,
) -> Result<(), Failure> {
    let mut pump = Pump::new(connection.clone(), method, request)?;
    loop {
        let bytes = pump.next().await?;
        if let Some(line) = shown(&contract::to_json(pump.output(), &bytes, contract_names)?) {
            say(&line)?;
        }
    }
}

/// A message that tells of a resource, as a row; None for bookmarks.
fn line(singular: &str, message: &Value) -> Option<String> {
    let entry = message.get(singular)?;
    let cells = columns::of(singular).iter().map(|(_, cell)| cell.of(entry));
    let cells: Vec<String> = cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }).collect();
    let kind = message.get("kind").map(table::plain);
    Some(cells.into_iter().chain(kind).collect::<Vec<_>>().join("  "))
}

/// The board of recordings, until the one that is waited for is over; that one as it was then.
async fn progress(
    connection: &Connection,
    request: Map<String, Value>,
    until: Option<&str>,
) -> Result<Option<v1::Recording>, Failure> {
    let info: v1::ServerInfo =
        connection.call(&contract::path(&contract::method("GetServerInfo")?), &v1::GetServerInfoRequest {}).await?;
    let (started, at_start) = (Instant::now(), info.now.unwrap_or_default());
    // The server's clock, whatever this machine's says.
    let now = || seconds(&at_start) + started.elapsed().as_secs_f64();
    let (sender, mut changes) = mpsc::channel(QUEUE);
    let streams = request.get("stream").map(|stream| ("stream".to_owned(), stream.clone()));
    follow_in(Pump::new(connection.clone(), "WatchRecordings", request)?, sender.clone(), recording_change);
    follow_in(Pump::new(connection.clone(), "WatchStreams", streams.into_iter().collect())?, sender, stream_change);
    let terminal = std::io::stdout().is_terminal();
    let mut board = Board::new(until.map(str::to_owned), terminal);
    if !terminal {
        say(&board::HEADS.join("  "))?;
    }
    let mut ticks = tokio::time::interval(if terminal { TICKS.0 } else { TICKS.1 });
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Some(Change::Recording(message)) => board.recording(&message),
                Some(Change::Stream(message)) => board.stream(&message),
                Some(Change::Failed(failure)) => return Err(failure),
                None => return Ok(None),
            },
            _ = ticks.tick() => {}
        }
        put(&board.draw(now()))?;
        if let Some(over) = board.over() {
            return Ok(Some(over));
        }
    }
}

fn recording_change(bytes: &prost::bytes::Bytes) -> Result<Change, Failure> {
    read(bytes).map(|message| Change::Recording(Box::new(message)))
}

fn stream_change(bytes: &prost::bytes::Bytes) -> Result<Change, Failure> {
    read(bytes).map(|message| Change::Stream(Box::new(message)))
}

/// Passes a pump's messages on until nobody takes them.
fn follow_in(
    mut pump: Pump,
    sender: mpsc::Sender<Change>,
    change: fn(&prost::bytes::Bytes) -> Result<Change, Failure>,
) {
    tokio::spawn(async move {
        loop {
            let next = pump.next().await.and_then(|bytes| change(&bytes));
            let failed = next.is_err();
            if sender.send(next.unwrap_or_else(Change::Failed)).await.is_err() || failed {
                return;
            }
        }
    });
}

fn seconds(time: &Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos) / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_no_row() {
        assert_eq!(line("node", &json!({"kind": "BOOKMARK", "resume_token": "x"})), None);
        let shown = line("event", &json!({"event": {"sequence": "7", "type": "file.available", "subject": "a/b"}}));
        assert_eq!(shown.unwrap(), "7  -  file.available  a/b");
    }
}
