//! What a recording says about itself, in the vocabulary of facts.

use media::{Codec, CodecConfig, Gap, GapReason, TrackKind};
use recorder_proto::facts::{Failure, GapSpan, OutputTotals};
use recorder_proto::format::Format;
use recorder_proto::pb::v1;
use tonic::Code;

use super::output::Count;
use crate::shipping::Wall;
use crate::stream_facts::codec_name;

/// A failure that is ours.
pub fn internal(reason: &str, message: &str) -> Failure {
    Failure {
        code: Code::Internal.into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        http_status: 0,
        request_id: String::new(),
    }
}

/// A format without a file, because there was nothing that it can carry.
pub fn not_carried(format: Format, codec: Codec) -> Failure {
    let codec = codec_name(&CodecConfig::Unsupported(codec));
    Failure {
        code: Code::FailedPrecondition.into(),
        message: format!("{} cannot carry the picture, which is {codec}, and there was no sound", format.as_str()),
        ..internal("CODEC_NOT_CARRIED", "")
    }
}

/// The counters of one format.
pub fn totals(format: Format, count: Count, error: Option<Failure>) -> OutputTotals {
    OutputTotals {
        format,
        files: count.files,
        bytes_recorded: count.bytes,
        bytes_uploaded: 0,
        upload_lag_micros: 0,
        error,
    }
}

/// A hole, on the wall clock.
pub fn span(wall: &Wall, gap: &Gap) -> GapSpan {
    let duration = (gap.resumes_at - gap.starts_at).as_duration();
    GapSpan {
        start_time: wall.at(gap.starts_at),
        duration_micros: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
        reason: gap_reason(gap.reason),
    }
}

/// Why there is a hole, as the API says it.
pub fn gap_reason(reason: GapReason) -> v1::gap::Reason {
    match reason {
        GapReason::PublisherLost => v1::gap::Reason::PublisherLost,
        GapReason::NodeCrashed => v1::gap::Reason::NodeCrashed,
        GapReason::FramesRejected | GapReason::FramesLost => v1::gap::Reason::FramesRejected,
        GapReason::SpoolFailed => v1::gap::Reason::SpoolFailed,
    }
}

/// Why there is a hole, as the media crate says it; what this release does not know is the publisher's doing.
pub fn media_reason(reason: v1::gap::Reason) -> GapReason {
    match reason {
        v1::gap::Reason::NodeCrashed => GapReason::NodeCrashed,
        v1::gap::Reason::FramesRejected => GapReason::FramesRejected,
        v1::gap::Reason::SpoolFailed => GapReason::SpoolFailed,
        _ => GapReason::PublisherLost,
    }
}

/// The label of a hole in metrics.
pub fn gap_label(reason: GapReason) -> &'static str {
    match reason {
        GapReason::PublisherLost => "publisher_lost",
        GapReason::NodeCrashed => "node_crashed",
        GapReason::FramesRejected => "frames_rejected",
        GapReason::FramesLost => "frames_lost",
        GapReason::SpoolFailed => "spool_failed",
    }
}

/// The muxer's word for a format in the vocabulary of the API.
pub fn api_format(format: mux::Format) -> Format {
    match format {
        mux::Format::Hls => Format::Hls,
        mux::Format::Flv => Format::Flv,
        mux::Format::Mp4 => Format::Mp4,
        mux::Format::Aac => Format::Aac,
    }
}

/// The API's word for a format in the vocabulary of the muxers.
pub fn mux_format(format: Format) -> mux::Format {
    match format {
        Format::Hls => mux::Format::Hls,
        Format::Flv => mux::Format::Flv,
        Format::Mp4 => mux::Format::Mp4,
        Format::Aac => mux::Format::Aac,
    }
}

/// A configuration as the manifest shows it, such as `h264 1280x720` or `aac 48000 Hz, 2 channels`.
pub fn codec_text(config: &CodecConfig) -> String {
    let name = codec_name(config);
    if let Some((width, height)) = config.picture_size() {
        return format!("{name} {width}x{height}");
    }
    match config {
        CodecConfig::Aac(aac) => format!("{name} {} Hz, {} channels", aac.output_sample_rate, aac.channels),
        CodecConfig::Opus(opus) => format!("{name} {} Hz, {} channels", media::opus::SAMPLE_RATE, opus.channels),
        _ => name.to_owned(),
    }
}

/// A track as the manifest names it.
pub fn track_name(track: TrackKind) -> &'static str {
    match track {
        TrackKind::Video => "video",
        TrackKind::Audio => "audio",
    }
}
