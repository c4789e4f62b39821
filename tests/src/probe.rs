//! Judges of recorded media: ffmpeg decodes, counts and hashes; nothing of ours looks at our own files here.

use std::path::Path;
use std::process::Command;

use crate::publisher::{ffmpeg, run};

/// One packet of a file, normalised so that containers can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    /// Decode time in seconds, relative to the file's own zero.
    pub dts: f64,
    /// MD5 of the payload, as Annex B without parameter sets and delimiters, or raw AAC.
    pub hash: String,
}

/// The packets of a file by track, in decode order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packets {
    /// H.264 access units.
    pub video: Vec<Packet>,
    /// AAC access units.
    pub audio: Vec<Packet>,
}

/// Every frame at its own time: ffmpeg guesses a frame rate otherwise, and complains of what comes sooner, which pictures
/// of WebRTC do.
pub const OWN_TIMES: [&str; 4] = ["-fps_mode", "passthrough", "-enc_time_base", "-1"];

/// Decodes everything; panics on the first complaint of the decoder.
pub fn decodes(media: &Path) {
    let mut command = ffmpeg();
    command.arg("-i").arg(media).args(["-map", "0"]).args(OWN_TIMES).args(["-f", "null", "-"]);
    let output = command.output().expect("ffmpeg");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{} does not decode: {complaints}", media.display());
}

/// Makes pictures of H.264 comparable: parameter sets and delimiters come and go with the container.
const H264: &str = "h264_mp4toannexb,filter_units=remove_types=7|8|9";

/// Reads the packets of a file or playlist.
pub fn packets(media: &Path) -> Packets {
    packets_of(media, H264)
}

/// The pictures alone, of a file whose sound is not AAC.
pub fn pictures(media: &Path) -> Vec<Packet> {
    track(media, "0:v:0", H264)
}

/// [`packets`] of a file whose picture is not H.264: `filters` make its packets comparable across containers.
pub fn packets_of(media: &Path, filters: &str) -> Packets {
    Packets { video: track(media, "0:v:0", filters), audio: track(media, "0:a:0", "aac_adtstoasc") }
}

fn track(media: &Path, map: &str, filters: &str) -> Vec<Packet> {
    let option = if map.contains('v') { "-bsf:v" } else { "-bsf:a" };
    // copyts keeps the file's own times, so that an offset between tracks is seen and not normalised away.
    let mut command = ffmpeg();
    command
        .args(["-copyts", "-i"])
        .arg(media)
        .args(["-map", map, "-c", "copy", option, filters, "-f", "framemd5", "-"]);
    let output = command.output().expect("ffmpeg");
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("matches no streams"), "{}: {complaint}", media.display());
        return Vec::new();
    }
    parse_framemd5(&String::from_utf8_lossy(&output.stdout))
}

fn parse_framemd5(text: &str) -> Vec<Packet> {
    let base = text.lines().find_map(|line| line.strip_prefix("#tb 0: ")).unwrap_or("1/1");
    let (numerator, denominator) = base.split_once('/').expect("time base");
    let tick = numerator.parse::<f64>().expect("numerator") / denominator.parse::<f64>().expect("denominator");
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let fields: Vec<&str> = row.split(',').map(str::trim).collect();
        Packet { dts: fields[1].parse::<f64>().expect("dts") * tick, hash: fields[5].to_owned() }
    })
    .collect()
}

/// Asserts that `recorded` holds exactly the packets of `sent`: count, payloads, and DTS differences within 2 ms.
pub fn assert_same(sent: &[Packet], recorded: &[Packet], what: &str) {
    assert_eq!(sent.len(), recorded.len(), "{what}: frames sent and recorded");
    for (index, (a, b)) in sent.iter().zip(recorded).enumerate() {
        assert_eq!(a.hash, b.hash, "{what}: payload of frame {index}");
    }
    for (index, (a, b)) in sent.windows(2).zip(recorded.windows(2)).enumerate() {
        let difference = (a[1].dts - a[0].dts) - (b[1].dts - b[0].dts);
        assert!(difference.abs() <= 0.002, "{what}: DTS step {index} is off by {difference:.4} s");
    }
}

/// Asserts both tracks, and that sound and picture kept their offset within 3 ms.
pub fn assert_same_media(sent: &Packets, recorded: &Packets, what: &str) {
    assert_same(&sent.video, &recorded.video, &format!("{what}, video"));
    assert_same(&sent.audio, &recorded.audio, &format!("{what}, audio"));
    if let (Some(v0), Some(a0), Some(v1), Some(a1)) =
        (sent.video.first(), sent.audio.first(), recorded.video.first(), recorded.audio.first())
    {
        let shift = (v0.dts - a0.dts) - (v1.dts - a1.dts);
        assert!(shift.abs() <= 0.003, "{what}: sound moved against picture by {shift:.4} s");
    }
}

/// `ffprobe -show_entries` as `key=value` text, for summaries.
pub fn describe(media: &Path, entries: &str) -> String {
    let mut command = Command::new("ffprobe");
    run(command.args(["-v", "error", "-show_entries", entries, "-of", "default=noprint_wrappers=1"]).arg(media))
}
