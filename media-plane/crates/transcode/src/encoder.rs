//! Samples into AAC-LC access units.

use std::sync::Arc;

use bytes::Bytes;
use fdk_aac::enc::{self, AudioObjectType, BitRate, ChannelMode, Transport};
use media::AacConfig;

use crate::SAMPLE_RATE;

/// Samples of an access unit, per channel.
pub(crate) const FRAME: usize = 1_024;
/// Bits per second and channel: transparent for what comes from Opus at the rates of conferences.
const BIT_RATE: u32 = 64_000;
/// An access unit is at most 6144 bits per channel (ISO/IEC 14496-3, 4.5.3), in bytes for two.
const MAX_BYTES: usize = 6_144 / 8 * 2;

/// The AAC encoder cannot be had, or has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("AAC encoder: {0}")]
pub struct EncoderError(String);

impl EncoderError {
    fn of(error: &enc::EncoderError) -> Self {
        Self(error.to_string())
    }
}

/// An encoder in the middle of a run of sound.
#[derive(Debug)]
pub(crate) struct Encoder {
    fdk: enc::Encoder,
    config: Arc<AacConfig>,
    /// How much later than its input a decoder plays what comes out, in samples.
    delay: usize,
    output: [u8; MAX_BYTES],
}

impl Encoder {
    pub(crate) fn new(channels: usize) -> Result<Self, EncoderError> {
        let mode = if channels == 1 { ChannelMode::Mono } else { ChannelMode::Stereo };
        let fdk = enc::Encoder::new(enc::EncoderParams {
            bit_rate: BitRate::Cbr(BIT_RATE * channels as u32),
            sample_rate: SAMPLE_RATE,
            transport: Transport::Raw,
            channels: mode,
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        });
        let fdk = fdk.map_err(|error| EncoderError::of(&error))?;
        let info = fdk.info().map_err(|error| EncoderError::of(&error))?;
        let asc = info.confBuf.get(..info.confSize as usize).unwrap_or_default();
        let config = AacConfig::parse(Bytes::copy_from_slice(asc)).map_err(|error| EncoderError(error.to_string()))?;
        if config.samples_per_frame as usize != FRAME || config.sample_rate != SAMPLE_RATE {
            return Err(EncoderError(format!("an unexpected configuration: {config:?}")));
        }
        let config = AacConfig { transcoded: true, ..config };
        Ok(Self { fdk, config: Arc::new(config), delay: info.nDelay as usize, output: [0; MAX_BYTES] })
    }

    pub(crate) fn config(&self) -> &Arc<AacConfig> {
        &self.config
    }

    /// See the field.
    pub(crate) fn delay(&self) -> usize {
        self.delay
    }

    /// Takes [`FRAME`] samples; gives an access unit, or none while the encoder fills.
    pub(crate) fn encode(&mut self, pcm: &[i16]) -> Result<Option<Bytes>, EncoderError> {
        let done = self.fdk.encode(pcm, &mut self.output).map_err(|error| EncoderError::of(&error))?;
        if done.input_consumed != pcm.len() {
            return Err(EncoderError("did not take a frame".to_owned()));
        }
        let unit = self.output.get(..done.output_size).filter(|unit| !unit.is_empty());
        Ok(unit.map(Bytes::copy_from_slice))
    }
}
