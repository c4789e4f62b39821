//! FLV tags (Adobe Flash Video File Format 10.1, annex E).

use bytes::Bytes;
use media::{MediaTime, TrackKind};

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
        media.samples.push(Sample { track: TrackKind::Audio, dts, pts: dts, keyframe: true, payload });
    } else {
        media.audio.push(payload);
    }
    Ok(())
}

fn video(mut body: Cursor, dts: MediaTime, media: &mut Media) -> Result<(), Corrupt> {
    let first = body.u8()?;
    if first & 15 != 7 {
        return body.corrupt("not H.264");
    }
    let packet = body.u8()?;
    let offset = (body.uint(3)? as i64) << 40 >> 40;
    let payload = body.take(body.remaining())?;
    match packet {
        0 => media.video.push(payload),
        1 => {
            let pts = dts + MediaTime::from_millis(offset);
            media.samples.push(Sample { track: TrackKind::Video, dts, pts, keyframe: first >> 4 == 1, payload });
        }
        _ => {}
    }
    Ok(())
}
