//! MP4 in both layouts (ISO/IEC 14496-12): sample tables and movie fragments, with edit lists applied.

use bytes::Bytes;
use media::{Codec, MediaTime, TrackKind};

use super::cursor::Cursor;
use super::{Corrupt, Media, Sample};

/// Boxes nest no deeper in any real file.
const MAX_DEPTH: u32 = 12;

#[derive(Clone, Debug)]
struct Track {
    id: u32,
    kind: TrackKind,
    /// That of its last sample description.
    codec: Codec,
    scale: i64,
    /// Delay and media time of the edit list, in timeline ticks and track ticks.
    edit: (i64, i64),
    stbl: Option<Table>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    durations: Vec<(u32, u32)>,
    compositions: Vec<(u32, i32)>,
    keys: Option<Vec<u32>>,
    chunks: Vec<(u32, u32)>,
    sizes: Vec<u32>,
    offsets: Vec<u64>,
}

/// Reads a whole file, progressive or fragmented. Samples come in file order.
pub fn demux(data: &Bytes) -> Result<Media, Corrupt> {
    let mut media = Media::default();
    let mut tracks = Vec::new();
    let mut file = Cursor::new(data.clone());
    let mut found: Vec<(u64, Sample)> = Vec::new();
    while file.remaining() > 0 {
        let start = file.at() as u64;
        let (kind, mut body) = next(&mut file)?;
        match &kind {
            b"moov" => {
                // Fragments behind another head are those of its tracks.
                tracks.retain(|track: &Track| track.stbl.as_ref().is_some_and(|table| !table.sizes.is_empty()));
                moov(&mut body, &mut tracks, &mut media)?;
            }
            b"moof" => moof(&mut body, start, &tracks, data, &mut found)?,
            _ => {}
        }
    }
    for track in &tracks {
        if let Some(table) = track.stbl.as_ref().filter(|table| !table.sizes.is_empty()) {
            samples(track, table, data, &mut found)?;
        }
    }
    found.sort_by_key(|(offset, _)| *offset);
    media.samples = found.into_iter().map(|(_, sample)| sample).collect();
    Ok(media)
}

/// The next box and its contents.
fn next(file: &mut Cursor) -> Result<([u8; 4], Cursor), Corrupt> {
    let size = u64::from(file.u32()?);
    let kind = file.u32()?.to_be_bytes();
    let body = match size {
        0 => file.remaining() as u64,
        1 => file.uint(8)?.saturating_sub(16),
        size => size.saturating_sub(8),
    };
    Ok((kind, file.part(usize::try_from(body).unwrap_or(usize::MAX))?))
}

fn moov(moov: &mut Cursor, tracks: &mut Vec<Track>, media: &mut Media) -> Result<(), Corrupt> {
    let mut movie_scale = 1;
    while moov.remaining() > 0 {
        let (kind, mut body) = next(moov)?;
        match &kind {
            b"mvhd" => {
                let wide = body.u32()? >> 24 == 1;
                body.skip(if wide { 16 } else { 8 })?;
                movie_scale = i64::from(body.u32()?.max(1));
            }
            b"trak" => {
                let edit = (0, 0);
                let mut track =
                    Track { id: 0, kind: TrackKind::Video, codec: Codec::Other(0), scale: 1, edit, stbl: None };
                trak(&mut body, &mut track, movie_scale, media, 0)?;
                tracks.push(track);
            }
            _ => {}
        }
    }
    Ok(())
}

fn trak(cursor: &mut Cursor, track: &mut Track, movie: i64, media: &mut Media, depth: u32) -> Result<(), Corrupt> {
    if depth > MAX_DEPTH {
        return cursor.corrupt("boxes nested too deep");
    }
    while cursor.remaining() > 0 {
        let (kind, mut body) = next(cursor)?;
        match &kind {
            b"mdia" | b"minf" | b"stbl" | b"edts" => trak(&mut body, track, movie, media, depth + 1)?,
            b"tkhd" => {
                let wide = body.u32()? >> 24 == 1;
                body.skip(if wide { 16 } else { 8 })?;
                track.id = body.u32()?;
            }
            b"mdhd" => {
                let wide = body.u32()? >> 24 == 1;
                body.skip(if wide { 16 } else { 8 })?;
                track.scale = i64::from(body.u32()?.max(1));
            }
            b"hdlr" => {
                body.skip(8)?;
                track.kind =
                    if body.u32()? == u32::from_be_bytes(*b"soun") { TrackKind::Audio } else { TrackKind::Video };
            }
            b"elst" => track.edit = elst(&mut body, movie)?,
            b"stsd" => stsd(&mut body, track, media)?,
            kind => table(kind, &mut body, track.stbl.get_or_insert_default())?,
        }
    }
    Ok(())
}

