//! Tables for people: columns as wide as what is in them, and resources as lines of `field  value`.

use serde_json::Value;

/// What a column shows of a resource, which is JSON under the contract's field names.
#[derive(Debug, Clone, Copy)]
pub enum Cell {
    /// The value at a path as it is; lists are joined by commas.
    At(&'static str),
    /// A number of bytes, in the unit that suits it.
    Bytes(&'static str),
    /// The sum of one number of every entry of a list, in bytes.
    BytesOfAll(&'static str, &'static str),
    /// Which of these fields are set.
    Which(&'static [&'static str]),
    /// Two values with a slash in between.
    Ratio(&'static str, &'static str),
    /// domain/app/stream.
    Stream(&'static str),
    /// URL of a storage's bucket or folder.
    Place,
}

/// A column: its head and what is below.
pub type Column = (&'static str, Cell);

/// The value at a dotted path.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, step| value.get(step))
}

impl Cell {
    /// The text for one resource; empty when there is nothing to show.
    pub fn of(self, value: &Value) -> String {
        match self {
            Self::At(path) => at(value, path).map(plain).unwrap_or_default(),
            Self::Bytes(path) => at(value, path).map(|value| bytes(number(value))).unwrap_or_default(),
            Self::BytesOfAll(list, field) => bytes(sum(value, list, field)),
            Self::Which(fields) => {
                fields.iter().filter(|field| value.get(field).is_some()).copied().collect::<Vec<_>>().join(",")
            }
            Self::Ratio(part, whole) => {
                let text = |path| at(value, path).map_or("0".to_owned(), plain);
                format!("{}/{}", text(part), text(whole))
            }
            Self::Stream(path) => {
                let text = |field| at(value, path).and_then(|stream| stream.get(field)).map(plain).unwrap_or_default();
                [text("domain"), text("app"), text("stream")].join("/")
            }
            Self::Place => place(value),
        }
    }
}

fn sum(value: &Value, list: &str, field: &str) -> f64 {
    let entries = at(value, list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| entry.get(field)).map(number).sum()
}

fn place(storage: &Value) -> String {
    let text = |path| at(storage, path).map(plain).unwrap_or_default();
    let head = if storage.get("s3").is_some() {
        format!("s3://{}", text("s3.bucket"))
    } else if storage.get("gcs").is_some() {
        format!("gs://{}", text("gcs.bucket"))
    } else {
        format!("library:///{}", text("file_system.directory"))
    };
    match text("prefix") {
        prefix if prefix.is_empty() => head,
        prefix => format!("{}/{prefix}", head.trim_end_matches('/')),
    }
}

/// A value in one line.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Array(entries) => entries.iter().map(plain).collect::<Vec<_>>().join(","),
        other => printable(&other.to_string()),
    }
}

/// Without what would move the cursor or colour the rest of the screen.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// A number, which JSON may hold as text.
pub fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or_default()
}

/// Bytes in the unit that suits them.
pub fn bytes(count: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut left, mut units) = (count, units.iter().peekable());
    while left >= 1024.0 && units.len() > 1 {
        left /= 1024.0;
        units.next();
    }
    let unit = units.next().copied().unwrap_or_default();
    if unit == "B" { format!("{left:.0} {unit}") } else { format!("{left:.1} {unit}") }
}

/// Rows under heads, as wide as they need be; the last column is not padded.
pub fn rows(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(heads.get(column).map(|head| head.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| {
            let shown = if cell.is_empty() { "-" } else { cell };
            format!("{shown:width$}")
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heads.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// One resource, a line for each field that is set: the paths are those that `update` takes.
pub fn fields(value: &Value) -> String {
    let mut lines = Vec::new();
    flatten(value, String::new(), &mut lines);
    let width = lines.iter().map(|(path, _)| path.chars().count()).max().unwrap_or_default();
    lines.iter().map(|(path, text)| format!("{path:width$}  {text}")).collect::<Vec<_>>().join("\n")
}

fn flatten(value: &Value, path: String, lines: &mut Vec<(String, String)>) {
    let below = |step: &str| if path.is_empty() { step.to_owned() } else { format!("{path}.{step}") };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| flatten(value, below(name), lines));
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            entries.iter().enumerate().for_each(|(index, value)| flatten(value, below(&index.to_string()), lines));
        }
        other => lines.push((path, plain(other))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_show_what_people_ask_for() {
        let recording = json!({
            "stream": {"domain": "push.example.com", "app": "live", "stream": "cam1"},
            "outputs": [{"files": 1, "bytes_recorded": "1048576"}, {"files": 2, "bytes_recorded": "524288"}],
            "mp4": {}, "roles": ["VIEWER", "ADMIN"], "nodes_applied": 1, "nodes_total": 2,
        });
        for (cell, expected) in [
            (Cell::Stream("stream"), "push.example.com/live/cam1"),
            (Cell::BytesOfAll("outputs", "bytes_recorded"), "1.5 MiB"),
            (Cell::Which(&["hls", "mp4"]), "mp4"),
            (Cell::At("roles"), "VIEWER,ADMIN"),
            (Cell::Ratio("nodes_applied", "nodes_total"), "1/2"),
            (Cell::At("not.there"), ""),
        ] {
            assert_eq!(cell.of(&recording), expected);
        }
        for (storage, expected) in [
            (json!({"s3": {"bucket": "b"}, "prefix": "p/q"}), "s3://b/p/q"),
            (json!({"gcs": {"bucket": "b"}}), "gs://b"),
            (json!({"file_system": {"directory": "d"}}), "library:///d"),
        ] {
            assert_eq!(Cell::Place.of(&storage), expected);
        }
        assert_eq!(
            (bytes(0.0), bytes(1023.0), bytes(1e30)),
            ("0 B".into(), "1023 B".into(), "888178419700125.2 PiB".into())
        );
    }

    #[test]
    fn columns_fit_and_nothing_is_a_dash() {
        let shown = rows(&["NAME", "STATE"], &[vec!["a".into(), String::new()], vec!["längst".into(), "OK".into()]]);
        assert_eq!(shown, "NAME    STATE\na       -\nlängst  OK");
        assert_eq!(rows(&["NAME"], &[]), "NAME");
    }

    #[test]
    fn fields_are_shown_by_the_paths_that_change_them() {
        let template =
            json!({"name": "templates/a", "mp4": {"max_file_duration": "60s"}, "hls": {}, "gaps": [{"reason": "X"}]});
        let shown = fields(&template);
        assert!(shown.contains("mp4.max_file_duration  60s") && shown.contains("gaps.0.reason"), "{shown}");
        assert!(shown.lines().any(|line| line.starts_with("hls ")), "{shown}");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(plain(&json!("a\u{1b}[31mb\nc")), "a [31mb c");
    }
}
