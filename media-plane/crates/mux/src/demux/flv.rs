//! FLV tags (Adobe Flash Video File Format 10.1, annex E, and Enhanced RTMP v2).

use bytes::Bytes;
use media::{Codec, MediaTime, TrackKind};

use super::cursor::Cursor;
use super::{Corrupt, Media, Sample};

/// Reads a whole FLV file.
pub fn demux(data: &Bytes) -> Result<Media, Corrupt> {
    let mut file = Cursor::new(data.clone());
    if file.take(4)? != b"FLV\x01"[..] {
        return file.corrupt("no FLV signature");
    }
    file.u8()?;
    if file.u32()? != 9 || file.u32()? != 0 {
        return file.corrupt("header size or first tag size");
    }
    let mut media = Media::default();
    while file.remaining() > 0 {
        let kind = file.u8()?;
        let size = file.uint(3)? as usize;
        let low = file.uint(3)?;
        let time = u64::from(file.u8()?) << 24 | low;
        if file.uint(3)? != 0 {
            return file.corrupt("stream id is not 0");
        }
        let body = file.part(size)?;
        if file.u32()? as usize != size + 11 {
            return file.corrupt("size after the tag");
        }
        let dts = MediaTime::from_millis(time as i64);
        match kind {
            8 => audio(body, dts, &mut media)?,
            9 => video(body, dts, &mut media)?,
            18 => {}
            kind => return file.corrupt(format!("tag type {kind}")),
        }
    }
    Ok(media)
}

fn audio(mut body: Cursor, dts: MediaTime, media: &mut Media) -> Result<(), Corrupt> {
    if body.u8()? >> 4 != 10 {
        return body.corrupt("not AAC");
    }
    let is_frame = body.u8()? == 1;
    let payload = body.take(body.remaining())?;
    if is_frame {
        media.samples.push(Sample {
            track: TrackKind::Audio,
            dts,
            pts: dts,
            keyframe: true,
            codec: Codec::Aac,
            payload,
        });
    } else {
        media.audio.push(payload);
    }
    Ok(())
}

fn video(mut body: Cursor, dts: MediaTime, media: &mut Media) -> Result<(), Corrupt> {
    let first = body.u8()?;
    if first & 0x80 != 0 {
        return enhanced(first, body, dts, media);
    }
    if first & 15 != 7 {
        return body.corrupt("not H.264");
    }
    let packet = body.u8()?;
    let offset = (body.uint(3)? as i64) << 40 >> 40;
    let payload = body.take(body.remaining())?;
    match packet {
        0 => media.video.push(payload),
        1 => media.samples.push(picture(Codec::H264, first >> 4 == 1, dts, offset, payload)),
        _ => {}
    }
    Ok(())
}

/// The extended header of Enhanced RTMP.
fn enhanced(first: u8, mut body: Cursor, dts: MediaTime, media: &mut Media) -> Result<(), Corrupt> {
    let codec = match &body.u32()?.to_be_bytes() {
        b"hvc1" => Codec::H265,
        b"av01" => Codec::Av1,
        b"vp09" => Codec::Vp9,
        b"vp08" => Codec::Vp8,
        name => return body.corrupt(format!("codec {}", name.escape_ascii())),
    };
    let packet = first & 15;
    let offset = if packet == 1 && codec == Codec::H265 { (body.uint(3)? as i64) << 40 >> 40 } else { 0 };
    let payload = body.take(body.remaining())?;
    match packet {
        0 => media.video.push(payload),
        1 | 3 => media.samples.push(picture(codec, first >> 4 & 7 == 1, dts, offset, payload)),
        _ => return body.corrupt(format!("packet type {packet}")),
    }
    Ok(())
}

fn picture(codec: Codec, keyframe: bool, dts: MediaTime, offset: i64, payload: Bytes) -> Sample {
    Sample { track: TrackKind::Video, dts, pts: dts + MediaTime::from_millis(offset), keyframe, codec, payload }
}
