//! What the control plane is told about a publisher.

use chrono::{DateTime, Utc};
use media::ingest::EndCause;
use media::{Codec, CodecConfig};
use recorder_proto::facts::{FactKind, StreamEnded, StreamSnapshot, StreamUpdate, Track};
use recorder_proto::ids::RecordingId;

use crate::publication::{Known, Publisher, TrackCount};

/// A publisher has come.
pub fn started(publisher: &Publisher) -> FactKind {
    snapshot(publisher, Vec::new(), Vec::new()).into()
}

/// Its tracks are known, or its recordings changed.
pub fn updated(publisher: &Publisher, known: &Known, recordings: Vec<RecordingId>) -> FactKind {
    StreamUpdate(snapshot(publisher, tracks(known), recordings)).into()
}

/// It has gone.
pub fn ended(publisher: &Publisher, known: &Known, at: DateTime<Utc>, cause: &EndCause) -> FactKind {
    let sentence = match cause {
        EndCause::Unpublished => "publisher left".to_owned(),
        EndCause::ConnectionLost => "connection lost".to_owned(),
        EndCause::IdleTimeout => "idle".to_owned(),
        EndCause::Replaced => "replaced".to_owned(),
        EndCause::ProtocolError(problem) => format!("protocol error: {problem}"),
        EndCause::Disconnected(reason) => format!("disconnected: {reason}"),
    };
    StreamEnded {
        session: publisher.session,
        stream: publisher.stream.clone(),
        end_time: at,
        orderly: matches!(cause, EndCause::Unpublished),
        cause: sentence,
        error: None,
        tracks: tracks(known),
        bytes_received: known.video_count.bytes + known.audio_count.bytes,
    }
    .into()
}

fn snapshot(publisher: &Publisher, tracks: Vec<Track>, recordings: Vec<RecordingId>) -> StreamSnapshot {
    StreamSnapshot {
        session: publisher.session,
        stream: publisher.stream.clone(),
        protocol: publisher.protocol,
        remote_address: publisher.remote.clone(),
        encoder: publisher.encoder.clone(),
        start_time: publisher.since,
        tracks,
        recordings,
    }
}

fn tracks(known: &Known) -> Vec<Track> {
    let video = known.video.as_ref().map(|config| video_track(config, known));
    let audio = known.audio.as_ref().map(|config| audio_track(config, known.audio_count));
    video.into_iter().chain(audio).collect()
}

fn video_track(config: &CodecConfig, known: &Known) -> Track {
    let (width, height) = config.picture_size().unwrap_or_default();
    Track {
        kind: "video".into(),
        codec: codec_name(config).into(),
        frame_rate: known.metadata.frame_rate.filter(|rate| rate.is_finite()).unwrap_or(0.0),
        width,
        height,
        frames: known.video_count.frames,
        frames_rejected: known.video_count.rejected,
        ..Track::default()
    }
}

fn audio_track(config: &CodecConfig, count: TrackCount) -> Track {
    let (sample_rate, channels) = match config {
        CodecConfig::Aac(aac) => (aac.output_sample_rate, u32::from(aac.channels)),
        CodecConfig::Opus(opus) => (media::opus::SAMPLE_RATE, u32::from(opus.channels)),
        _ => (0, 0),
    };
    Track {
        kind: "audio".into(),
        codec: codec_name(config).into(),
        sample_rate,
        channels,
        frames: count.frames,
        frames_rejected: count.rejected,
        ..Track::default()
    }
}

/// The name under which the API shows a codec.
pub fn codec_name(config: &CodecConfig) -> &'static str {
    match config.codec() {
        Codec::H264 => "h264",
        Codec::H265 => "hevc",
        Codec::Av1 => "av1",
        Codec::Vp8 => "vp8",
        Codec::Vp9 => "vp9",
        Codec::Aac => "aac",
        Codec::Opus => "opus",
        Codec::Mp3 => "mp3",
        Codec::Other(_) => "unknown",
    }
}