fn elst(body: &mut Cursor, movie: i64) -> Result<(i64, i64), Corrupt> {
    let wide = body.u32()? >> 24 == 1;
    let (mut delay, mut media_time) = (0, 0);
    for _ in 0..body.u32()? {
        let size = if wide { 8 } else { 4 };
        let duration = body.uint(size)? as i64;
        let time = body.uint(size)?;
        body.u32()?;
        let empty = if wide { u64::MAX } else { u64::from(u32::MAX) };
        if time == empty { delay = duration.saturating_mul(MediaTime::SCALE) / movie } else { media_time = time as i64 }
    }
    Ok((delay, media_time))
}

fn stsd(body: &mut Cursor, track: &mut Track, media: &mut Media) -> Result<(), Corrupt> {
    body.u32()?;
    for _ in 0..body.u32()? {
        let (kind, mut entry) = next(body)?;
        track.codec = match &kind {
            b"avc1" => Codec::H264,
            b"hvc1" | b"hev1" => Codec::H265,
            b"av01" => Codec::Av1,
            b"vp09" => Codec::Vp9,
            b"vp08" => Codec::Vp8,
            b"mp4a" => Codec::Aac,
            b"Opus" => Codec::Opus,
            _ => return body.corrupt("sample description"),
        };
        match &kind {
            b"mp4a" => {
                entry.skip(28)?;
                let (_, mut esds) = next(&mut entry)?;
                esds.u32()?;
                media.audio.push(asc(&mut esds)?);
            }
            b"Opus" => {
                entry.skip(28)?;
                let (kind, mut record) = next(&mut entry)?;
                if &kind == b"dOps" {
                    media.audio.push(record.take(record.remaining())?);
                }
            }
            _ => {
                entry.skip(78)?;
                let (kind, mut record) = next(&mut entry)?;
                match &kind {
                    b"avcC" | b"hvcC" | b"av1C" => media.video.push(record.take(record.remaining())?),
                    b"vpcC" => {
                        if record.u32()? != 0x100_0000 {
                            return record.corrupt("version and flags of vpcC");
                        }
                        media.video.push(record.take(record.remaining())?);
                    }
                    _ => return entry.corrupt("no configuration in the sample description"),
                }
            }
        }
    }
    Ok(())
}

