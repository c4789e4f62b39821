//! Chunk headers, parsed only once they are there whole, so that no half of one needs remembering.

/// Marks a timestamp field whose value follows in four more bytes.
pub(crate) const EXTENDED: u32 = 0x00ff_ffff;

/// The one to three bytes every chunk starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Basic {
    /// Header type 0 to 3.
    pub(super) format: u8,
    /// Chunk stream id, 2 to 65 599.
    pub(super) csid: u32,
    /// Bytes it takes.
    pub(super) size: usize,
}

impl Basic {
    pub(super) fn parse(input: &[u8]) -> Option<Self> {
        let first = *input.first()?;
        let format = first >> 6;
        let (csid, size) = match first & 0x3f {
            0 => (64 + u32::from(*input.get(1)?), 2),
            1 => (64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?), 3),
            id => (u32::from(id), 1),
        };
        Some(Self { format, csid, size })
    }
}

/// A message header of type 0, 1 or 2; what a type leaves out is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Explicit {
    /// Absolute time for type 0, else the step from the message before; with the extension applied.
    pub(super) time: u32,
    /// Whether the extension was there.
    pub(super) extended: bool,
    /// Message length and type id: types 0 and 1.
    pub(super) shape: Option<(usize, u8)>,
    /// Message stream id: type 0.
    pub(super) stream_id: Option<u32>,
    /// Bytes it takes.
    pub(super) size: usize,
}

impl Explicit {
    /// `None` until all of it has come.
    pub(super) fn parse(format: u8, input: &[u8]) -> Option<Self> {
        let [t0, t1, t2] = *input.first_chunk::<3>()?;
        let mut size = 3;
        let mut shape = None;
        let mut stream_id = None;
        if format < 2 {
            let [l0, l1, l2, kind] = *input.get(size..)?.first_chunk::<4>()?;
            shape = Some((u32::from_be_bytes([0, l0, l1, l2]) as usize, kind));
            size += 4;
        }
        if format == 0 {
            stream_id = Some(u32::from_le_bytes(*input.get(size..)?.first_chunk::<4>()?));
            size += 4;
        }
        let mut time = u32::from_be_bytes([0, t0, t1, t2]);
        let extended = time == EXTENDED;
        if extended {
            time = u32::from_be_bytes(*input.get(size..)?.first_chunk::<4>()?);
            size += 4;
        }
        Some(Self { time, extended, shape, stream_id, size })
    }
}

/// Whether a type 3 chunk repeats the extended timestamp; `None` while too few bytes have come to tell.
///
/// The specification says it does, old librtmp and others leave it out, some repeat the absolute time where the
/// header had a step. So: the bytes are the timestamp if they look like one of `candidates`.
pub(super) fn repeats_timestamp(input: &[u8], candidates: &[u32]) -> Option<bool> {
    let have = input.len().min(4);
    let seen = input.get(..have)?;
    let possible = candidates.iter().any(|time| time.to_be_bytes().starts_with(seen));
    match (possible, have) {
        (true, 4) => Some(true),
        (true, _) => None,
        (false, _) => Some(false),
    }
}
