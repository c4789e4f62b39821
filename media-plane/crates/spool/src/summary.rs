//! [`mux::Summary`] as JSON: the media types themselves know nothing of serialisation.

use std::sync::Arc;

use bytes::Bytes;
use media::{
    AacConfig, Av1Config, AvcConfig, Codec, CodecConfig, ConfigError, HevcConfig, MediaTime, OpusConfig, VpxConfig,
};
use mux::Summary;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

#[derive(Serialize, Deserialize)]
struct SummaryForm {
    starts_at: i64,
    ends_at: i64,
    video_frames: u64,
    audio_frames: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<ConfigForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio: Option<ConfigForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConfigForm {
    Avc {
        record: String,
        sps: Vec<String>,
        pps: Vec<String>,
        length_size: u8,
        width: u32,
        height: u32,
        profile: u8,
        level: u8,
    },
    Aac {
        asc: String,
        object_type: u8,
        sample_rate: u32,
        output_sample_rate: u32,
        channel_config: u8,
        channels: u8,
        samples_per_frame: u32,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        transcoded: bool,
    },
    Opus {
        channels: u8,
        pre_skip: u16,
        sample_rate_in: u32,
    },
    /// The record tells everything else.
    Hevc {
        record: String,
        length_size: u8,
    },
    Av1 {
        record: String,
    },
    Vp8(VpxForm),
    Vp9(VpxForm),
    Unsupported(CodecForm),
}

#[derive(Serialize, Deserialize)]
struct VpxForm {
    record: String,
    width: u32,
    height: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Codec")]
enum CodecNames {
    H264,
    H265,
    Av1,
    Vp8,
    Vp9,
    Aac,
    Opus,
    Mp3,
    Other(u8),
}

#[derive(Serialize, Deserialize)]
struct CodecForm(#[serde(with = "CodecNames")] Codec);

pub(crate) fn serialize<S: Serializer>(summary: &Summary, serializer: S) -> Result<S::Ok, S::Error> {
    SummaryForm {
        starts_at: summary.starts_at.0,
        ends_at: summary.ends_at.0,
        video_frames: summary.video_frames,
        audio_frames: summary.audio_frames,
        video: summary.video.as_ref().map(to_form),
        audio: summary.audio.as_ref().map(to_form),
    }
    .serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Summary, D::Error> {
    let form = SummaryForm::deserialize(deserializer)?;
    let config = |form: Option<ConfigForm>| form.map(from_form).transpose().map_err(D::Error::custom);
    Ok(Summary {
        starts_at: MediaTime(form.starts_at),
        ends_at: MediaTime(form.ends_at),
        video_frames: form.video_frames,
        audio_frames: form.audio_frames,
        video: config(form.video)?,
        audio: config(form.audio)?,
    })
}

fn to_form(config: &CodecConfig) -> ConfigForm {
    let all = |sets: &[Bytes]| sets.iter().map(hex::encode).collect();
    match config {
        CodecConfig::Avc(avc) => ConfigForm::Avc {
            record: hex::encode(&avc.record),
            sps: all(&avc.sps),
            pps: all(&avc.pps),
            length_size: avc.length_size,
            width: avc.width,
            height: avc.height,
            profile: avc.profile,
            level: avc.level,
        },
        CodecConfig::Aac(aac) => ConfigForm::Aac {
            asc: hex::encode(&aac.asc),
            object_type: aac.object_type,
            sample_rate: aac.sample_rate,
            output_sample_rate: aac.output_sample_rate,
            channel_config: aac.channel_config,
            channels: aac.channels,
            samples_per_frame: aac.samples_per_frame,
            transcoded: aac.transcoded,
        },
        CodecConfig::Opus(opus) => {
            ConfigForm::Opus { channels: opus.channels, pre_skip: opus.pre_skip, sample_rate_in: opus.sample_rate_in }
        }
        CodecConfig::Hevc(hevc) => {
            ConfigForm::Hevc { record: hex::encode(&hevc.record), length_size: hevc.length_size }
        }
        CodecConfig::Av1(av1) => ConfigForm::Av1 { record: hex::encode(&av1.record) },
        CodecConfig::Vp8(vpx) => ConfigForm::Vp8(vpx_form(vpx)),
        CodecConfig::Vp9(vpx) => ConfigForm::Vp9(vpx_form(vpx)),
        CodecConfig::Unsupported(codec) => ConfigForm::Unsupported(CodecForm(*codec)),
    }
}

fn vpx_form(vpx: &VpxConfig) -> VpxForm {
    VpxForm { record: hex::encode(&vpx.record), width: vpx.width, height: vpx.height }
}

fn from_vpx_form(form: &VpxForm) -> Result<Arc<VpxConfig>, String> {
    let record = hex::decode(&form.record).map_err(|_| NOT_HEX)?;
    let config = VpxConfig::parse(&record).map_err(|error| error.to_string())?;
    Ok(Arc::new(VpxConfig { width: form.width, height: form.height, ..config }))
}

const NOT_HEX: &str = "not hexadecimal";

fn from_form(form: ConfigForm) -> Result<CodecConfig, String> {
    let bytes = |text: String| hex::decode(text).map(Bytes::from).map_err(|_| NOT_HEX);
    let unreadable = |error: ConfigError| error.to_string();
    let all = |texts: Vec<String>| texts.into_iter().map(bytes).collect::<Result<Vec<_>, _>>();
    Ok(match form {
        ConfigForm::Avc { record, sps, pps, length_size, width, height, profile, level } => {
            CodecConfig::Avc(Arc::new(AvcConfig {
                record: bytes(record)?,
                sps: all(sps)?,
                pps: all(pps)?,
                length_size,
                width,
                height,
                profile,
                level,
            }))
        }
        ConfigForm::Aac {
            asc,
            object_type,
            sample_rate,
            output_sample_rate,
            channel_config,
            channels,
            samples_per_frame,
            transcoded,
        } => CodecConfig::Aac(Arc::new(AacConfig {
            asc: bytes(asc)?,
            object_type,
            sample_rate,
            output_sample_rate,
            channel_config,
            channels,
            samples_per_frame,
            transcoded,
        })),
        ConfigForm::Opus { channels, pre_skip, sample_rate_in } => {
            CodecConfig::Opus(Arc::new(OpusConfig { channels, pre_skip, sample_rate_in }))
        }
        ConfigForm::Hevc { record, length_size } => {
            let config = HevcConfig::parse(bytes(record)?).map_err(unreadable)?;
            CodecConfig::Hevc(Arc::new(HevcConfig { length_size, ..config }))
        }
        ConfigForm::Av1 { record } => CodecConfig::Av1(Arc::new(Av1Config::parse(bytes(record)?).map_err(unreadable)?)),
        ConfigForm::Vp8(form) => CodecConfig::Vp8(from_vpx_form(&form)?),
        ConfigForm::Vp9(form) => CodecConfig::Vp9(from_vpx_form(&form)?),
        ConfigForm::Unsupported(codec) => CodecConfig::Unsupported(codec.0),
    })
}