/// ES descriptor > decoder config > decoder specific info.
fn asc(esds: &mut Cursor) -> Result<Bytes, Corrupt> {
    for (tag, skip) in [(3, 3), (4, 13), (5, 0)] {
        if esds.u8()? != tag {
            return esds.corrupt("descriptor tag");
        }
        let mut size = 0usize;
        loop {
            let byte = esds.u8()?;
            size = size << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        if tag == 5 {
            return esds.take(size);
        }
        esds.skip(skip)?;
    }
    esds.corrupt("no decoder specific info")
}

fn table(kind: &[u8; 4], body: &mut Cursor, table: &mut Table) -> Result<(), Corrupt> {
    if !matches!(kind, b"stts" | b"ctts" | b"stss" | b"stsc" | b"stsz" | b"stco" | b"co64") {
        return Ok(());
    }
    body.u32()?;
    if kind == b"stsz" && body.u32()? != 0 {
        return body.corrupt("constant sample size");
    }
    for _ in 0..body.u32()? {
        match kind {
            b"stts" => table.durations.push((body.u32()?, body.u32()?)),
            b"ctts" => table.compositions.push((body.u32()?, body.u32()?.cast_signed())),
            b"stss" => {
                let number = body.u32()?;
                table.keys.get_or_insert_default().push(number);
            }
            b"stsc" => {
                table.chunks.push((body.u32()?, body.u32()?));
                body.u32()?;
            }
            b"stsz" => table.sizes.push(body.u32()?),
            b"stco" => table.offsets.push(body.u32()?.into()),
            _ => table.offsets.push(body.uint(8)?),
        }
    }
    Ok(())
}

fn samples(track: &Track, table: &Table, data: &Bytes, found: &mut Vec<(u64, Sample)>) -> Result<(), Corrupt> {
    let corrupt = |problem: &str| Corrupt { at: 0, problem: format!("{:?} track: {problem}", track.kind) };
    let expand = |runs: &[(u32, i64)]| -> Vec<i64> {
        runs.iter()
            .flat_map(|(count, value)| std::iter::repeat_n(*value, *count as usize))
            .take(table.sizes.len())
            .collect()
    };
    let durations = expand(&table.durations.iter().map(|(count, value)| (*count, (*value).into())).collect::<Vec<_>>());
    let compositions =
        expand(&table.compositions.iter().map(|(count, value)| (*count, (*value).into())).collect::<Vec<_>>());
    if durations.len() != table.sizes.len() || !compositions.is_empty() && compositions.len() != table.sizes.len() {
        return Err(corrupt("tables of unequal length"));
    }
    let (mut number, mut time) = (0usize, 0i64);
    for (chunk, start) in (1u32..).zip(&table.offsets) {
        let count = table.chunks.iter().take_while(|(first, _)| *first <= chunk).last().map_or(0, |(_, count)| *count);
        let mut offset = *start;
        for _ in 0..count {
            let size = *table.sizes.get(number).ok_or_else(|| corrupt("more chunks than samples"))?;
            let composition = compositions.get(number).copied().unwrap_or(0);
            let keyframe = table.keys.as_ref().is_none_or(|keys| keys.binary_search(&(number as u32 + 1)).is_ok());
            found.push((offset, track.sample(time, composition, keyframe, slice(data, offset, size)?)));
            time = time.saturating_add(durations.get(number).copied().unwrap_or(0));
            offset = offset.saturating_add(size.into());
            number += 1;
        }
    }
    if number != table.sizes.len() {
        return Err(corrupt("fewer chunks than samples"));
    }
    Ok(())
}

fn slice(data: &Bytes, offset: u64, size: u32) -> Result<Bytes, Corrupt> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(size as usize);
    if end > data.len() {
        return Err(Corrupt { at: start, problem: "sample outside of the file".to_owned() });
    }
    Ok(data.slice(start..end))
}

impl Track {
    fn sample(&self, ticks: i64, composition: i64, keyframe: bool, payload: Bytes) -> Sample {
        let (delay, media_time) = self.edit;
        let on_timeline = |ticks: i64| {
            let scaled = ticks.saturating_mul(MediaTime::SCALE).saturating_add(self.scale / 2);
            MediaTime(scaled.div_euclid(self.scale).saturating_add(delay))
        };
        let ticks = ticks.saturating_sub(media_time);
        let (dts, pts) = (on_timeline(ticks), on_timeline(ticks.saturating_add(composition)));
        Sample { track: self.kind, dts, pts, keyframe, codec: self.codec, payload }
    }
}

fn moof(
    moof: &mut Cursor,
    start: u64,
    tracks: &[Track],
    data: &Bytes,
    found: &mut Vec<(u64, Sample)>,
) -> Result<(), Corrupt> {
    while moof.remaining() > 0 {
        let (kind, mut traf) = next(moof)?;
        if &kind != b"traf" {
            continue;
        }
        let (mut id, mut time) = (0, 0);
        while traf.remaining() > 0 {
            let (kind, mut body) = next(&mut traf)?;
            match &kind {
                b"tfhd" => {
                    if body.u32()? != 0x2_0000 {
                        return body.corrupt("track fragment with defaults of its own");
                    }
                    id = body.u32()?;
                }
                b"tfdt" => {
                    body.u32()?;
                    time = body.uint(8)? as i64;
                }
                b"trun" => {
                    let Some(track) = tracks.iter().find(|track| track.id == id) else {
                        return body.corrupt("fragment of no track");
                    };
                    trun(&mut body, track, start, time, data, found)?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn trun(
    body: &mut Cursor,
    track: &Track,
    start: u64,
    mut time: i64,
    data: &Bytes,
    found: &mut Vec<(u64, Sample)>,
) -> Result<(), Corrupt> {
    if body.u32()? != 0x100_0f01 {
        return body.corrupt("run without offset, duration, size, flags and composition");
    }
    let count = body.u32()?;
    let mut offset = start + u64::from(body.u32()?);
    for _ in 0..count {
        let (duration, size, flags) = (body.u32()?, body.u32()?, body.u32()?);
        let composition = i64::from(body.u32()?.cast_signed());
        let keyframe = flags & 0x1_0000 == 0;
        found.push((offset, track.sample(time, composition, keyframe, slice(data, offset, size)?)));
        time = time.saturating_add(duration.into());
        offset += u64::from(size);
    }
    Ok(())
}
