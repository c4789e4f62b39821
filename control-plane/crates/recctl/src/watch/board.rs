//! What a watch of recordings shows: on a terminal a block that is drawn anew, elsewhere a line for each change.

use std::collections::BTreeMap;

use recorder_proto::pb::v1;
use recorder_proto::pb::v1::recording::State;
use recorder_proto::pb::v1::watch_recordings_response::Kind;

use super::seconds;
use crate::table;

/// The columns.
pub const HEADS: [&str; 8] = ["RECORDING", "STREAM", "STATE", "DURATION", "RECORDED", "UPLOADED", "RATE", "FRAMES"];

/// Recordings that are over and still shown.
const KEPT: usize = 10;

/// Recordings and what is known of their streams.
pub struct Board {
    only: Option<String>,
    terminal: bool,
    recordings: BTreeMap<String, v1::Recording>,
    streams: BTreeMap<String, v1::Stream>,
    /// Lines about files, to be printed once.
    told: Vec<String>,
    printed: BTreeMap<String, String>,
    drawn: usize,
}

/// Whether nothing of it will change any more but by hand.
pub fn is_over(state: State) -> bool {
    matches!(state, State::Succeeded | State::Incomplete | State::Failed)
}

impl Board {
    /// A board of every recording, or of one only.
    pub fn new(only: Option<String>, terminal: bool) -> Self {
        Self {
            only,
            terminal,
            recordings: BTreeMap::new(),
            streams: BTreeMap::new(),
            told: Vec::new(),
            printed: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// Takes in a message of WatchRecordings.
    pub fn recording(&mut self, message: &v1::WatchRecordingsResponse) {
        let Some(recording) = &message.recording else { return };
        if self.only.as_ref().is_some_and(|only| *only != recording.name) {
            return;
        }
        if let Some(file) = &message.file {
            let (name, state) = (short(&file.name), file.state().as_str_name());
            let size = table::bytes(file.size_bytes as f64);
            self.told.push(format!("{} {name}  {state}  {size}  {}", short(&recording.name), file.uri));
        }
        if message.kind() == Kind::Deleted {
            self.recordings.remove(&recording.name);
        } else {
            self.recordings.insert(recording.name.clone(), recording.clone());
        }
        self.forget();
    }

    /// Takes in a message of WatchStreams.
    pub fn stream(&mut self, message: &v1::WatchStreamsResponse) {
        let Some(stream) = &message.stream else { return };
        if message.kind() == v1::watch_streams_response::Kind::Ended {
            self.streams.remove(&stream.name);
        } else {
            self.streams.insert(stream.name.clone(), stream.clone());
        }
    }

    /// The one recording that is watched, once it is over.
    pub fn over(&self) -> Option<v1::Recording> {
        let recording = self.recordings.get(self.only.as_ref()?)?;
        is_over(recording.state()).then(|| recording.clone())
    }

    /// What to print, by the server's clock in seconds; empty when nothing has changed.
    pub fn draw(&mut self, now: f64) -> String {
        let rows: Vec<(String, Vec<String>)> =
            self.recordings.values().map(|recording| (recording.name.clone(), self.row(recording, now))).collect();
        let mut told: String = self.told.drain(..).map(|line| format!("{line}\n")).collect();
        if self.terminal {
            let shown = table::rows(&HEADS, &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>());
            // Up to the block's first line, and everything below it away.
            let back = if self.drawn > 0 { format!("\x1b[{}F\x1b[J", self.drawn) } else { String::new() };
            self.drawn = shown.lines().count();
            return format!("{back}{told}{shown}\n");
        }
        for (name, row) in rows {
            let line = row.join("  ");
            if self.printed.get(&name) != Some(&line) {
                told.push_str(&line);
                told.push('\n');
                self.printed.insert(name, line);
            }
        }
        told
    }

    fn row(&self, recording: &v1::Recording, now: f64) -> Vec<String> {
        let stream = recording.stream.clone().unwrap_or_default();
        let live = self.streams.values().find(|stream| stream.recordings.contains(&recording.name));
        let live = live.filter(|_| !is_over(recording.state()));
        let tracks = live.map(|stream| stream.tracks.as_slice()).unwrap_or_default();
        let rate: u64 = tracks.iter().map(|track| u64::from(track.bit_rate_bps)).sum();
        let frames = tracks.iter().find(|track| track.kind == "video").or(tracks.first());
        let total = |of: fn(&v1::recording::Output) -> u64| {
            table::bytes(recording.outputs.iter().map(of).fold(0_u64, u64::saturating_add) as f64)
        };
        vec![
            short(&recording.name).to_owned(),
            table::plain(&format!("{}/{}/{}", stream.domain, stream.app, stream.stream).into()),
            recording.state().as_str_name().to_owned(),
            clock(self.length(recording, now)),
            total(|output| output.bytes_recorded),
            total(|output| output.bytes_uploaded),
            if rate == 0 { "-".to_owned() } else { format!("{:.2} Mbit/s", rate as f64 / 1e6) },
            frames.map_or("-".to_owned(), |track| track.frames.to_string()),
        ]
    }

    /// Seconds of media: as told once it is over, before that as long as it has been running.
    fn length(&self, recording: &v1::Recording, now: f64) -> f64 {
        let media = recording.media_duration.as_ref().map(|told| told.seconds as f64 + f64::from(told.nanos) / 1e9);
        match (recording.state(), &recording.start_time) {
            (State::Starting | State::Recording, Some(start)) => (now - seconds(start)).max(0.0),
            _ => media.unwrap_or_default(),
        }
    }

    /// A watch may run for weeks: of what is over only the newest stay. Names are in order of time.
    fn forget(&mut self) {
        let over = self.recordings.values().filter(|recording| is_over(recording.state()));
        let over: Vec<String> = over.map(|recording| recording.name.clone()).collect();
        // What is not on a terminal has to be printed before it may be forgotten.
        let printed = over.iter().filter(|name| self.terminal || self.printed.contains_key(*name)).cloned();
        for name in printed.take(over.len().saturating_sub(KEPT)).collect::<Vec<_>>() {
            self.recordings.remove(&name);
            self.printed.remove(&name);
        }
    }
}

fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Hours, minutes and seconds.
fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use prost_types::{Duration, Timestamp};
    use recorder_proto::pb::v1::recording::Output;

    use super::*;

    fn message(name: &str, state: State) -> v1::WatchRecordingsResponse {
        let recording = v1::Recording {
            name: format!("recordings/{name}"),
            state: state.into(),
            start_time: Some(Timestamp { seconds: 1_000, nanos: 0 }),
            media_duration: is_over(state).then_some(Duration { seconds: 61, nanos: 0 }),
            outputs: vec![Output { bytes_recorded: if is_over(state) { 2048 } else { 0 }, ..Default::default() }],
            ..Default::default()
        };
        v1::WatchRecordingsResponse { kind: Kind::Updated.into(), recording: Some(recording), ..Default::default() }
    }

    #[test]
    fn a_running_recording_grows_by_the_servers_clock() {
        let mut board = Board::new(None, false);
        board.recording(&message("a", State::Recording));
        let track =
            v1::stream::Track { kind: "video".into(), bit_rate_bps: 2_500_000, frames: 90, ..Default::default() };
        let stream = v1::Stream { recordings: vec!["recordings/a".into()], tracks: vec![track], ..Default::default() };
        board.stream(&v1::WatchStreamsResponse { stream: Some(stream), ..Default::default() });
        assert_eq!(board.draw(1_003.2), "a  //  RECORDING  0:00:03  0 B  0 B  2.50 Mbit/s  90\n");
        assert_eq!(board.draw(1_003.9), "", "the same line is not said twice");
        assert_eq!(board.draw(1_004.0), "a  //  RECORDING  0:00:04  0 B  0 B  2.50 Mbit/s  90\n");
        board.recording(&message("a", State::Succeeded));
        assert_eq!(board.draw(2_000.0), "a  //  SUCCEEDED  0:01:01  2.0 KiB  0 B  -  -\n");
    }

    #[test]
    fn a_terminal_is_drawn_over() {
        let mut board = Board::new(None, true);
        board.recording(&message("a", State::Recording));
        assert!(!board.draw(1_000.0).contains('\x1b'));
        let again = board.draw(1_001.0);
        assert!(again.starts_with("\x1b[2F\x1b[J") && again.contains("0:00:01"), "{again:?}");
    }

    #[test]
    fn only_the_watched_one_counts_and_its_end_is_known() {
        let mut board = Board::new(Some("recordings/a".into()), false);
        board.recording(&message("b", State::Succeeded));
        assert!(board.over().is_none() && board.draw(0.0).is_empty());
        board.recording(&message("a", State::Finalizing));
        assert!(board.over().is_none());
        board.recording(&message("a", State::Failed));
        assert_eq!(board.over().unwrap().state(), State::Failed);
    }

    #[test]
    fn what_is_over_does_not_pile_up() {
        for terminal in [true, false] {
            let mut board = Board::new(None, terminal);
            let mut lines = 0;
            for number in 0..1_000 {
                board.recording(&message(&format!("r{number:04}"), State::Succeeded));
                lines += board.draw(0.0).matches("SUCCEEDED").count();
            }
            assert!(board.recordings.len() <= KEPT + 1, "{}", board.recordings.len());
            assert!(terminal || lines == 1_000, "{lines}");
        }
    }
}
