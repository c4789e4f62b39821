//! Names of a recording's outputs in the spool: `flv`, and `flv_1`, `flv_2` where the format went on elsewhere after its
//! disk had failed. The spool keeps the name of what failed until the next start.

use recorder_proto::format::Format;
use spool::OutputKey;

use crate::manifest;

/// The name of the `number`th output of a format.
pub fn name(format: &str, number: u32) -> String {
    if number == 0 { format.to_owned() } else { format!("{format}_{number}") }
}

/// A name's format and number.
pub fn split(name: &str) -> (&str, u32) {
    let numbered = name.rsplit_once('_').and_then(|(format, number)| Some((format, number.parse().ok()?)));
    numbered.unwrap_or((name, 0))
}

/// Whether the output holds the entries of a recording instead of media.
pub fn is_manifest(key: &OutputKey) -> bool {
    split(&key.format).0 == manifest::FORMAT
}

/// The container of an output; none of a manifest.
pub fn format(name: &str) -> Option<Format> {
    split(name).0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_format_and_number() {
        for (number, text) in [(0, "flv"), (1, "flv_1"), (12, "flv_12")] {
            assert_eq!((name("flv", number).as_str(), split(text)), (text, ("flv", number)));
        }
        assert_eq!((format("mp4_3"), format("manifest_1")), (Some(Format::Mp4), None));
    }
}
