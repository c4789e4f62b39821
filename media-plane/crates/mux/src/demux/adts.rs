//! ADTS frames (ISO/IEC 13818-7, 6.2).

use bytes::Bytes;
use media::aac::{SAMPLE_RATES, program_config_length};
use media::{Codec, MediaTime, TrackKind};

use super::cursor::Cursor;
use super::{Corrupt, Media, Sample};

/// Samples in a frame with one raw data block.
const FRAME: i64 = 1_024;

/// Reads a whole ADTS file; time is counted in frames.
pub fn demux(data: &Bytes) -> Result<Media, Corrupt> {
    let mut media = Media::default();
    frames(data, MediaTime::ZERO, &mut media)?;
    Ok(media)
}

/// Appends the frames in `data`, the first of which is at `start`.
pub(super) fn frames(data: &Bytes, start: MediaTime, media: &mut Media) -> Result<(), Corrupt> {
    let mut file = Cursor::new(data.clone());
    let mut samples = 0;
    while file.remaining() > 0 {
        let header = file.uint(7)?;
        let bits = |from: u32, count: u32| header >> (56 - from - count) & ((1 << count) - 1);
        if bits(0, 12) != 0xfff || bits(13, 2) != 0 || bits(15, 1) != 1 || bits(54, 2) != 0 {
            return file.corrupt("no ADTS header of one block without CRC");
        }
        let (profile, index, channels) = (bits(16, 2), bits(18, 4), bits(23, 3));
        let Some(rate) = SAMPLE_RATES.get(index as usize) else { return file.corrupt("sampling rate index") };
        let Some(size) = (bits(30, 13) as usize).checked_sub(7) else { return file.corrupt("frame length") };
        // AudioSpecificConfig: object type, rate, channels, three zero flags.
        let asc = (((profile + 1) << 11 | index << 7 | channels << 3) as u16).to_be_bytes();
        if media.audio.last().map(|last| &last[..]) != Some(&asc[..]) {
            media.audio.push(Bytes::copy_from_slice(&asc));
        }
        let ticks = (samples * MediaTime::SCALE + i64::from(*rate) / 2) / i64::from(*rate);
        let dts = start + MediaTime(ticks);
        let mut payload = file.take(size)?;
        if channels == 0 {
            let Some(layout) = program_config_length(&payload) else { return file.corrupt("no channel layout") };
            payload = payload.slice(layout..);
        }
        media.samples.push(Sample {
            track: TrackKind::Audio,
            dts,
            pts: dts,
            keyframe: true,
            codec: Codec::Aac,
            payload,
        });
        samples += FRAME;
    }
    Ok(())
}
