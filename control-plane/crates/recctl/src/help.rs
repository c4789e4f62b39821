//! The text of `--help`.

use std::fmt::Write as _;

use crate::arguments::{FLAGS, Flag};
use crate::contract::RESOURCES;
use crate::failure::CODES;

/// Verbs with what they take, and what they do.
pub const VERBS: &[(&str, &str)] = &[
    ("list WHAT [field=value ...]", "a table of them; fields are those of the List request"),
    ("get NAME", "one by its full name (templates/show), or WHAT ID"),
    ("create WHAT [ID] [field=value ...]", "makes one; --file gives the resource in JSON"),
    ("update NAME field=value ...", "changes what is named; field= takes a value away"),
    ("delete NAME [field=value ...]", "takes one away (a binding, task, token or publisher, too)"),
    ("call METHOD [JSON] [field=value ...]", "any method of the API: call StopRecording name=recordings/..."),
    ("watch [WHAT|recordings/ID]", "recordings, streams, nodes or events as they change; one recording to its end"),
    ("verify recordings/ID", "reads its objects back and compares them with what was written"),
    ("doctor", "looks at server, access, clocks, nodes, disks, storages, bindings, and says what to do"),
];

/// The whole text.
pub fn text() -> String {
    let mut text = String::from("recctl: Recorder from a shell\n\nusage: recctl VERB ... [flags]\n\n");
    for (usage, about) in VERBS {
        let _ = writeln!(text, "  {usage:<37} {about}");
    }
    let plurals: Vec<_> = RESOURCES.iter().map(|resource| resource.plural).collect();
    let _ = writeln!(text, "\nWHAT is one of\n  {}.", plurals.join(", "));
    text.push_str(
        "Fields are those of proto/REFERENCE.md: mp4.max_file_duration=3600s domains=a.example.com,b.example.com\n\
         labels.team=blue action=skip s3.secret_access_key=@file (@- reads standard input).\n\n",
    );
    for Flag(name, variable, takes, about) in FLAGS {
        let variable = if variable.is_empty() { String::new() } else { format!(" [{variable}]") };
        let _ = writeln!(text, "  {:<25} {about}{variable}", format!("{name} {takes}").trim_end());
    }
    text.push_str("\nexit codes\n");
    for (code, about) in CODES {
        let _ = writeln!(text, "  {code:>3}  {about}");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_told() {
        let text = text();
        for word in ["doctor", "webhooks", "--token-file", "RECCTL_SERVER", "  78  "] {
            assert!(text.contains(word), "{word}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 132), "{text}");
    }
}
